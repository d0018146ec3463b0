//! A process in another control group that makes sockets for us.
//!
//! A socket belongs for good to the control group of the process that made it, or of the listener that it was accepted
//! from: programs for that group see its packets (`BPF_CGROUP_INET_EGRESS` and the like, systemd's `IPAddressDeny`), and
//! packet filters ask for it. No call moves one.
//!
//! The process is a fork in the group, and in the namespaces of the thread that starts it. It does nothing but socket(2).

use crate::clone::{Clone3, SilentChild};
use crate::{CallExt, Errno, Error, Result, pidfd};
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

/// What socket(2) is called with.
type Request = [i32; 3];

/// The maker. Dropping it ends the process.
#[derive(Debug)]
pub struct SocketMaker {
    // Dropped first: the process ends with it.
    ours: OwnedFd,
    process: SilentChild,
}

impl SocketMaker {
    /// Starts it in the control group (version 2) whose directory `cgroup` is.
    ///
    /// # Errors
    /// clone3's: `EAGAIN` where the group takes no more processes, `EBUSY` and `EOPNOTSUPP` where it takes none.
    pub fn start(cgroup: BorrowedFd<'_>) -> Result<Self> {
        let (ours, theirs) =
            rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
                .call("socketpair", "AF_UNIX, SOCK_SEQPACKET")?;
        let what = Clone3 { cgroup: Some(cgroup), ..Clone3::default() };
        // SAFETY: the child only makes async-signal-safe calls.
        let process = unsafe { SilentChild::start(&what, || work(theirs.as_raw_fd()))? };
        Ok(Self { ours, process })
    }

    /// socket(2), close-on-exec, in the other control group.
    ///
    /// # Errors
    /// The errno of the call; `ECHILD` when the process has been killed.
    pub fn create(&self, family: i32, kind: i32, protocol: i32) -> Result<OwnedFd> {
        let describe = || format!("{family}, {kind}, {protocol}");
        let gone = || Error::new("socket", describe(), Errno::ECHILD);
        let request = [family, kind, protocol].map(i32::to_ne_bytes).concat();
        rustix::net::send(&self.ours, &request, SendFlags::NOSIGNAL).map_err(|_| gone())?;
        let mut answer = [0; 4];
        let received = rustix::io::retry_on_intr(|| rustix::net::recv(&self.ours, &mut answer, RecvFlags::empty()));
        if !received.is_ok_and(|(len, _)| len == answer.len()) {
            return Err(gone());
        }
        match i32::from_ne_bytes(answer) {
            errno if errno < 0 => Err(Error::from_raw("socket", describe(), -errno)),
            number => pidfd::get_fd(self.process.pidfd(), number),
        }
    }
}

/// The process's whole life. Called in the child of a fork: async-signal-safe calls only, no memory, no panic.
fn work(socket: i32) -> ! {
    // SAFETY: plain system calls; pointers are to locals of the lengths that are passed.
    unsafe {
        // The other descriptors may be another process's end of input, or the other end of our own socket.
        if socket > 0 {
            libc::syscall(libc::SYS_close_range, 0, socket - 1, 0);
        }
        libc::syscall(libc::SYS_close_range, socket + 1, u32::MAX, 0);
        let mut made = -1;
        loop {
            let mut request: Request = [0; 3];
            let size = size_of::<Request>();
            if libc::recv(socket, (&raw mut request).cast(), size, 0) != size as isize {
                libc::_exit(0);
            }
            // Whoever asks for the next has the last one.
            libc::close(made);
            made = libc::socket(request[0], request[1] | libc::SOCK_CLOEXEC, request[2]);
            let answer = if made < 0 { -*libc::__errno_location() } else { made };
            let size = size_of::<i32>();
            if libc::send(socket, (&raw const answer).cast(), size, libc::MSG_NOSIGNAL) != size as isize {
                libc::_exit(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket::int_option;
    use std::os::fd::AsFd;

    /// The root of the cgroup2 file system, where we may be as well.
    fn cgroup() -> std::fs::File {
        let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let line = table.lines().find(|line| line.contains(" - cgroup2 ")).unwrap();
        std::fs::File::open(line.split(' ').nth(4).unwrap()).unwrap()
    }

    #[test]
    fn sockets_are_made_and_errors_are_told() {
        let maker = SocketMaker::start(cgroup().as_fd()).unwrap();
        for kind in [libc::SOCK_STREAM, libc::SOCK_DGRAM] {
            let made = maker.create(libc::AF_INET, kind, 0).unwrap();
            assert_eq!(int_option(made.as_fd(), libc::SOL_SOCKET, libc::SO_TYPE).unwrap(), kind);
        }
        let error = maker.create(libc::AF_INET, 99, 0).unwrap_err();
        assert_eq!(error.to_string(), "socket(2, 99, 0) = EINVAL");
    }

    #[test]
    fn no_control_group_is_an_error() {
        let error = SocketMaker::start(std::fs::File::open("/").unwrap().as_fd()).unwrap_err();
        assert_eq!(error.errno(), Errno::EBADF);
    }
}
