//! Root folders of another Debian suite, made once by mmdebstrap from this machine's own package sources.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What goes wrong, as one line.
pub type Result<T> = std::result::Result<T, String>;

/// The folder for what is made once and used by later runs: `$RTC_CACHE`, by default `/var/cache/rtc`.
pub fn cache() -> PathBuf {
    std::env::var_os("RTC_CACHE").map_or_else(|| PathBuf::from("/var/cache/rtc"), PathBuf::from)
}

/// The root folder `name` in the cache, with these packages and what they need; it is made if it isn't there or has
/// other packages.
///
/// # Errors
/// When mmdebstrap can't be installed, or the packages can't be fetched.
pub fn root(name: &str, suite: &str, packages: &[&str]) -> Result<PathBuf> {
    let root = cache().join(name);
    let (list, wanted) = (root.with_extension("packages"), format!("{suite}: {}\n", packages.join(" ")));
    if root.is_dir() && fs::read_to_string(&list).is_ok_and(|there| there == wanted) {
        return Ok(root);
    }
    if Command::new("mmdebstrap").arg("--version").output().is_err() {
        println!("installing the Debian package mmdebstrap");
        run(Command::new("apt-get").args(["install", "-y", "-qq", "--no-install-recommends", "mmdebstrap"]))?;
    }
    println!("making a root folder of Debian {suite} in {} (a minute or two): {}", root.display(), packages.join(" "));
    let say = |what: &str, e: std::io::Error| format!("{what} {}: {e}", root.display());
    fs::create_dir_all(cache()).map_err(|e| say("make the folder of", e))?;
    let sources = root.with_extension("sources");
    fs::write(&sources, sources_of(suite)?).map_err(|e| say("write the sources of", e))?;
    let unfinished = root.with_extension("new");
    remove(&unfinished)?;
    run(Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=apt", "--quiet"])
        .arg(format!("--include={}", packages.join(",")))
        // The index may be past its date where packages are served from a copy.
        .args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=APT::Install-Recommends \"false\""])
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg(suite)
        .arg(&unfinished)
        .arg(&sources))?;
    remove(&root)?;
    fs::rename(&unfinished, &root).map_err(|e| say("finish", e))?;
    fs::write(&list, wanted).map_err(|e| say("note the packages of", e))?;
    Ok(root)
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(format!("remove {}: {e}", folder.display())),
        _ => Ok(()),
    }
}

/// This machine's own Debian sources with the suite replaced.
fn sources_of(wanted: &str) -> Result<String> {
    let mut all = String::new();
    let entries = fs::read_dir("/etc/apt/sources.list.d").map_err(|e| format!("read /etc/apt/sources.list.d: {e}"))?;
    for entry in entries.flatten().filter(|entry| entry.path().extension().is_some_and(|e| e == "sources")) {
        let text = fs::read_to_string(entry.path()).unwrap_or_default();
        all.extend(text.split("\n\n").filter_map(|stanza| stanza_of(stanza, wanted)));
    }
    for line in fs::read_to_string("/etc/apt/sources.list").unwrap_or_default().lines() {
        if let ["deb", uri, suite, "main", ..] = line.split_ascii_whitespace().collect::<Vec<_>>()[..] {
            if !suite.contains('-') && !uri.contains("security") {
                all += &format!("Types: deb\nURIs: {uri}\nSuites: {wanted}\nComponents: main\n\n");
            }
        }
    }
    if all.is_empty() {
        return Err("no Debian source with component main was found in /etc/apt".into());
    }
    Ok(all)
}

fn stanza_of(stanza: &str, wanted: &str) -> Option<String> {
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let (uris, suites) = (field("URIs:")?, field("Suites:")?);
    if uris.contains("security") || suites.contains("backports") || suites.contains("security") {
        return None;
    }
    let key = field("Signed-By:").map_or(String::new(), |k| format!("Signed-By: {k}\n"));
    Some(format!("Types: deb\nURIs: {uris}\nSuites: {wanted}\nComponents: main\n{key}\n"))
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if !output.status.success() {
        return Err(format!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end()));
    }
    Ok(())
}
