//! /proc/PID/fdinfo/N: the lines that every kind of file has, and the locks (proc_pid_fdinfo(5)).

use super::{Malformed, Parsed};

/// The common lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fdinfo {
    /// File offset; for kinds without one, whatever the kernel prints.
    pub pos: i64,
    /// Access mode, status flags, and `O_CLOEXEC` if the descriptor has it.
    pub flags: i32,
    /// The mount it was opened through, as in mountinfo.
    pub mnt_id: i32,
    /// Locks that were made through this description by this table.
    pub locks: Vec<LockLine>,
}

/// Which call a lock belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockType {
    /// flock(2): belongs to the description.
    Flock,
    /// fcntl(2) `F_SETLK`: belongs to the table.
    Posix,
    /// fcntl(2) `F_OFD_SETLK`: belongs to the description.
    Ofd,
    /// fcntl(2) `F_SETLEASE`: belongs to the description.
    Lease,
    /// A delegation of an NFS server.
    Delegation,
}

/// A lock as the kernel prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockLine {
    /// Which call it belongs to.
    pub kind: LockType,
    /// For a lease that is being broken, `BREAKING`; for others `ADVISORY`, `ACTIVE` and so on.
    pub state: String,
    /// `READ`, `WRITE` or `UNLCK`.
    pub mode: String,
    /// First byte.
    pub start: u64,
    /// Last byte; none stands for the end of the file, wherever that is.
    pub end: Option<u64>,
}

/// Parses the file's text.
///
/// # Errors
/// When a line isn't what it should be.
pub fn parse(text: &str) -> Parsed<Fdinfo> {
    let mut info = Fdinfo::default();
    let mut flags = None;
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name {
            "pos" => info.pos = value.parse().map_err(|_| Malformed("fdinfo"))?,
            "flags" => flags = i32::from_str_radix(value, 8).ok(),
            "mnt_id" => info.mnt_id = value.parse().map_err(|_| Malformed("fdinfo"))?,
            "lock" => info.locks.push(lock(value).ok_or(Malformed("fdinfo"))?),
            _ => {}
        }
    }
    info.flags = flags.ok_or(Malformed("fdinfo"))?;
    Ok(info)
}

/// "1: POSIX  ADVISORY  WRITE 812 fd:01:1310 0 EOF"
fn lock(line: &str) -> Option<LockLine> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let [_number, kind, state, mode, _pid, _inode, start, end] = words[..] else { return None };
    let kind = match kind {
        "FLOCK" => LockType::Flock,
        "POSIX" => LockType::Posix,
        "OFDLCK" => LockType::Ofd,
        "LEASE" => LockType::Lease,
        "DELEG" => LockType::Delegation,
        _ => return None,
    };
    let end = if end == "EOF" { None } else { Some(end.parse().ok()?) };
    Some(LockLine { kind, state: state.into(), mode: mode.into(), start: start.parse().ok()?, end })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locked_file() {
        let text = "pos:\t4096\nflags:\t02100002\nmnt_id:\t27\nino:\t262148\n\
                    lock:\t1: FLOCK  ADVISORY  WRITE 3077 fe:00:262148 0 EOF\n\
                    lock:\t2: POSIX  ADVISORY  READ 3077 fe:00:262148 100 199\n\
                    lock:\t3: OFDLCK ADVISORY  WRITE -1 fe:00:262148 0 0\n\
                    lock:\t4: LEASE  BREAKING  READ 3077 fe:00:262148 0 EOF\n";
        let info = parse(text).unwrap();
        assert_eq!((info.pos, info.flags, info.mnt_id), (4096, 0o2_100_002, 27));
        let seen: Vec<_> =
            info.locks.iter().map(|l| (l.kind, l.state.as_str(), l.mode.as_str(), l.start, l.end)).collect();
        assert_eq!(
            seen,
            [
                (LockType::Flock, "ADVISORY", "WRITE", 0, None),
                (LockType::Posix, "ADVISORY", "READ", 100, Some(199)),
                (LockType::Ofd, "ADVISORY", "WRITE", 0, Some(0)),
                (LockType::Lease, "BREAKING", "READ", 0, None),
            ]
        );
    }

    #[test]
    fn lines_of_other_kinds_are_passed_over() {
        let text =
            "pos:\t0\nflags:\t02\nmnt_id:\t15\nino:\t1057\ntfd:        5 events:       19 data: 5\neventfd-count: 3\n";
        assert_eq!(parse(text).unwrap().flags, 2);
    }

    #[test]
    fn garbage_is_refused() {
        for text in ["", "pos:\tx\nflags:\t0\n", "flags:\t9\n", "flags:\t0\nlock:\t1: FLOCK\n"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
