//! Plays the other end of a connection for a moment, where that end is not here: the kernel's own TCP says
//! what the other end had said, so that a socket comes to the state it was in.

use super::Window;
use super::repair::{self, Agreed, Queue};
use crate::error::{Context as _, Result};
use crate::resource::socket::address::inet_bytes;
use rtc_sys::socket;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};

/// `IPV6_TRANSPARENT`, `IP_TRANSPARENT`: an address may be used that this machine doesn't have.
const IPV6_TRANSPARENT: i32 = 75;

/// Where the ghost stands: its own address and that of the socket it talks to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) ghost: SocketAddr,
    pub(super) socket: SocketAddr,
    /// What the socket waits to receive next.
    pub(super) sequence: u32,
    /// What the ghost has received of it.
    pub(super) acknowledged: u32,
    pub(super) segment: u32,
    pub(super) scale: Option<(u8, u8)>,
}

/// The other end, for a moment.
pub(super) struct Ghost(OwnedFd);

impl Ghost {
    /// Appears, in repair mode, which is silent.
    pub(super) fn appear(scene: Scene) -> Result<Self> {
        let (family, level, option) = match scene.ghost {
            SocketAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_IP, libc::IP_TRANSPARENT),
            SocketAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_IPV6, IPV6_TRANSPARENT),
        };
        let socket = socket::create(family, libc::SOCK_STREAM, 0)?;
        let fd = socket.as_fd();
        socket::set_int_option(fd, level, option, 1)?;
        if scene.ghost.ip().to_canonical().is_ipv4() && scene.ghost.is_ipv6() {
            socket::set_int_option(fd, libc::IPPROTO_IP, libc::IP_TRANSPARENT, 1)?;
        }
        socket::set_int_option(fd, libc::SOL_SOCKET, libc::SO_MARK, crate::netlock::PASS as i32)?;
        // Others may hold a segment back to pace it.
        socket::set_option(fd, libc::IPPROTO_TCP, libc::TCP_CONGESTION, b"reno")?;
        repair::on(fd)?;
        repair::set_sequences(fd, scene.sequence, scene.acknowledged)?;
        socket::bind(fd, &inet_bytes(scene.ghost)).context(|| "stand in for the other end")?;
        socket::connect(fd, &inet_bytes(scene.socket)).context(|| "stand in for the other end")?;
        let scale = scene.scale.map(|(send, receive)| (receive, send));
        repair::agree(fd, Agreed { segment: scene.segment, scale, sack: false, timestamp: None })?;
        let (seen, room) = (scene.acknowledged, u32::from(u16::MAX));
        let window = Window { snd_wl1: seen, snd_wnd: room, max_window: room, rcv_wnd: room, rcv_wup: seen };
        repair::set_window(fd, window)?;
        Ok(Self(socket))
    }

    /// Says FIN, and with it acknowledges what it has received.
    pub(super) fn finish(&self) -> Result<()> {
        repair::off(self.0.as_fd())?;
        Ok(socket::shutdown(self.0.as_fd(), libc::SHUT_WR)?)
    }

    /// Acknowledges what it has received. The kernel's probe bears the number before the ghost's own.
    pub(super) fn acknowledge(&self) -> Result<()> {
        repair::off_with_probe(self.0.as_fd())
    }

    /// Says RST and is gone.
    pub(super) fn reset(self) -> Result<()> {
        repair::off(self.0.as_fd())?;
        let at_once = [1_i32.to_ne_bytes(), 0_i32.to_ne_bytes()].concat();
        Ok(socket::set_option(self.0.as_fd(), libc::SOL_SOCKET, libc::SO_LINGER, &at_once)?)
    }

    /// Goes without a word.
    pub(super) fn vanish(self) -> Result<()> {
        repair::on(self.0.as_fd())?;
        repair::select(self.0.as_fd(), Queue::None)
    }
}
