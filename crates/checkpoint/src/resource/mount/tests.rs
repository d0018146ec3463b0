//! Mounts of a shell in its own mount namespace, put back in another's.

use super::*;
use crate::files::testing::{Contents, Shell};

/// What the runtime makes: a root of its own with tmpfs on /tmp and a bind on /host.
const RUNTIME: &str = "mount --make-rprivate /; mount -t tmpfs r /mnt; cd /mnt
    mkdir tmp host proc bin usr lib lib64 made bound etc; mount --rbind /usr usr; for d in bin lib lib64; do
    mount --bind /$d $d; done; mount --bind /etc host; mount -t proc p proc
    pivot_root . tmp; cd /; umount -l /tmp; mount -t tmpfs -o nosuid,mode=1777 t /tmp";

fn given() -> Vec<Given> {
    let external =
        ["/usr", "/bin", "/lib", "/lib64", "/host"].map(|path| Given { mountpoint: path.into(), external: true });
    let own = ["/tmp", "/proc"].map(|path| Given { mountpoint: path.into(), external: false });
    external.into_iter().chain(own).collect()
}

fn dumped(shell: &Shell, image: &Contents) -> std::result::Result<Mounts, Vec<Blocker>> {
    let mut blockers = Vec::new();
    let plan = look(shell.pid(), &given(), &mut blockers).unwrap();
    if !blockers.is_empty() {
        return Err(blockers);
    }
    let mounts = dump(plan, shell.pid(), &mut image.writer()).unwrap();
    Ok(serde_json::from_str(&serde_json::to_string(&mounts).unwrap()).unwrap())
}

/// mountpoint, type and restrictions of each mount, and the names in /tmp and /made.
fn state(shell: &Shell) -> String {
    let text = std::fs::read_to_string(format!("/proc/{}/mountinfo", shell.pid())).unwrap();
    let mut lines: Vec<String> = mountinfo::parse(&text)
        .unwrap()
        .into_iter()
        .filter(|mount| mount.mountpoint.as_bytes() != b"/")
        .map(|mount| format!("{} {} {}", mount.mountpoint, mount.fs_type, mount.options.join(",")))
        .collect();
    lines.sort_unstable();
    let find = format!("cd /proc/{}/root; find tmp made bound -xdev -printf '%p %y %m %s\\n' | sort", shell.pid());
    let out = std::process::Command::new("sh").args(["-c", &find]).output().unwrap();
    lines.join("\n") + "\n" + &String::from_utf8(out.stdout).unwrap()
}

#[test]
fn contents_and_mounts_made_inside_come_back() {
    let inside =
        "mkdir -p /tmp/d; echo x > /tmp/d/f; mount -t tmpfs -o size=1m,nodev,noexec none /made; mkdir /made/sub
        echo 12345 > /made/sub/g; mount --bind /made/sub /bound; mount -o remount,ro,bind /bound
        mkdir /tmp/proc; mount --bind /proc /tmp/proc; mount -o remount,bind,ro /host";
    let (old, new) = (Shell::in_namespaces(&format!("{RUNTIME}\n{inside}")), Shell::in_namespaces(RUNTIME));
    let image = Contents::new();
    let mounts = dumped(&old, &image).unwrap();
    restore(&mounts, new.pid(), &given(), &image.reader()).unwrap();
    assert_eq!(state(&new), state(&old));
    let g = std::fs::read_to_string(format!("/proc/{}/root/bound/g", new.pid())).unwrap();
    assert_eq!(g, "12345\n");
    let missing = Shell::in_namespaces(&format!("{RUNTIME}\numount -l /tmp"));
    let error = restore(&mounts, missing.pid(), &given(), &image.reader()).unwrap_err();
    assert_eq!(*error.kind(), Kind::Incompatible);
    assert!(error.to_string().starts_with("mount on /tmp: config.json has no tmpfs there"), "{error}");
}

#[test]
fn a_mount_that_cant_be_made_again_is_named() {
    let inside = "mount -t tmpfs none /made; mount -t tmpfs none /made; mkdir /tmp/q; mount -t sysfs s /tmp/q";
    let shell = Shell::in_namespaces(&format!("{RUNTIME}\n{inside}"));
    let blockers = dumped(&shell, &Contents::new()).unwrap_err();
    let whats: Vec<_> = blockers.iter().map(|blocker| blocker.what.as_str()).collect();
    assert_eq!(whats, ["mount on /made (tmpfs)", "mount on /tmp/q (sysfs)"]);
}

#[test]
fn what_the_container_mounted_on_a_bind_mount_is_its_own() {
    let inside = "mount -t tmpfs -o size=1m none /host/apt; echo own > /host/apt/f";
    let (old, new) = (Shell::in_namespaces(&format!("{RUNTIME}\n{inside}")), Shell::in_namespaces(RUNTIME));
    let image = Contents::new();
    let mounts = dumped(&old, &image).unwrap();
    restore(&mounts, new.pid(), &given(), &image.reader()).unwrap();
    assert_eq!(state(&new), state(&old));
    assert_eq!(std::fs::read_to_string(format!("/proc/{}/root/host/apt/f", new.pid())).unwrap(), "own\n");
    let other = Shell::in_namespaces(&format!("{RUNTIME}\nmount -t sysfs s /host/apt"));
    let blockers = dumped(&other, &Contents::new()).unwrap_err();
    assert_eq!(blockers.first().unwrap().what, "mount on /host/apt (sysfs)");
}
