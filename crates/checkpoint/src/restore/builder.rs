//! The state of a restore between its steps.

use super::fill::Huge;
use super::label::Label;
use super::transport::Transport;
use crate::files::RestoreEnv;
use crate::files::kind::Files;
use crate::files::restore::OpenFiles;
use crate::image::container::ContainerState;
use crate::image::pages;
use crate::image::tree::{Live, Tree};
use crate::tracee::{Stopped, Zone};
use std::collections::BTreeMap;
use std::time::Duration;

/// What a restore did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// From the held process's stop until all ran.
    pub restore: Duration,
    /// Making processes and their memory.
    pub forking: Duration,
    /// Pages written.
    pub pages_restored: u64,
}

/// A process that has been made.
pub(super) struct Built {
    pub(super) leader: Stopped,
    /// All others.
    pub(super) threads: Vec<Stopped>,
}

/// The state of a restore between its steps.
pub(super) struct Builder<'a> {
    pub(super) tree: &'a Tree,
    pub(super) files: &'a Files,
    pub(super) container: &'a ContainerState,
    pub(super) pages: &'a pages::Reader,
    /// When this machine makes huge pages.
    pub(super) huge: Huge,
    pub(super) env: RestoreEnv<'a>,
    pub(super) labels: &'a [Label],
    pub(super) zone: Zone,
    pub(super) transport: &'a Transport,
    pub(super) open_files: OpenFiles,
    /// By place in the tree.
    pub(super) built: Vec<Option<Built>>,
    /// The address space that each process got by fork.
    pub(super) has_memory_of: Vec<Option<usize>>,
    pub(super) zombies: Vec<(Stopped, i32)>,
    /// The container's ids of processes and threads, with the host's.
    pub(super) pids: BTreeMap<i32, i32>,
    /// The critical sections of threads (rseq(2)), by places of process and thread, until they are let go.
    pub(super) sections: BTreeMap<(usize, usize), u64>,
    pub(super) report: Report,
}

impl<'a> Builder<'a> {
    /// The leader of a process that has been made, and the zone.
    pub(super) fn leader(&mut self, process: usize) -> (&mut Stopped, Zone) {
        (&mut self.built[process].as_mut().expect("a process is made before it is used").leader, self.zone)
    }

    /// A thread of a process by its place in the image, and the zone.
    pub(super) fn thread(&mut self, process: usize, thread: usize) -> (&mut Stopped, Zone) {
        let zone = self.zone;
        let built = self.built[process].as_mut().expect("a process is made before it is used");
        (if thread == 0 { &mut built.leader } else { &mut built.threads[thread - 1] }, zone)
    }

    /// The living processes with their places.
    pub(super) fn living(&self) -> impl Iterator<Item = (usize, &'a Live)> + use<'a> {
        self.tree.processes.iter().enumerate().filter_map(|(i, p)| Some((i, p.live.as_deref()?)))
    }
}
