//! Makes a container: the parent's part, the child's part, and the words between them.

use crate::container::Container;
use crate::error::{Error, Kind, Result};
use crate::host::Host;
use crate::options::{CreateOptions, Payload};

/// Makes a container up to the point where init waits for `start`, or holds ([`Payload::Hold`]).
///
/// # Errors
/// Nothing is left of a container that can't be created. [`Kind::Exists`] when the id is taken; [`Kind::Exec`] when the
/// program can't be found, without further context so that the text is `exec: "x": executable file not found in $PATH`.
pub fn create(_host: &Host, _options: &CreateOptions, _payload: Payload<'_>) -> Result<Container> {
    Err(Error::new(Kind::Invalid, "create is on its way"))
}

/// Creates and starts at once: as [`create`] and then [`Container::start`], without the wait between them.
///
/// # Errors
/// As those two.
pub fn run(_host: &Host, _options: &CreateOptions) -> Result<Container> {
    Err(Error::new(Kind::Invalid, "run is on its way"))
}
