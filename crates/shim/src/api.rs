//! The requests of the task API (containerd/api/runtime/task/v2/shim.proto; v3 has the same messages).

use crate::wire::{Malformed, Record};

type Result<T> = std::result::Result<T, Malformed>;

/// A container, or a process in it if `exec_id` isn't empty: State, Start, Delete, Wait and others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) id: String,
    pub(crate) exec_id: String,
}

/// One mount of a root file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount {
    pub(crate) kind: String,
    pub(crate) source: String,
    pub(crate) target: String,
    pub(crate) options: Vec<String>,
}

/// Where a process's input comes from and its output goes to, in containerd's words: paths of fifos, or URIs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) terminal: bool,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A value with the name of its type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Any {
    pub(crate) name: String,
    pub(crate) value: Vec<u8>,
}

/// Create.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Create {
    pub(crate) id: String,
    pub(crate) bundle: String,
    pub(crate) rootfs: Vec<Mount>,
    pub(crate) streams: Streams,
    /// Directory of an image to restore from; empty for a new container.
    pub(crate) checkpoint: String,
    pub(crate) options: Any,
}

/// Exec.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exec {
    pub(crate) target: Target,
    pub(crate) streams: Streams,
    /// The specification's process object, as JSON.
    pub(crate) spec: Vec<u8>,
}

/// Kill.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kill {
    pub(crate) target: Target,
    pub(crate) signal: i32,
    pub(crate) all: bool,
}

/// ResizePty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) target: Target,
    pub(crate) width: u16,
    pub(crate) height: u16,
}

/// Checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Checkpoint {
    pub(crate) id: String,
    pub(crate) path: String,
    pub(crate) options: Any,
}

impl Target {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        Self::of(&Record::parse(bytes)?)
    }

    fn of(record: &Record<'_>) -> Result<Self> {
        Ok(Self { id: record.text(1)?, exec_id: record.text(2)? })
    }
}

impl Any {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let record = Record::parse(bytes)?;
        let url = record.text(1)?;
        // Some clients write type.googleapis.com/ in front.
        let name = url.rsplit('/').next().unwrap_or_default().to_owned();
        Ok(Self { name, value: record.bytes(2).to_vec() })
    }
}

impl Create {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let record = Record::parse(bytes)?;
        Ok(Self {
            id: record.text(1)?,
            bundle: record.text(2)?,
            rootfs: record.each(3).map(mount).collect::<Result<_>>()?,
            streams: streams(&record, 4)?,
            checkpoint: record.text(8)?,
            options: Any::parse(record.bytes(10))?,
        })
    }
}

impl Exec {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let record = Record::parse(bytes)?;
        let spec = Any::parse(record.bytes(7))?.value;
        Ok(Self { target: Target::of(&record)?, streams: streams(&record, 3)?, spec })
    }
}

impl Kill {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let record = Record::parse(bytes)?;
        let signal = i32::try_from(record.number(3)).map_err(|_| Malformed)?;
        Ok(Self { target: Target::of(&record)?, signal, all: record.flag(4) })
    }
}

impl Resize {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let record = Record::parse(bytes)?;
        let cells = |field| u16::try_from(record.number(field)).unwrap_or(u16::MAX);
        Ok(Self { target: Target::of(&record)?, width: cells(3), height: cells(4) })
    }
}

impl Checkpoint {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        let record = Record::parse(bytes)?;
        Ok(Self { id: record.text(1)?, path: record.text(2)?, options: Any::parse(record.bytes(3))? })
    }
}

/// Update: the container and its new resources as the specification's JSON.
pub(crate) fn update(bytes: &[u8]) -> Result<(String, Vec<u8>)> {
    let record = Record::parse(bytes)?;
    Ok((record.text(1)?, Any::parse(record.bytes(2))?.value))
}

fn mount(bytes: &[u8]) -> Result<Mount> {
    let record = Record::parse(bytes)?;
    Ok(Mount { kind: record.text(1)?, source: record.text(2)?, target: record.text(3)?, options: record.texts(4)? })
}

/// The four fields from `first` on.
fn streams(record: &Record<'_>, first: u32) -> Result<Streams> {
    let [stdin, stdout, stderr] = [1, 2, 3].map(|n| record.text(first + n));
    Ok(Streams { terminal: record.flag(first), stdin: stdin?, stdout: stdout?, stderr: stderr? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    #[test]
    fn a_create_request_is_read_whole() {
        let overlay = Message::new().text(1, "overlay").text(2, "overlay").item(4, "lowerdir=/a").item(4, "ro");
        let options = Message::new().text(1, "type.googleapis.com/containerd.runc.v1.Options").bytes(2, &[8, 1]);
        let request = Message::new()
            .text(1, "web")
            .text(2, "/b")
            .message(3, overlay)
            .flag(4, true)
            .text(5, "/in")
            .text(6, "/out")
            .text(8, "/image")
            .message(10, options);
        let create = Create::parse(&request.into_bytes()).unwrap();
        assert_eq!((create.id.as_str(), create.bundle.as_str(), create.checkpoint.as_str()), ("web", "/b", "/image"));
        assert_eq!(create.rootfs[0].options, ["lowerdir=/a", "ro"]);
        assert_eq!((create.streams.stdin.as_str(), create.streams.stderr.as_str()), ("/in", ""));
        assert!(create.streams.terminal);
        assert_eq!(create.options, Any { name: "containerd.runc.v1.Options".into(), value: vec![8, 1] });
    }

    #[test]
    fn an_exec_request_has_its_fields_elsewhere() {
        let spec = Message::new().text(1, "types.containerd.io/x/Process").text(2, "{}");
        let request = Message::new().text(1, "web").text(2, "x1").flag(3, true).text(5, "/out").message(7, spec);
        let exec = Exec::parse(&request.into_bytes()).unwrap();
        assert_eq!(exec.target, Target { id: "web".into(), exec_id: "x1".into() });
        assert_eq!((exec.streams.terminal, exec.streams.stdout.as_str()), (true, "/out"));
        assert_eq!(exec.spec, b"{}");
    }

    #[test]
    fn a_signal_is_a_number() {
        let request = Message::new().text(1, "web").number(3, 9).flag(4, true);
        let kill = Kill::parse(&request.into_bytes()).unwrap();
        assert_eq!((kill.signal, kill.all), (9, true));
        assert!(Kill::parse(&Message::new().number(3, u64::MAX).into_bytes()).is_err());
    }
}
