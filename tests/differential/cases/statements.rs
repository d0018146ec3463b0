//! Single statements of the specification that fit nowhere else: versions, root paths, mounts onto the wrong kind of
//! file, values that are none.

use crate::case::{Case, prints, refused};

const MOUNT: &str = "/mounts/-";

pub(super) fn all() -> Vec<Case> {
    [versions(), roots(), wrong_places(), values()].into_iter().flatten().collect()
}

fn versions() -> Vec<Case> {
    vec![
        prints("later minor version", &[("/ociVersion", r#""1.99.0""#)], "echo runs", "runs\n"),
        prints("version with a suffix", &[("/ociVersion", r#""1.0.2-dev+x""#)], "echo runs", "runs\n"),
        refused("version that is none", &[("/ociVersion", r#""latest""#)], "ociVersion \"latest\" is not a version"),
    ]
}

fn roots() -> Vec<Case> {
    vec![
        prints("absolute root", &[("/root/path", r#""ROOT""#)], "echo runs", "runs\n"),
        prints("root by way of its parent", &[("/root/path", r#""rootfs/../rootfs/""#)], "echo runs", "runs\n"),
        prints("root by a link", &[("/root/path", r#""link""#)], "echo runs", "runs\n")
            .prepared("ln -s rootfs ../link"),
        refused("root that is a file", &[("/root/path", r#""config.json""#)], "config.json is not a directory"),
    ]
}

fn bind(source: &str, destination: &str) -> String {
    format!(r#"{{"destination":"{destination}","type":"bind","source":"{source}","options":["bind"]}}"#)
}

fn wrong_places() -> Vec<Case> {
    let tmpfs = r#"{"destination":"/etc/passwd","type":"tmpfs","source":"tmpfs"}"#;
    vec![
        refused("bind of a directory onto a file", &[(MOUNT, &bind("DIR", "/etc/passwd"))], "mount /etc/passwd: "),
        refused("bind of a file onto a directory", &[(MOUNT, &bind("DIR/config.json", "/tmp"))], "mount /tmp: "),
        refused("tmpfs on a file", &[(MOUNT, tmpfs)], "mount /etc/passwd: "),
        prints(
            "bind of a file where nothing is",
            &[(MOUNT, &bind("DIR/config.json", "/a/b/c"))],
            "stat -c '%a %F' /a /a/b; test -s /a/b/c && echo file",
            "755 directory\n755 directory\nfile\n",
        ),
        prints(
            "one mount on another",
            &[(MOUNT, &bind("DIR", "/m")), (MOUNT, r#"{"destination":"/m","type":"tmpfs","source":"t"}"#)],
            "ls /m; grep -c ' /m ' /proc/mounts",
            "2\n",
        ),
        prints(
            "hidden by a link",
            &[("/linux/maskedPaths", r#"["/link"]"#), ("/linux/readonlyPaths", r#"["/other"]"#)],
            "ls /hidden; touch /kept/x 2>&1 || true",
            "touch: /kept/x: Read-only file system\n",
        )
        .prepared("mkdir hidden kept; touch hidden/f; ln -s hidden link; ln -s kept other"),
    ]
}

fn values() -> Vec<Case> {
    let sees_seven = [("/linux/sysctl", r#"{"net/ipv4/ip_default_ttl":"7"}"#)];
    vec![
        prints("sysctl with slashes", &sees_seven, "cat /proc/sys/net/ipv4/ip_default_ttl", "7\n"),
        prints(
            "no set of capabilities",
            &[("/process/capabilities", "{}")],
            "grep ^CapBnd /proc/self/status",
            "CapBnd:\t0000000000000000\n",
        ),
        prints("argument that is empty", &[], "set -- '' x; echo $#", "2\n"),
        refused(
            "offsets for a time namespace that is joined",
            &[
                ("/linux/namespaces/-", r#"{"type":"time","path":"/proc/self/ns/time"}"#),
                ("/linux/timeOffsets", r#"{"boottime":{"secs":7}}"#),
            ],
            "time namespace offsets can't be set for a time namespace that is joined",
        ),
        refused(
            "access to a device that nobody knows",
            &[("/linux/resources/devices", r#"[{"allow":true,"access":"xyz"}]"#)],
            "access 'x' is none of r, w and m",
        ),
        refused("uid below zero", &[("/process/user", r#"{"uid":-1,"gid":0}"#)], "integer `-1`, expected u32"),
        refused(
            "unknown class of io priority",
            &[("/process/ioPriority", r#"{"class":"IOPRIO_CLASS_SOON","priority":1}"#)],
            "unknown variant `IOPRIO_CLASS_SOON`",
        ),
        refused(
            "policy nobody knows",
            &[("/process/scheduler", r#"{"policy":"SCHED_FAIR"}"#)],
            "unknown variant `SCHED_FAIR`",
        ),
    ]
}
