//! Events on their way to containerd, in order, each until containerd has confirmed it.
//!
//! containerd may be restarted at any time: then its socket is tried again once a second, and an event that five
//! connections didn't bring over is given up, as runc's shim does. This is the one place where the shim wakes by time.

use std::collections::VecDeque;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

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
    /// When the socket may be tried again, after a failure.
    not_before: Option<Instant>,
}

impl Publisher {
    /// `address` is the path of containerd's ttrpc socket.
    pub(crate) fn new(address: String, namespace: String) -> Self {
        let queue = VecDeque::new();
        Self { address, namespace, queue, connection: None, sent: None, next_stream: 1, failures: 0, not_before: None }
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
        let idle = self.connection.is_some() || self.queue.is_empty();
        let left = self.not_before.map(|time| time.saturating_duration_since(Instant::now()));
        if idle { None } else { Some(left.unwrap_or_default()) }
    }

    /// Connects, if need be, and sends the first event.
    pub(crate) fn advance(&mut self) {
        if self.sent.is_some() || self.queue.is_empty() {
            return;
        }
        // The loop comes by for other reasons too, and often.
        if self.connection.is_none() && self.not_before.is_some_and(|time| Instant::now() < time) {
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
        self.not_before = Some(Instant::now() + PAUSE);
        if self.failures == ATTEMPTS {
            self.queue.pop_front();
            self.failures = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    fn paused(publisher: &Publisher) -> bool {
        publisher.pause().is_some_and(|left| !left.is_zero())
    }

    #[test]
    fn events_wait_for_containerd_and_keep_their_order() {
        let path = std::env::temp_dir().join(format!("shim-publisher-{}", std::process::id()));
        let mut publisher = Publisher::new(format!("unix://{}", path.display()), "default".into());
        for id in ["one", "two"] {
            publisher.publish(&Event::Paused { id: id.into() });
        }
        // However often the loop comes by, a failure counts once in its pause.
        for _ in 0..100 {
            publisher.advance();
        }
        assert!(paused(&publisher) && publisher.failures == 1 && publisher.queue.len() == 2);
        let listener = UnixListener::bind(&path).unwrap();
        publisher.not_before = None;
        publisher.advance();
        let mut containerd = Connection::new(listener.accept().unwrap().0).unwrap();
        let log = Log::open("/no-such".as_ref());
        for id in ["one", "two"] {
            let frames = containerd.receive();
            let request = frames[0].request().unwrap().unwrap();
            assert_eq!((request.service.as_str(), request.method.as_str(), frames.len()), (SERVICE, "Forward", 1));
            assert!(String::from_utf8_lossy(&request.payload).contains(id));
            assert!(publisher.pause().is_none() && !publisher.is_done());
            containerd.send(&frame::response(frames[0].stream, Ok(Message::new())));
            publisher.on_ready(&log);
        }
        assert!(publisher.is_done());
        std::fs::remove_file(&path).unwrap();
    }
}
