//! Rules about names: modules say what they hold, files name no host of the network.

use super::finding::Finding;
use super::source::Tree;

/// Module names that say nothing of what is inside.
const EMPTY_NAMES: [&str; 8] = ["utils", "util", "helpers", "helper", "misc", "common", "stuff", "shared"];

/// Hosts that are allowed: names reserved for documentation, this machine, and the address in the licence's own text.
const HOSTS: [&str; 5] = ["example.invalid", "example.com", "example.org", "127.0.0.1", "www.apache.org"];

/// Files whose contents cargo writes.
const GENERATED: [&str; 1] = ["Cargo.lock"];

pub(super) fn check(tree: &Tree, findings: &mut Vec<Finding>) {
    for source in &tree.sources {
        let stem = source.path.trim_end_matches("/mod.rs").trim_end_matches(".rs").rsplit('/').next().unwrap_or("");
        if EMPTY_NAMES.contains(&stem) {
            findings.push(Finding {
                place: source.path.clone(),
                line: 1,
                rule: "module-name",
                text: format!("`{stem}` does not say what is inside"),
            });
        }
    }
    for path in tree.files.iter().filter(|path| !GENERATED.contains(&path.as_str())) {
        let Some(text) = tree.text(path) else { continue };
        for (number, line) in text.lines().enumerate() {
            for host in hosts(line) {
                findings.push(Finding {
                    place: path.clone(),
                    line: number + 1,
                    rule: "host",
                    text: format!("names the network host `{host}`"),
                });
            }
        }
    }
}

/// The registries, in two parts so that this file does not name them.
const REGISTRIES: [(&str, &str); 9] = [
    ("crates", ".io"),
    ("docker", ".io"),
    ("quay", ".io"),
    ("gcr", ".io"),
    ("k8s", ".io"),
    ("pypi", ".org"),
    ("npmjs", ".org"),
    ("debian", ".org"),
    ("github", ".com"),
];

/// The hosts a line names that are not allowed: those of addresses with a scheme, and registries anywhere.
fn hosts(line: &str) -> Vec<String> {
    let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let mut found = Vec::new();
    for (at, _) in line.match_indices("://") {
        let host: String = line[at + 3..].chars().take_while(|&c| is_part(c)).collect();
        // Without a dot it is no name of the network: `file:///x`, `unix://socket`.
        if host.contains('.') && !HOSTS.contains(&host.as_str()) {
            found.push(host);
        }
    }
    if found.is_empty() {
        for (name, top) in REGISTRIES {
            let whole = format!("{name}{top}");
            let named = line.match_indices(&whole).any(|(at, _)| !line[at + whole.len()..].starts_with(is_part));
            if named {
                found.push(whole);
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_with_and_without_a_scheme() {
        let registry = REGISTRIES[0].0.to_owned() + REGISTRIES[0].1;
        assert_eq!(hosts(&format!("see {registry}")), std::slice::from_ref(&registry));
        assert_eq!(hosts(&format!("https://{registry}/a")), [registry]);
        assert_eq!(hosts("http://example.com/ and unix://run/x and file:///y"), [""; 0]);
        assert_eq!(hosts(&format!("http:{}kernel.invalid/doc", "//")), ["kernel.invalid"]);
    }
}
