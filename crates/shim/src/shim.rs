//! The shim's state, and the calls of rtc that are under way.
//!
//! Nobody waits for rtc: what is to be done when a call has ended is kept with the call, and done by the reaper before it
//! looks at the next end. So the end of a container's process always finds the process known.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use containerd_shim::ExitSignal;
use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::Message;
use rtc_sys::CallExt;

use crate::fault::{Fault, Result};
use crate::publisher::Publisher;
use crate::runtime::{self, Call};
use crate::task::{Process, Target, Task};

/// What follows a call of rtc.
type Then = Box<dyn FnOnce(&mut Shim, Result<()>) + Send>;

/// A call of rtc under way.
struct Job {
    deed: &'static str,
    log: PathBuf,
    then: Then,
}

impl fmt::Debug for Job {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job").field("deed", &self.deed).finish_non_exhaustive()
    }
}

/// Everything the shim knows.
pub(crate) struct Shim {
    pub(crate) namespace: String,
    pub(crate) publisher: Publisher,
    pub(crate) tasks: BTreeMap<String, Task>,
    /// By the pid of rtc.
    jobs: BTreeMap<i32, Job>,
    /// Children that ended before it was known whose they are, with their statuses.
    pub(crate) strays: BTreeMap<i32, u32>,
    calls: u64,
    /// Ends the shim, once everything is sent.
    pub(crate) exit: Arc<ExitSignal>,
}

impl fmt::Debug for Shim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shim").field("tasks", &self.tasks).field("jobs", &self.jobs).finish_non_exhaustive()
    }
}

impl Shim {
    pub(crate) fn new(namespace: String, publisher: Publisher, exit: Arc<ExitSignal>) -> Self {
        Self {
            publisher,
            namespace,
            tasks: BTreeMap::new(),
            jobs: BTreeMap::new(),
            strays: BTreeMap::new(),
            calls: 0,
            exit,
        }
    }

    pub(crate) fn task(&mut self, id: &str) -> Result<&mut Task> {
        self.tasks.get_mut(id).ok_or_else(|| Fault::not_found("container", id))
    }

    pub(crate) fn process(&mut self, target: &Target) -> Result<&mut Process> {
        let exec = &target.exec_id;
        self.task(&target.id)?.process_mut(exec).ok_or_else(|| Fault::not_found("process", exec))
    }

    pub(crate) fn publish<E: Event + Message>(&self, event: &E) {
        self.publisher.publish(event);
    }

    /// rtc's command `deed` for a container, still without its own arguments.
    pub(crate) fn call(&mut self, id: &str, deed: &'static str) -> Result<Call> {
        self.calls += 1;
        let number = self.calls;
        Ok(self.task(id)?.runtime.call(deed, number))
    }

    /// Makes a call; `then` gets its outcome: later, or at once if the call can't be made.
    pub(crate) fn launch(&mut self, call: Call, then: impl FnOnce(&mut Self, Result<()>) + Send + 'static) {
        self.launch_with_input(call, None, then);
    }

    /// As [`Shim::launch`], with something to read.
    pub(crate) fn launch_with_input(
        &mut self,
        call: Call,
        input: Option<&[u8]>,
        then: impl FnOnce(&mut Self, Result<()>) + Send + 'static,
    ) {
        let Call { mut command, deed, log } = call;
        if input.is_some() {
            command.stdin(Stdio::piped());
        }
        let program = command.get_program().to_string_lossy().into_owned();
        // Its end is seen with that of all other children.
        let mut child = match command.spawn().call("spawn", program) {
            Ok(child) => child,
            Err(error) => return then(self, Err(error.into())),
        };
        self.jobs.insert(child.id() as i32, Job { deed, log, then: Box::new(then) });
        if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
            // rtc says itself what it misses.
            let _ = pipe.write_all(input);
        }
    }

    /// A child has ended. If it was a call of rtc, what follows it is done here; else it is the caller's to deal with.
    pub(crate) fn finish(&mut self, pid: i32, status: u32) -> bool {
        let Some(Job { deed, log, then }) = self.jobs.remove(&pid) else { return false };
        let outcome = runtime::outcome(deed, &log, status);
        then(self, outcome);
        if self.jobs.is_empty() {
            self.strays.clear();
        }
        true
    }

    /// Whether a child of unknown origin may be one that a call of rtc is about to name.
    pub(crate) fn is_expecting(&self) -> bool {
        !self.jobs.is_empty()
    }
}
