//! A command of rtc under ptrace: every system call of it and of its processes is counted, and at a chosen one it is
//! killed. rtc needs no hook for that.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::sys::ptrace::{self, Event, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::harness::PATIENCE;
use rtc_tests::watch;

/// Who dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    /// The process that makes the call: rtc itself or a child of it.
    Caller,
    /// rtc and all its children.
    All,
}

/// How a traced command ended.
#[derive(Debug)]
pub(crate) struct Trace {
    /// The system calls it and its processes made until its end or death.
    pub(crate) calls: usize,
    /// Its exit status; `None` where a signal ended it.
    pub(crate) status: Option<i32>,
    /// Whether the call was reached at which to kill.
    pub(crate) killed: bool,
    /// All its processes.
    pub(crate) pids: Vec<i32>,
}

/// Runs a command and kills at its `at`th system call (from 1).
///
/// What is left of its processes then goes on untraced.
pub(crate) fn run(command: &Command, output: &Path, at: usize, victim: Victim) -> Trace {
    let mut tracer = Tracer::start(command, output);
    while let Some(caller) = tracer.next_call() {
        if tracer.calls == at {
            let victims: Vec<Pid> = match victim {
                Victim::Caller => vec![caller],
                Victim::All => tracer.alive.iter().copied().collect(),
            };
            victims.into_iter().for_each(|pid| kill(pid, Signal::SIGKILL).unwrap());
            tracer.killed = true;
            break;
        }
        tracer.resume(caller, None);
    }
    tracer.finish()
}

/// Runs a command step by step up to the first call that it makes itself, `ppoll`, and counts the `cpuid` on the way.
pub(crate) fn cpuids_of_the_start(command: &Command, output: &Path) -> usize {
    const CPUID: [u8; 2] = [0x0f, 0xa2];
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    let mut tracer = Tracer::start(command, output);
    while !tracer.begun {
        let status = waitpid(tracer.root, None).unwrap();
        if let (Some((pid, signal)), false) = (tracer.note(status), tracer.begun) {
            tracer.resume(pid, signal);
        }
    }
    let mut count = 0;
    loop {
        ptrace::step(tracer.root, None).unwrap();
        assert_eq!(waitpid(tracer.root, None), Ok(WaitStatus::Stopped(tracer.root, Signal::SIGTRAP)));
        let registers = ptrace::getregs(tracer.root).unwrap();
        let code = ptrace::read(tracer.root, registers.rip as ptrace::AddressType).unwrap().to_le_bytes();
        match [code[0], code[1]] {
            CPUID => count += 1,
            SYSCALL if registers.rax == nix::libc::SYS_ppoll as u64 => break,
            _ => {}
        }
    }
    kill(tracer.root, Signal::SIGKILL).unwrap();
    tracer.killed = true;
    tracer.finish();
    count
}

struct Tracer {
    root: Pid,
    alive: BTreeSet<Pid>,
    seen: BTreeSet<Pid>,
    /// rtc is executed; what came before is the shell's.
    begun: bool,
    calls: usize,
    killed: bool,
    /// The status of the root once it has ended.
    ended: Option<Option<i32>>,
}

/// All kinds of children, but only those of this thread: other tests have theirs.
const MINE: WaitPidFlag = WaitPidFlag::__WALL.union(WaitPidFlag::__WNOTHREAD);

impl Tracer {
    fn start(command: &Command, output: &Path) -> Self {
        let mut shell = Command::new("sh");
        shell.args(["-c", "kill -STOP $$; exec \"$0\" \"$@\""]).arg(command.get_program()).args(command.get_args());
        shell.current_dir(command.get_current_dir().unwrap_or(Path::new("/"))).stdin(Stdio::null());
        let output = File::create(output).unwrap();
        shell.stdout(output.try_clone().unwrap()).stderr(output);
        let root = Pid::from_raw(i32::try_from(shell.spawn().unwrap().id()).unwrap());
        assert_eq!(waitpid(root, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(root, Signal::SIGSTOP)));
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(root, options).unwrap();
        kill(root, Signal::SIGCONT).unwrap();
        let one = BTreeSet::from([root]);
        Self { root, alive: one.clone(), seen: one, begun: false, calls: 0, killed: false, ended: None }
    }

    /// Runs on to the next entry into a system call: who makes it. `None` when the root has ended.
    fn next_call(&mut self) -> Option<Pid> {
        while self.ended.is_none() {
            let status = waitpid(None, Some(MINE)).unwrap();
            if let WaitStatus::PtraceSyscall(pid) = status {
                let entry = ptrace::syscall_info(pid).is_ok_and(|info| info.op == nix::libc::PTRACE_SYSCALL_INFO_ENTRY);
                if entry && self.begun {
                    self.calls += 1;
                    return Some(pid);
                }
            }
            if let Some((pid, signal)) = self.note(status) {
                self.resume(pid, signal);
            }
        }
        None
    }

    fn resume(&self, pid: Pid, signal: Option<Signal>) {
        // One that its parent's death has killed meanwhile is gone.
        assert!(matches!(ptrace::syscall(pid, signal), Ok(()) | Err(Errno::ESRCH)));
    }

    /// Takes in what has happened. Gives the process that stands still for it, and the signal it is to get.
    fn note(&mut self, status: WaitStatus) -> Option<(Pid, Option<Signal>)> {
        match status {
            WaitStatus::Exited(pid, code) => self.gone(pid, Some(code)),
            WaitStatus::Signaled(pid, _, _) => self.gone(pid, None),
            WaitStatus::Stopped(pid, signal) => return Some((self.meet(pid), Some(signal))),
            WaitStatus::PtraceSyscall(pid) => return Some((self.meet(pid), None)),
            WaitStatus::PtraceEvent(pid, _, event) => {
                let forks = [Event::PTRACE_EVENT_FORK, Event::PTRACE_EVENT_VFORK, Event::PTRACE_EVENT_CLONE];
                if forks.iter().any(|fork| *fork as i32 == event) {
                    if let Ok(child) = ptrace::getevent(pid) {
                        self.meet(Pid::from_raw(child as i32));
                    }
                }
                self.begun |= pid == self.root && event == Event::PTRACE_EVENT_EXEC as i32;
                return Some((self.meet(pid), None));
            }
            _ => {}
        }
        None
    }

    fn meet(&mut self, pid: Pid) -> Pid {
        if self.seen.insert(pid) {
            self.alive.insert(pid);
        }
        pid
    }

    fn gone(&mut self, pid: Pid, code: Option<i32>) {
        self.alive.remove(&pid);
        if pid == self.root {
            self.ended = Some(code);
        }
    }

    /// Lets go of all that live, and waits for the root's end.
    fn finish(mut self) -> Trace {
        let mut done = BTreeSet::new();
        while let Some(pid) = self.alive.difference(&done).next().copied() {
            // Fails for one that is being killed, whose end is then waited for.
            let _ = ptrace::interrupt(pid);
            match waitpid(pid, Some(MINE)) {
                Ok(status) => {
                    if let Some((pid, signal)) = self.note(status) {
                        let _ = ptrace::detach(pid, signal);
                        done.insert(pid);
                    }
                }
                Err(_) => self.gone(pid, None),
            }
        }
        if self.ended.is_none() {
            let pidfd = watch::pidfd(self.root.as_raw().unsigned_abs()).unwrap();
            assert!(watch::ended(&pidfd, PATIENCE), "rtc hangs");
            let status = waitpid(self.root, None).unwrap();
            self.note(status);
        }
        let pids = self.seen.iter().map(|pid| pid.as_raw()).collect();
        Trace { calls: self.calls, status: self.ended.flatten(), killed: self.killed, pids }
    }
}
