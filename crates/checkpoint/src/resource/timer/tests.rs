//! Timers made in one sleeping task, read from it, and made in another.

use super::*;
use crate::program::Addr;
use crate::tracee::{DUMP_OPTIONS, Running};
use std::process::{Child, Command, Stdio};

/// A task that ends with the test, and the zone in it.
struct Target {
    child: Child,
    zone: Zone,
}

impl Target {
    fn new() -> (Self, Stopped) {
        let child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
        let pid = child.id() as i32;
        while !Proc(pid).text("syscall").unwrap().starts_with("0 0x0 ") {
            std::thread::yield_now();
        }
        let running = Running::seize(pid, DUMP_OPTIONS).unwrap();
        running.interrupt().unwrap();
        let mut task = running.wait().unwrap();
        let vdso = Proc(pid).maps().unwrap().into_iter().find(|m| m.name == "[vdso]").unwrap();
        let mut code = vec![0; (vdso.end - vdso.start) as usize];
        task.read(Addr(vdso.start), &mut code).unwrap();
        let insn = code.windows(2).position(|w| w == rtc_sys::regs::SYSCALL_INSN).unwrap();
        let zone = Zone::at(Addr(0x10_0000_0000));
        zone.map(&mut task, Addr(vdso.start + insn as u64)).unwrap();
        (Self { child, zone }, task)
    }

    fn ask(&self, task: &mut Stopped) -> Timers {
        let mut program = Program::new();
        let text = Proc(task.tid()).text("timers").unwrap();
        let questions = Questions::ask(&mut program, &text).unwrap();
        let results = task.run(Mode::Interp, self.zone, &program).unwrap();
        questions.answers(&results).unwrap()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn example(thread: i32) -> Timers {
    let timer = |id, clock, notify, left| PosixTimer {
        id,
        clock,
        notify,
        signal: libc::SIGRTMIN() + 3,
        value: 0xffff_8000_1234_5678,
        thread: (notify == libc::SIGEV_THREAD_ID).then_some(thread),
        period: (0, 0),
        left,
    };
    Timers {
        posix: vec![
            timer(0, libc::CLOCK_REALTIME, libc::SIGEV_SIGNAL, (0, 0)),
            PosixTimer { period: (9, 8), ..timer(3, libc::CLOCK_MONOTONIC, libc::SIGEV_THREAD_ID, (5000, 0)) },
            timer(300, -6, libc::SIGEV_SIGNAL, (7000, 0)),
            timer(301, libc::CLOCK_BOOTTIME, libc::SIGEV_SIGNAL, (9000, 0)),
        ],
        interval: vec![
            IntervalTimer { which: libc::ITIMER_REAL, period: (0, 0), left: (4000, 0) },
            IntervalTimer { which: libc::ITIMER_PROF, period: (3, 0), left: (6000, 0) },
        ],
    }
}

/// The same timers, with the time left rounded up to what it was some moments ago.
fn rounded(mut timers: Timers) -> Timers {
    for timer in &mut timers.posix {
        let (seconds, nanos) = timer.left;
        assert!(seconds % 1000 > 900 || (seconds % 1000, nanos) == (0, 0), "{timer:?}");
        timer.left = ((seconds as u64).next_multiple_of(1000) as i64, 0);
    }
    for timer in &mut timers.interval {
        timer.left = ((timer.left.0 as u64).next_multiple_of(1000) as i64, 0);
    }
    timers.posix.sort_by_key(|timer| timer.id);
    timers
}

#[test]
fn timers_are_made_with_their_ids_and_read_back() {
    let (target, mut task) = Target::new();
    let wanted = example(task.tid());
    restore(&mut task, target.zone, &wanted).unwrap();
    assert_eq!(rounded(target.ask(&mut task)), wanted);
}

#[test]
fn ids_are_reached_by_counting_on_older_kernels() {
    let (target, mut task) = Target::new();
    let wanted = example(task.tid());
    create_counting(&mut task, target.zone, &wanted.posix.iter().collect::<Vec<_>>()).unwrap();
    arm(&mut task, target.zone, &wanted).unwrap();
    assert_eq!(rounded(target.ask(&mut task)), wanted);
}

#[test]
fn an_image_that_makes_no_sense_is_refused() {
    let (target, mut task) = Target::new();
    for (id, notify) in [(-1, libc::SIGEV_SIGNAL), (3, libc::SIGEV_SIGNAL), (0, libc::SIGEV_THREAD_ID)] {
        let mut timers = example(1);
        (timers.posix[0].id, timers.posix[0].notify) = (id, notify);
        assert_eq!(restore(&mut task, target.zone, &timers).unwrap_err().kind(), &Kind::BadImage);
    }
    let mut far = example(1).posix;
    far[0].id = i32::MAX;
    let error = create_counting(&mut task, target.zone, &[&far[0]]).unwrap_err();
    assert_eq!(error.kind(), &Kind::Incompatible);
    assert_eq!(target.ask(&mut task), Timers::default());
}

#[test]
fn a_signal_for_a_thread_that_is_gone_goes_nowhere() {
    let text = "ID: 0\nsignal: 34/0\nnotify: signal/tid.0\nClockID: 1\n";
    let (target, mut task) = Target::new();
    let mut timers = example(task.tid());
    timers.posix.truncate(1);
    restore(&mut task, target.zone, &timers).unwrap();
    let mut program = Program::new();
    let questions = Questions::ask(&mut program, text).unwrap();
    let results = task.run(Mode::Interp, target.zone, &program).unwrap();
    let timer = &questions.answers(&results).unwrap().posix[0];
    assert_eq!((timer.notify, timer.thread), (libc::SIGEV_NONE, None));
}
