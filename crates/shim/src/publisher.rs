//! Events on their way to containerd, in order, each until containerd has confirmed it.
//!
//! containerd may be restarted at any time: then its socket is tried again once a second, and an event that five
//! attempts didn't bring over is given up, as runc's shim does. An attempt may take five seconds: one that hangs must not
//! keep the shim from its end.
//!
//! The crate's own publisher puts an event that failed behind those that came later, and nobody learns whether it still
//! has any when the shim ends.

use std::time::Duration;

use containerd_shim::event::Event;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::shim::event::Envelope;
use containerd_shim::protos::shim::events::ForwardRequest;
use containerd_shim::protos::shim_async::{Client, EventsClient};
use containerd_shim::protos::ttrpc::Error;
use containerd_shim::protos::ttrpc::context::with_duration;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::any::encode;

const ATTEMPTS: u32 = 5;
/// How long to leave a socket alone that nobody listens on.
const PAUSE: Duration = Duration::from_secs(1);
/// How long containerd may take to confirm an event.
const PATIENCE: Duration = Duration::from_secs(5);
/// Of the messages in events/task.proto.
const PACKAGE: &str = "containerd.events";

/// The way into the queue.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    namespace: String,
    queue: UnboundedSender<Item>,
}

#[derive(Debug)]
enum Item {
    Event(Box<ForwardRequest>),
    /// Asks to be told that everything before it is done with.
    Flush(oneshot::Sender<()>),
}

impl Publisher {
    /// `address` is the path of containerd's ttrpc socket. The runtime gets a task that serves the queue.
    pub(crate) fn new(address: &str, namespace: String) -> Self {
        Self::with_times(address, namespace, [PAUSE, PATIENCE])
    }

    fn with_times(address: &str, namespace: String, times: [Duration; 2]) -> Self {
        let (queue, items) = unbounded_channel();
        let address = format!("unix://{}", address.strip_prefix("unix://").unwrap_or(address));
        tokio::spawn(deliver(address, items, times));
        Self { namespace, queue }
    }

    pub(crate) fn publish<E: Event + Message>(&self, event: &E) {
        let request = forward(event, self.namespace.clone());
        // The task ends with the last sender alone.
        let _ = self.queue.send(Item::Event(Box::new(request)));
    }

    /// Waits until everything is delivered, or given up.
    pub(crate) async fn flush(&self) {
        let (told, done) = oneshot::channel();
        if self.queue.send(Item::Flush(told)).is_ok() {
            let _ = done.await;
        }
    }
}

/// The request that passes an event on.
fn forward<E: Event + Message>(event: &E, namespace: String) -> ForwardRequest {
    let envelope = Envelope {
        timestamp: MessageField::some(Timestamp::now()),
        namespace,
        topic: event.topic(),
        event: MessageField::some(encode(PACKAGE, event)),
        ..Envelope::default()
    };
    ForwardRequest { envelope: MessageField::some(envelope), ..ForwardRequest::default() }
}

async fn deliver(address: String, mut items: UnboundedReceiver<Item>, times: [Duration; 2]) {
    let mut client = None;
    while let Some(item) = items.recv().await {
        match item {
            Item::Event(request) => deliver_one(&address, &mut client, &request, times).await,
            Item::Flush(told) => drop(told.send(())),
        }
    }
}

async fn deliver_one(
    address: &str,
    client: &mut Option<EventsClient>,
    request: &ForwardRequest,
    [pause, patience]: [Duration; 2],
) {
    let topic = request.envelope.topic.as_str();
    for attempt in 0..ATTEMPTS {
        if attempt > 0 {
            tokio::time::sleep(pause).await;
        }
        if client.is_none() {
            *client = Client::connect(address).await.ok().map(EventsClient::new);
        }
        let Some(connected) = client else { continue };
        match connected.forward(with_duration(patience), request).await {
            Ok(_) => return,
            Err(Error::RpcStatus(status)) => {
                log::error!("containerd refuses an event {topic}: {}", status.message);
                return;
            }
            Err(_) => *client = None,
        }
    }
    log::error!("containerd can't be told of an event {topic}");
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    use async_trait::async_trait;
    use containerd_shim::api::Empty;
    use containerd_shim::protos::events::task::TaskPaused;
    use containerd_shim::protos::shim_async::{Events, create_events};
    use containerd_shim::protos::ttrpc::asynchronous::Server;
    use containerd_shim::{TtrpcContext, TtrpcResult};

    /// containerd: it passes on what it is told, and refuses what ends in "refused".
    struct Containerd(UnboundedSender<ForwardRequest>);

    #[async_trait]
    impl Events for Containerd {
        async fn forward(&self, _: &TtrpcContext, request: ForwardRequest) -> TtrpcResult<Empty> {
            let refused = request.envelope.event.value.ends_with(b"refused");
            self.0.send(request).unwrap();
            if refused { Err(crate::fault::Fault::unknown("no").into()) } else { Ok(Empty::new()) }
        }
    }

    fn paused(id: &str) -> TaskPaused {
        TaskPaused { container_id: id.into(), ..TaskPaused::default() }
    }

    #[test]
    fn an_event_travels_in_an_envelope() {
        let request = forward(&paused("web"), "pods".into());
        let envelope = request.envelope.get_or_default();
        assert_eq!((envelope.namespace.as_str(), envelope.topic.as_str()), ("pods", "/tasks/paused"));
        let body = envelope.event.get_or_default();
        // Field 1, three bytes: as Google's own library writes it.
        assert_eq!((body.type_url.as_str(), &body.value[..]), ("containerd.events.TaskPaused", &b"\x0a\x03web"[..]));
    }

    #[tokio::test]
    async fn a_containerd_that_hangs_does_not_keep_the_shim() {
        let path = std::env::temp_dir().join(format!("shim-hangs-{}", std::process::id()));
        // Connections are taken, and nobody answers.
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        let times = [Duration::ZERO, Duration::from_millis(1)];
        let publisher = Publisher::with_times(&path.to_string_lossy(), "default".into(), times);
        publisher.publish(&paused("web"));
        publisher.flush().await;
        drop(listener);
        std::fs::remove_file(&path).unwrap();
    }

    #[tokio::test]
    async fn events_wait_for_containerd_and_keep_their_order() {
        let path = std::env::temp_dir().join(format!("shim-publisher-{}", std::process::id()));
        let address = format!("unix://{}", path.display());
        let publisher = Publisher::with_times(&path.to_string_lossy(), "default".into(), [Duration::ZERO, PATIENCE]);
        publisher.publish(&paused("nobody listens"));
        // After five attempts.
        publisher.flush().await;
        let (told, mut events) = unbounded_channel();
        let mut server = Server::new().bind(&address).unwrap();
        server = server.register_service(create_events(Arc::new(Containerd(told))));
        server.start().await.unwrap();
        for id in ["one", "refused", "two"] {
            publisher.publish(&paused(id));
        }
        publisher.flush().await;
        for id in ["one", "refused", "two"] {
            let event = events.try_recv().unwrap().envelope.event.value.clone();
            assert!(event.ends_with(id.as_bytes()), "{event:?} instead of {id}");
        }
        assert!(events.try_recv().is_err());
        std::fs::remove_file(&path).unwrap();
    }
}
