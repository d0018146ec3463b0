//! `-info`: what the runtime is and what it can do, for containerd 2 (containerd/api/types/introspection.proto).

use std::io::{self, Read, Write};
use std::process::{Command, Stdio};

use anyhow::{Context, Result};

use crate::api::Any;
use crate::options::Options;
use crate::wire::Message;

/// The type of `rtc features`: the specification's JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Prints the message. containerd has written the runtime's options to stdin.
///
/// # Errors
/// stdin or stdout fails.
pub(crate) fn print() -> Result<()> {
    let mut input = Vec::new();
    io::stdin().take(1 << 20).read_to_end(&mut input).context("read the options from stdin")?;
    let any = Any::parse(&input).unwrap_or_default();
    let options = Options::from_any(&any).unwrap_or_default();
    let version = Message::new().text(1, env!("CARGO_PKG_VERSION"));
    let mut info = Message::new().text(1, "io.containerd.rtc.v2").message(2, version);
    if !input.is_empty() {
        info = info.message(3, Message::new().text(1, &any.name).bytes(2, &any.value));
    }
    // Without them containerd takes every container to be possible.
    let features = Command::new(options.binary()).arg("features").stderr(Stdio::null()).output();
    if let Some(features) = features.ok().filter(|output| output.status.success()) {
        info = info.message(4, Message::new().text(1, FEATURES).bytes(2, &features.stdout));
    }
    io::stdout().write_all(&info.into_bytes()).context("write to stdout")
}
