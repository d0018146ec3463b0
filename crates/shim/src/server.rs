//! The loop: waits for requests, for the ends of children, for what terminals say and for memory that runs out.

use std::collections::BTreeMap;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rtc_sys::CallExt;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use crate::connection::Connection;
use crate::events::Event;
use crate::fault::Result;
use crate::shim::Shim;
use crate::task::Caller;
use crate::{exits, frame, methods};

/// What can be ready.
#[derive(Clone, Debug)]
enum Source {
    Signals,
    Listener,
    Connection(u64),
    Publisher,
    Pumps(String),
    Memory(String),
}

/// The shim with its socket.
#[derive(Debug)]
pub(crate) struct Server {
    shim: Shim,
    signals: SignalFd,
    listener: UnixListener,
    /// Of the listener; removed in the end.
    path: PathBuf,
    connections: BTreeMap<u64, Connection>,
    next_connection: u64,
}

impl Server {
    /// # Errors
    /// The kernel refuses a descriptor.
    pub(crate) fn new(shim: Shim, listener: UnixListener, path: PathBuf) -> Result<Self> {
        let mut mask = SigSet::empty();
        for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
            mask.add(signal);
        }
        mask.thread_block().call("sigprocmask", "SIG_BLOCK")?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let signals = SignalFd::with_flags(&mask, flags).call("signalfd", "-1")?;
        listener.set_nonblocking(true)?;
        Ok(Self { shim, signals, listener, path, connections: BTreeMap::new(), next_connection: 0 })
    }

    /// Serves until Shutdown, or a signal to end.
    ///
    /// # Errors
    /// poll(2) fails.
    pub(crate) fn run(mut self) -> Result<()> {
        while !self.is_done() {
            for source in self.wait()? {
                self.on_ready(&source);
            }
            self.shim.publisher.advance();
            self.send_replies();
            self.connections.retain(|_, connection| !connection.has_ended());
        }
        let _ = std::fs::remove_file(&self.path);
        Ok(())
    }

    fn is_done(&self) -> bool {
        let sent = self.connections.values().all(Connection::has_all_sent);
        self.shim.stopping && sent && self.shim.publisher.is_done()
    }

    fn wait(&self) -> Result<Vec<Source>> {
        let mut sources = vec![Source::Signals, Source::Listener];
        let mut fds = vec![PollFd::new(&self.signals, PollFlags::IN), PollFd::new(&self.listener, PollFlags::IN)];
        for (number, connection) in &self.connections {
            fds.push(PollFd::from_borrowed_fd(connection.fd(), connection.interest()));
            sources.push(Source::Connection(*number));
        }
        if let Some(connection) = self.shim.publisher.connection() {
            fds.push(PollFd::from_borrowed_fd(connection.fd(), connection.interest()));
            sources.push(Source::Publisher);
        }
        for (id, task) in &self.shim.tasks {
            for pump in task.processes().flat_map(|(_, process)| &process.pumps) {
                let (fd, flags) = pump.interest();
                fds.push(PollFd::from_borrowed_fd(fd, flags));
                sources.push(Source::Pumps(id.clone()));
            }
            if let Some(events) = task.cgroup.as_ref().and_then(|cgroup| cgroup.events()) {
                fds.push(PollFd::from_borrowed_fd(events, PollFlags::PRI));
                sources.push(Source::Memory(id.clone()));
            }
        }
        let pause = self.shim.publisher.pause();
        let timeout = pause.and_then(|pause| Timespec::try_from(pause).ok());
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) => {}
            Err(Errno::INTR) => return Ok(Vec::new()),
            Err(error) => return Ok(Err(error).call("poll", fds.len())?),
        }
        let ready = fds.iter().zip(sources).filter(|(fd, _)| !fd.revents().is_empty());
        Ok(ready.map(|(_, source)| source).collect())
    }

    fn on_ready(&mut self, source: &Source) {
        match source {
            Source::Signals => self.on_signal(),
            Source::Listener => self.accept(),
            Source::Connection(number) => self.serve(*number),
            Source::Publisher => self.shim.publisher.on_ready(&self.shim.log),
            Source::Pumps(id) => {
                let Some(task) = self.shim.tasks.get_mut(id) else { return };
                for process in task.processes_mut() {
                    process.pumps.iter_mut().for_each(|pump| pump.advance());
                    // With the pump its fifo closes, and the client sees the end.
                    process.pumps.retain(|pump| !pump.has_ended());
                }
            }
            Source::Memory(id) => {
                let cgroup = self.shim.tasks.get_mut(id).and_then(|task| task.cgroup.as_mut());
                if cgroup.is_some_and(|cgroup| cgroup.was_out_of_memory()) {
                    self.shim.publish(&Event::OutOfMemory { id: id.clone() });
                }
            }
        }
    }

    fn on_signal(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            if info.ssi_signo != Signal::SIGCHLD as u32 {
                self.shim.stopping = true;
            }
        }
        exits::reap(&mut self.shim);
    }

    fn accept(&mut self) {
        while let Ok((stream, _)) = self.listener.accept() {
            if let Ok(connection) = Connection::new(stream) {
                self.next_connection += 1;
                self.connections.insert(self.next_connection, connection);
            }
        }
    }

    fn serve(&mut self, number: u64) {
        let Some(connection) = self.connections.get_mut(&number) else { return };
        connection.flush();
        for frame in connection.receive() {
            let caller = Caller { connection: number, stream: frame.stream };
            let answer = match frame.request() {
                Ok(Some(request)) => methods::dispatch(&mut self.shim, caller, &request),
                Ok(None) => None,
                Err(malformed) => Some(Err(malformed.into())),
            };
            if let Some(answer) = answer {
                self.shim.reply(caller, answer);
            }
        }
    }

    fn send_replies(&mut self) {
        for (caller, answer) in std::mem::take(&mut self.shim.replies) {
            // Who has gone needs no answer.
            if let Some(connection) = self.connections.get_mut(&caller.connection) {
                connection.send(&frame::response(caller.stream, answer));
            }
        }
    }
}
