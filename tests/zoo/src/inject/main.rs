//! Runs a command and spoils one of its system calls: the N-th fails, or the command is killed there.
//!
//! `rtc-inject DEED N PROGRAM ARGS…`, where DEED is `count`, `fail`, `kill` (the process that was started, alone) or
//! `kill-all` (with the one that works for it). Prints how many calls it counted, and the name of the one it spoiled.
//!
//! What is counted are the calls of the command, its threads and the process that it splits off to do the work,
//! as far as they can fail for reasons outside of the program: no memory management, no waiting, no ptrace.
//! Processes that the command makes for a container are left alone; they have a tracer of their own.

#![allow(missing_docs)]

use std::collections::BTreeSet;
use std::ffi::CString;
use std::process::ExitCode;

/// Calls that a full disk, a limit or a race make fail, and that a program can answer to.
const FALLIBLE: &[i64] = &[
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_read,
    libc::SYS_pread64,
    libc::SYS_write,
    libc::SYS_pwrite64,
    libc::SYS_getdents64,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_newfstatat,
    libc::SYS_fstat,
    libc::SYS_statx,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_linkat,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_ftruncate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_fchownat,
    libc::SYS_fchmodat,
    libc::SYS_ioctl,
    libc::SYS_kcmp,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_socket,
    libc::SYS_bind,
    libc::SYS_connect,
    libc::SYS_listen,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_recvmsg,
    libc::SYS_getsockopt,
    libc::SYS_setsockopt,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    libc::SYS_eventfd2,
    libc::SYS_timerfd_create,
    libc::SYS_epoll_create1,
    libc::SYS_setns,
    libc::SYS_fsopen,
    libc::SYS_fsmount,
    libc::SYS_open_tree,
    libc::SYS_move_mount,
    libc::SYS_mount_setattr,
    libc::SYS_prlimit64,
    libc::SYS_get_robust_list,
    libc::SYS_sched_getattr,
    libc::SYS_sched_getaffinity,
    libc::SYS_ioprio_get,
];
/// `PTRACE_SYSCALL` as a request of the command's own: from the first of them on, code of its own may run in others.
const OWN_CODE_BEGINS: u64 = 24;
/// `PAGEMAP_SCAN`: a dump scans when its own code is over.
const OWN_CODE_IS_OVER: u64 = 0xc060_6610;

#[derive(Clone, Copy, PartialEq)]
enum Deed {
    Count,
    Fail,
    Kill,
    KillAll,
}

struct Injector {
    deed: Deed,
    at: u64,
    first: i32,
    /// The process that works for the first.
    worker: Option<i32>,
    /// Tasks whose call was not made, and must look failed at its exit.
    failing: BTreeSet<i32>,
    count: u64,
    spoiled: Option<i64>,
    own_code: bool,
}

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let deed = match args.next().as_deref() {
        Some("count") => Deed::Count,
        Some("fail") => Deed::Fail,
        Some("kill") => Deed::Kill,
        Some("kill-all") => Deed::KillAll,
        _ => panic!("usage: rtc-inject count|fail|kill|kill-all N PROGRAM ARGS…"),
    };
    let at = args.next().and_then(|n| n.parse().ok()).expect("a number");
    let words: Vec<CString> = args.map(|word| CString::new(word).expect("no zero")).collect();
    if deed == Deed::KillAll {
        // SAFETY: plain numbers.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    }
    let first = start(&words);
    let mut injector =
        Injector { deed, at, first, worker: None, failing: BTreeSet::new(), count: 0, spoiled: None, own_code: false };
    let status = injector.run();
    if deed == Deed::KillAll {
        // Its guard outlives the worker, and has things to put back. It would hold the worker's end up until then, did it
        // trace the worker, as it does where nobody else is the tracer.
        // SAFETY: nothing is asked for but the wait.
        while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::__WALL) } > 0 {}
    }
    let name = injector.spoiled.map_or("-".to_owned(), |nr| nr.to_string());
    println!("counted {} spoiled {name}", injector.count);
    ExitCode::from(status)
}

/// Forks, stops and executes the command; it is seized before its first call.
fn start(words: &[CString]) -> i32 {
    let mut pointers: Vec<_> = words.iter().map(|word| word.as_ptr()).collect();
    pointers.push(std::ptr::null());
    // SAFETY: this process has one thread; the child stops, and then executes or exits.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: as above; the array ends in a null pointer and its strings live.
        unsafe {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            libc::raise(libc::SIGSTOP);
            libc::execv(pointers[0], pointers.as_ptr());
            libc::_exit(127)
        }
    }
    // A restore's forks are the container; a checkpoint's first is the process that works.
    let forks = if words.iter().any(|word| word.to_bytes() == b"checkpoint") { libc::PTRACE_O_TRACEFORK } else { 0 };
    let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE | forks;
    let mut status = 0;
    // SAFETY: plain numbers, and an int that lives.
    unsafe {
        libc::waitpid(pid, &raw mut status, libc::WUNTRACED);
        assert_eq!(libc::ptrace(libc::PTRACE_SEIZE, pid, 0, i64::from(options)), 0, "seize");
        libc::kill(pid, libc::SIGCONT);
    }
    pid
}

impl Injector {
    /// Until the first process and its worker have ended: the exit status, 128 + signal if one ended it.
    fn run(&mut self) -> u8 {
        let mut status_of_first = None;
        let mut worker_lives = false;
        loop {
            let mut status = 0;
            // SAFETY: plain numbers, and an int that lives.
            let tid = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
            if tid < 0 {
                return status_of_first.unwrap_or(255);
            }
            if libc::WIFEXITED(status) || libc::WIFSIGNALED(status) {
                if tid == self.first {
                    let ended = libc::WIFEXITED(status);
                    let code = if ended { libc::WEXITSTATUS(status) } else { 128 + libc::WTERMSIG(status) };
                    status_of_first = Some(code as u8);
                }
                worker_lives &= Some(tid) != self.worker;
                if let (Some(code), false) = (status_of_first, worker_lives) {
                    return code;
                }
                continue;
            }
            worker_lives |= self.stopped(tid, status);
        }
    }

    /// A stop: says whether it is the worker's birth.
    fn stopped(&mut self, tid: i32, status: i32) -> bool {
        let (signal, event) = (libc::WSTOPSIG(status), status >> 16);
        let mut born = false;
        if signal == libc::SIGTRAP | 0x80 {
            self.call(tid);
        } else if event == libc::PTRACE_EVENT_FORK {
            let mut child: libc::c_ulong = 0;
            // SAFETY: the request writes one word.
            unsafe { libc::ptrace(libc::PTRACE_GETEVENTMSG, tid, 0, &raw mut child) };
            let child = child as i32;
            // A checkpoint splits off the one that works. What else is forked is not counted: guards, hooks.
            if self.worker.is_none() && tid == self.first {
                self.worker = Some(child);
                born = true;
            }
        }
        let deliver = if event == 0 && signal != libc::SIGTRAP | 0x80 { signal } else { 0 };
        let ours = tid == self.first || !self.is_stranger(tid);
        let request = if ours { libc::PTRACE_SYSCALL } else { libc::PTRACE_DETACH };
        if event == 128 && Some(tid) == self.worker {
            // Only its threads: what it makes for a container has another tracer.
            let options = libc::PTRACE_O_TRACESYSGOOD | libc::PTRACE_O_TRACECLONE;
            // SAFETY: plain numbers.
            unsafe { libc::ptrace(libc::PTRACE_SETOPTIONS, tid, 0, i64::from(options)) };
        }
        // SAFETY: plain numbers. A task that was killed meanwhile is reported as such.
        unsafe { libc::ptrace(request, tid, 0, i64::from(deliver)) };
        born
    }

    /// Whether a task is none of the command's threads, nor of its worker's.
    fn is_stranger(&self, tid: i32) -> bool {
        let thread_of = |pid: i32| std::path::Path::new(&format!("/proc/{pid}/task/{tid}")).exists();
        !(thread_of(self.first) || self.worker.is_some_and(thread_of))
    }

    fn call(&mut self, tid: i32) {
        // SAFETY: plain data that is filled by the call.
        let mut regs: libc::user_regs_struct = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes one structure.
        if unsafe { libc::ptrace(libc::PTRACE_GETREGS, tid, 0, &raw mut regs) } != 0 {
            return;
        }
        if !is_entry(tid) {
            if self.failing.remove(&tid) {
                regs.rax = -i64::from(libc::EIO) as u64;
                // SAFETY: the request reads one structure.
                unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0, &raw const regs) };
            }
            return;
        }
        let nr = regs.orig_rax as i64;
        match nr {
            libc::SYS_ptrace if regs.rdi == OWN_CODE_BEGINS => self.own_code = true,
            libc::SYS_ioctl if regs.rsi == OWN_CODE_IS_OVER => self.own_code = false,
            _ => {}
        }
        if !FALLIBLE.contains(&nr) {
            return;
        }
        self.count += 1;
        // While code of the command's runs in others, its death would harm them: this is known, and not tried.
        let harmful = self.deed == Deed::KillAll && self.own_code;
        if self.count < self.at || self.spoiled.is_some() || self.deed == Deed::Count || harmful {
            return;
        }
        self.spoiled = Some(nr);
        match self.deed {
            Deed::Count => {}
            Deed::Fail => {
                regs.orig_rax = u64::MAX;
                // SAFETY: the request reads one structure.
                unsafe { libc::ptrace(libc::PTRACE_SETREGS, tid, 0, &raw const regs) };
                self.failing.insert(tid);
            }
            // SAFETY: plain numbers; both are children or grandchildren of ours, and not reaped.
            Deed::Kill => drop(unsafe { libc::kill(self.first, libc::SIGKILL) }),
            Deed::KillAll => {
                for pid in self.worker.into_iter().chain([self.first]) {
                    // SAFETY: as above.
                    unsafe { libc::kill(pid, libc::SIGKILL) };
                }
            }
        }
    }
}

/// Whether a task in a system call's stop is at its entry.
fn is_entry(tid: i32) -> bool {
    let mut info = [0_u8; 128];
    // SAFETY: the request writes at most as many bytes as it is told.
    let got = unsafe { libc::ptrace(libc::PTRACE_GET_SYSCALL_INFO, tid, info.len(), info.as_mut_ptr()) };
    got > 0 && info[0] == libc::PTRACE_SYSCALL_INFO_ENTRY
}
