//! Texts of procfs: mountinfo first of all, whose paths are a container's.
#![no_main]

use libfuzzer_sys::fuzz_target;
use rtc_checkpoint::procfs;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, text)) = bytes.split_first() else { return };
    let Ok(text) = std::str::from_utf8(text) else { return };
    match which % 8 {
        0 | 1 => drop(procfs::mountinfo::parse(text)),
        2 => drop(procfs::smaps::parse(text)),
        3 => drop(procfs::stat::parse(text)),
        4 => drop(procfs::status::parse(text)),
        5 => drop(procfs::descriptor::parse(text)),
        6 => drop(procfs::timers::parse(text)),
        _ => {
            drop(procfs::fdinfo::epoll(text));
            drop(procfs::fdinfo::inotify(text));
            drop(procfs::fdinfo::pidfd(text));
            drop(procfs::fdinfo::eventfd(text));
            drop(procfs::fdinfo::timerfd(text));
            drop(procfs::idmap::parse(text));
            drop(procfs::limits::parse(text));
        }
    }
});
