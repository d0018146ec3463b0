//! /proc/PID/fdinfo/N of anonymous inodes: eventfd, timerfd, signalfd, epoll, inotify, pidfd (proc_pid_fdinfo(5)).

use super::{Malformed, Parsed};

/// The text behind `name` (with its colon) on the line that begins with it.
pub fn field<'a>(fdinfo: &'a str, name: &str) -> Option<&'a str> {
    fdinfo.lines().find_map(|line| line.strip_prefix(name)).map(str::trim)
}

fn number(fdinfo: &str, name: &str, radix: u32) -> Parsed<u64> {
    field(fdinfo, name).and_then(|text| u64::from_str_radix(text, radix).ok()).ok_or(Malformed("fdinfo"))
}

/// An eventfd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eventfd {
    /// Its counter.
    pub count: u64,
    /// `EFD_SEMAPHORE`; none before Linux 6.5, which doesn't tell.
    pub semaphore: Option<bool>,
}

/// Parses what an eventfd shows.
///
/// # Errors
/// When it isn't an eventfd's.
pub fn eventfd(fdinfo: &str) -> Parsed<Eventfd> {
    let semaphore = field(fdinfo, "eventfd-semaphore:").map(|text| text != "0");
    Ok(Eventfd { count: number(fdinfo, "eventfd-count:", 16)?, semaphore })
}

/// A timerfd; the times are left to timerfd_gettime(2), because after an expiration nobody has read yet the kernel
/// shows 0 here even if the timer goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timerfd {
    /// Its clock.
    pub clock: i32,
    /// Expirations that nobody has read yet.
    pub ticks: u64,
    /// The flags of the last timerfd_settime(2).
    pub flags: u32,
}

/// Parses what a timerfd shows.
///
/// # Errors
/// When it isn't a timerfd's.
pub fn timerfd(fdinfo: &str) -> Parsed<Timerfd> {
    let clock = field(fdinfo, "clockid:").and_then(|text| text.parse().ok()).ok_or(Malformed("fdinfo"))?;
    let flags = number(fdinfo, "settime flags:", 8)? as u32;
    Ok(Timerfd { clock, ticks: number(fdinfo, "ticks:", 10)?, flags })
}

/// The signals that a signalfd takes: bit n-1 stands for signal n.
///
/// # Errors
/// When it isn't a signalfd's.
pub fn signalfd(fdinfo: &str) -> Parsed<u64> {
    number(fdinfo, "sigmask:", 16)
}

/// One item of an epoll instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EpollItem {
    /// The number its file had when it was added.
    pub fd: i32,
    /// `EPOLL*` bits.
    pub events: u32,
    /// What epoll_wait(2) returns with it.
    pub data: u64,
    /// The inode number of its file; none before Linux 4.13.
    pub ino: Option<u64>,
}

/// Parses an epoll instance's items, in the kernel's order: items with one `fd` are counted in it by
/// `KCMP_EPOLL_TFD`.
///
/// # Errors
/// When a line isn't as proc_pid_fdinfo(5) says.
pub fn epoll(fdinfo: &str) -> Parsed<Vec<EpollItem>> {
    fdinfo
        .lines()
        .filter(|line| line.starts_with("tfd:"))
        .map(|line| epoll_item(line).ok_or(Malformed("fdinfo")))
        .collect()
}

/// `tfd:        3 events: c0000019 data:                3  pos:0 ino:40e sdev:10`
fn epoll_item(line: &str) -> Option<EpollItem> {
    let mut words = line.split_ascii_whitespace();
    let mut after = |name| (words.next() == Some(name)).then(|| words.next()).flatten();
    let fd = after("tfd:")?.parse().ok()?;
    let events = u32::from_str_radix(after("events:")?, 16).ok()?;
    let data = u64::from_str_radix(after("data:")?, 16).ok()?;
    let ino = words.find_map(|word| word.strip_prefix("ino:")).and_then(|ino| u64::from_str_radix(ino, 16).ok());
    Some(EpollItem { fd, events, data, ino })
}

/// One watch of an inotify instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InotifyWatch {
    /// Its number.
    pub wd: i32,
    /// The inode's number within its file system, which stat(2) may show otherwise (overlay).
    pub ino: u64,
    /// The file system's device, as the kernel holds it: major number shifted by 20, minor number.
    pub sdev: u32,
    /// `IN_*` bits.
    pub mask: u32,
    /// Type and bytes of the inode's file handle; none when the file system has none.
    pub handle: Option<(i32, Vec<u8>)>,
}

impl InotifyWatch {
    /// The device's major and minor number.
    pub fn device(&self) -> (u32, u32) {
        (self.sdev >> 20, self.sdev & 0xf_ffff)
    }
}

/// Parses an inotify instance's watches.
///
/// # Errors
/// When a line isn't as proc_pid_fdinfo(5) says.
pub fn inotify(fdinfo: &str) -> Parsed<Vec<InotifyWatch>> {
    let lines = fdinfo.lines().filter_map(|line| line.strip_prefix("inotify "));
    lines.map(|line| inotify_watch(line).ok_or(Malformed("fdinfo"))).collect()
}

/// `wd:2 ino:124023 sdev:fe00000 mask:80000002 ignored_mask:0 fhandle-bytes:8 fhandle-type:1 f_handle:23401200810f41e2`
fn inotify_watch(line: &str) -> Option<InotifyWatch> {
    let hex = |name: &str| {
        let text = line.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix(':'))?;
        u64::from_str_radix(text, 16).ok()
    };
    let handle = match line.split_once("f_handle:") {
        Some((_, text)) => Some((hex("fhandle-type")? as i32, bytes(text.trim())?)),
        None => None,
    };
    let (wd, sdev, mask) = (hex("wd")?, hex("sdev")?, hex("mask")?);
    Some(InotifyWatch { wd: i32::try_from(wd).ok()?, ino: hex("ino")?, sdev: sdev as u32, mask: mask as u32, handle })
}

fn bytes(hex: &str) -> Option<Vec<u8>> {
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok().filter(|p| p.len() == 2)?, 16).ok()).collect()
}

/// The pids of a pidfd's task, from the pid namespace of /proc inwards; empty when it is dead and reaped.
///
/// # Errors
/// When it isn't a pidfd's.
pub fn pidfd(fdinfo: &str) -> Parsed<Vec<i32>> {
    let pid = field(fdinfo, "Pid:").ok_or(Malformed("fdinfo"))?;
    // Without CONFIG_PID_NS there is no second line.
    let all = field(fdinfo, "NSpid:").unwrap_or(pid).split_ascii_whitespace();
    let all: Vec<i32> = all.map(|pid| pid.parse().map_err(|_| Malformed("fdinfo"))).collect::<Parsed<_>>()?;
    Ok(if all.first() == Some(&-1) { Vec::new() } else { all })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Recorded with Linux 6.18.
    const HEAD: &str = "pos:\t0\nflags:\t02000002\nmnt_id:\t17\nino:\t1038\n";

    #[test]
    fn an_eventfd() {
        let text = format!("{HEAD}eventfd-count:               1f\neventfd-id: 72\neventfd-semaphore: 1\n");
        assert_eq!(eventfd(&text), Ok(Eventfd { count: 31, semaphore: Some(true) }));
        let old = format!("{HEAD}eventfd-count:                3\neventfd-id: 72\n");
        assert_eq!(eventfd(&old), Ok(Eventfd { count: 3, semaphore: None }));
        assert_eq!(eventfd(HEAD), Err(Malformed("fdinfo")));
    }

    #[test]
    fn a_timerfd() {
        let text =
            format!("{HEAD}clockid: 1\nticks: 12\nsettime flags: 01\nit_value: (0, 49406829)\nit_interval: (1, 0)\n");
        assert_eq!(timerfd(&text), Ok(Timerfd { clock: 1, ticks: 12, flags: 1 }));
    }

    #[test]
    fn a_signalfd() {
        assert_eq!(signalfd(&format!("{HEAD}sigmask:\t0000000000000206\n")), Ok(0x206));
    }

    #[test]
    fn an_epoll_instance() {
        let text = format!(
            "{HEAD}tfd:        3 events: c0000019 data:                3  pos:0 ino:40e sdev:10\n\
             tfd:        6 events: 10000019 data: ffff7f5500000006  pos:0 ino:1df60 sdev:f\n\
             tfd:        7 events:       19 data:                0\n"
        );
        assert_eq!(
            epoll(&text).unwrap(),
            [
                EpollItem { fd: 3, events: 0xc000_0019, data: 3, ino: Some(0x40e) },
                EpollItem { fd: 6, events: 0x1000_0019, data: 0xffff_7f55_0000_0006, ino: Some(0x1_df60) },
                EpollItem { fd: 7, events: 0x19, data: 0, ino: None },
            ]
        );
        assert!(epoll("tfd: x events: 1 data: 1").is_err());
    }

    #[test]
    fn an_inotify_instance() {
        let text = format!(
            "{HEAD}inotify wd:2 ino:124023 sdev:fe00000 mask:80000002 ignored_mask:0 \
             fhandle-bytes:8 fhandle-type:81 f_handle:23401200810f41e2\n\
             inotify wd:1 ino:13 sdev:10002a mask:fff ignored_mask:0 \n"
        );
        let watches = inotify(&text).unwrap();
        let bytes = vec![0x23, 0x40, 0x12, 0, 0x81, 0x0f, 0x41, 0xe2];
        let first =
            InotifyWatch { wd: 2, ino: 0x12_4023, sdev: 0xfe0_0000, mask: 0x8000_0002, handle: Some((0x81, bytes)) };
        assert_eq!(watches[0], first);
        assert_eq!(watches[0].device(), (254, 0));
        assert_eq!((watches[1].device(), watches[1].handle.clone()), ((1, 42), None));
        assert!(inotify("inotify wd:1 ino:13 sdev:1 mask:1 fhandle-bytes:1 fhandle-type:1 f_handle:0").is_err());
    }

    #[test]
    fn a_pidfd() {
        assert_eq!(pidfd(&format!("{HEAD}Pid:\t25452\nNSpid:\t25452\t7\n")), Ok(vec![25452, 7]));
        assert_eq!(pidfd(&format!("{HEAD}Pid:\t-1\nNSpid:\t-1\n")), Ok(vec![]));
    }
}
