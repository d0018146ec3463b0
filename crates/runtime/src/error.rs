//! The one error of this crate.

/// What sort of failure an operation on a container met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A system call failed.
    #[default]
    System,
    /// config.json, process.json or an argument says something that can't be done.
    Invalid,
    /// No container has this id.
    NotFound,
    /// A container with this id exists already.
    Exists,
    /// The container is in a state that forbids the operation.
    WrongState,
    /// The program to run doesn't exist or can't be executed.
    Exec,
}

/// The one error of this crate: a chain of contexts around one cause.
pub type Error = rtc_sys::chain::Error<Kind>;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Adds context to a result where the noun is known.
pub trait Context<T> {
    /// Adds the noun or deed, made only if there is an error.
    ///
    /// # Errors
    /// The error of `self`, with the context in front.
    fn context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T>;
}

impl<T, E: Into<Error>> Context<T> for std::result::Result<T, E> {
    fn context<C: Into<String>>(self, context: impl FnOnce() -> C) -> Result<T> {
        self.map_err(|e| e.into().context(context()))
    }
}
