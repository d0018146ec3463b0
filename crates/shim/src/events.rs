//! What containerd is told of unasked: the events of tasks (containerd/api/events/task.proto), each with its topic.

use crate::api::{Mount, Streams};
use crate::moment::Moment;
use crate::wire::Message;

/// Something that happened to a container or one of its processes.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Create { id: String, bundle: String, rootfs: Vec<Mount>, streams: Streams, checkpoint: String, pid: u32 },
    Start { id: String, pid: u32 },
    ExecAdded { id: String, exec_id: String },
    ExecStarted { id: String, exec_id: String, pid: u32 },
    Exit { id: String, process: String, pid: u32, status: u32, at: Moment },
    Delete { id: String, pid: u32, status: u32, at: Moment },
    OutOfMemory { id: String },
    Paused { id: String },
    Resumed { id: String },
    Checkpointed { id: String, path: String },
}

impl Event {
    /// The topic that subscribers filter by.
    pub(crate) fn topic(&self) -> &'static str {
        self.names().0
    }

    fn names(&self) -> (&'static str, &'static str) {
        match self {
            Self::Create { .. } => ("/tasks/create", "TaskCreate"),
            Self::Start { .. } => ("/tasks/start", "TaskStart"),
            Self::ExecAdded { .. } => ("/tasks/exec-added", "TaskExecAdded"),
            Self::ExecStarted { .. } => ("/tasks/exec-started", "TaskExecStarted"),
            Self::Exit { .. } => ("/tasks/exit", "TaskExit"),
            Self::Delete { .. } => ("/tasks/delete", "TaskDelete"),
            Self::OutOfMemory { .. } => ("/tasks/oom", "TaskOOM"),
            Self::Paused { .. } => ("/tasks/paused", "TaskPaused"),
            Self::Resumed { .. } => ("/tasks/resumed", "TaskResumed"),
            Self::Checkpointed { .. } => ("/tasks/checkpointed", "TaskCheckpointed"),
        }
    }

    /// The request that passes it on to containerd.
    pub(crate) fn forward(&self, namespace: &str, at: Moment) -> Message {
        let name = format!("containerd.events.{}", self.names().1);
        let event = Message::new().text(1, &name).bytes(2, &self.body().into_bytes());
        let envelope =
            Message::new().message(1, at.message()).text(2, namespace).text(3, self.topic()).message(4, event);
        Message::new().message(1, envelope)
    }

    fn body(&self) -> Message {
        let of = |id: &str| Message::new().text(1, id);
        match self {
            Self::Create { id, bundle, rootfs, streams, checkpoint, pid } => {
                let mut body = of(id).text(2, bundle);
                for mount in rootfs {
                    body = body.message(3, describe(mount));
                }
                let Streams { stdin, stdout, stderr, terminal } = streams;
                let io = Message::new().text(1, stdin).text(2, stdout).text(3, stderr).flag(4, *terminal);
                body.message(4, io).text(5, checkpoint).number(6, (*pid).into())
            }
            Self::Start { id, pid } => of(id).number(2, (*pid).into()),
            Self::ExecAdded { id, exec_id } => of(id).text(2, exec_id),
            Self::ExecStarted { id, exec_id, pid } => of(id).text(2, exec_id).number(3, (*pid).into()),
            Self::Exit { id, process, pid, status, at } => {
                of(id).text(2, process).number(3, (*pid).into()).number(4, (*status).into()).message(5, at.message())
            }
            Self::Delete { id, pid, status, at } => {
                of(id).number(2, (*pid).into()).number(3, (*status).into()).message(4, at.message()).text(5, id)
            }
            Self::OutOfMemory { id } | Self::Paused { id } | Self::Resumed { id } => of(id),
            Self::Checkpointed { id, path } => of(id).text(2, path),
        }
    }
}

fn describe(mount: &Mount) -> Message {
    let message = Message::new().text(1, &mount.kind).text(2, &mount.source).text(3, &mount.target);
    mount.options.iter().fold(message, |message, option| message.item(4, option))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Record;

    #[test]
    fn an_event_travels_in_an_envelope() {
        let at = Moment { seconds: 5, nanoseconds: 6 };
        let exit = Event::Exit { id: "web".into(), process: "x1".into(), pid: 7, status: 137, at };
        let bytes = exit.forward("pods", at).into_bytes();
        let request = Record::parse(&bytes).unwrap();
        let envelope = Record::parse(request.bytes(1)).unwrap();
        assert_eq!((envelope.text(2).unwrap(), envelope.text(3).unwrap()), ("pods".into(), "/tasks/exit".into()));
        let any = Record::parse(envelope.bytes(4)).unwrap();
        assert_eq!(any.text(1).unwrap(), "containerd.events.TaskExit");
        let body = Record::parse(any.bytes(2)).unwrap();
        assert_eq!((body.text(2).unwrap(), body.number(3), body.number(4)), ("x1".into(), 7, 137));
        assert_eq!(Record::parse(body.bytes(5)).unwrap().number(1), 5);
    }
}
