//! `rtc list`: the containers of this root.

use std::io::{self, Write};
use std::iter;

use crate::session::Session;
use crate::table;
use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use rtc_runtime::{Kind, OciState};

/// The flags of `list`.
#[derive(Args, Debug)]
#[command(about = "list the containers of the root directory")]
pub(crate) struct List {
    /// Table or JSON
    #[arg(long, short, value_name = "FORMAT", value_enum, default_value_t)]
    pub(crate) format: Format,
    /// Only the ids
    #[arg(long, short)]
    pub(crate) quiet: bool,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Columns with a header.
    #[default]
    Table,
    /// One line of JSON.
    Json,
}

impl List {
    /// # Errors
    /// The root that was given doesn't exist, or a state can't be read.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let states = states(session)?;
        let mut out = String::new();
        if self.quiet {
            out.extend(states.iter().map(|state| format!("{}\n", state.id)));
        } else if self.format == Format::Json {
            out = format!("{}\n", serde_json::to_string(&states)?);
        } else {
            let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned).to_vec();
            let rows: Vec<_> = iter::once(header).chain(states.into_iter().map(row)).collect();
            out = table::layout(&rows);
        }
        io::stdout().write_all(out.as_bytes()).context("write to stdout")?;
        Ok(0)
    }
}

/// All states, sorted by id. Without containers the default root needn't exist yet.
fn states(session: &Session) -> Result<Vec<OciState>> {
    if !session.root_given && !session.host.root.exists() {
        return Ok(Vec::new());
    }
    let mut states = Vec::new();
    for container in session.host.list()? {
        match container.state() {
            Ok(state) => states.push(state),
            // Deleted meanwhile.
            Err(error) if *error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error).with_context(|| container.id().to_owned()),
        }
    }
    Ok(states)
}

fn row(state: OciState) -> Vec<String> {
    let bundle = state.bundle.display().to_string();
    vec![state.id, state.pid.to_string(), state.status.to_string(), bundle, state.created, state.owner]
}
