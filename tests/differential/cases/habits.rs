//! Habits of runc and crun that no specification tells of, and that their callers have got used to.

use super::hooks::hook;
use crate::case::{Case, calls, prints};

const MOUNT: &str = "/mounts/-";

pub(super) fn all() -> Vec<Case> {
    [hooks(), mounts(), command_lines()].into_iter().flatten().collect()
}

fn hooks() -> Vec<Case> {
    vec![
        prints(
            "hooks run in the bundle",
            &[("/hooks", &hook("createRuntime", "pwd > rootfs/o"))],
            "grep -o [^/]*$ /o",
            "bundle\n",
        ),
        prints(
            "create hooks run in the root file system",
            &[("/hooks", &hook("createContainer", "pwd > ROOT/o"))],
            "grep -o [^/]*$ /o",
            "rootfs\n",
        ),
    ]
}

fn mounts() -> Vec<Case> {
    let maps = r#"[{"containerID":0,"hostID":100000,"size":65536}]"#;
    let bind = r#"{"destination":"/m","type":"bind","source":"DIR/source","options":["rbind"]}"#;
    let own_ids = format!(
        r#"{{"destination":"/m","type":"bind","source":"DIR/source","options":["rbind","idmap"],"uidMappings":{maps},"gidMappings":{maps}}}"#
    );
    let user =
        [("/linux/namespaces/-", r#"{"type":"user"}"#), ("/linux/uidMappings", maps), ("/linux/gidMappings", maps)];
    let peers = "grep ' /m ' /proc/self/mountinfo | grep -c shared: || true";
    let cgroup = r#"{"destination":"/cg","type":"cgroup","source":"cgroup","options":["ro","nosuid"]}"#;
    vec![
        prints(
            "a bind in a user namespace is no peer of the host's",
            &[&[(MOUNT, bind)], &user[..]].concat(),
            peers,
            "0\n",
        )
        .prepared("mkdir ../source m"),
        prints("a bind with ids of its own is no peer of the host's", &[(MOUNT, &own_ids)], peers, "0\n")
            .prepared("mkdir ../source m"),
        prints(
            "a private root with a shared mount",
            &[
                ("/linux/rootfsPropagation", r#""rprivate""#),
                (MOUNT, r#"{"destination":"/m","type":"tmpfs","source":"here","options":["rshared"]}"#),
            ],
            "grep ' /m ' /proc/self/mountinfo | grep -c shared:",
            "1\n",
        ),
        prints(
            "the hierarchy without a cgroup namespace",
            &[(MOUNT, cgroup)],
            "cat /cg$(grep ^0: /proc/self/cgroup | cut -d: -f3)/cgroup.procs | head -n1; grep ' /cg ' /proc/mounts | cut -d' ' -f4 | cut -d, -f1,2",
            "1\nro,nosuid\n",
        ),
    ]
}

fn command_lines() -> Vec<Case> {
    vec![
        calls(
            "booleans with a value",
            &[],
            &[
                ("create -no-pivot=F --bundle BUNDLE ID", 0, Some(""), ""),
                ("--debug=0 list -q=f --f json", 0, None, ""),
                ("exec -t=false -d=0 ID true", 0, Some(""), ""),
                ("delete --f=1 ID", 0, Some(""), ""),
            ],
        ),
        calls(
            "a signal without a name",
            &[],
            &[("create --bundle BUNDLE ID", 0, Some(""), ""), ("kill ID ", 0, Some(""), "")],
        ),
    ]
}
