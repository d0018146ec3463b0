//! System calls as data.
//!
//! A *call* is 64 bytes: number, flags, six arguments, result.
//! A *program* is an array of calls followed by the data that the calls point to.
//! The tracer builds it, an executor of [`crate::tracee`] runs it in the target, the tracer judges the results.
//! [`std::fmt::Display`] prints a program as strace would.
//!
//! There are no conditions and no loops: where the next call depends on a result, run a second program.

use std::fmt;

/// An address in the target's address space.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct Addr(pub u64);

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

/// A descriptor number in the target's table, not in ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[serde(transparent)]
pub struct TargetFd(pub i32);

/// One argument of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arg {
    /// A plain value.
    Value(u64),
    /// The address of a piece of the program's data.
    Data(DataRef),
    /// The result of an earlier call of the same program.
    Result(CallRef),
    /// A 64-bit value loaded, when the call is made, from a piece of the program's data.
    Load(DataRef),
}

impl From<u64> for Arg {
    fn from(v: u64) -> Self {
        Self::Value(v)
    }
}
impl From<i64> for Arg {
    fn from(v: i64) -> Self {
        Self::Value(v as u64)
    }
}
impl From<i32> for Arg {
    /// Sign-extends, as the kernel expects of a C int.
    fn from(v: i32) -> Self {
        Self::Value(v as i64 as u64)
    }
}
impl From<u32> for Arg {
    fn from(v: u32) -> Self {
        Self::Value(v.into())
    }
}
impl From<usize> for Arg {
    fn from(v: usize) -> Self {
        Self::Value(v as u64)
    }
}
impl From<Addr> for Arg {
    fn from(v: Addr) -> Self {
        Self::Value(v.0)
    }
}
impl From<TargetFd> for Arg {
    fn from(v: TargetFd) -> Self {
        v.0.into()
    }
}
impl From<DataRef> for Arg {
    fn from(v: DataRef) -> Self {
        Self::Data(v)
    }
}
impl From<CallRef> for Arg {
    fn from(v: CallRef) -> Self {
        Self::Result(v)
    }
}

/// A piece of a program's data: an offset into it and a length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DataRef {
    offset: u32,
    len: u32,
}

impl DataRef {
    /// Where the piece begins in [`Program::data`].
    pub fn offset(self) -> usize {
        self.offset as usize
    }
    /// Its length in bytes.
    pub fn len(self) -> usize {
        self.len as usize
    }
    /// Whether it has no bytes.
    pub fn is_empty(self) -> bool {
        self.len == 0
    }
    /// The part that begins `skip` bytes in.
    #[must_use]
    pub fn from_offset(self, skip: usize) -> Self {
        let skip = u32::try_from(skip).unwrap_or(u32::MAX).min(self.len);
        Self { offset: self.offset + skip, len: self.len - skip }
    }
}

/// A call of a program, named by its position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallRef(pub usize);

/// What one call is to do.
#[derive(Clone, Debug)]
pub struct Call {
    /// The system call number (`libc::SYS_*`).
    pub nr: i64,
    /// Up to six arguments.
    pub args: Vec<Arg>,
    /// An errno does not stop the program.
    pub may_fail: bool,
    /// Where the result is 0 (a new task), that task goes on at the zone's child program.
    pub fork: bool,
}

/// A list of calls with the data they point to.
#[derive(Clone, Debug, Default)]
pub struct Program {
    calls: Vec<Call>,
    data: Vec<u8>,
    pointers: Vec<(DataRef, DataRef)>,
}

impl Program {
    /// A program without calls.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a call that stops the program if it fails.
    pub fn call<const N: usize>(&mut self, nr: i64, args: [Arg; N]) -> CallRef {
        self.push(Call { nr, args: args.to_vec(), may_fail: false, fork: false })
    }

    /// Adds a call whose failure is only recorded.
    pub fn try_call<const N: usize>(&mut self, nr: i64, args: [Arg; N]) -> CallRef {
        self.push(Call { nr, args: args.to_vec(), may_fail: true, fork: false })
    }

    /// Adds any call.
    pub fn push(&mut self, call: Call) -> CallRef {
        debug_assert!(call.args.len() <= 6);
        self.calls.push(call);
        CallRef(self.calls.len() - 1)
    }

    /// Adds input data, aligned to 16 bytes.
    pub fn data(&mut self, bytes: &[u8]) -> DataRef {
        let at = self.reserve(bytes.len());
        self.data[at.offset()..at.offset() + at.len()].copy_from_slice(bytes);
        at
    }

    /// Reserves zeroed data for results, aligned to 16 bytes.
    pub fn reserve(&mut self, len: usize) -> DataRef {
        let offset = self.data.len().next_multiple_of(16);
        self.data.resize(offset + len, 0);
        DataRef { offset: offset as u32, len: len as u32 }
    }

    /// Overwrites data reserved earlier (structures that point to other data are filled by [`Program::pointer`]).
    pub fn set_data(&mut self, at: DataRef, bytes: &[u8]) {
        debug_assert!(bytes.len() <= at.len());
        self.data[at.offset()..at.offset() + bytes.len()].copy_from_slice(bytes);
    }

    /// Lets the eight bytes of data at `at` hold the address of `to` (an iovec's base, a msghdr's control).
    pub fn pointer(&mut self, at: DataRef, to: DataRef) {
        debug_assert!(at.len() >= 8);
        self.pointers.push((at, to));
    }

    /// The pointers within the data: place, destination.
    pub fn pointers(&self) -> &[(DataRef, DataRef)] {
        &self.pointers
    }

    /// The calls in order.
    pub fn calls(&self) -> &[Call] {
        &self.calls
    }

    /// The data, as it will be laid out behind the calls.
    pub fn bytes(&self) -> &[u8] {
        &self.data
    }

    /// Whether there is nothing to run.
    pub fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }
}
