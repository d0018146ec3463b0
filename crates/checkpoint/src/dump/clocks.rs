//! The clocks at the moment when the tree is stopped.

use crate::image::tree::Clocks;

/// Reads them.
pub(super) fn read_all() -> Clocks {
    let read = |clock| {
        let t = rustix::time::clock_gettime(clock);
        t.tv_sec * 1_000_000_000 + t.tv_nsec
    };
    Clocks {
        realtime: read(rustix::time::ClockId::Realtime),
        monotonic: read(rustix::time::ClockId::Monotonic),
        boottime: read(rustix::time::ClockId::Boottime),
    }
}
