//! A container and its processes, as the shim knows them.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use containerd_shim::api::{Options, WaitResponse};
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;

use crate::cgroup::Watched;
use crate::logger::Logger;
use crate::pump::Pump;
use crate::reply::Reply;
use crate::runtime::Runtime;
use crate::stdio::{Opened, Streams};

/// A container, or a process in it if `exec_id` isn't empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) exec_id: String,
}

/// How far a process is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// rtc is at making it: there is no pid yet.
    Making,
    /// Not started. An exec's process does not exist yet, a container's waits for `start`.
    Created,
    /// rtc is at starting it.
    Starting,
    Running,
    /// Ended and reaped.
    Stopped,
}

/// A process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) streams: Streams,
    /// The specification's process object, of an exec.
    pub(crate) spec: Vec<u8>,
    pub(crate) phase: Phase,
    /// 0 while there is none.
    pub(crate) pid: i32,
    /// The exit status, or 128 and the signal's number.
    pub(crate) status: u32,
    pub(crate) exited_at: Option<Timestamp>,
    /// Ends of its fifos that are kept open as long as it lives.
    kept: Vec<OwnedFd>,
    /// The writing end of its input.
    stdin: Option<OwnedFd>,
    /// The master of its terminal.
    pub(crate) console: Option<OwnedFd>,
    /// What carries its input; it ends with this, as those of its output do.
    input: Option<Pump>,
    outputs: Vec<Pump>,
    pub(crate) logger: Option<Logger>,
    /// The client has said that nothing more comes for it to read.
    input_is_over: bool,
    /// Who waits for its end.
    pub(crate) waiters: Vec<Reply<WaitResponse>>,
}

impl Process {
    pub(crate) fn new(streams: Streams, spec: Vec<u8>, phase: Phase) -> Self {
        Self {
            streams,
            spec,
            phase,
            pid: 0,
            status: 0,
            exited_at: None,
            kept: Vec::new(),
            stdin: None,
            console: None,
            input: None,
            outputs: Vec::new(),
            logger: None,
            input_is_over: false,
            waiters: Vec::new(),
        }
    }

    /// Takes over the ends that the shim keeps.
    pub(crate) fn keep(&mut self, opened: Opened) {
        self.kept.extend(opened.kept);
        self.stdin = opened.stdin.filter(|_| !self.input_is_over);
        self.input = opened.input;
        self.outputs.extend(opened.outputs);
        self.logger = opened.logger;
    }

    /// Nothing more comes for it to read: now, or when it begins. To a terminal that means nothing.
    pub(crate) fn close_input(&mut self) {
        self.input_is_over = true;
        self.stdin = None;
    }

    /// Closes what is held of its files.
    pub(crate) fn release(&mut self) {
        self.kept.clear();
        self.stdin = None;
        self.input = None;
        self.console = None;
        self.outputs.clear();
        self.logger = None;
    }

    /// Takes note of its end. What is left of its output is carried on.
    pub(crate) fn end(&mut self, status: u32) {
        self.phase = Phase::Stopped;
        self.status = status;
        self.exited_at = Some(Timestamp::now());
        self.kept.clear();
        self.stdin = None;
        self.input = None;
        self.console = None;
    }

    /// What may still be on the way of its output, once it has ended.
    pub(crate) fn take_outputs(&mut self) -> Vec<Pump> {
        if self.phase == Phase::Stopped { std::mem::take(&mut self.outputs) } else { Vec::new() }
    }

    /// The pid as messages have it.
    pub(crate) fn pid(&self) -> u32 {
        self.pid.unsigned_abs()
    }
}

/// A container.
#[derive(Debug)]
pub(crate) struct Task {
    pub(crate) bundle: PathBuf,
    pub(crate) options: Options,
    pub(crate) runtime: Runtime,
    /// Directory of an image that `start` restores from; empty for a new container.
    pub(crate) checkpoint: String,
    /// Whether the kernel ends all processes with the first.
    pub(crate) own_pids: bool,
    pub(crate) init: Process,
    pub(crate) execs: BTreeMap<String, Process>,
    /// Its first process has ended, but others that Exec brought have not: nobody is told before.
    pub(crate) end_is_held: bool,
    /// None before there is a process.
    pub(crate) cgroup: Option<Watched>,
}

impl Task {
    /// The process of an exec, or the first one if `exec_id` is empty.
    pub(crate) fn process(&self, exec_id: &str) -> Option<&Process> {
        if exec_id.is_empty() { Some(&self.init) } else { self.execs.get(exec_id) }
    }

    pub(crate) fn process_mut(&mut self, exec_id: &str) -> Option<&mut Process> {
        if exec_id.is_empty() { Some(&mut self.init) } else { self.execs.get_mut(exec_id) }
    }

    /// All processes with their names; the first one's is empty.
    pub(crate) fn processes(&self) -> impl Iterator<Item = (&str, &Process)> {
        let execs = self.execs.iter().map(|(name, process)| (name.as_str(), process));
        std::iter::once(("", &self.init)).chain(execs)
    }
}
