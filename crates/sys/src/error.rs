//! What a failed system call looks like: the call, its arguments, its errno.

use std::fmt;

pub use nix::errno::Errno;

/// A failed system call, printed as strace prints it: `fsmount(7, 0, NOSUID) = EPERM`.
#[derive(Clone, PartialEq, Eq)]
pub struct Error {
    call: &'static str,
    arguments: String,
    errno: Errno,
}

/// The result of a system call.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure of `call(arguments)` with the given `errno`.
    pub fn new(call: &'static str, arguments: impl fmt::Display, errno: Errno) -> Self {
        Self { call, arguments: arguments.to_string(), errno }
    }

    /// A failure of `call(arguments)` with the errno that the calling thread's last system call left.
    pub fn last(call: &'static str, arguments: impl fmt::Display) -> Self {
        Self::new(call, arguments, Errno::last())
    }

    /// A failure of `call(arguments)` with a raw errno number, positive as in `<errno.h>`.
    pub fn from_raw(call: &'static str, arguments: impl fmt::Display, errno: i32) -> Self {
        Self::new(call, arguments, Errno::from_raw(errno))
    }

    /// The errno.
    pub fn errno(&self) -> Errno {
        self.errno
    }

    /// The name of the call.
    pub fn call(&self) -> &'static str {
        self.call
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}) = {:?}", self.call, self.arguments, self.errno)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

/// Gives the result of a call made through another crate the call's name and arguments.
///
/// ```
/// use rtc_sys::CallExt;
/// let result: Result<(), _> = Err(std::io::Error::from_raw_os_error(1));
/// assert_eq!(result.call("mkdir", "/x").unwrap_err().to_string(), "mkdir(/x) = EPERM");
/// ```
pub trait CallExt<T> {
    /// Names the call that failed.
    fn call(self, call: &'static str, arguments: impl fmt::Display) -> Result<T>;
}

impl<T> CallExt<T> for std::io::Result<T> {
    fn call(self, call: &'static str, arguments: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::from_raw(call, arguments, e.raw_os_error().unwrap_or(Errno::EIO as i32)))
    }
}

impl<T> CallExt<T> for nix::Result<T> {
    fn call(self, call: &'static str, arguments: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::new(call, arguments, e))
    }
}

impl<T> CallExt<T> for rustix::io::Result<T> {
    fn call(self, call: &'static str, arguments: impl fmt::Display) -> Result<T> {
        self.map_err(|e| Error::from_raw(call, arguments, e.raw_os_error()))
    }
}
