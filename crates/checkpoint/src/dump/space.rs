//! An address space on its way into the image.

use crate::image::pages::{PAGE, Run};
use crate::image::tree::Vma;

/// A run of page numbers of one address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct PageRange {
    pub(super) page: u64,
    pub(super) count: u64,
}

/// An address space whose mappings are known.
pub(super) struct Space {
    /// A process that has it, as the host counts.
    pub(super) pid: i32,
    pub(super) vmas: Vec<Vma>,
    /// Its private pages.
    pub(super) pages: Vec<PageRange>,
    /// Pages that another address space of the tree has as well.
    pub(super) aliases: Vec<Alias>,
    /// Whether some of its pages may be shared copy-on-write with another process.
    pub(super) may_share: bool,
    /// What is written of it.
    pub(super) runs: Vec<Run>,
}

/// Pages that are the same frames as those of an address space earlier in the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Alias {
    /// The first page's number here.
    pub(super) page: u64,
    /// How many pages.
    pub(super) count: u64,
    /// The place of the other address space.
    pub(super) of: usize,
    /// The first page's number there.
    pub(super) there: u64,
}

impl Space {
    /// How many bytes its private pages have.
    pub(super) fn bytes(&self) -> u64 {
        self.pages.iter().map(|p| p.count * PAGE).sum()
    }
}
