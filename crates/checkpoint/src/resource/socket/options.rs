//! A socket's options: read, written, and in the image.
//!
//! The image holds those that differ from a new socket's, and those for which a new socket's value depends on sysctls.
//! Restore sets only what differs from the new socket, so that a value which follows a sysctl goes on doing so.

use super::option_table::{Class, OPTIONS, Row, Shape, When};
use super::sort::Sort;
use crate::error::{Context as _, Result, bad_image};
use rtc_sys::socket::{self, Instruction};
use rtc_sys::{Errno, Error};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::os::fd::BorrowedFd;

/// An option's value.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Value {
    /// A number.
    Number(i64),
    /// The numbers of a structure.
    Numbers(Vec<i64>),
    /// A name, or bytes in hexadecimal.
    Text(String),
}

/// A socket's options by their names in the table, and its filter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Options {
    /// See [`Value`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub values: BTreeMap<String, Value>,
    /// Classic BPF instructions: code, jt, jf, k.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub filter: Vec<(u16, u8, u8, u32)>,
    /// `SO_LOCK_FILTER`: the filter can't be changed any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub filter_locked: bool,
}

/// `SO_LOCK_FILTER` of <asm-generic/socket.h>.
const SO_LOCK_FILTER: i32 = 44;

/// Why a filter can't be saved.
#[derive(Debug)]
pub(super) struct Unreadable;

impl Options {
    /// Reads all options of `fd`.
    ///
    /// # Errors
    /// [`Unreadable`] when the filter is an eBPF program.
    pub(super) fn read(fd: BorrowedFd<'_>, sort: Sort) -> Result<std::result::Result<Self, Unreadable>> {
        let mut options = Self::default();
        for row in OPTIONS.iter().filter(|row| row.is_for(sort)) {
            let Some(bytes) = get(fd, row)? else { continue };
            if row.default.is_none_or(|default| bytes.iter().any(|b| *b != default)) {
                options.values.insert(row.name.to_owned(), decode(row.shape, &bytes));
            }
        }
        match socket::filter(fd) {
            Ok(program) => options.filter = program.iter().map(|i| (i.code, i.jt, i.jf, i.k)).collect(),
            Err(e) if e.errno() == Errno::EACCES => return Ok(Err(Unreadable)),
            Err(e) if is_lacking(&e) => {}
            Err(e) => return Err(e.into()),
        }
        options.filter_locked = match socket::int_option(fd, libc::SOL_SOCKET, SO_LOCK_FILTER) {
            Err(e) if is_lacking(&e) => false,
            value => value? != 0,
        };
        Ok(Ok(options))
    }

    /// A number among the options; none when it has a new socket's value.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.values.get(name)? {
            Value::Number(number) => Some(*number),
            _ => None,
        }
    }

    /// Sets those options that bind(2) and connect(2) look at.
    ///
    /// # Errors
    /// When the kernel refuses one, or the image is wrong.
    pub(super) fn apply_early(&self, fd: BorrowedFd<'_>, sort: Sort) -> Result<()> {
        self.apply(fd, sort, When::Early)
    }

    /// Sets all other options and the filter.
    ///
    /// # Errors
    /// As [`Options::apply_early`].
    pub(super) fn apply_late(&self, fd: BorrowedFd<'_>, sort: Sort) -> Result<()> {
        self.apply(fd, sort, When::Late)?;
        if !self.filter.is_empty() {
            let instruction = |&(code, jt, jf, k): &_| Instruction { code, jt, jf, k };
            socket::attach_filter(fd, &self.filter.iter().map(instruction).collect::<Vec<_>>())?;
        }
        if self.filter_locked {
            socket::set_int_option(fd, libc::SOL_SOCKET, SO_LOCK_FILTER, 1)?;
        }
        Ok(())
    }

    fn apply(&self, fd: BorrowedFd<'_>, sort: Sort, when: When) -> Result<()> {
        for row in OPTIONS.iter().filter(|row| row.when == when && row.is_for(sort)) {
            let Some(value) = self.values.get(row.name) else { continue };
            let bytes = encode(row.shape, value).ok_or_else(|| bad_image(format!("option {}: {value:?}", row.name)))?;
            if get(fd, row)?.as_deref() != Some(&bytes[..]) {
                set(fd, row, bytes).context(|| format!("option {}", row.name))?;
            }
        }
        Ok(())
    }

    /// Sets one option, of those that are always saved, to the value it had.
    ///
    /// # Errors
    /// As [`Options::apply_early`].
    pub(super) fn apply_one(&self, fd: BorrowedFd<'_>, name: &str) -> Result<()> {
        let row = OPTIONS.iter().find(|row| row.name == name).expect("named in the code, and in the table");
        let Some(value) = self.values.get(name) else { return Ok(()) };
        let bytes = encode(row.shape, value).ok_or_else(|| bad_image(format!("option {name}: {value:?}")))?;
        set(fd, row, bytes).context(|| format!("option {name}"))
    }
}

impl Row {
    fn is_for(&self, sort: Sort) -> bool {
        let inet = matches!(sort.family, libc::AF_INET | libc::AF_INET6);
        let protocol = |p| inet && sort.protocol == p;
        match self.class {
            Class::Any => true,
            Class::Inet => inet,
            Class::Inet6 => sort.family == libc::AF_INET6,
            Class::Multicast => inet && sort.kind != libc::SOCK_STREAM,
            Class::Multicast6 => sort.family == libc::AF_INET6 && sort.kind != libc::SOCK_STREAM,
            Class::Tcp => sort.is_tcp(),
            Class::Udp => protocol(libc::IPPROTO_UDP) || protocol(libc::IPPROTO_UDPLITE),
            Class::UdpLite => protocol(libc::IPPROTO_UDPLITE),
            Class::Raw => inet && sort.kind == libc::SOCK_RAW,
            Class::Netlink => sort.family == libc::AF_NETLINK,
            Class::Packet => sort.family == libc::AF_PACKET,
        }
    }
}

/// The value's bytes; none when the socket has no such option.
fn get(fd: BorrowedFd<'_>, row: &Row) -> Result<Option<Vec<u8>>> {
    let mut bytes = vec![0; row.shape.room()];
    match socket::option(fd, row.level, row.get, &mut bytes) {
        Ok(len) => bytes.truncate(len),
        Err(e) if is_lacking(&e) => return Ok(None),
        Err(e) => return Err(crate::Error::from(e).context(format!("option {}", row.name))),
    }
    match row.shape {
        Shape::Text(_) => bytes.truncate(bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len())),
        Shape::Bytes(_) => {}
        // Some options answer with one byte.
        _ => bytes.resize(row.shape.room(), 0),
    }
    Ok(Some(bytes))
}

fn set(fd: BorrowedFd<'_>, row: &Row, mut bytes: Vec<u8>) -> rtc_sys::Result<()> {
    // The kernel doubles the sizes of buffers, for its own needs.
    if matches!(row.name, "rcvbuf" | "sndbuf") {
        let size = u32::from_ne_bytes(bytes[..4].try_into().expect("encoded as an int"));
        bytes = (size / 2).to_ne_bytes().to_vec();
    }
    if matches!(row.shape, Shape::Text(_)) {
        bytes.push(0);
    }
    socket::set_option(fd, row.level, row.set, &bytes)
}

/// Whether an error says that this socket or this kernel has no such option, or none that can be read now.
fn is_lacking(error: &Error) -> bool {
    use Errno::{EINVAL, ENODEV, ENOENT, ENOPROTOOPT, ENOTCONN, EOPNOTSUPP};
    matches!(error.errno(), ENOPROTOOPT | EOPNOTSUPP | EINVAL | ENOTCONN | ENODEV | ENOENT)
}

fn decode(shape: Shape, bytes: &[u8]) -> Value {
    let int = |b: &[u8]| i32::from_ne_bytes(b.try_into().expect("chunks of four"));
    let long = |b: &[u8]| i64::from_ne_bytes(b.try_into().expect("chunks of eight"));
    match shape {
        Shape::Int => Value::Number(int(bytes).into()),
        Shape::Unsigned => Value::Number((int(bytes) as u32).into()),
        Shape::Long => Value::Number(long(bytes)),
        Shape::Ints(_) => Value::Numbers(bytes.chunks_exact(4).map(|b| int(b).into()).collect()),
        Shape::Time => Value::Numbers(bytes.chunks_exact(8).map(long).collect()),
        Shape::Text(_) => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
        Shape::Bytes(_) => Value::Text(super::hex::encode(bytes)),
    }
}

/// None when the value has not the option's shape.
fn encode(shape: Shape, value: &Value) -> Option<Vec<u8>> {
    let int = |n: i64| Some(i32::try_from(n).ok()?.to_ne_bytes());
    match (shape, value) {
        (Shape::Int, Value::Number(n)) => Some(int(*n)?.to_vec()),
        (Shape::Unsigned, Value::Number(n)) => Some(u32::try_from(*n).ok()?.to_ne_bytes().to_vec()),
        (Shape::Long, Value::Number(n)) => Some(n.to_ne_bytes().to_vec()),
        (Shape::Ints(count), Value::Numbers(list)) if list.len() == count => {
            Some(list.iter().map(|n| int(*n)).collect::<Option<Vec<_>>>()?.concat())
        }
        (Shape::Time, Value::Numbers(list)) if list.len() == 2 => {
            Some(list.iter().flat_map(|n| n.to_ne_bytes()).collect())
        }
        (Shape::Text(room), Value::Text(text)) if text.len() < room && !text.contains('\0') => {
            Some(text.as_bytes().to_vec())
        }
        (Shape::Bytes(room), Value::Text(text)) => super::hex::decode(text).filter(|bytes| bytes.len() <= room),
        _ => None,
    }
}
