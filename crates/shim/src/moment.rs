//! Points in time as protocol buffers have them.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::wire::Message;

/// Time since 1970, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) seconds: u64,
    pub(crate) nanoseconds: u32,
}

impl Moment {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), nanoseconds: since.subsec_nanos() }
    }

    /// As google.protobuf.Timestamp.
    pub(crate) fn message(self) -> Message {
        Message::new().number(1, self.seconds).number(2, self.nanoseconds.into())
    }
}
