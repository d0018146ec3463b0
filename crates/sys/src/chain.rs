//! The error that a crate hands to its caller: one line, outermost noun first, ending in the failed call.
//!
//! `create web1: mount /proc: fsmount(7, 0, NOSUID) = EPERM`
//!
//! Each crate names its own `Kind` and uses `Error<Kind>`; nothing is logged on the way.

use std::fmt;

type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// A chain of contexts around one cause.
pub struct Error<K>(Box<Inner<K>>);

struct Inner<K> {
    kind: K,
    /// Innermost first.
    context: Vec<String>,
    cause: Cause,
    hint: Option<String>,
}

impl<K> Error<K> {
    /// An error of the given kind, with a sentence of its own as its cause.
    pub fn new(kind: K, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind, context: Vec::new(), cause: message.into().into(), hint: None }))
    }

    /// An error of the given kind around another error.
    pub fn wrap(kind: K, cause: impl Into<Cause>) -> Self {
        Self(Box::new(Inner { kind, context: Vec::new(), cause: cause.into(), hint: None }))
    }

    /// What sort of failure this is.
    pub fn kind(&self) -> &K {
        &self.0.kind
    }

    /// The remedy, where one is known.
    pub fn hint(&self) -> Option<&str> {
        self.0.hint.as_deref()
    }

    /// The failed system call, where there was one.
    pub fn sys(&self) -> Option<&crate::Error> {
        self.0.cause.downcast_ref()
    }

    /// Adds the noun or deed that the caller knows: "mount /proc".
    #[must_use]
    pub fn context(mut self, context: impl Into<String>) -> Self {
        self.0.context.push(context.into());
        self
    }

    /// Adds the remedy.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.0.hint = Some(hint.into());
        self
    }

    /// Changes the kind.
    #[must_use]
    pub fn with_kind(mut self, kind: K) -> Self {
        self.0.kind = kind;
        self
    }
}

impl<K> fmt::Display for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for context in self.0.context.iter().rev() {
            write!(f, "{context}: ")?;
        }
        write!(f, "{}", self.0.cause)
    }
}

impl<K: fmt::Debug> fmt::Debug for Error<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {self}", self.0.kind)
    }
}

impl<K: fmt::Debug> std::error::Error for Error<K> {}

impl<K: Default> From<crate::Error> for Error<K> {
    fn from(error: crate::Error) -> Self {
        Self::wrap(K::default(), error)
    }
}

impl<K: Default> From<std::io::Error> for Error<K> {
    fn from(error: std::io::Error) -> Self {
        Self::wrap(K::default(), error)
    }
}
