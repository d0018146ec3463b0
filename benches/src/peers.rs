//! The root with the peers: Debian sid by mmdebstrap, entered by pivot_root.

use anyhow::{Context, Result, bail};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGES: &str = "runc,crun,criu,libcriu2,redis-server,redis-tools,busybox-static,iptables";

fn cache() -> PathBuf {
    std::env::var_os("RTC_CACHE").map_or_else(|| PathBuf::from("/var/cache/rtc"), PathBuf::from).join("peers-sid")
}

/// Makes the root if it isn't there, and goes into it with these programs, name and file, in /usr/bin.
pub(crate) fn enter(programs: &[(&str, PathBuf)]) -> Result<()> {
    let root = cache();
    if !root.join("usr/bin/crun").exists() {
        make(&root)?;
    }
    for (name, file) in programs {
        // Another's bench may be executing the old one.
        let (new, place) = (root.join("usr/bin").join(format!(".{name}")), root.join("usr/bin").join(name));
        std::fs::copy(file, &new).with_context(|| format!("copy {}", file.display()))?;
        std::fs::rename(&new, place)?;
    }
    unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_PRIVATE | MsFlags::MS_REC, none).context("make mounts private")?;
    mount(Some(&root), &root, none, MsFlags::MS_BIND, none).context("bind the root")?;
    let at = |name: &str| root.join(name);
    mount(Some("proc"), &at("proc"), Some("proc"), MsFlags::empty(), none)?;
    mount(Some("sysfs"), &at("sys"), Some("sysfs"), MsFlags::empty(), none)?;
    mount(Some("/dev"), &at("dev"), none, MsFlags::MS_BIND | MsFlags::MS_REC, none)?;
    for dir in ["run", "tmp"] {
        mount(Some("tmpfs"), &at(dir), Some("tmpfs"), MsFlags::empty(), none)?;
    }
    mount(Some("cgroup2"), &at("sys/fs/cgroup"), Some("cgroup2"), MsFlags::empty(), none)?;
    let old = at("mnt");
    nix::unistd::pivot_root(&root, &old).context("pivot_root")?;
    nix::unistd::chdir("/")?;
    umount2("/mnt", MntFlags::MNT_DETACH).context("leave the old root")?;
    Ok(())
}

fn make(root: &Path) -> Result<()> {
    println!("making the root with runc, crun and CRIU of Debian sid in {} (a minute or two)", root.display());
    if Command::new("mmdebstrap").arg("--version").output().is_err() {
        println!("installing the Debian package mmdebstrap");
        run(Command::new("apt-get").args(["install", "-y", "-qq", "--no-install-recommends", "mmdebstrap"]))?;
    }
    let parent = root.parent().context("the cache has no parent folder")?;
    std::fs::create_dir_all(parent)?;
    let sources = parent.join("sid.sources");
    std::fs::write(&sources, sid_sources()?)?;
    let unfinished = parent.join("peers-sid.new");
    let _ = std::fs::remove_dir_all(&unfinished);
    run(Command::new("mmdebstrap")
        .args(["--mode=root", "--variant=apt", "--quiet"])
        .arg(format!("--include={PACKAGES}"))
        // The index may be past its date where packages are served from a copy.
        .args(["--aptopt=Acquire::Check-Valid-Until \"false\"", "--aptopt=APT::Install-Recommends \"false\""])
        .arg("--dpkgopt=path-exclude=/usr/share/doc/*")
        .arg("sid")
        .arg(&unfinished)
        .arg(&sources))?;
    std::fs::rename(&unfinished, root).context("rename the finished root")
}

/// This machine's own Debian sources with the suite replaced.
fn sid_sources() -> Result<String> {
    let mut all = String::new();
    for entry in std::fs::read_dir("/etc/apt/sources.list.d")?.flatten() {
        if entry.path().extension().is_none_or(|e| e != "sources") {
            continue;
        }
        for stanza in std::fs::read_to_string(entry.path())?.split("\n\n") {
            let field = |name: &str| stanza.lines().find_map(|l| l.strip_prefix(name)).map(str::trim);
            let (Some(uris), Some(suites)) = (field("URIs:"), field("Suites:")) else { continue };
            if uris.contains("security") || suites.contains("backports") || suites.contains("security") {
                continue;
            }
            let key = field("Signed-By:").map_or(String::new(), |k| format!("Signed-By: {k}\n"));
            all += &format!("Types: deb\nURIs: {uris}\nSuites: sid\nComponents: main\n{key}\n");
        }
    }
    for line in std::fs::read_to_string("/etc/apt/sources.list").unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        if let ["deb", uri, suite, "main", ..] = words[..] {
            if !suite.contains('-') && !uri.contains("security") {
                all += &format!("Types: deb\nURIs: {uri}\nSuites: sid\nComponents: main\n\n");
            }
        }
    }
    if all.is_empty() {
        bail!("no Debian source with component main was found in /etc/apt");
    }
    Ok(all)
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("{command:?}"))?;
    if !output.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&output.stderr).trim_end());
    }
    Ok(())
}
