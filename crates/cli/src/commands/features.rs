//! `rtc features`: what this runtime can do, as the specification's features document.

use std::io::{self, Write};

use crate::session::Session;
use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};

/// `features` has no arguments.
#[derive(Args, Debug)]
#[command(about = "print what this runtime supports, as JSON")]
pub(crate) struct Features {}

impl Features {
    /// # Errors
    /// stdout can't be written to.
    pub(crate) fn run(self, _: &Session) -> Result<u8> {
        let mut out = Vec::new();
        let indented = PrettyFormatter::with_indent(b"    ");
        rtc_runtime::features::features().serialize(&mut Serializer::with_formatter(&mut out, indented))?;
        out.push(b'\n');
        io::stdout().write_all(&out).context("write to stdout")?;
        Ok(0)
    }
}
