//! /proc/PID/mountinfo (proc_pid_mountinfo(5)).

use super::{Malformed, Parsed};
use crate::image::path::ImagePath;

/// One mount.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// Unique among the mounts that exist now.
    pub id: i32,
    /// The mount it stands on; its own id, or one that isn't listed, at the top of the tree.
    pub parent: i32,
    /// Device of the file system, as `st_dev` has it where the file system does not make up others.
    pub dev: u64,
    /// The directory of the file system that is the mount's root.
    pub root: ImagePath,
    /// Where it is mounted, seen from the root directory of the task.
    pub mountpoint: ImagePath,
    /// The mount's own options: `rw`, `nosuid`, `relatime`.
    pub options: Vec<String>,
    /// Peer group of a shared mount.
    pub shared: Option<u32>,
    /// Peer group that it receives mounts from.
    pub master: Option<u32>,
    /// `unbindable`.
    pub unbindable: bool,
    /// The file system's type: `tmpfs`, `fuse.sshfs`.
    pub fs_type: String,
    /// What was given as the device.
    pub source: ImagePath,
    /// The file system's options: `rw,size=65536k,mode=755`.
    pub super_options: Vec<String>,
}

impl Mount {
    /// Whether the mount's own options hold `option`.
    pub fn has(&self, option: &str) -> bool {
        self.options.iter().any(|o| o == option)
    }
}

/// Parses the file's text, in its order.
///
/// # Errors
/// When a line isn't what it should be.
pub fn parse(text: &str) -> Parsed<Vec<Mount>> {
    text.lines().map(|line| mount(line).ok_or(Malformed("mountinfo"))).collect()
}

fn mount(line: &str) -> Option<Mount> {
    let (before, after) = line.split_once(" - ")?;
    let mut words = before.split(' ');
    let (id, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
    let (major, minor) = words.next()?.split_once(':')?;
    let dev = libc::makedev(major.parse().ok()?, minor.parse().ok()?);
    let (root, mountpoint) = (unescape(words.next()?), unescape(words.next()?));
    let options = list(words.next()?);
    let (mut shared, mut master, mut unbindable) = (None, None, false);
    for word in words {
        match word.split_once(':') {
            Some(("shared", group)) => shared = Some(group.parse().ok()?),
            Some(("master", group)) => master = Some(group.parse().ok()?),
            None if word == "unbindable" => unbindable = true,
            // propagate_from repeats what the master's master is; later kernels may add others.
            _ => {}
        }
    }
    let mut words = after.split(' ');
    let (fs_type, source) = (unescape(words.next()?).to_string(), unescape(words.next()?));
    let super_options = list(words.next()?);
    Some(Mount {
        id,
        parent,
        dev,
        root,
        mountpoint,
        options,
        shared,
        master,
        unbindable,
        fs_type,
        source,
        super_options,
    })
}

fn list(words: &str) -> Vec<String> {
    words.split(',').map(str::to_owned).collect()
}

/// Undoes the kernel's octal escapes of blank, tab, newline, backslash and hash.
fn unescape(word: &str) -> ImagePath {
    let mut bytes = Vec::with_capacity(word.len());
    let mut rest = word.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|digits| first == b'\\' && digits.iter().all(|d| (b'0'..=b'7').contains(d)));
        if let Some(digits) = octal {
            bytes.push(digits.iter().fold(0_u8, |n, d| n.wrapping_mul(8).wrapping_add(d - b'0')));
            rest = &tail[3..];
        } else {
            bytes.push(first);
            rest = tail;
        }
    }
    bytes.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTAINER: &str = "\
812 700 254:0 /var/lib/c/rootfs / rw,relatime - ext4 /dev/vda rw,discard
813 812 0:51 / /proc rw,nosuid,nodev,noexec,relatime - proc proc rw
814 812 0:52 / /dev rw,nosuid shared:3 master:1 - tmpfs tmpfs rw,size=65536k,mode=755
815 814 0:53 / /dev/pts rw,nosuid,noexec master:7 propagate_from:2 - devpts devpts rw,gid=5,mode=620,ptmxmode=666
816 812 254:0 /srv/a\\040b\\134c /mnt/with\\040blank\\011tab ro,noatime unbindable - ext4 /dev/vda rw,discard
817 812 0:60 / /home rw shared:4 - fuse.sshfs user@host:/home rw,user_id=0
";

    #[test]
    fn a_containers_mounts() {
        let mounts = parse(CONTAINER).unwrap();
        assert_eq!(mounts.len(), 6);
        assert_eq!((mounts[0].id, mounts[0].parent, mounts[0].dev), (812, 700, libc::makedev(254, 0)));
        assert_eq!(mounts[0].root.to_string(), "/var/lib/c/rootfs");
        assert_eq!((mounts[2].shared, mounts[2].master, mounts[2].unbindable), (Some(3), Some(1), false));
        assert_eq!((mounts[3].shared, mounts[3].master), (None, Some(7)));
        assert_eq!(mounts[4].root.as_bytes(), b"/srv/a b\\c");
        assert_eq!(mounts[4].mountpoint.as_bytes(), b"/mnt/with blank\ttab");
        assert!(mounts[4].unbindable && mounts[4].has("ro") && !mounts[4].has("rw"));
        assert_eq!(
            (mounts[5].fs_type.as_str(), mounts[5].source.to_string().as_str()),
            ("fuse.sshfs", "user@host:/home")
        );
        assert_eq!(mounts[2].super_options, ["rw", "size=65536k", "mode=755"]);
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["x\n", "1 2 0:1 / / rw proc proc rw\n", "1 2 01 / / rw - proc proc rw\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn the_kernel_prints_what_the_parser_expects() {
        let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = parse(&text).unwrap();
        assert!(mounts.iter().any(|m| m.mountpoint.as_bytes() == b"/proc" && m.fs_type == "proc"));
    }
}
