//! Programs run in a real task, by both executors.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rtc_checkpoint::procfs::smaps;
use rtc_checkpoint::program::{Addr, Arg, Program};
use rtc_checkpoint::tracee::{DUMP_OPTIONS, Mode, Running, Stopped, Zone};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

/// A task to work on; it dies with the test.
struct Target(Child);

impl Target {
    fn new(program: &str, args: &[&str]) -> Self {
        let child =
            Command::new(program).args(args).stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0).spawn();
        Self(child.unwrap())
    }
    fn tid(&self) -> i32 {
        self.0.id() as i32
    }
    fn stop(&self) -> Stopped {
        let running = Running::seize(self.tid(), DUMP_OPTIONS).unwrap();
        running.interrupt().unwrap();
        running.wait().unwrap()
    }
    fn maps(&self) -> Vec<smaps::Mapping> {
        smaps::parse(&std::fs::read_to_string(format!("/proc/{}/smaps", self.tid())).unwrap()).unwrap()
    }
    /// A `syscall` instruction in the vDSO.
    fn syscall_insn(&self, stopped: &Stopped) -> Addr {
        let vdso = self.maps().into_iter().find(|m| m.name == "[vdso]").unwrap();
        let mut code = vec![0; (vdso.end - vdso.start) as usize];
        stopped.read(Addr(vdso.start), &mut code).unwrap();
        let at = code.windows(2).position(|w| w == rtc_sys::regs::SYSCALL_INSN).unwrap();
        Addr(vdso.start + at as u64)
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn wait_until_asleep(target: &Target) {
    let path = format!("/proc/{}/syscall", target.tid());
    while !std::fs::read_to_string(&path).unwrap().starts_with("230 ") {
        std::thread::yield_now();
    }
}

#[test]
fn both_executors_give_the_same_results() {
    let target = Target::new("sleep", &["1000"]);
    wait_until_asleep(&target);
    let mut stopped = target.stop();
    let before = stopped.regs().unwrap();
    let insn = target.syscall_insn(&stopped);
    let zone = Zone::at(Addr(0x10_0000_0000));
    zone.map(&mut stopped, insn).unwrap();

    let mut program = Program::new();
    let name = program.data(b"renamed\0");
    let out = program.reserve(16);
    let pid = program.call(libc::SYS_getpid, []);
    program.call(libc::SYS_prctl, [libc::PR_SET_NAME.into(), name.into()]);
    program.call(libc::SYS_prctl, [libc::PR_GET_NAME.into(), out.into()]);
    let bad = program.try_call(libc::SYS_close, [9999.into()]);
    let group = program.call(libc::SYS_getpgid, [Arg::Result(pid)]);

    let interp = stopped.run(Mode::Interp, zone, &program).unwrap();
    let step = stopped.run(Mode::Step { syscall_insn: insn }, zone, &program).unwrap();
    assert_eq!(interp, step);
    assert_eq!(interp.of(pid), i64::from(target.tid()));
    assert_eq!(interp.of(group), i64::from(target.tid()));
    assert_eq!(interp.ok(bad), Err(rtc_sys::Errno::EBADF));
    assert_eq!(&interp.data(out)[..8], b"renamed\0");

    // A failed call stops the program and is named with its arguments; the next call isn't made.
    let mut program = Program::new();
    program.call(libc::SYS_close, [9998.into()]);
    program.call(libc::SYS_exit_group, [1.into()]);
    for mode in [Mode::Interp, Mode::Step { syscall_insn: insn }] {
        let error = stopped.run(mode, zone, &program).unwrap_err().to_string();
        assert!(error.ends_with("close(0x270e) = EBADF"), "{error}");
    }

    zone.unmap(&mut stopped, insn).unwrap();
    assert_eq!(stopped.regs().unwrap(), before);
    assert!(target.maps().iter().all(|m| m.start != 0x10_0000_0000));
    stopped.detach().unwrap();
    wait_restarted(&target);
}

/// The sleep goes on: nanosleep was restarted by the kernel (restart_syscall is number 219).
fn wait_restarted(target: &Target) {
    let path = format!("/proc/{}/syscall", target.tid());
    loop {
        let text = std::fs::read_to_string(&path).expect("the task lives");
        if text.starts_with("219 ") || text.starts_with("230 ") {
            return;
        }
        assert!(!text.is_empty(), "the task died");
        std::thread::yield_now();
    }
}

#[test]
fn registers_survive_a_program_in_a_computing_task() {
    let mut target = Target::new("sh", &["-c", "i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; echo $i"]);
    for _ in 0..20 {
        let mut stopped = target.stop();
        let insn = target.syscall_insn(&stopped);
        let zone = Zone::at(Addr(0x10_0000_0000));
        zone.map(&mut stopped, insn).unwrap();
        let mut program = Program::new();
        program.call(libc::SYS_getppid, []);
        stopped.run(Mode::Interp, zone, &program).unwrap();
        zone.unmap(&mut stopped, insn).unwrap();
        stopped.detach().unwrap();
    }
    let mut out = String::new();
    std::io::Read::read_to_string(target.0.stdout.as_mut().unwrap(), &mut out).unwrap();
    assert_eq!(out, "200000\n");
    assert!(target.0.wait().unwrap().success());
}
