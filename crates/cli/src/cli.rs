//! The shape of the command line: the list of commands, and how help is laid out.
//!
//! Global flags stand in `global.rs`, the flags of each command in its file under `commands/`; what may be typed in looser
//! ways is put into clap's form first (`argv.rs`).

use clap::{Arg, ArgAction, CommandFactory, Parser, Subcommand};

use crate::commands::{
    check, checkpoint, create, delete, events, exec, features, install_shim, kill, list, pause, ps, restore, resume,
    run, spec, start, state, update,
};
use crate::global::Global;
use crate::session::Session;

/// How `rtc -h` introduces the program.
const ABOUT: &str = "Open Container Initiative runtime";

const DESCRIPTION: &str = "\
rtc runs containers as the OCI runtime specification describes them, takes the
command lines of runc and crun, and checkpoints and restores running containers
with an engine of its own.

A container is made from a bundle, a directory with a config.json and a root
file system:

    # rtc run -b BUNDLE ID";

/// Everything that can be typed.
#[derive(Debug, Parser)]
#[command(name = "rtc", about = ABOUT, args_override_self = true, disable_version_flag = true)]
#[command(disable_help_subcommand = true, disable_help_flag = true, no_binary_name = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "one is made per process")]
pub(crate) enum Command {
    Check(check::Check),
    Checkpoint(checkpoint::Checkpoint),
    Create(create::Create),
    Delete(delete::Delete),
    Events(events::Events),
    Exec(exec::Exec),
    Features(features::Features),
    InstallShim(install_shim::InstallShim),
    Kill(kill::Kill),
    List(list::List),
    Pause(pause::Pause),
    Ps(ps::Ps),
    Restore(restore::Restore),
    Resume(resume::Resume),
    Run(run::Run),
    Spec(spec::Spec),
    Start(start::Start),
    State(state::State),
    Update(update::Update),
}

impl Command {
    /// Does it: the exit status.
    ///
    /// # Errors
    /// What the command couldn't do.
    pub(crate) fn run(self, session: &Session) -> anyhow::Result<u8> {
        match self {
            Self::Check(c) => c.run(session),
            Self::Checkpoint(c) => c.run(session),
            Self::Create(c) => c.run(session),
            Self::Delete(c) => c.run(session),
            Self::Events(c) => c.run(session),
            Self::Exec(c) => c.run(session),
            Self::Features(c) => c.run(session),
            Self::InstallShim(c) => c.run(session),
            Self::Kill(c) => c.run(session),
            Self::List(c) => c.run(session),
            Self::Pause(c) => c.run(session),
            Self::Ps(c) => c.run(session),
            Self::Restore(c) => c.run(session),
            Self::Resume(c) => c.run(session),
            Self::Run(c) => c.run(session),
            Self::Spec(c) => c.run(session),
            Self::Start(c) => c.run(session),
            Self::State(c) => c.run(session),
            Self::Update(c) => c.run(session),
        }
    }

    /// What is being done to what, for the front of an error: `create web1`.
    pub(crate) fn deed(&self) -> String {
        match self {
            Self::Check(_) => "check".to_owned(),
            Self::Checkpoint(c) => format!("checkpoint {}", c.id),
            Self::Create(c) => format!("create {}", c.id),
            Self::Delete(c) => format!("delete {}", c.id),
            Self::Events(c) => format!("events {}", c.id),
            Self::Exec(c) => format!("exec {}", c.id),
            Self::Features(_) => "features".to_owned(),
            Self::InstallShim(_) => "install-shim".to_owned(),
            Self::Kill(c) => format!("kill {}", c.id),
            Self::List(_) => "list".to_owned(),
            Self::Pause(c) => format!("pause {}", c.id),
            Self::Ps(c) => format!("ps {}", c.id),
            Self::Restore(c) => format!("restore {}", c.id),
            Self::Resume(c) => format!("resume {}", c.id),
            Self::Run(c) => format!("run {}", c.id),
            Self::Spec(_) => "spec".to_owned(),
            Self::Start(c) => format!("start {}", c.id),
            Self::State(c) => format!("state {}", c.id),
            Self::Update(c) => format!("update {}", c.id),
        }
    }
}

/// The name that help and `--version` give: `runc` when called by that name, as drop-in links are, else `rtc`.
pub(crate) fn program_name(argv0: &str) -> &'static str {
    match argv0.rsplit('/').next() {
        Some("runc") => "runc",
        _ => "rtc",
    }
}

/// clap's command for all of the above, with help laid out as runc lays it out: `NAME:` first.
pub(crate) fn command(program: &'static str) -> clap::Command {
    let help = Arg::new("help").short('h').long("help").action(ArgAction::HelpShort).global(true).help("Print help");
    let root = format!(
        "NAME:\n   {program} - {{about}}\n\n{DESCRIPTION}\n\nUSAGE:\n   {program} [global options] command [command \
         options] [arguments...]\n\nVERSION:\n   {}\n\nCOMMANDS:\n{{subcommands}}\n\nGLOBAL OPTIONS:\n{{options}}\n",
        env!("CARGO_PKG_VERSION")
    );
    Cli::command().bin_name(program).arg(help).help_template(root).term_width(100).mut_subcommands(|sub| {
        let name = sub.get_name();
        let positionals: Vec<String> = sub.get_positionals().map(|p| p.to_string()).collect();
        // clap would put two empty lines in front of its {after-help}.
        let description = sub.get_after_help().map(|d| format!("DESCRIPTION:\n{d}\n\n")).unwrap_or_default();
        let template = format!(
            "NAME:\n   {program} {name} - {{about}}\n\nUSAGE:\n   {program} {name} [command options] \
             {}\n\n{description}OPTIONS:\n{{options}}\n",
            positionals.join(" ")
        );
        sub.help_template(template)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All help texts in one file, so that a change of any is seen. `BLESS=1 cargo test -p rtc` writes it anew.
    #[test]
    fn help_texts() {
        let mut root = command("rtc");
        let mut all = root.render_help().to_string();
        for sub in root.get_subcommands() {
            all += "\n----------------------------------------\n";
            all += &sub.clone().render_help().to_string();
        }
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/src/help.txt");
        if std::env::var_os("BLESS").is_some() {
            std::fs::write(golden, &all).expect("the source is writable");
        }
        let before = std::fs::read_to_string(golden).expect("help.txt is there");
        let differing = all.lines().zip(before.lines()).find(|(now, before)| now != before);
        assert_eq!(differing, None, "help.txt is out of date");
        assert_eq!(all.len(), before.len(), "help.txt is out of date");
    }

    #[test]
    fn clap_finds_no_fault_with_the_definitions() {
        command("rtc").debug_assert();
    }
}
