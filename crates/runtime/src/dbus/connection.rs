//! The socket: who it leads to, the greeting, calls and their replies, signals that come in between.

use std::collections::VecDeque;
use std::io::{Read, Write};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::{Duration, Instant};

use rtc_sys::CallExt;

use super::message::{Message, PREFIX, Sort};
use super::value::Value;
use crate::error::{Context, Error, Kind, Result};

/// How long an answer may take, as libdbus's own default.
const PATIENCE: Duration = Duration::from_secs(25);
/// How many signals are kept that came while an answer was waited for.
const MANY: usize = 1000;
/// Longest line of the greeting.
const LINE: usize = 1024;

/// A method and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Call<'a> {
    pub(crate) destination: &'a str,
    pub(crate) path: &'a str,
    pub(crate) interface: &'a str,
    pub(crate) member: &'a str,
    pub(crate) body: Vec<Value>,
}

/// The peer's answer that it didn't do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// `org.freedesktop.systemd1.NoSuchUnit`.
    pub(crate) name: String,
    /// A sentence.
    pub(crate) text: String,
}

/// A connection to a message bus, or to one peer.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: UnixStream,
    /// Read and not yet used.
    buffer: Vec<u8>,
    serial: u32,
    /// Peers have no names on a socket of their own.
    is_bus: bool,
    signals: VecDeque<Message>,
    /// Who has answered the last call.
    answered: Option<String>,
}

impl Connection {
    /// Connects to a bus by an address as in `DBUS_SESSION_BUS_ADDRESS`: `unix:path=…` or `unix:abstract=…`, several
    /// separated by `;`, of which the first that answers is taken.
    ///
    /// # Errors
    /// None can be connected to, or the greeting is refused.
    pub(crate) fn bus(address: &str) -> Result<Self> {
        let mut connection = Self::open(address, true)?;
        let hello = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "Hello",
            body: Vec::new(),
        };
        // Nothing needs our name: its reply is passed over.
        connection.send(hello, true)?;
        Ok(connection)
    }

    /// Connects to a program that speaks D-Bus on a socket of its own.
    ///
    /// # Errors
    /// As [`Self::bus`].
    pub(crate) fn peer(address: &str) -> Result<Self> {
        Self::open(address, false)
    }

    fn open(address: &str, is_bus: bool) -> Result<Self> {
        let mut result = Err(Error::new(Kind::Invalid, format!("{address:?} names no unix socket")));
        for part in address.split(';').filter_map(parse_address) {
            let connected = match &part {
                Place::File(path) => SocketAddr::from_pathname(path),
                Place::Abstract(name) => SocketAddr::from_abstract_name(name),
            }
            .and_then(|address| UnixStream::connect_addr(&address));
            result = connected.call("connect", format_args!("{address}")).map_err(Into::into);
            if result.is_ok() {
                break;
            }
        }
        let socket = result?;
        socket.set_read_timeout(Some(PATIENCE)).call("setsockopt", "RCVTIMEO")?;
        socket.set_write_timeout(Some(PATIENCE)).call("setsockopt", "SNDTIMEO")?;
        let mut connection =
            Self { socket, buffer: Vec::new(), serial: 0, is_bus, signals: VecDeque::new(), answered: None };
        connection.greet().context(|| address.to_owned())?;
        Ok(connection)
    }

    /// Says who we are: whoever the socket says (specification, "Authentication Protocol", EXTERNAL without identity).
    /// All at once, as sd-bus does: there is one answer to each line, and only one way on.
    fn greet(&mut self) -> Result<()> {
        self.socket.write_all(b"\0AUTH EXTERNAL\r\nDATA\r\nBEGIN\r\n").call("write", "AUTH EXTERNAL")?;
        loop {
            let line = self.line()?;
            match line.split(' ').next().unwrap_or_default() {
                "DATA" => {}
                "OK" => return Ok(()),
                _ => return Err(Error::new(Kind::System, format!("the bus refuses this user: {line}"))),
            }
        }
    }

    fn line(&mut self) -> Result<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
                self.buffer.drain(..end + 2);
                return Ok(line);
            }
            if self.buffer.len() > LINE {
                return Err(Error::new(Kind::System, "the bus's greeting has no end"));
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<()> {
        let mut bytes = [0; 4096];
        let count = match self.socket.read(&mut bytes) {
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => 0,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => {
                return Err(late());
            }
            Ok(0) => return Err(Error::new(Kind::System, "the bus has closed the connection")),
            other => other.call("read", "the bus")?,
        };
        self.buffer.extend(&bytes[..count]);
        Ok(())
    }

    /// Asks for the signals that match a rule (specification, "Match Rules"). A peer of our own sends them unasked.
    ///
    /// # Errors
    /// The socket can't be written to. The reply isn't waited for.
    pub(crate) fn subscribe(&mut self, rule: &str) -> Result<()> {
        if !self.is_bus {
            return Ok(());
        }
        let call = Call {
            destination: "org.freedesktop.DBus",
            path: "/org/freedesktop/DBus",
            interface: "org.freedesktop.DBus",
            member: "AddMatch",
            body: vec![Value::text(rule)],
        };
        self.send(call, false).map(drop)
    }

    /// Makes a call and waits for its reply.
    ///
    /// # Errors
    /// Outer: the connection failed. Inner: the peer's own error.
    pub(crate) fn call(&mut self, call: Call<'_>) -> Result<std::result::Result<Vec<Value>, Fault>> {
        let serial = self.send(call, true)?;
        loop {
            let message = self.receive()?;
            match message.sort {
                Sort::Return(to) if to == serial => {
                    self.answered = message.sender;
                    return Ok(Ok(message.body));
                }
                Sort::Error(to, name) if to == serial => {
                    self.answered = message.sender;
                    let text = message.body.first().and_then(Value::as_text).unwrap_or_default().to_owned();
                    return Ok(Err(Fault { name, text }));
                }
                Sort::Signal if self.signals.len() < MANY => self.signals.push_back(message),
                _ => {}
            }
        }
    }

    /// The next signal of whoever has answered the last call; waits for it. Everybody on a bus may send signals to
    /// everybody, and what is no answer is not asked for.
    ///
    /// # Errors
    /// The connection failed, or none came in time.
    pub(crate) fn signal(&mut self) -> Result<Message> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let message = match self.signals.pop_front() {
                Some(message) => message,
                None if Instant::now() > deadline => return Err(late()),
                None => self.receive()?,
            };
            if message.sort == Sort::Signal && (!self.is_bus || message.sender == self.answered) {
                return Ok(message);
            }
        }
    }

    fn send(&mut self, call: Call<'_>, wants_reply: bool) -> Result<u32> {
        self.serial += 1;
        let message = Message {
            sort: Sort::Call,
            destination: self.is_bus.then(|| call.destination.to_owned()),
            sender: None,
            path: call.path.to_owned(),
            interface: call.interface.to_owned(),
            member: call.member.to_owned(),
            body: call.body,
        };
        self.socket.write_all(&message.encode(self.serial, wants_reply)).call("write", call.member)?;
        Ok(self.serial)
    }

    fn receive(&mut self) -> Result<Message> {
        let nonsense = || Error::new(Kind::System, "the bus sent what is no message");
        let prefix = loop {
            match self.buffer.first_chunk::<PREFIX>() {
                Some(prefix) => break *prefix,
                None => self.fill()?,
            }
        };
        let length = Message::length(&prefix).ok_or_else(nonsense)?;
        while self.buffer.len() < length {
            self.fill()?;
        }
        let message = Message::decode(&self.buffer[..length]).ok_or_else(nonsense)?;
        self.buffer.drain(..length);
        Ok(message)
    }
}

fn late() -> Error {
    Error::new(Kind::System, format!("no answer within {} s", PATIENCE.as_secs()))
}

#[derive(Debug, PartialEq, Eq)]
enum Place {
    File(std::path::PathBuf),
    Abstract(Vec<u8>),
}

/// One address: `unix:path=/run/x,guid=…`. `None` for other transports.
fn parse_address(address: &str) -> Option<Place> {
    use std::os::unix::ffi::OsStringExt;
    let options = address.trim().strip_prefix("unix:")?;
    options.split(',').find_map(|option| match option.split_once('=')? {
        ("path", path) => Some(Place::File(std::ffi::OsString::from_vec(unescape(path)?).into())),
        ("abstract", name) => Some(Place::Abstract(unescape(name)?)),
        _ => None,
    })
}

/// Undoes `%2f` and its like.
fn unescape(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| char::from(byte).to_digit(16);
        let code = digit(bytes.next()?)? * 16 + digit(bytes.next()?)?;
        out.push(u8::try_from(code).ok()?);
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_buses() {
        let file = |path: &str| Some(Place::File(path.into()));
        assert_eq!(parse_address("unix:path=/run/user/1000/bus"), file("/run/user/1000/bus"));
        assert_eq!(parse_address("unix:guid=1,path=/a%20b"), file("/a b"));
        assert_eq!(parse_address("unix:abstract=/tmp/x,guid=1"), Some(Place::Abstract(b"/tmp/x".to_vec())));
        for bad in ["tcp:host=x", "unix:tmpdir=/tmp", "unix:path=/a%2", "unix:path=%zz", ""] {
            assert_eq!(parse_address(bad), None, "{bad}");
        }
    }
}
