//! What a call is refused with: one of gRPC's codes, which containerd turns into its own kinds of errors, and a line of
//! text.

use std::fmt;

use containerd_shim::protos::ttrpc;

pub(crate) use ttrpc::Code;

/// A refusal. It is no `std::error::Error`, so that every such error can become one.
#[derive(Clone, Debug, PartialEq)]
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
        Self::new(Code::UNKNOWN, message)
    }

    pub(crate) fn not_found(noun: &str, id: &str) -> Self {
        Self::new(Code::NOT_FOUND, format!("{noun} {id} does not exist"))
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

impl From<Fault> for ttrpc::Error {
    fn from(fault: Fault) -> Self {
        Self::RpcStatus(ttrpc::get_status(fault.code, fault.message))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
