//! Prepares how the program is linked and started.

#![forbid(unsafe_code)]

use std::env;
use std::fs;
use std::process::Command;

/// The versions of glibc that rtc_sys::start knows, by what they call themselves.
const KNOWN: [(&str, &[&str]); 2] = [
    // Before 2.41 nobody asks for the threshold: any other number will do.
    (
        "stable release version 2.36.",
        &["-Wl,--defsym=__x86_memset_non_temporal_threshold=__x86_rep_movsb_stop_threshold"],
    ),
    ("stable release version 2.41.", &[]),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-changed=order.ld");
    println!("cargo:rustc-check-cfg=cfg(quick_start)");
    if !is("ARCH", "x86_64") || !is("ENV", "gnu") {
        return;
    }
    // The code that commands execute side by side, in builds that are meant to be used.
    if env::var_os("PROFILE").is_some_and(|profile| profile == "release") {
        let here = env::var("CARGO_MANIFEST_DIR").expect("cargo says where the package is");
        println!("cargo:rustc-link-arg-bins=-Wl,-T,{here}/order.ld");
    }
    if let Some(arguments) = quick_start() {
        println!("cargo:rustc-cfg=quick_start");
        println!("cargo:rustc-link-arg-bins=-Wl,--wrap=__libc_start_main");
        for argument in arguments {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}

/// Whether the target is of this kind.
fn is(what: &str, wanted: &str) -> bool {
    env::var(format!("CARGO_CFG_TARGET_{what}")).is_ok_and(|value| value == wanted)
}

/// What the linker needs to have the program started by rtc_sys::start, if it can be: as a static program at a fixed
/// address, with a glibc that is known.
fn quick_start() -> Option<&'static [&'static str]> {
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    if !flags.contains("relocation-model=static") || !features.split(',').any(|feature| feature == "crt-static") {
        return None;
    }
    let path = Command::new("cc").arg("-print-file-name=libc.a").output().ok()?.stdout;
    let path = String::from_utf8(path).ok()?;
    println!("cargo:rerun-if-changed={}", path.trim());
    let library = fs::read(path.trim()).ok()?;
    let says = |text: &str| library.windows(text.len()).any(|window| window == text.as_bytes());
    KNOWN.iter().find(|(version, _)| says(version)).map(|(_, arguments)| *arguments)
}
