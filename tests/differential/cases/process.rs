//! `process`, and what else concerns the program: seccomp, personality, memory policy.

use crate::case::{Case, calls, prints, refused};

pub(super) fn all() -> Vec<Case> {
    [
        attributes(),
        capabilities(),
        refused_programs(),
        refused_attributes(),
        refused_io_priorities(),
        refused_policies(),
        architectures(),
        seccomp(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn attributes() -> Vec<Case> {
    vec![
        prints("environment", &[("/process/env", r#"["PATH=/bin","A=1","B=x y","A=2","HOME=/h"]"#), ("/process/args", r#"["env"]"#)],
            "", "PATH=/bin\nA=2\nB=x y\nHOME=/h\n"),
        prints("home of a user", &[("/process/user", r#"{"uid":1000,"gid":1000}"#)], "echo $HOME", "/home/u\n"),
        prints("home of nobody", &[("/process/user", r#"{"uid":7,"gid":7}"#)], "echo $HOME", "/\n"),
        prints("ids", &[("/process/user", r#"{"uid":1000,"gid":100,"additionalGids":[9,5]}"#)],
            "id -u; id -g; grep ^Groups: /proc/self/status", "1000\n100\nGroups:\t5 9 \n"),
        prints("name of a user", &[("/process/user", r#"{"uid":0,"gid":0,"username":"u"}"#)], "id -u", "0\n"),
        prints("umask by default", &[], "umask", "0022\n"),
        prints("umask", &[("/process/user/umask", "63")], "umask", "0077\n"),
        prints("working directory is made", &[("/process/cwd", r#""/made/here""#)], "pwd; stat -c %a /made", "/made/here\n755\n"),
        prints("no_new_privs", &[("/process/noNewPrivileges", "true")], "grep NoNewPrivs /proc/self/status", "NoNewPrivs:\t1\n"),
        prints("rlimits", &[("/process/rlimits", r#"[{"type":"RLIMIT_NOFILE","soft":64,"hard":128},{"type":"RLIMIT_CORE","soft":0,"hard":0}]"#)],
            "ulimit -n; ulimit -Hn; ulimit -c", "64\n128\n0\n"),
        prints("oom score", &[("/process/oomScoreAdj", "321")], "cat /proc/self/oom_score_adj", "321\n"),
        prints("scheduler", &[("/process/scheduler", r#"{"policy":"SCHED_BATCH","nice":7}"#)],
            "awk '{print $19, $41}' /proc/self/stat", "7 3\n"),
        prints("io priority", &[("/process/ioPriority", r#"{"class":"IOPRIO_CLASS_BE","priority":6}"#)], "ionice -p $$", "best-effort: prio 6\n"),
        prints("personality", &[("/linux/personality", r#"{"domain":"LINUX32"}"#)], "uname -m", "i686\n"),
        prints("names", &[("/hostname", r#""first""#), ("/domainname", r#""second""#)],
            "hostname; cat /proc/sys/kernel/domainname", "first\nsecond\n"),
        prints("a whole descriptor table", &[], "ls /proc/self/fd | tr '\\n' ' '", "0 1 2 3 "),
        prints("unknown properties", &[("/unknown", r#"{"a":1}"#), ("/process/unknown", "1"), ("/linux/unknown", "[]")], "echo runs", "runs\n"),
        prints("unknown annotations", &[("/annotations", r#"{"org.example.x":"y"}"#)], "echo runs", "runs\n"),
        prints("memory policy", &[("/linux/memoryPolicy", r#"{"mode":"MPOL_INTERLEAVE","nodes":"0"}"#)],
            "head -1 /proc/self/numa_maps | cut -d' ' -f2", "interleave:0\n"),
        prints("root's binary for a user with CAP_DAC_OVERRIDE", &[("/process/user", r#"{"uid":1000,"gid":1000}"#),
            ("/process/capabilities/ambient", r#"["CAP_DAC_OVERRIDE"]"#), ("/process/capabilities/inheritable", r#"["CAP_DAC_OVERRIDE"]"#),
            ("/process/args", r#"["/closed"]"#)], "", "ran\n").prepared("cp bin/busybox closed.bin; printf '#!/bin/sh\\necho ran\\n' > closed; chmod 700 closed"),
        calls("exec takes the configuration's process", &[("/process/user", r#"{"uid":1000,"gid":1000,"additionalGids":[5]}"#),
            ("/process/rlimits", r#"[{"type":"RLIMIT_NOFILE","soft":64,"hard":128}]"#), ("/process/oomScoreAdj", "222"), ("/process/env/-", r#""A=b""#)],
            &[
                ("run --detach --bundle BUNDLE ID", 0, Some(""), ""),
                ("exec ID id -u", 0, Some("1000\n"), ""),
                ("exec ID sh -c ulimit${IFS}-n", 0, Some("64\n"), ""),
                ("exec ID sh -c echo${IFS}$A", 0, Some("b\n"), ""),
                ("exec --user 0:0 ID id -u", 0, Some("0\n"), ""),
                ("exec --user 0:0 ID sh -c echo${IFS}$HOME", 0, Some("/root\n"), ""),
                ("exec --env C=d --cwd /tmp ID sh -c pwd;echo${IFS}$C", 0, Some("/tmp\nd\n"), ""),
                ("exec ID cat /proc/self/oom_score_adj", 0, Some("222\n"), ""),
            ]),
        calls("exec joins every namespace", &[],
            &[
                ("run --detach --bundle BUNDLE ID", 0, Some(""), ""),
                ("exec ID sh /joins", 0, Some(""), ""),
                ("exec ID hostname", 0, Some("case\n"), ""),
            ])
        .prepared("echo 'for n in pid mnt ipc uts net; do test $(readlink /proc/1/ns/$n) = $(readlink /proc/self/ns/$n) || echo $n; done' > joins"),
    ]
}

fn capabilities() -> Vec<Case> {
    vec![
        prints(
            "capabilities",
            &[
                (
                    "/process/capabilities",
                    r#"{"bounding":["CAP_CHOWN","CAP_KILL"],"effective":["CAP_KILL"],
            "permitted":["CAP_CHOWN","CAP_KILL"],"inheritable":["CAP_CHOWN"],"ambient":["CAP_CHOWN"]}"#,
                ),
                ("/process/user", r#"{"uid":1000,"gid":1000}"#),
            ],
            "grep ^Cap /proc/self/status | cut -f2",
            "0000000000000001\n0000000000000001\n0000000000000001\n0000000000000021\n0000000000000001\n",
        ),
        prints(
            "no capabilities",
            &[("/process/capabilities", "null")],
            "grep -c '^Cap.*:.0000000000000000' /proc/self/status",
            "5\n",
        ),
        prints(
            "unknown capability",
            &[("/process/capabilities/bounding/-", r#""CAP_TELEPORT""#)],
            "echo runs",
            "runs\n",
        ),
        prints(
            "capabilities that can't be granted",
            &[
                ("/process/capabilities/inheritable", r#"["CAP_SYS_ADMIN"]"#),
                ("/process/capabilities/effective/-", r#""CAP_BPF""#),
            ],
            "grep ^CapEff /proc/self/status",
            "CapEff:\t00000000080000e3\n",
        ),
        prints(
            "capability without its prefix",
            &[("/process/capabilities", r#"{"bounding":["KILL"],"effective":["KILL"],"permitted":["KILL"]}"#)],
            "grep ^CapEff /proc/self/status",
            "CapEff:\t0000000000000020\n",
        ),
    ]
}

fn refused_programs() -> Vec<Case> {
    vec![
        refused("no program", &[("/process/args", "[]")], "process.args is empty"),
        refused(
            "missing program",
            &[("/process/args", r#"["nosuch"]"#)],
            "exec: \"nosuch\": executable file not found in $PATH",
        ),
        refused(
            "missing path",
            &[("/process/args", r#"["/no/such"]"#)],
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        refused("directory as a program", &[("/process/args", r#"["/etc"]"#)], "exec: \"/etc\": is a directory"),
        refused(
            "file that can't be executed",
            &[("/process/args", r#"["/etc/passwd"]"#)],
            "exec: \"/etc/passwd\": permission denied",
        ),
        refused("relative working directory", &[("/process/cwd", r#""tmp""#)], "is not an absolute path"),
        refused("working directory is a file", &[("/process/cwd", r#""/etc/passwd""#)], "not a directory"),
    ]
}

fn refused_io_priorities() -> Vec<Case> {
    vec![
        refused(
            "io priority out of range",
            &[("/process/ioPriority", r#"{"class":"IOPRIO_CLASS_BE","priority":8}"#)],
            "priority 8 is not in 0 to 7",
        ),
        refused(
            "io priority without a class",
            &[("/process/ioPriority", r#"{"priority":4}"#)],
            "ioPriority has no class",
        ),
    ]
}

fn refused_attributes() -> Vec<Case> {
    vec![
        refused(
            "unknown limit",
            &[("/process/rlimits", r#"[{"type":"RLIMIT_MOOD","soft":1,"hard":1}]"#)],
            "unknown variant `RLIMIT_MOOD`",
        ),
        refused(
            "limit named twice",
            &[(
                "/process/rlimits",
                r#"[{"type":"RLIMIT_CORE","soft":1,"hard":1},{"type":"RLIMIT_CORE","soft":2,"hard":2}]"#,
            )],
            "twice",
        ),
        refused(
            "soft limit above the hard",
            &[("/process/rlimits", r#"[{"type":"RLIMIT_CORE","soft":2,"hard":1}]"#)],
            "above hard",
        ),
        refused(
            "an id that is none",
            &[("/process/user", r#"{"uid":0,"gid":0,"additionalGids":[4294967295]}"#)],
            "4294967295 is no id",
        ),
        refused(
            "nice value out of range",
            &[("/process/scheduler", r#"{"policy":"SCHED_OTHER","nice":20}"#)],
            "invalid scheduler.nice: 20",
        ),
        refused(
            "priority for another policy",
            &[("/process/scheduler", r#"{"policy":"SCHED_OTHER","priority":3}"#)],
            "can only be specified for SchedFIFO or SchedRR",
        ),
        refused(
            "deadline with a cpuset",
            &[
                (
                    "/process/scheduler",
                    r#"{"policy":"SCHED_DEADLINE","runtime":40000,"deadline":100000,"period":1000000}"#,
                ),
                ("/linux/resources/cpu/cpus", r#""0""#),
            ],
            "process scheduler can't be used together with AllowedCPUs",
        ),
        refused(
            "flag of a personality",
            &[("/linux/personality", r#"{"domain":"LINUX","flags":["SHORT_INODE"]}"#)],
            "linux.personality: the flag \"SHORT_INODE\" is not supported",
        ),
        refused(
            "unknown domain of personality",
            &[("/linux/personality", r#"{"domain":"SOLARIS"}"#)],
            "unknown variant `SOLARIS`",
        ),
    ]
}

fn refused_policies() -> Vec<Case> {
    vec![
        refused(
            "unknown memory policy",
            &[("/linux/memoryPolicy", r#"{"mode":"MPOL_FAIR","nodes":"0"}"#)],
            "invalid memory policy mode \"MPOL_FAIR\"",
        ),
        refused(
            "unknown flag of a memory policy",
            &[("/linux/memoryPolicy", r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_X"]}"#)],
            "invalid memory policy flag \"MPOL_F_X\"",
        ),
        refused(
            "nodes that are none",
            &[("/linux/memoryPolicy", r#"{"mode":"MPOL_BIND","nodes":"x"}"#)],
            "invalid memory policy node",
        ),
        refused(
            "nodes for the default policy",
            &[("/linux/memoryPolicy", r#"{"mode":"MPOL_DEFAULT","nodes":"0-7"}"#)],
            "mode requires 0 nodes but got 8",
        ),
        refused("another major version", &[("/ociVersion", r#""2.0.0""#)], "ociVersion \"2.0.0\" is not supported"),
        refused(
            "a class of intelRdt without resctrl",
            &[("/linux/intelRdt", r#"{"l3CacheSchema":"L3:0=f"}"#)],
            "linux.intelRdt: ",
        ),
        refused("no root", &[("/root", "null")], "root is missing"),
        refused("root without a path", &[("/root", "{}")], "root.path is missing"),
        refused("root that isn't there", &[("/root/path", r#""nowhere""#)], "ENOENT"),
        refused("variable without a name", &[("/process/env/-", r#""=x""#)], "is not NAME=VALUE"),
    ]
}

/// A profile of one rule.
fn profile(default: &str, rule: &str) -> Vec<(&'static str, String)> {
    let text = format!(r#"{{"defaultAction":"{default}","architectures":["SCMP_ARCH_X86_64"],"syscalls":[{rule}]}}"#);
    vec![("/linux/seccomp", text)]
}

fn with_profile(mut case: Case, rule: &str) -> Case {
    case.changes.extend(profile("SCMP_ACT_ALLOW", rule));
    case
}

fn architectures() -> Vec<Case> {
    vec![
        refused(
            "architecture that nobody knows",
            &[("/linux/seccomp", r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_ABACUS"]}"#)],
            "unknown variant `SCMP_ARCH_ABACUS`",
        ),
        refused(
            "errno for an action that has none",
            &[(
                "/linux/seccomp",
                r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read"],"action":"SCMP_ACT_ALLOW","errnoRet":1}]}"#,
            )],
            "SCMP_ACT_ALLOW takes no errnoRet",
        ),
        prints(
            "architecture of another machine",
            &[("/linux/seccomp", r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_AARCH64"]}"#)],
            "echo runs",
            "runs\n",
        ),
    ]
}

fn seccomp() -> Vec<Case> {
    vec![
        with_profile(
            prints(
                "seccomp errno",
                &[],
                "mkdir /x 2>&1 || true",
                "mkdir: can't create directory '/x': Operation not permitted\n",
            ),
            r#"{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO"}"#,
        ),
        with_profile(
            prints(
                "seccomp errnoRet",
                &[],
                "mkdir /x 2>&1 || true",
                "mkdir: can't create directory '/x': No such device or address\n",
            ),
            r#"{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":6}"#,
        ),
        with_profile(
            prints("seccomp by argument", &[], "chmod 600 /f; chmod 640 /f 2>/dev/null || stat -c %a /f", "600\n")
                .prepared("touch f"),
            r#"{"names":["chmod","fchmodat"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"value":416,"op":"SCMP_CMP_EQ"}]},
               {"names":["fchmodat"],"action":"SCMP_ACT_ERRNO","args":[{"index":2,"value":416,"op":"SCMP_CMP_EQ"}]}"#,
        ),
        with_profile(
            prints("seccomp names nobody knows", &[], "echo runs", "runs\n"),
            r#"{"names":["bdflush","frobnicate"],"action":"SCMP_ACT_ERRNO"}"#,
        ),
        with_profile(
            prints("seccomp is loaded", &[], "grep ^Seccomp: /proc/self/status", "Seccomp:\t2\n"),
            r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO"}"#,
        ),
        with_profile(
            refused("seccomp notify to nobody", &[], "listenerPath is not set"),
            r#"{"names":["mkdir"],"action":"SCMP_ACT_NOTIFY"}"#,
        ),
        with_profile(
            refused(
                "seccomp notify of write",
                &[("/linux/seccomp", "{}")],
                "SCMP_ACT_NOTIFY cannot be used for the write syscall",
            ),
            r#"{"names":["write"],"action":"SCMP_ACT_NOTIFY"}"#,
        ),
        with_profile(
            refused("seccomp argument out of range", &[], "syscalls[0]"),
            r#"{"names":["mkdir"],"action":"SCMP_ACT_ERRNO","args":[{"index":6,"value":0,"op":"SCMP_CMP_EQ"}]}"#,
        ),
        refused(
            "seccomp action nobody knows",
            &[("/linux/seccomp", r#"{"defaultAction":"SCMP_ACT_SMILE"}"#)],
            "SCMP_ACT_SMILE",
        ),
    ]
}
