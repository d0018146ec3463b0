//! Attacks on rtc, none of which may succeed: one for each fault that other runtimes have had (docs/security.md has the
//! table), and rtc killed wherever it can be.

#![forbid(unsafe_code)]

mod authority;
mod calls;
mod descriptors;
#[path = "../lifecycle/harness.rs"]
#[allow(dead_code, reason = "shared with the tests of commands")]
mod harness;
mod host;
mod hostile_images;
mod images;
mod races;
mod steps;
mod trace;

/// The table of docs/security.md names no test that isn't there.
#[test]
fn the_documented_tests_exist() {
    let document = include_str!("../../docs/security.md");
    let sources = [
        ("authority", include_str!("authority.rs")),
        ("descriptors", include_str!("descriptors.rs")),
        ("host", include_str!("host.rs")),
        ("hostile_images", include_str!("hostile_images.rs")),
        ("images", include_str!("images.rs")),
        ("races", include_str!("races.rs")),
        ("steps", include_str!("steps.rs")),
    ];
    let mut found = 0;
    for name in document.split('`').skip(1).step_by(2) {
        let Some((module, test)) = name.split_once("::") else { continue };
        let Some((_, source)) = sources.iter().find(|(known, _)| *known == module) else { continue };
        assert!(source.contains(&format!("fn {test}()")), "{name} is named, but not there");
        found += 1;
    }
    assert!(found > 20, "{found} tests are named");
}
