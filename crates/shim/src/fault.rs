//! What a call is refused with: one of gRPC's codes and a line of text.

use std::fmt;

/// The codes in use (google/rpc/code.proto). containerd turns them into its own kinds of errors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    /// Failed, and no other code says more.
    Unknown = 2,
    /// The request makes no sense.
    InvalidArgument = 3,
    /// No such container or process, or it has ended.
    NotFound = 5,
    /// The name is taken.
    AlreadyExists = 6,
    /// Not in this state.
    FailedPrecondition = 9,
    /// No such method.
    Unimplemented = 12,
}

/// A refusal. It is no `std::error::Error`, so that every such error can become one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) code: Code,
    pub(crate) message: String,
}

/// The result of a call.
pub(crate) type Result<T> = std::result::Result<T, Fault>;

impl Fault {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn unknown(message: impl Into<String>) -> Self {
        Self::new(Code::Unknown, message)
    }

    pub(crate) fn not_found(noun: &str, id: &str) -> Self {
        Self::new(Code::NotFound, format!("{noun} {id} does not exist"))
    }

    /// Says what was being done.
    pub(crate) fn while_doing(mut self, deed: &str) -> Self {
        self.message = format!("{deed}: {}", self.message);
        self
    }
}

impl<E: std::error::Error> From<E> for Fault {
    fn from(error: E) -> Self {
        Self::unknown(error.to_string())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
