//! `start`: a shim for a container, asked for in the way of each of containerd's generations.
//!
//! Up to containerd 2.2 the command line and the environment say what there is to know, stdin has the runtime's options,
//! and the answer is an address. From 2.3 on one message on stdin has all of it, and the answer is a message, too
//! (containerd, api/runtime/bootstrap/v1/bootstrap.proto). 2.3 still gives the rest, and is to stop some day; so what the
//! message has isn't looked for elsewhere.
//!
//! The crate's way to `start` ends at once where the environment has no TTRPC_ADDRESS.
//!
//! Left out: the message's directory for sockets. Ours are where those of other shims are.

use std::env;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use anyhow::{Context, Result, bail};
use containerd_shim::api::Options;
use containerd_shim::protos::protobuf::Message;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::{Flags, StartOpts};
use rtc_runtime::cgroup::Hierarchy;

use crate::any::Fields;
use crate::bundle::Config;
use crate::{options, sockets};

/// In the environment: containerd's socket for events. The crate's shim doesn't serve without it.
pub(crate) const TTRPC_ADDRESS: &str = "TTRPC_ADDRESS";
/// In the environment since containerd 1.7: its main socket.
const GRPC_ADDRESS: &str = "GRPC_ADDRESS";
/// What containerd's configuration has for the one by default is what it has for the other, and this.
const TTRPC_SUFFIX: &str = ".ttrpc";
/// More than any message has.
const LONGEST: u64 = 16 << 20;

/// Fields of BootstrapParams.
mod params {
    pub(super) const INSTANCE_ID: u32 = 1;
    pub(super) const NAMESPACE: u32 = 2;
    pub(super) const LOG_LEVEL: u32 = 3;
    pub(super) const TTRPC_ADDRESS: u32 = 5;
    pub(super) const GRPC_ADDRESS: u32 = 6;
    pub(super) const EXTENSIONS: u32 = 8;
    /// Of an Extension.
    pub(super) const VALUE: u32 = 1;
    /// A log level; those that are lower tell more.
    pub(super) const DEBUG: i64 = -4;
}

/// Fields of BootstrapResult.
mod result {
    pub(super) const VERSION: u32 = 1;
    pub(super) const ADDRESS: u32 = 2;
    pub(super) const PROTOCOL: u32 = 3;
}

/// Starts a shim in the bundle, which is the working directory, or finds the one of the container's group, and tells
/// containerd where it serves.
///
/// # Errors
/// What containerd has said is incomplete, the bundle can't be read, or there is no shim in the end.
pub(crate) async fn start(flags: &Flags) -> Result<()> {
    let mut input = Vec::new();
    // The crate takes the options from stdin too, but reads all kinds as one; after this there is nothing left to read.
    io::stdin().take(LONGEST).read_to_end(&mut input).context("read stdin")?;
    let request = Request::parse(flags, |name| env::var(name).ok(), &input)?;
    let config = Config::load(Path::new(".")).map_err(|fault| anyhow::anyhow!(fault.message))?;
    if !request.options.shim_cgroup.is_empty() {
        move_to(&request.options.shim_cgroup)?;
    }
    let group = config.group().unwrap_or(&request.id);
    let opts = StartOpts {
        id: request.id.clone(),
        publish_binary: String::new(),
        address: request.grpc.clone(),
        ttrpc_address: request.ttrpc.clone(),
        namespace: request.namespace.clone(),
        debug: request.debug,
    };
    let address = containerd_shim::spawn(opts, group, vec![(TTRPC_ADDRESS, &request.ttrpc)]).await?;
    // The crate doesn't look whether the shim has ended instead.
    UnixStream::connect(sockets::path_of(&address)).with_context(|| format!("the shim doesn't serve at {address}"))?;
    fs::write(sockets::ADDRESS, &address).context("write address")?;
    let mut stdout = io::stdout();
    stdout.write_all(&request.answer(&address)?).and_then(|()| stdout.flush()).context("write to stdout")
}

/// What containerd asks for.
#[derive(Debug, PartialEq)]
struct Request {
    id: String,
    namespace: String,
    /// containerd's sockets: the main one, whose name alone matters, and that for events.
    grpc: String,
    ttrpc: String,
    debug: bool,
    options: Options,
    /// Whether it came as a message, and is answered by one.
    is_message: bool,
}

impl Request {
    fn parse(flags: &Flags, env: impl Fn(&str) -> Option<String>, input: &[u8]) -> Result<Self> {
        let message = Fields::parse(input).unwrap_or_default();
        let mut request = match Self::from_message(flags, &message) {
            Some(request) => request,
            None => Self::from_flags(flags, input),
        };
        if request.id.is_empty() || request.namespace.is_empty() {
            bail!("containerd starts it: -namespace and -id are needed");
        }
        let given = |address: &mut String, name| {
            if address.is_empty() {
                *address = env(name).unwrap_or_default();
            }
        };
        given(&mut request.grpc, GRPC_ADDRESS);
        given(&mut request.ttrpc, TTRPC_ADDRESS);
        if request.ttrpc.is_empty() && !request.grpc.is_empty() {
            request.ttrpc = request.grpc.clone() + TTRPC_SUFFIX;
        }
        if request.ttrpc.is_empty() {
            bail!("containerd starts it: -address or {TTRPC_ADDRESS} is needed");
        }
        Ok(request)
    }

    /// Older ones have their options in the same place, and these can be read as such a message: its container would be
    /// called as their type is.
    fn from_message(flags: &Flags, message: &Fields) -> Option<Self> {
        let (id, namespace) = (message.text(params::INSTANCE_ID), message.text(params::NAMESPACE));
        let fits = |flag: &str, text: &str| !text.is_empty() && (flag.is_empty() || flag == text);
        if !fits(&flags.id, &id) || !fits(&flags.namespace, &namespace) {
            return None;
        }
        let extensions = message.all(params::EXTENSIONS).filter_map(|bytes| Fields::parse(bytes).ok());
        let values: Vec<_> =
            extensions.filter_map(|extension| extension.all(params::VALUE).last().map(to_any)).collect();
        let options = values.iter().find(|any| options::is_known(any)).map(options::from_any);
        Some(Self {
            id,
            namespace,
            grpc: path(message.text(params::GRPC_ADDRESS)),
            ttrpc: path(message.text(params::TTRPC_ADDRESS)),
            debug: message.number(params::LOG_LEVEL) <= params::DEBUG,
            options: options.and_then(std::result::Result::ok).unwrap_or_default(),
            is_message: true,
        })
    }

    fn from_flags(flags: &Flags, input: &[u8]) -> Self {
        Self {
            id: flags.id.clone(),
            namespace: flags.namespace.clone(),
            grpc: flags.address.clone(),
            ttrpc: String::new(),
            debug: flags.debug,
            options: options::from_any(&to_any(input)).unwrap_or_default(),
            is_message: false,
        }
    }

    /// What containerd wants to be told: version 2 of the task API, which all of them know.
    fn answer(&self, address: &str) -> Result<Vec<u8>> {
        if !self.is_message {
            return Ok(address.into());
        }
        let mut message = Fields::default();
        message.set_number(result::VERSION, 2);
        message.set_text(result::ADDRESS, address);
        message.set_text(result::PROTOCOL, "ttrpc");
        message.bytes().context("write the answer")
    }
}

/// The message may have addresses as URIs, says its description; the crate knows paths alone, and names its socket after
/// the one that the flag has.
fn path(address: String) -> String {
    sockets::path_of(&address).to_string_lossy().into_owned()
}

fn to_any(bytes: &[u8]) -> Any {
    Any::parse_from_bytes(bytes).unwrap_or_default()
}

/// A cgroup for the shim, as the option ShimCgroup asks. It is this process's child, and so begins there.
fn move_to(cgroup: &str) -> Result<()> {
    let hierarchy = Hierarchy::find()?;
    let directory = hierarchy.mountpoint().join(cgroup.trim_start_matches('/'));
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let file = directory.join("cgroup.procs");
    fs::write(&file, "0").with_context(|| format!("write {}", file.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any::encode;

    fn flags(words: &[&str]) -> Flags {
        containerd_shim::parse(words).unwrap()
    }

    fn options() -> Options {
        Options { shim_cgroup: "/shims".into(), ..Options::default() }
    }

    /// As containerd 2.3 writes it.
    fn message() -> Vec<u8> {
        let mut extension = Fields::default();
        let any = encode("containerd.runc.v1", &options()).write_to_bytes().unwrap();
        extension.set_text(params::VALUE, std::str::from_utf8(&any).unwrap());
        let extension = extension.bytes().unwrap();
        let mut message = Fields::default();
        message.set_text(params::INSTANCE_ID, "web");
        message.set_text(params::NAMESPACE, "default");
        message.set_number(params::LOG_LEVEL, params::DEBUG as u64);
        message.set_text(params::TTRPC_ADDRESS, "unix:///run/c/ttrpc");
        message.set_text(params::GRPC_ADDRESS, "/run/c/grpc");
        message.set_text(params::EXTENSIONS, std::str::from_utf8(&extension).unwrap());
        message.bytes().unwrap()
    }

    #[test]
    fn older_ones_say_it_by_flags_and_environment() {
        let flags = flags(&["-namespace", "default", "-id", "web", "-address", "/run/c/grpc", "start"]);
        let input = encode("containerd.runc.v1", &options()).write_to_bytes().unwrap();
        let env = |name: &str| (name == TTRPC_ADDRESS).then(|| "/run/c/ttrpc".to_owned());
        let request = Request::parse(&flags, env, &input).unwrap();
        let expected = Request {
            id: "web".into(),
            namespace: "default".into(),
            grpc: "/run/c/grpc".into(),
            ttrpc: "/run/c/ttrpc".into(),
            debug: false,
            options: options(),
            is_message: false,
        };
        assert_eq!(request, expected);
        assert_eq!(request.answer("unix:///s").unwrap(), b"unix:///s");
        // Without the variable, and with what there is instead of it.
        let request = Request::parse(&flags, |_| None, &[]).unwrap();
        assert_eq!((request.ttrpc.as_str(), request.options), ("/run/c/grpc.ttrpc", Options::default()));
        let bare = super::tests::flags(&["-namespace", "default", "-id", "web", "start"]);
        let env = |name: &str| (name == GRPC_ADDRESS).then(|| "/run/d/grpc".to_owned());
        assert_eq!(Request::parse(&bare, env, &[]).unwrap().ttrpc, "/run/d/grpc.ttrpc");
        assert!(Request::parse(&bare, |_| None, &[]).is_err());
    }

    #[test]
    fn newer_ones_say_it_by_a_message() {
        let bare = flags(&["start"]);
        let whole = flags(&["-namespace", "default", "-id", "web", "-address", "/other", "start"]);
        for flags in [bare, whole] {
            let request = Request::parse(&flags, |_| Some("/from/elsewhere".into()), &message()).unwrap();
            let expected = Request {
                id: "web".into(),
                namespace: "default".into(),
                grpc: "/run/c/grpc".into(),
                ttrpc: "/run/c/ttrpc".into(),
                debug: true,
                options: options(),
                is_message: true,
            };
            assert_eq!(request, expected);
            // As Google's own library writes it.
            assert_eq!(request.answer("unix:///s").unwrap(), b"\x08\x02\x12\x09unix:///s\x1a\x05ttrpc");
        }
        assert!(Request::parse(&flags(&["start"]), |_| Some("/x".into()), &[]).is_err());
    }

    #[test]
    fn another_container_s_message_is_none() {
        let flags = flags(&["-namespace", "default", "-id", "other", "-address", "/run/c/grpc", "start"]);
        let request = Request::parse(&flags, |_| None, &message()).unwrap();
        assert_eq!((request.id.as_str(), request.is_message), ("other", false));
    }
}
