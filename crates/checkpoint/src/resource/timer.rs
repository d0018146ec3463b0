//! Timers of a process: POSIX timers (timer_create(2)) and interval timers (setitimer(2)).
//!
//! Kept: ids, clocks, signals with their values, the thread a signal is for, periods, and the time left.
//! A timer expires when the time that it had left has run since the restore: late, never early.
//!
//! Lost: overruns of signals already sent, and that a timer was set to a time of day (`TIMER_ABSTIME`), which the
//! kernel doesn't tell: such a timer no longer follows when the clock is set.
//! A timer for the CPU time of "this thread" doesn't show whose it is: it is the main thread's afterwards, with a
//! warning if there are several.
//!
//! Ids are chosen by `PR_TIMER_CREATE_RESTORE_IDS` (Linux 6.15), before that by counting up to them.

use crate::error::{Context as _, Kind, Result, bad_image};
use crate::proc::Proc;
use crate::procfs::timers as text;
use crate::program::{CallRef, DataRef, Program};
use crate::tracee::{Mode, Results, Stopped, Zone};
use log::warn;
use rtc_sys::events::{PR_TIMER_CREATE_RESTORE_IDS, timer_ids_can_be_chosen};
use serde::{Deserialize, Serialize};

/// As many POSIX timers as fit into one program beside a process's other questions.
const MAX_POSIX: usize = 800;
/// How many timers one program of a restore makes.
const CHUNK: usize = 250;
/// The largest id that is reached by counting, at some microseconds each.
const MAX_COUNTED: i32 = 1 << 20;
/// `struct sigevent`.
const SIGEVENT: usize = 64;
/// The clock of timers made for `CLOCK_THREAD_CPUTIME_ID`, as the kernel keeps it: no thread is named.
const THIS_THREAD_CPU: i32 = -2;

/// The timers of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timers {
    /// Those of timer_create(2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub posix: Vec<PosixTimer>,
    /// Those of setitimer(2).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interval: Vec<IntervalTimer>,
}

/// A POSIX timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PosixTimer {
    /// Its id.
    pub id: i32,
    /// Its clock.
    pub clock: i32,
    /// `SIGEV_SIGNAL` 0, `SIGEV_NONE` 1, `SIGEV_THREAD` 2, `SIGEV_THREAD_ID` 4.
    pub notify: i32,
    /// The signal it sends.
    pub signal: i32,
    /// The value the signal carries.
    pub value: u64,
    /// The thread that gets the signal, for `SIGEV_THREAD_ID`, as its own pid namespace counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread: Option<i32>,
    /// Seconds and nanoseconds from one expiration to the next.
    pub period: (i64, i64),
    /// Seconds and nanoseconds until it expires; both 0 when it isn't armed.
    pub left: (i64, i64),
}

/// An interval timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalTimer {
    /// `ITIMER_REAL` 0, `ITIMER_VIRTUAL` 1, `ITIMER_PROF` 2.
    pub which: i32,
    /// Seconds and microseconds from one expiration to the next.
    pub period: (i64, i64),
    /// Seconds and microseconds until it expires.
    pub left: (i64, i64),
}

/// Calls that ask a process for its timers.
pub struct Questions {
    posix: Vec<(text::Timer, Option<i32>, DataRef)>,
    interval: Vec<(i32, DataRef)>,
}

impl Questions {
    /// Adds them to `program`; `timers` is /proc/PID/timers of the process, which is stopped.
    ///
    /// # Errors
    /// When the text isn't as proc(5) says, or when there are too many timers.
    pub fn ask(program: &mut Program, timers: &str) -> Result<Self> {
        let listed = text::parse(timers)?;
        if listed.len() > MAX_POSIX {
            let why = format!("{} POSIX timers in one process, of which {MAX_POSIX} can be saved", listed.len());
            return Err(crate::Error::new(Kind::Unsupported, why));
        }
        let mut posix = Vec::with_capacity(listed.len());
        for timer in listed {
            let at = program.reserve(32);
            program.call(libc::SYS_timer_gettime, [timer.id.into(), at.into()]);
            warn_of_unknown_thread(&timer);
            posix.push((timer, thread_of(&timer), at));
        }
        let mut interval = Vec::new();
        for which in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
            let at = program.reserve(32);
            program.call(libc::SYS_getitimer, [which.into(), at.into()]);
            interval.push((which, at));
        }
        Ok(Self { posix, interval })
    }

    /// What the process answered.
    ///
    /// # Errors
    /// None at present: a failed call has stopped the program.
    pub fn answers(&self, results: &Results) -> Result<Timers> {
        let pair = |at: &DataRef, n: usize| {
            (results.word(at.from_offset(n * 16)) as i64, results.word(at.from_offset(n * 16 + 8)) as i64)
        };
        let posix = |(timer, thread, at): &(text::Timer, Option<i32>, DataRef)| {
            // A signal for a thread that is gone goes nowhere, and can't be asked for again.
            let nowhere = timer.notify & libc::SIGEV_THREAD_ID != 0 && thread.is_none();
            PosixTimer {
                id: timer.id,
                clock: timer.clock,
                notify: if nowhere { libc::SIGEV_NONE } else { timer.notify },
                signal: timer.signal,
                value: timer.value,
                thread: *thread,
                period: pair(at, 0),
                left: pair(at, 1),
            }
        };
        let interval = |(which, at): &(i32, DataRef)| {
            let timer = IntervalTimer { which: *which, period: pair(at, 0), left: pair(at, 1) };
            (timer.left != (0, 0)).then_some(timer)
        };
        Ok(Timers {
            posix: self.posix.iter().map(posix).collect(),
            interval: self.interval.iter().filter_map(interval).collect(),
        })
    }
}

/// The thread that gets a timer's signals, as its own pid namespace counts; none when it is gone or not named.
fn thread_of(timer: &text::Timer) -> Option<i32> {
    if timer.notify & libc::SIGEV_THREAD_ID == 0 {
        return None;
    }
    Proc(timer.target).status().ok()?.ns_tid.last().copied()
}

fn warn_of_unknown_thread(timer: &text::Timer) {
    let threads = || Proc(timer.target).numbers("task").map_or(0, |all| all.len());
    if timer.clock == THIS_THREAD_CPU && threads() > 1 {
        warn!(
            "process {}: POSIX timer {} counts one thread's CPU time, and the kernel doesn't tell whose: \
             it will count the main thread's",
            timer.target, timer.id
        );
    }
}

/// Makes and arms the timers in a process that has none, whose threads all exist.
///
/// # Errors
/// When the image is wrong, when a clock isn't there, or when an id can't be reached.
pub fn restore(task: &mut Stopped, zone: Zone, timers: &Timers) -> Result<()> {
    let mut posix: Vec<&PosixTimer> = timers.posix.iter().collect();
    posix.sort_by_key(|timer| timer.id);
    check(&posix)?;
    if timer_ids_can_be_chosen() {
        create_chosen(task, zone, &posix)?;
    } else {
        create_counting(task, zone, &posix)?;
    }
    arm(task, zone, timers)
}

fn check(posix: &[&PosixTimer]) -> Result<()> {
    if posix.iter().any(|timer| timer.id < 0) || posix.windows(2).any(|two| two[0].id == two[1].id) {
        return Err(bad_image("POSIX timers with negative or equal ids"));
    }
    let threadless = |timer: &&&PosixTimer| (timer.notify & libc::SIGEV_THREAD_ID != 0) != timer.thread.is_some();
    match posix.iter().find(threadless) {
        Some(timer) => Err(bad_image(format!("POSIX timer {}: its thread is missing or one too many", timer.id))),
        None => Ok(()),
    }
}

/// Adds the call that makes a timer; the kernel writes its id to the data, which holds `id` before.
fn create(program: &mut Program, timer: &PosixTimer, id: i32) -> (CallRef, DataRef) {
    let mut event = [0; SIGEVENT];
    event[..8].copy_from_slice(&timer.value.to_ne_bytes());
    event[8..12].copy_from_slice(&timer.signal.to_ne_bytes());
    event[12..16].copy_from_slice(&timer.notify.to_ne_bytes());
    event[16..20].copy_from_slice(&timer.thread.unwrap_or(0).to_ne_bytes());
    let event = program.data(&event);
    let at = program.data(&id.to_ne_bytes());
    (program.call(libc::SYS_timer_create, [timer.clock.into(), event.into(), at.into()]), at)
}

fn create_chosen(task: &mut Stopped, zone: Zone, posix: &[&PosixTimer]) -> Result<()> {
    for chunk in posix.chunks(CHUNK) {
        let mut program = Program::new();
        let choose = |program: &mut Program, on: i32| {
            let (option, zero) = (PR_TIMER_CREATE_RESTORE_IDS.into(), 0u64.into());
            program.call(libc::SYS_prctl, [option, on.into(), zero, zero, zero]);
        };
        choose(&mut program, 1);
        let made: Vec<_> = chunk.iter().map(|timer| create(&mut program, timer, timer.id)).collect();
        choose(&mut program, 0);
        let results = task.run(Mode::Interp, zone, &program).context(|| "POSIX timers")?;
        for (timer, (_, at)) in chunk.iter().zip(made) {
            expect_id(timer.id, &results, at)?;
        }
    }
    Ok(())
}

/// Ids are given one after another, beginning with 0 in a new process: those in between are made and deleted.
fn create_counting(task: &mut Stopped, zone: Zone, posix: &[&PosixTimer]) -> Result<()> {
    let Some(last) = posix.last().map(|timer| timer.id) else { return Ok(()) };
    if last > MAX_COUNTED {
        let why = format!("a POSIX timer with the id {last}, which can't be chosen before Linux 6.15");
        return Err(crate::Error::new(Kind::Incompatible, why));
    }
    let passed = PosixTimer {
        id: 0,
        clock: libc::CLOCK_MONOTONIC,
        notify: libc::SIGEV_NONE,
        signal: 0,
        value: 0,
        thread: None,
        period: (0, 0),
        left: (0, 0),
    };
    let mut wanted = posix.iter().peekable();
    let mut next = 0;
    while next <= last {
        let mut program = Program::new();
        let mut made = Vec::new();
        for id in (next..=last).take(CHUNK) {
            let timer = wanted.next_if(|timer| timer.id == id);
            let (_, at) = create(&mut program, timer.map_or(&passed, |timer| *timer), id);
            if timer.is_none() {
                program.call(libc::SYS_timer_delete, [id.into()]);
            }
            made.push((id, at));
        }
        let results = task.run(Mode::Interp, zone, &program).context(|| "POSIX timers")?;
        for (id, at) in &made {
            expect_id(*id, &results, *at)?;
        }
        next += made.len() as i32;
    }
    Ok(())
}

fn expect_id(wanted: i32, results: &Results, at: DataRef) -> Result<()> {
    let given = i32::from_ne_bytes(results.data(at).try_into().expect("four bytes were reserved"));
    if given == wanted {
        return Ok(());
    }
    let why = format!("a POSIX timer got the id {given} instead of {wanted}");
    Err(crate::Error::new(Kind::Incompatible, why))
}

fn arm(task: &mut Stopped, zone: Zone, timers: &Timers) -> Result<()> {
    let setting =
        |period: (i64, i64), left: (i64, i64)| [period.0, period.1, left.0, left.1].map(i64::to_ne_bytes).concat();
    let armed: Vec<_> = timers.posix.iter().filter(|timer| timer.left != (0, 0)).collect();
    for chunk in armed.chunks(CHUNK) {
        let mut program = Program::new();
        for timer in chunk {
            let at = program.data(&setting(timer.period, timer.left));
            program.call(libc::SYS_timer_settime, [timer.id.into(), 0u64.into(), at.into(), 0u64.into()]);
        }
        task.run(Mode::Interp, zone, &program).context(|| "arm POSIX timers")?;
    }
    let mut program = Program::new();
    for timer in &timers.interval {
        let at = program.data(&setting(timer.period, timer.left));
        program.call(libc::SYS_setitimer, [timer.which.into(), at.into(), 0u64.into()]);
    }
    task.run(Mode::Interp, zone, &program).context(|| "arm interval timers").map(drop)
}

#[cfg(test)]
mod tests;
