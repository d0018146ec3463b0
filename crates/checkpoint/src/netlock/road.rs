//! The road to a container that is away.
//!
//! An engine makes the container's network anew before it calls rtc to restore: podman a namespace with the old
//! addresses. What the other ends send in between would find nobody there, and be answered with a reset.
//! So whoever goes through the namespace of rtc's caller is held up there from the container's end to its return, or
//! until the time is over.
//!
//! Another rtc opens the road again.
//! Left out: other ends that reach the container without our IP stack (on a bridge with it).

use super::name::Purpose;
use super::{Lasting, Locked, ROAD};
use crate::error::Result;
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

/// Tables on the road, for containers that are away.
const AWAY: Lasting = Lasting { purpose: Purpose("rtc-away-"), directions: &ROAD };

/// Holds up what goes to `connections` of the container whose network namespace is given, for `seconds`.
///
/// # Errors
/// When the kernel has no nftables.
pub fn close(container: BorrowedFd<'_>, connections: &[Locked], seconds: u64) -> Result<()> {
    let ours = ours()?;
    let identity = |fd| rustix::fs::fstat(fd).map(|stat| (stat.st_dev, stat.st_ino)).call("fstat", "network namespace");
    if identity(ours.as_fd())? == identity(container)? {
        return Ok(());
    }
    AWAY.put(Some(ours.as_fd()), connections, seconds)
}

/// Lets it pass again, in the namespace of rtc's caller.
///
/// # Errors
/// When the kernel has no nftables.
pub fn open(road: BorrowedFd<'_>, connections: &[Locked]) -> Result<()> {
    AWAY.take(Some(road), connections)
}

/// The network namespace of the calling process.
///
/// # Errors
/// When /proc isn't there.
pub fn ours() -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::CLOEXEC;
    Ok(rustix::fs::open("/proc/self/ns/net", flags, Mode::empty()).call("open", "/proc/self/ns/net")?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sched::{CloneFlags, unshare};
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};
    use std::time::Duration;

    fn tables(road: BorrowedFd<'_>) -> Vec<String> {
        let names = std::cell::RefCell::new(Vec::new());
        let look = |name: &str| {
            names.borrow_mut().push(name.to_owned());
            false
        };
        crate::netlock::delete(Some(road), look).unwrap();
        names.into_inner()
    }

    /// In a network namespace of the test's own, whose loopback interface is the road.
    #[test]
    fn nothing_passes_until_it_is_opened() {
        let test = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            assert!(std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap().success());
            let road = std::fs::File::open("/proc/thread-self/ns/net").unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (mut end, _) = listener.accept().unwrap();
            let away = [Locked { local: end.local_addr().unwrap(), peer: end.peer_addr().unwrap() }];
            AWAY.put(Some(road.as_fd()), &away, 100).unwrap();
            peer.write_all(b"x").unwrap();
            end.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
            let mut byte = [0];
            assert_eq!(end.read(&mut byte).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
            // Others pass, and what is for others stays.
            let others = [Locked { local: away[0].peer, peer: away[0].local }];
            AWAY.put(Some(road.as_fd()), &others, 100).unwrap();
            assert_eq!(tables(road.as_fd()).len(), 2);
            open(road.as_fd(), &away).unwrap();
            assert_eq!(tables(road.as_fd()).len(), 1);
            end.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            assert_eq!(end.read(&mut byte).unwrap(), 1);
        };
        std::thread::spawn(test).join().unwrap();
    }
}
