//! Namespaces, their settings, and what contradicts them.

use crate::case::{Case, prints, refused};

const ADD: &str = "/linux/namespaces/-";

const TIME: &str = r#"{"monotonic":{"secs":7,"nanosecs":5},"boottime":{"secs":-3}}"#;

const NO_MOUNT: [(&str, &str); 2] = [("/linux/namespaces", r#"[{"type":"pid"}]"#), ("/hostname", "null")];

pub(super) fn all() -> Vec<Case> {
    [kinds(), host_mounts_and_cgroups(), refusals(), refused_settings()].into_iter().flatten().collect()
}

fn kinds() -> Vec<Case> {
    let maps = r#"[{"containerID":0,"hostID":0,"size":1000},{"containerID":1000,"hostID":50000,"size":100}]"#;
    let user = [(ADD, r#"{"type":"user"}"#), ("/linux/uidMappings", maps), ("/linux/gidMappings", maps)];
    vec![
        prints("own pid namespace", &[], "echo $$", "1\n"),
        prints("own network namespace", &[], "cut -d: -f1 /proc/net/dev | tail -n +3 | tr -d ' '", "lo\n"),
        prints("own cgroup namespace", &[(ADD, r#"{"type":"cgroup"}"#)], "grep ^0: /proc/self/cgroup", "0::/\n"),
        prints(
            "user namespace",
            &user,
            "cat /proc/self/uid_map | tr -s ' '; id -u; touch /f && stat -c %u /f",
            " 0 0 1000\n 1000 50000 100\n0\n0\n",
        ),
        prints(
            "message queues of a user namespace",
            &[
                (ADD, r#"{"type":"user"}"#),
                ("/linux/uidMappings", r#"[{"containerID":0,"hostID":100000,"size":65536}]"#),
                ("/linux/gidMappings", r#"[{"containerID":0,"hostID":100000,"size":65536}]"#),
                ("/mounts/-", r#"{"destination":"/dev/mqueue","type":"mqueue","source":"mqueue"}"#),
            ],
            "stat -c %u /dev/mqueue",
            "0\n",
        ),
        prints("device in a user namespace", &user, "echo x > /dev/null && stat -c %t:%T /dev/null", "1:3\n"),
        prints(
            "sysctl",
            &[("/linux/sysctl", r#"{"net.ipv4.ip_forward":"1","kernel.shmmni":"123"}"#)],
            "cat /proc/sys/net/ipv4/ip_forward /proc/sys/kernel/shmmni",
            "1\n123\n",
        ),
        prints(
            "time offsets",
            &[(ADD, r#"{"type":"time"}"#), ("/linux/timeOffsets", TIME)],
            "tr -s ' ' < /proc/self/timens_offsets",
            "monotonic 7 5\nboottime -3 0\n",
        ),
        prints("mappings without a user namespace", &[("/linux/uidMappings", maps)], "id -u", "0\n"),
        prints(
            "namespace by an empty path",
            &[("/linux/namespaces", r#"[{"type":"mount"},{"type":"pid"},{"type":"uts","path":""}]"#)],
            "hostname",
            "case\n",
        ),
        prints(
            "joined namespace",
            &[
                (
                    "/linux/namespaces",
                    r#"[{"type":"mount"},{"type":"pid"},{"type":"network","path":"/proc/self/ns/net"}]"#,
                ),
                ("/hostname", "null"),
            ],
            "echo runs",
            "runs\n",
        ),
    ]
}

fn host_mounts_and_cgroups() -> Vec<Case> {
    vec![
        prints(
            "delegated cgroup",
            &[(ADD, r#"{"type":"cgroup"}"#), ("/annotations", r#"{"run.oci.delegate-cgroup":"leaf"}"#)],
            "grep ^0: /proc/self/cgroup",
            "0::/leaf\n",
        ),
        prints(
            "no mount namespace",
            &NO_MOUNT,
            "ls -d /bin /usr /proc/1 2>/dev/null; grep -c ' /proc ' /proc/self/mountinfo",
            "/bin\n/proc/1\n1\n",
        ),
        prints("nothing for Linux", &[("/linux", "null"), ("/hostname", "null")], "pwd", "/\n"),
        prints(
            "no namespace at all",
            &[("/linux/namespaces", "[]"), ("/hostname", "null")],
            "pwd; hostname | wc -l",
            "/\n1\n",
        ),
        prints(
            "paths hidden without a mount namespace",
            &[
                NO_MOUNT[0],
                NO_MOUNT[1],
                ("/linux/maskedPaths", r#"["/proc/keys"]"#),
                ("/linux/readonlyPaths", r#"["/proc/sys"]"#),
            ],
            "wc -c < /proc/keys; touch /proc/sys/kernel/panic 2>&1 | grep -o Read-only",
            "0\nRead-only\n",
        ),
    ]
}

fn refusals() -> Vec<Case> {
    vec![
        refused(
            "namespace of another kind",
            &[
                ("/linux/namespaces", r#"[{"type":"mount"},{"type":"network","path":"/proc/self/ns/uts"}]"#),
                ("/hostname", "null"),
            ],
            "is not a net namespace",
        ),
        refused(
            "namespace that isn't there",
            &[
                ("/linux/namespaces", r#"[{"type":"mount"},{"type":"network","path":"/no/such"}]"#),
                ("/hostname", "null"),
            ],
            "/no/such",
        ),
        refused(
            "namespace by a relative path",
            &[("/linux/namespaces", r#"[{"type":"mount"},{"type":"network","path":"ns/net"}]"#), ("/hostname", "null")],
            "is not absolute",
        ),
        refused("kind named twice", &[(ADD, r#"{"type":"pid"}"#)], "names a kind twice"),
        refused("unknown kind", &[(ADD, r#"{"type":"dream"}"#)], "unknown variant `dream`"),
        refused(
            "user namespace without a mount namespace",
            &[
                ("/linux/namespaces", r#"[{"type":"pid"},{"type":"user"}]"#),
                ("/linux/uidMappings", r#"[{"containerID":0,"hostID":50000,"size":100}]"#),
                ("/linux/gidMappings", r#"[{"containerID":0,"hostID":50000,"size":100}]"#),
                ("/hostname", "null"),
            ],
            "user namespace without a mount namespace",
        ),
        refused(
            "hostname without its namespace",
            &[("/linux/namespaces", r#"[{"type":"mount"}]"#)],
            "unable to set hostname without a private UTS namespace",
        ),
        refused(
            "user namespace without mappings",
            &[(ADD, r#"{"type":"user"}"#)],
            "needs linux.uidMappings and gidMappings",
        ),
        refused("offsets without a time namespace", &[("/linux/timeOffsets", TIME)], "there is no time namespace"),
        refused(
            "offsets of an unknown clock",
            &[(ADD, r#"{"type":"time"}"#), ("/linux/timeOffsets", r#"{"lunar":{"secs":1}}"#)],
            "unknown clock \"lunar\"",
        ),
    ]
}

fn refused_settings() -> Vec<Case> {
    vec![
        refused(
            "sysctl of the host",
            &[("/linux/sysctl", r#"{"vm.swappiness":"1"}"#)],
            "is not in a separate kernel namespace",
        ),
        refused(
            "sysctl of a namespace that is the host's",
            &[
                ("/linux/namespaces", r#"[{"type":"mount"}]"#),
                ("/hostname", "null"),
                ("/linux/sysctl", r#"{"net.ipv4.ip_forward":"1"}"#),
            ],
            "is not allowed in the hosts net namespace",
        ),
        refused("sysctl that isn't there", &[("/linux/sysctl", r#"{"net.no.such":"1"}"#)], "sysctl: net.no.such"),
    ]
}
