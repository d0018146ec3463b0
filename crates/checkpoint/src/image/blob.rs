//! Contents of any length (ghost files, queues, shared memory, tmpfs files) in one append-only file, `data.img`.

/// Appends contents to `data.img`.
pub struct Writer {}

/// Reads contents back, checked and bounded.
pub struct Reader {}
