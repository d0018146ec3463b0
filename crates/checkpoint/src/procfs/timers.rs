//! /proc/PID/timers: the POSIX timers of a process (proc_pid_timers(5)).

use super::{Malformed, Parsed};

/// A POSIX timer, without its times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// Its id.
    pub id: i32,
    /// The signal it sends.
    pub signal: i32,
    /// The value the signal carries (`sival_ptr`).
    pub value: u64,
    /// `SIGEV_SIGNAL` 0, `SIGEV_NONE` 1, `SIGEV_THREAD` 2; with `SIGEV_THREAD_ID` 4 the signal is for one thread.
    pub notify: i32,
    /// The process or thread that gets the signal, as the pid namespace of /proc counts; 0 when it can't be seen.
    pub target: i32,
    /// Its clock; negative for a CPU-time clock.
    pub clock: i32,
}

/// Parses the file.
///
/// # Errors
/// When it isn't as proc_pid_timers(5) says.
pub fn parse(text: &str) -> Parsed<Vec<Timer>> {
    let mut lines = text.lines();
    let mut all = Vec::new();
    while let Some(first) = lines.next() {
        let timer = timer(first, lines.next(), lines.next(), lines.next());
        all.push(timer.ok_or(Malformed("timers"))?);
    }
    Ok(all)
}

/// ```text
/// ID: 1
/// signal: 60/00007fff86e452a8
/// notify: signal/pid.2634
/// ClockID: 0
/// ```
fn timer(id: &str, signal: Option<&str>, notify: Option<&str>, clock: Option<&str>) -> Option<Timer> {
    let (signal, value) = signal?.strip_prefix("signal: ")?.split_once('/')?;
    let (way, target) = notify?.strip_prefix("notify: ")?.split_once('/')?;
    let (whom, target) = target.split_once('.')?;
    let way = match way {
        "signal" => libc::SIGEV_SIGNAL,
        "none" => libc::SIGEV_NONE,
        "thread" => libc::SIGEV_THREAD,
        _ => return None,
    };
    let whom = match whom {
        "pid" => 0,
        "tid" => libc::SIGEV_THREAD_ID,
        _ => return None,
    };
    Some(Timer {
        id: id.strip_prefix("ID: ")?.parse().ok()?,
        signal: signal.parse().ok()?,
        value: u64::from_str_radix(value, 16).ok()?,
        notify: way | whom,
        target: target.parse().ok()?,
        clock: clock?.strip_prefix("ClockID: ")?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_of_all_ways() {
        let text = "ID: 7\nsignal: 14/0000000000000007\nnotify: signal/pid.2634\nClockID: 0\n\
                    ID: 2\nsignal: 34/00007fff86e452a8\nnotify: signal/tid.2640\nClockID: -6\n\
                    ID: 3\nsignal: 0/ffffffffffffffff\nnotify: none/pid.0\nClockID: 1\n";
        let timers = parse(text).unwrap();
        let first = Timer { id: 7, signal: 14, value: 7, notify: 0, target: 2634, clock: 0 };
        let second = Timer { id: 2, signal: 34, value: 0x7fff_86e4_52a8, notify: 4, target: 2640, clock: -6 };
        let third = Timer { id: 3, signal: 0, value: u64::MAX, notify: 1, target: 0, clock: 1 };
        assert_eq!(timers, [first, second, third]);
        assert_eq!(parse(""), Ok(vec![]));
    }

    #[test]
    fn a_cut_file_is_refused() {
        assert_eq!(parse("ID: 7\nsignal: 14/0\nnotify: signal/pid.1\n"), Err(Malformed("timers")));
        assert_eq!(parse("ID: 7\nsignal: 14/0\nnotify: signal/gid.1\nClockID: 0\n"), Err(Malformed("timers")));
    }
}
