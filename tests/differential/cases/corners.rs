//! Corners of mounts and of seccomp: places that are none, options that meet, rules that overlap.

use crate::case::{Case, prints, refused};

const MOUNT: &str = "/mounts/-";

pub(super) fn all() -> Vec<Case> {
    [places(), devices(), options(), rules(), actions()].into_iter().flatten().collect()
}

fn tmpfs(destination: &str, options: &str) -> String {
    format!(r#"{{"destination":"{destination}","type":"tmpfs","source":"here","options":[{options}]}}"#)
}

fn bind(source: &str, destination: &str, options: &str) -> String {
    format!(r#"{{"destination":"{destination}","type":"bind","source":"{source}","options":["bind"{options}]}}"#)
}

fn places() -> Vec<Case> {
    let root = "a mount can't cover the container's root";
    vec![
        refused("mount over the root", &[(MOUNT, &tmpfs("/", ""))], root),
        refused("mount over the root by dots", &[(MOUNT, &tmpfs("/tmp/..", ""))], root),
        refused("mount over the root by a link", &[(MOUNT, &tmpfs("/link", ""))], root).prepared("ln -s / link"),
        refused("mount without a destination", &[(MOUNT, &tmpfs("", ""))], root),
        prints(
            "file with a slash at its end",
            &[(MOUNT, &bind("DIR/config.json", "/m/", ""))],
            "test -f /m && echo file",
            "file\n",
        ),
        prints(
            "modes of mountpoints",
            &[
                (MOUNT, &bind("DIR/config.json", "/a/b/file", "")),
                (MOUNT, &tmpfs("/c/d", "")),
                (MOUNT, &bind("ROOT", "/view", "")),
            ],
            "stat -c '%a %u' /view/a /view/a/b/file /view/c/d",
            "755 0\n644 0\n755 0\n",
        ),
        refused(
            "cgroup inside proc",
            &[(MOUNT, r#"{"destination":"/proc/sys","type":"cgroup","source":"cgroup"}"#)],
            "inside /proc",
        ),
        refused(
            "bind without a source",
            &[(MOUNT, r#"{"destination":"/m","type":"bind","options":["bind"]}"#)],
            "the bind mount has no source",
        ),
    ]
}

/// A user namespace makes no devices: it gets the host's, of the same path.
fn devices() -> Vec<Case> {
    let maps = r#"[{"containerID":0,"hostID":0,"size":1000}]"#;
    let user = [
        ("/linux/namespaces/-", r#"{"type":"user"}"#),
        ("/linux/uidMappings", maps),
        ("/linux/gidMappings", maps),
        ("/linux/devices", r#"[{"path":"/dev/zero","type":"c","major":1,"minor":3}]"#),
    ];
    vec![
        refused("another device of the host", &user, "the host has another file there than 1:3"),
        refused(
            "device with a number that is too large",
            &[("/linux/devices", r#"[{"path":"/dev/x","type":"c","major":4096,"minor":0}]"#)],
            "no device has the numbers 4096:0",
        ),
    ]
}

fn options() -> Vec<Case> {
    let flags = "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6";
    vec![
        prints(
            "access times named twice",
            &[(MOUNT, &tmpfs("/m", r#""strictatime","relatime""#))],
            flags,
            "rw,relatime\n",
        ),
        prints(
            "copy for no tmpfs",
            &[(MOUNT, r#"{"destination":"/m","type":"ramfs","source":"r","options":["tmpcopyup"]}"#)],
            "ls /m; echo empty",
            "empty\n",
        )
        .prepared("mkdir m; touch m/f"),
        prints(
            "cgroup with a recursive attribute",
            &[
                ("/linux/namespaces/-", r#"{"type":"cgroup"}"#),
                (MOUNT, r#"{"destination":"/m","type":"cgroup2","source":"cgroup","options":["rro","nosuid"]}"#),
            ],
            flags,
            "ro,nosuid,relatime\n",
        ),
        prints(
            "size of a tmpfs",
            &[(MOUNT, &tmpfs("/m", r#""size=1m""#))],
            "grep ' /m ' /proc/mounts | cut -d, -f3",
            "size=1024k 0 0\n",
        ),
        prints(
            "queues without a namespace for them",
            &[
                ("/linux/namespaces", r#"[{"type":"pid"},{"type":"mount"},{"type":"uts"}]"#),
                (MOUNT, r#"{"destination":"/m","type":"mqueue","source":"m"}"#),
            ],
            "grep -c ' /m mqueue' /proc/mounts",
            "1\n",
        ),
    ]
}

/// A profile that allows everything but what `rest` says.
fn profile(rest: &str) -> String {
    format!(r#"{{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86_64"],{rest}}}"#)
}

fn filtered(name: &'static str, rest: &str, script: &str, stdout: &str) -> Case {
    prints(name, &[("/linux/seccomp", profile(rest).as_str())], script, stdout)
}

fn no_filter(name: &'static str, rest: &str, why: &'static str) -> Case {
    refused(name, &[("/linux/seccomp", profile(rest).as_str())], why)
}

fn rules() -> Vec<Case> {
    vec![
        // The specification wants a name, and metadata with a listener only; who leaves it so is let run by all.
        filtered("rule without names", r#""syscalls":[{"names":[],"action":"SCMP_ACT_ERRNO"}]"#, "echo runs", "runs\n"),
        filtered(
            "metadata for nobody",
            r#""listenerMetadata":"x","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]"#,
            "echo runs",
            "runs\n",
        ),
        filtered(
            "listener without a report",
            r#""listenerPath":"/nowhere","syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}]"#,
            "echo runs",
            "runs\n",
        ),
        filtered(
            "rules that overlap",
            r#""syscalls":[
            {"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":6,"args":[{"index":1,"value":416,"op":"SCMP_CMP_LE"}]},
            {"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":7,"args":[{"index":1,"value":416,"op":"SCMP_CMP_EQ"}]}]"#,
            "chmod 640 /bin 2>&1 || true",
            "chmod: /bin: No such device or address\n",
        ),
        no_filter(
            "rules that contradict each other",
            r#""syscalls":[
            {"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":6,"args":[{"index":1,"value":416,"op":"SCMP_CMP_EQ"}]},
            {"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":7,"args":[{"index":1,"value":416,"op":"SCMP_CMP_EQ"}]}]"#,
            "syscalls[1]: same call and args as in syscalls[0], and another action",
        ),
        filtered(
            "a rule for all beside one for some",
            r#""syscalls":[
            {"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":6,"args":[{"index":1,"value":416,"op":"SCMP_CMP_EQ"}]},
            {"names":["chmod"],"action":"SCMP_ACT_ERRNO","errnoRet":7}]"#,
            "chmod 640 /bin 2>&1 || true",
            "chmod: /bin: Argument list too long\n",
        ),
    ]
}

fn actions() -> Vec<Case> {
    vec![
        filtered(
            "a tracer's message of sixteen bits",
            r#""syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_TRACE","errnoRet":65535}]"#,
            "echo runs",
            "runs\n",
        ),
        no_filter(
            "errno out of range",
            r#""syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":4096}]"#,
            "errnoRet 4096 is above 4095",
        ),
        filtered(
            "result of zero",
            r#""syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","errnoRet":0}]"#,
            "mkdir /x && test ! -e /x && echo nothing",
            "nothing\n",
        ),
        no_filter(
            "filter's flag nobody knows",
            r#""flags":["SECCOMP_FILTER_FLAG_SMILE"]"#,
            "unknown variant `SECCOMP_FILTER_FLAG_SMILE`",
        ),
        filtered(
            "kill of a process",
            r#""syscalls":[{"names":["mkdir"],"action":"SCMP_ACT_KILL_PROCESS"}]"#,
            "mkdir /x; echo $?",
            "159\n",
        ),
    ]
}
