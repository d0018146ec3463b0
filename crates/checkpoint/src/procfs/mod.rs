//! Parsers of /proc files: text in, structures out, no I/O.

pub mod descriptor;
pub mod fdinfo;
pub mod idmap;
pub mod limits;
pub mod mountinfo;
pub mod smaps;
pub mod stat;
pub mod status;
pub mod timers;

#[cfg(test)]
mod tests;

/// A file whose text isn't what proc(5) says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed(pub &'static str);

/// What a parser gives.
pub type Parsed<T> = std::result::Result<T, Malformed>;

impl std::fmt::Display for Malformed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "/proc/PID/{} is malformed", self.0)
    }
}

impl std::error::Error for Malformed {}

impl From<Malformed> for crate::Error {
    fn from(malformed: Malformed) -> Self {
        Self::wrap(crate::Kind::System, malformed)
    }
}
