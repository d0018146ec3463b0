//! What a process may and may not: ids, capabilities, limits, filters, and what prctl sets.

use crate::base::{Check, Child, Named, Prepare, Result, Worker, check, fails, same, sys, sys_fd};
use std::fs;
use std::os::fd::AsRawFd;

pub(crate) const ZOO: &[(&str, Prepare)] = &[
    ("landlock", landlock),
    ("credentials", credentials),
    ("capabilities", capabilities),
    ("process_flags", process_flags),
    ("limits", limits),
    ("umask_nice_scheduling", umask_nice_scheduling),
    ("chroot", chroot),
    ("seccomp_filter", seccomp_filter),
    ("seccomp_chain", seccomp_chain),
    ("seccomp_one_thread", seccomp_one_thread),
];

/// Lines of /proc/self/status with these names.
fn status(names: &[&str]) -> Result<String> {
    let text = fs::read_to_string("/proc/thread-self/status").named("status")?;
    let wanted = |line: &&str| names.iter().any(|name| line.split(':').next() == Some(*name));
    Ok(text.lines().filter(wanted).collect::<Vec<_>>().join("\n"))
}

const CREDENTIALS: [&str; 10] =
    ["Uid", "Gid", "Groups", "CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs", "Seccomp"];

fn unchanged(prepare: impl FnOnce() -> Result<()>, names: &'static [&'static str]) -> Result<Check> {
    prepare()?;
    let before = status(names)?;
    check(move || same("status", status(names)?, before.clone()))
}

/// All four user ids and group ids differ; supplementary groups; another thread of another user.
fn credentials() -> Result<Check> {
    let child = Child::fork(|| {
        unchanged(
            || {
                let groups = [5, 50, 500];
                sys!(libc::setgroups(3, groups.as_ptr()))?;
                sys!(libc::setresgid(11, 12, 13))?;
                sys!(libc::setfsgid(11))?;
                sys!(libc::setresuid(21, 22, 23))?;
                sys!(libc::setfsuid(21)).map(drop)
            },
            &CREDENTIALS,
        )
    });
    let mut child = child?;
    let other = Worker::spawn(|| {
        // The system call itself, which changes this thread alone; libc's function would change all.
        unchanged(|| sys!(libc::syscall(libc::SYS_setresuid, 31, 31, 0)).map(drop), &CREDENTIALS)
    })?;
    let mut own = unchanged(|| Ok(()), &CREDENTIALS)?;
    check(move || {
        child.check()?;
        other.check()?;
        own()
    })
}

/// Sets cut down by hand: bounding, inheritable, ambient; securebits.
fn capabilities() -> Result<Check> {
    const CHOWN: u32 = 0;
    const KILL: u32 = 5;
    const NET_BIND: u32 = 10;
    let cut = || -> Result<()> {
        sys!(libc::prctl(libc::PR_CAPBSET_DROP, u64::from(KILL), 0, 0, 0))?;
        let keep = (1 << CHOWN) | (1 << NET_BIND);
        let header = [0x2008_0522_u32, 0];
        let data = [keep, keep | 1 << 8, 1 << NET_BIND, 0, 0, 0_u32];
        sys!(libc::prctl(libc::PR_SET_SECUREBITS, 0b10_0000, 0, 0, 0)).map(drop)?;
        sys!(libc::syscall(libc::SYS_capset, header.as_ptr(), data.as_ptr()))?;
        sys!(libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_RAISE, u64::from(NET_BIND), 0, 0)).map(drop)
    };
    let mut child = Child::fork(move || {
        let mut sets = unchanged(cut, &CREDENTIALS)?;
        let bits = || sys!(libc::prctl(libc::PR_GET_SECUREBITS, 0, 0, 0, 0));
        let before = bits()?;
        check(move || {
            same("securebits", bits()?, before)?;
            sets()
        })
    })?;
    check(move || child.check())
}

/// What prctl sets and nothing else shows.
fn process_flags() -> Result<Check> {
    let settings: [(i32, u64); 5] = [
        (libc::PR_SET_PDEATHSIG, libc::SIGUSR1 as u64),
        (libc::PR_SET_DUMPABLE, 0),
        (libc::PR_SET_CHILD_SUBREAPER, 1),
        (libc::PR_SET_TIMERSLACK, 123_456),
        (libc::PR_SET_THP_DISABLE, 1),
    ];
    let mut child = Child::fork(move || {
        for (name, value) in settings {
            sys!(libc::prctl(name, value, 0, 0, 0))?;
        }
        sys!(libc::prctl(libc::PR_SET_NAME, c"zoo (odd) name".as_ptr()))?;
        sys!(libc::personality(0x004_0000))?;
        let show = || -> Result<Vec<i64>> {
            let (mut death, mut reaper) = (0_i32, 0_i32);
            sys!(libc::prctl(libc::PR_GET_PDEATHSIG, &raw mut death))?;
            sys!(libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut reaper))?;
            let dumpable = sys!(libc::prctl(libc::PR_GET_DUMPABLE, 0, 0, 0, 0))?;
            let slack = sys!(libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0))?;
            let pages = sys!(libc::prctl(libc::PR_GET_THP_DISABLE, 0, 0, 0, 0))?;
            let personality = sys!(libc::personality(0xffff_ffff))?;
            Ok([death, reaper, dumpable, slack, pages, personality].map(i64::from).to_vec())
        };
        let before = show()?;
        same("prepared", before.clone(), vec![libc::SIGUSR1.into(), 1, 0, 123_456, 1, 0x004_0000])?;
        check(move || {
            same("death signal, subreaper, dumpable, slack, huge pages, personality", show()?, before.clone())?;
            let name = fs::read_to_string("/proc/thread-self/comm").named("comm")?;
            same("name", name, "zoo (odd) name\n".into())
        })
    })?;
    check(move || child.check())
}

/// All sixteen limits.
fn limits() -> Result<Check> {
    let lower: [(u32, u64, u64); 5] = [
        (libc::RLIMIT_NOFILE, 500, 1000),
        (libc::RLIMIT_CORE, 0, 4096),
        (libc::RLIMIT_STACK, 4 << 20, 64 << 20),
        (libc::RLIMIT_FSIZE, 1 << 40, 1 << 41),
        (libc::RLIMIT_MEMLOCK, 16 << 10, 32 << 10),
    ];
    for (which, soft, hard) in lower {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: hard };
        sys!(libc::setrlimit(which, &raw const limit))?;
    }
    let show = || fs::read_to_string("/proc/self/limits").named("limits");
    let before = show()?;
    check(move || same("limits", show()?, before.clone()))
}

/// File mode mask, niceness, scheduling class, processors, badness for the out-of-memory killer.
fn umask_nice_scheduling() -> Result<Check> {
    let mut child = Child::fork(|| {
        sys!(libc::umask(0o037))?;
        sys!(libc::setpriority(libc::PRIO_PROCESS, 0, 7))?;
        let none = libc::sched_param { sched_priority: 0 };
        sys!(libc::sched_setscheduler(0, libc::SCHED_BATCH, &raw const none))?;
        fs::write("/proc/self/oom_score_adj", "321").named("oom_score_adj")?;
        // SAFETY: a set of processors is plain bits; the number is within it.
        let mut first: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: as above.
        unsafe { libc::CPU_SET(0, &mut first) };
        sys!(libc::sched_setaffinity(0, size_of_val(&first), &raw const first))?;
        let show = || -> Result<String> {
            let class = sys!(libc::sched_getscheduler(0))?;
            let nice = sys!(libc::getpriority(libc::PRIO_PROCESS, 0))?;
            let badness = fs::read_to_string("/proc/self/oom_score_adj").named("oom_score_adj")?;
            let rest = status(&["Umask", "Cpus_allowed_list"])?;
            Ok(format!("class {class} nice {nice} badness {badness}{rest}"))
        };
        let before = show()?;
        check(move || same("settings", show()?, before.clone()))
    })?;
    check(move || child.check())
}

/// Another root folder, with the working directory inside it.
fn chroot() -> Result<Check> {
    fs::create_dir_all("/var/jail/inner").named("mkdir")?;
    fs::write("/var/jail/inner/file", "jailed").named("write")?;
    let mut child = Child::fork(|| {
        sys!(libc::chroot(c"/var/jail".as_ptr()))?;
        sys!(libc::chdir(c"/inner".as_ptr()))?;
        check(|| {
            same("absolute", fs::read_to_string("/inner/file").named("read")?, "jailed".into())?;
            same("relative", fs::read_to_string("file").named("read")?, "jailed".into())?;
            same("no way out", fs::exists("/../../etc").unwrap_or(true), false)
        })
    })?;
    check(move || {
        child.check()?;
        let root = fs::read_link(format!("/proc/{}/root", child.pid)).named("root")?;
        same("root", root, "/var/jail".into())
    })
}

/// A filter that refuses one call with an errno and allows all others.
fn refuse(call: i64, errno: i32, flags: u64) -> Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let mut compare = statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, call as u32);
    compare.jf = 1;
    let mut code = [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        compare,
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_mut_ptr() };
    sys!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))?;
    sys!(libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program)).map(drop)
}

fn refused(call: i64, errno: i32) -> Result<()> {
    fails(&format!("call {call}"), sys!(libc::syscall(call, -1, 0, 0, 0, 0, 0)), errno)
}

/// One filter, inherited by a child.
fn seccomp_filter() -> Result<Check> {
    let mut child = Child::fork(|| {
        refuse(libc::SYS_getpriority, libc::EDOM, 0)?;
        let mut grandchild = Child::fork(|| check(|| refused(libc::SYS_getpriority, libc::EDOM)))?;
        check(move || {
            refused(libc::SYS_getpriority, libc::EDOM)?;
            grandchild.check()
        })
    })?;
    check(move || {
        child.check()?;
        sys!(libc::syscall(libc::SYS_getpriority, 0, 0)).map(drop)
    })
}

/// Several filters, one upon the other, that refuse what a restore itself may need.
fn seccomp_chain() -> Result<Check> {
    let calls = [
        (libc::SYS_getpriority, libc::EDOM),
        (libc::SYS_prctl, libc::EXDEV),
        (libc::SYS_mmap, libc::ENOMEM),
        (libc::SYS_rt_sigaction, libc::EPERM),
    ];
    let mut child = Child::fork(move || {
        // The filter against prctl would keep out those after it, so it comes last.
        for at in [0, 2, 3, 1] {
            refuse(calls[at].0, calls[at].1, 0)?;
        }
        check(move || calls.iter().try_for_each(|(call, errno)| refused(*call, *errno)))
    })?;
    check(move || child.check())
}

/// A filter of one thread alone.
fn seccomp_one_thread() -> Result<Check> {
    let filtered = Worker::spawn(|| {
        refuse(libc::SYS_getpriority, libc::EDOM, 0)?;
        check(|| refused(libc::SYS_getpriority, libc::EDOM))
    })?;
    let free = Worker::spawn(|| check(|| sys!(libc::syscall(libc::SYS_getpriority, 0, 0)).map(drop)))?;
    check(move || {
        filtered.check()?;
        free.check()
    })
}

/// A domain in which no folder can be made.
fn landlock() -> Result<Check> {
    let nothing = 0_u64;
    sys!(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, nothing, nothing, nothing))?;
    // LANDLOCK_ACCESS_FS_MAKE_DIR
    let handled = 1_u64 << 7;
    let attributes = &raw const handled;
    let ruleset = sys_fd!(libc::syscall(libc::SYS_landlock_create_ruleset, attributes, size_of::<u64>(), 0))?;
    sys!(libc::syscall(libc::SYS_landlock_restrict_self, ruleset.as_raw_fd(), 0))?;
    drop(ruleset);
    check(|| fails("mkdir", std::fs::create_dir("/tmp/folder").named("mkdir"), libc::EACCES))
}
