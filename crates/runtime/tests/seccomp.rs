//! Filters loaded into the kernel. Needs root.
//!
//! A filter holds for one thread and its children, so each test loads it in a thread of its own.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "helpers of tests, too, say with unwrap what they take for granted")]

#[path = "../src/seccomp/tests/podman.rs"]
mod podman;

use std::io::{IoSliceMut, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::Command;
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType};
use oci_spec::runtime::{LinuxSeccomp, State};
use rtc_runtime::seccomp::{Filter, compile, notify};
use rustix::fs::Mode;
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use serde_json::{Value, json};

fn filter(profile: Value) -> Filter {
    compile(&serde_json::from_value::<LinuxSeccomp>(profile).unwrap()).unwrap()
}

/// Runs `work` in a thread under the filter.
fn under<T: Send + 'static>(filter: Filter, work: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(move || {
        filter.load().unwrap();
        work()
    });
    thread.join().unwrap()
}

/// A directory of one test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(test: &str) -> Self {
        let path = std::env::temp_dir().join(format!("cgroup-eng-{test}-{}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// mkdir("") as an errno: ENOENT where nothing forbids it, and never a directory.
fn mkdir() -> Errno {
    let error = rustix::fs::mkdir("", Mode::empty()).unwrap_err();
    Errno::from_raw(error.raw_os_error())
}

fn mkdir_rule(action: &str) -> Value {
    json!([{"names": ["mkdir", "mkdirat"], "action": action}])
}

#[test]
fn errno_rules_hold_for_a_thread_and_its_children() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]});
    let (here, child) = under(filter(profile), || (mkdir(), Command::new("mkdir").arg("").output().unwrap()));
    assert_eq!(here, Errno::EXDEV);
    let message = String::from_utf8_lossy(&child.stderr).into_owned();
    assert!(message.contains("Invalid cross-device link"), "{message}");
    assert_eq!(mkdir(), Errno::ENOENT);
}

#[test]
fn rules_on_arguments_hold() {
    // As podman keeps audit messages (AF_NETLINK, NETLINK_AUDIT) from containers.
    let args = json!([{"index": 0, "value": 16, "op": "SCMP_CMP_EQ"}, {"index": 2, "value": 9, "op": "SCMP_CMP_EQ"}]);
    let rule = json!({"names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 22, "args": args});
    let netlink = |protocol| {
        nix::sys::socket::socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, protocol).map(drop)
    };
    let (audit, route) = under(filter(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule]})), move || {
        (netlink(SockProtocol::NetlinkAudit), netlink(SockProtocol::NetlinkRoute))
    });
    assert_eq!(audit, Err(Errno::EINVAL));
    assert_eq!(route, Ok(()));
}

#[test]
fn killing_actions_kill() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": mkdir_rule(action)});
        let status = under(filter(profile), || Command::new("mkdir").arg("").status().unwrap());
        assert_eq!(status.signal(), Some(nix::libc::SIGSYS), "{action}");
    }
}

#[test]
fn several_actions_stand_in_one_filter() {
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG"], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18},
        {"names": ["uname"], "action": "SCMP_ACT_LOG"},
        // No tracer: ENOSYS.
        {"names": ["sethostname"], "action": "SCMP_ACT_TRACE"},
        {"names": ["umount2"], "action": "SCMP_ACT_ERRNO"}]});
    let (mkdir, sethostname, umount) = under(filter(profile), || {
        let uname = nix::sys::utsname::uname().unwrap();
        (mkdir(), nix::unistd::sethostname(uname.nodename()), nix::mount::umount2("", nix::mount::MntFlags::empty()))
    });
    assert_eq!(mkdir, Errno::EXDEV);
    assert_eq!(sethostname.unwrap_err(), Errno::ENOSYS);
    assert_eq!(umount.unwrap_err(), Errno::EPERM);
}

#[test]
fn a_program_runs_under_podmans_profile() {
    let filter = compile(&podman::profile(&podman::DEFAULT_CAPABILITIES)).unwrap();
    let (output, unshare, hostname) = under(filter, || {
        let script = "echo $((6 * 7)); ls / | grep -c bin; sleep 0; id -u; uname -s";
        let output = Command::new("sh").args(["-c", script]).output().unwrap();
        let unshare = nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWUTS);
        (output, unshare, nix::unistd::sethostname("never"))
    });
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("42\n") && text.ends_with("0\nLinux\n"), "{text}");
    // Both are for containers with CAP_SYS_ADMIN only.
    assert_eq!(hostname.unwrap_err(), Errno::EPERM);
    assert!(unshare.is_ok() || unshare == Err(Errno::EPERM));
}

/// A 32-bit program: mkdir(NULL) by its number in the i386 table, then exit with the errno.
const I386: &[u8] = &[
    0xb8, 39, 0, 0, 0, // mov eax, 39
    0x31, 0xdb, // xor ebx, ebx
    0xcd, 0x80, // int 0x80
    0xf7, 0xd8, // neg eax
    0x89, 0xc3, // mov ebx, eax
    0xb8, 1, 0, 0, 0, // mov eax, 1
    0xcd, 0x80, // int 0x80
];

/// A file with the program in the smallest ELF that the kernel takes.
fn i386_program() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    let mut file = b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let halves = |file: &mut Vec<u8>, values: &[u16]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    let words = |file: &mut Vec<u8>, values: &[u32]| values.iter().for_each(|v| file.extend(v.to_le_bytes()));
    halves(&mut file, &[2, 3]); // executable, i386
    words(&mut file, &[1, BASE + HEADERS, 52, 0, 0]); // version, entry, program headers, no sections, flags
    halves(&mut file, &[52, 32, 1, 0, 0, 0]);
    let size = HEADERS + I386.len() as u32;
    words(&mut file, &[1, 0, BASE, BASE, size, size, 5, 0x1000]); // load, readable and executable
    file.extend(I386);
    file
}

#[test]
#[cfg(target_arch = "x86_64")]
fn thirty_two_bit_programs_have_their_own_numbers() {
    let scratch = Scratch::new("i386");
    let program = scratch.0.join("mkdir");
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o755).open(&program).unwrap();
    file.write_all(&i386_program()).unwrap();
    drop(file);
    assert_eq!(std::fs::metadata(&program).unwrap().permissions().mode() & 0o777, 0o755);
    let run = |architectures: Value| {
        let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": architectures,
            "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 18}]});
        let program = program.clone();
        under(filter(profile), move || Command::new(program).status().unwrap())
    };
    match Command::new(&program).status() {
        Ok(status) => assert_eq!(status.code(), Some(Errno::EFAULT as i32)),
        // A kernel without IA32 emulation: nothing of the kind can run, filtered or not.
        Err(e) => return assert_eq!(e.raw_os_error(), Some(Errno::ENOEXEC as i32)),
    }
    assert_eq!(run(json!(["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"])).code(), Some(Errno::EXDEV as i32));
    assert_eq!(run(json!(["SCMP_ARCH_X86_64"])).signal(), Some(nix::libc::SIGSYS));
}

/// Receives what the agent is sent: the document and the listener.
fn receive(agent: &UnixListener) -> (Value, OwnedFd) {
    let (stream, _) = agent.accept().unwrap();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(2))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut buffer = [0; 4096];
    let message =
        rustix::net::recvmsg(&stream, &mut [IoSliceMut::new(&mut buffer)], &mut control, RecvFlags::CMSG_CLOEXEC);
    let length = message.unwrap().bytes;
    let mut fds: Vec<OwnedFd> = control
        .drain()
        .filter_map(|message| match message {
            RecvAncillaryMessage::ScmRights(fds) => Some(fds),
            _ => None,
        })
        .flatten()
        .collect();
    assert_eq!(fds.len(), 1);
    (serde_json::from_slice(&buffer[..length]).unwrap(), fds.remove(0))
}

#[test]
fn an_agent_answers_for_the_kernel() {
    let scratch = Scratch::new("agent");
    let path = scratch.0.join("socket");
    let agent = UnixListener::bind(&path).unwrap();
    let profile = json!({"defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "listenerMetadata": "profile 7",
        "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"], "syscalls": mkdir_rule("SCMP_ACT_NOTIFY")});
    let filter = filter(profile);
    let target = filter.notify().unwrap().clone();
    let (send, listeners) = mpsc::channel();
    let (go, wait) = mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        send.send((filter.load().unwrap().unwrap(), nix::unistd::gettid().as_raw())).unwrap();
        let first = mkdir();
        wait.recv().unwrap();
        (first, mkdir())
    });
    let (listener, tid) = listeners.recv().unwrap();
    let mut state = State::default();
    state.set_id("web1".into());
    notify::send(&target, listener.as_fd(), tid, state).unwrap();
    drop(listener);
    let (document, listener) = receive(&agent);
    assert_eq!(document["fds"], json!(["seccompFd"]));
    assert_eq!(document["metadata"], "profile 7");
    assert_eq!(document["pid"], tid);
    assert_eq!(document["state"]["id"], "web1");
    let call = rtc_sys::seccomp::receive(&listener).unwrap();
    assert_eq!(call.pid, tid as u32);
    rtc_sys::seccomp::answer(&listener, call.id, Err(Errno::EXDEV)).unwrap();
    // With the agent gone, calls fail instead of waiting for ever.
    drop(listener);
    go.send(()).unwrap();
    assert_eq!(thread.join().unwrap(), (Errno::EXDEV, Errno::ENOSYS));
}

#[test]
fn a_missing_agent_is_an_error() {
    let scratch = Scratch::new("noagent");
    let target = notify_target(scratch.0.join("nobody"));
    let file = std::fs::File::open("/dev/null").unwrap();
    let error = notify::send(&target, file.as_fd(), 1, State::default()).unwrap_err().to_string();
    assert!(error.starts_with("failed to connect with seccomp agent: connect("), "{error}");
}

fn notify_target(path: PathBuf) -> rtc_runtime::seccomp::Notify {
    rtc_runtime::seccomp::Notify { path, metadata: None, reports_sendmsg: false }
}
