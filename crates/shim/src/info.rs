//! `-info`: what the runtime is and what it can do, for containerd 2 (containerd/api/types/introspection.proto).

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::protobuf::{Message, MessageField};
use containerd_shim::protos::types::introspection::{RuntimeInfo, RuntimeVersion};

use crate::options;

/// What containerd knows this runtime by.
pub(crate) const NAME: &str = "io.containerd.rtc.v2";
/// The type of `rtc features`: the specification's JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the message. containerd has written the runtime's options to stdin.
///
/// The crate's own names runc, and panics where it isn't.
///
/// # Errors
/// stdin or stdout fails.
pub(crate) fn print() -> Result<()> {
    let mut input = Vec::new();
    io::stdin().take(1 << 20).read_to_end(&mut input).context("read the options from stdin")?;
    let any = Any::parse_from_bytes(&input).unwrap_or_default();
    let options = options::from_any(&any).unwrap_or_default();
    let version = RuntimeVersion { version: env!("CARGO_PKG_VERSION").into(), ..RuntimeVersion::default() };
    let mut info = RuntimeInfo { name: NAME.into(), version: MessageField::some(version), ..RuntimeInfo::default() };
    if !input.is_empty() {
        info.options = MessageField::some(any);
    }
    // Without them containerd takes every container to be possible.
    let features = Command::new(options::binary(&options)).arg("features").stderr(Stdio::null()).output();
    if let Some(features) = features.ok().filter(|output| output.status.success()) {
        let any = Any { type_url: FEATURES.into(), value: features.stdout, ..Any::default() };
        info.features = MessageField::some(any);
    }
    info.write_to_writer(&mut io::stdout()).context("write to stdout")?;
    io::stdout().flush().context("write to stdout")
}
