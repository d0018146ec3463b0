//! The one error of this crate.

/// What sort of failure a checkpoint or restore met.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// A system call failed.
    #[default]
    System,
    /// Something in the container can't be saved; nothing was touched.
    Unsupported,
    /// The image is truncated, altered, of another version or made for another container.
    BadImage,
    /// This machine can't run what the image holds.
    Incompatible,
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

/// An image error with the sentence `message`.
pub(crate) fn bad_image(message: impl Into<String>) -> Error {
    Error::new(Kind::BadImage, message)
}
