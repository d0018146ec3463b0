//! Events on their way to containerd, in order, each until containerd has confirmed it.
//!
//! containerd may be restarted at any time: then its socket is tried again once a second, and an event that five
//! connections didn't bring over is given up, as runc's shim does. This is the one place where the shim wakes by time.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use crate::connection::Connection;
use crate::events::Event;
use crate::frame;
use crate::log::Log;
use crate::moment::Moment;
use crate::wire::Message;

const SERVICE: &str = "containerd.services.events.ttrpc.v1.Events";
const ATTEMPTS: u32 = 5;
/// How long to leave a socket alone that nobody listens on.
const PAUSE: Duration = Duration::from_secs(1);

/// The queue.
#[derive(Debug)]
pub(crate) struct Publisher {
    address: String,
    namespace: String,
    queue: VecDeque<(Message, &'static str)>,
    connection: Option<Connection>,
    /// The stream of the event that is on its way.
    sent: Option<u32>,
    next_stream: u32,
    failures: u32,
}

impl Publisher {
    /// `address` is the path of containerd's ttrpc socket.
    pub(crate) fn new(address: String, namespace: String) -> Self {
        let queue = VecDeque::new();
        Self { address, namespace, queue, connection: None, sent: None, next_stream: 1, failures: 0 }
    }

    pub(crate) fn publish(&mut self, event: &Event) {
        self.queue.push_back((event.forward(&self.namespace, Moment::now()), event.topic()));
        self.advance();
    }

    pub(crate) fn connection(&self) -> Option<&Connection> {
        self.connection.as_ref()
    }

    pub(crate) fn is_done(&self) -> bool {
        self.queue.is_empty()
    }

    /// How long to wait before [`Publisher::advance`] is worth a try; none if a reply or nothing is awaited.
    pub(crate) fn pause(&self) -> Option<Duration> {
        (self.connection.is_none() && !self.queue.is_empty()).then_some(PAUSE)
    }

    /// Connects, if need be, and sends the first event.
    pub(crate) fn advance(&mut self) {
        if self.sent.is_some() || self.queue.is_empty() {
            return;
        }
        if self.connection.is_none() {
            let path = self.address.strip_prefix("unix://").unwrap_or(&self.address);
            self.connection = UnixStream::connect(path).and_then(Connection::new).ok();
        }
        let Some(connection) = &mut self.connection else {
            self.count_failure();
            return;
        };
        if let Some((request, _)) = self.queue.front() {
            connection.send(&frame::request(self.next_stream, SERVICE, "Forward", request.clone()));
            self.sent = Some(self.next_stream);
            self.next_stream = self.next_stream.wrapping_add(2);
        }
    }

    /// The connection can be read from or written to.
    pub(crate) fn on_ready(&mut self, log: &Log) {
        let Some(connection) = &mut self.connection else { return };
        connection.flush();
        let frames = connection.receive();
        let ended = connection.has_ended();
        let sent = self.sent;
        for frame in frames.iter().filter(|frame| Some(frame.stream) == sent) {
            let Some(answer) = frame.response() else { continue };
            self.sent = None;
            self.failures = 0;
            let event = self.queue.pop_front();
            if let (Err(fault), Some((_, topic))) = (answer, event) {
                log.error(&format!("containerd refuses an event {topic}: {fault}"));
            }
        }
        if ended {
            self.connection = None;
            if self.sent.take().is_some() {
                self.count_failure();
            }
        }
        self.advance();
    }

    fn count_failure(&mut self) {
        self.failures += 1;
        if self.failures == ATTEMPTS {
            self.queue.pop_front();
            self.failures = 0;
        }
    }
}
