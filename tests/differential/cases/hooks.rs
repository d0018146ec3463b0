//! Hooks: what they are given, what they may do, what follows when one fails.

use crate::case::{Case, prints, refused};

/// The property `hooks` with one of a kind.
pub(super) fn hook(kind: &str, script: &str) -> String {
    format!(
        r#"{{"{kind}":[{{"path":"/bin/busybox","args":["sh","-c","{script}"],"env":["A=from the configuration"]}}]}}"#
    )
}

/// As the toolkits for graphics cards do it: into the mount namespace of the process that the state names.
const ENTER: &str = "busybox nsenter -t $(busybox grep -oE .pid.:.?[0-9]+ | busybox grep -oE [0-9]+$) -m \
    busybox mount -t tmpfs of-a-hook ROOT/h";

pub(super) fn all() -> Vec<Case> {
    let mut list = contents();
    list.extend(refusals());
    let failing = [
        ("prestart hook that fails", "prestart"),
        ("createRuntime hook that fails", "createRuntime"),
        ("createContainer hook that fails", "createContainer"),
        ("startContainer hook that fails", "startContainer"),
        ("poststart hook that fails", "poststart"),
    ];
    for (name, kind) in failing {
        list.push(refused(
            name,
            &[("/hooks", &hook(kind, "echo why >&2; exit 3"))],
            "hook #0: exit status 3, stdout: , stderr: why",
        ));
    }
    list
}

fn contents() -> Vec<Case> {
    vec![
        prints(
            "hooks have arguments and environment",
            &[("/hooks", &hook("createRuntime", "echo $0 $A > ROOT/said"))],
            "cat /said",
            "sh from the configuration\n",
        ),
        prints(
            "start hooks run in the container",
            &[("/hooks", &hook("startContainer", "hostname > /said"))],
            "cat /said",
            "case\n",
        ),
        prints(
            "create hooks see the state",
            &[("/hooks", &hook("createContainer", "grep -oE .status.:.?.[a-z]+ | grep -oE [a-z]+$ > ROOT/said"))],
            "cat /said",
            "created\n",
        ),
        prints("a poststop hook that fails", &[("/hooks", &hook("poststop", "false"))], "echo runs", "runs\n"),
        prints(
            "what a create hook mounts",
            &[("/hooks", &hook("createContainer", "busybox mkdir ROOT/h; busybox mount -t tmpfs of-a-hook ROOT/h"))],
            "grep -c '^of-a-hook /h tmpfs' /proc/mounts",
            "1\n",
        ),
        prints(
            "what a hook mounts from outside",
            &[("/hooks", &hook("createRuntime", ENTER))],
            "grep -c '^of-a-hook /h tmpfs' /proc/mounts",
            "1\n",
        )
        .prepared("mkdir h"),
        prints(
            "create hooks find the mounts below the root's path",
            &[("/hooks", &hook("createContainer", "busybox test -c ROOT/dev/null && echo yes > ROOT/said"))],
            "cat /said",
            "yes\n",
        ),
        prints(
            "a hook's variable without a value",
            &[("/hooks", r#"{"createRuntime":[{"path":"/bin/busybox","args":["env"],"env":["A","B=b"]}]}"#)],
            "echo runs",
            "runs\n",
        ),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        refused(
            "hook with a relative path",
            &[("/hooks", r#"{"createRuntime":[{"path":"busybox"}]}"#)],
            "createRuntime hook #0: path busybox is not absolute",
        ),
        refused(
            "hook that isn't there",
            &[("/hooks", r#"{"createRuntime":[{"path":"/no/such"}]}"#)],
            "error running createRuntime hook #0: exec(/no/such) = ENOENT",
        ),
        refused(
            "hook with no time",
            &[("/hooks", r#"{"createRuntime":[{"path":"/bin/busybox","args":["true"],"timeout":0}]}"#)],
            "timeout 0 is not above 0",
        ),
        refused(
            "hook that takes too long",
            &[("/hooks", r#"{"createRuntime":[{"path":"/bin/busybox","args":["sleep","1000"],"timeout":1}]}"#)],
            "timed out after 1 s",
        ),
        refused("hook without a path", &[("/hooks", r#"{"poststart":[{"args":["true"]}]}"#)], "missing field `path`"),
    ]
}
