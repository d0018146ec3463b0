//! The shape of the command line: the list of commands, and how help is laid out.
//!
//! Global flags stand in `global.rs`, the flags of each command in its file under `commands/`; what may be typed in looser
//! ways is put into clap's form first (`argv.rs`).

use clap::{Arg, ArgAction, Args, Parser, Subcommand};

use crate::commands::{
    check, checkpoint, create, delete, events, exec, features, install_shim, kill, list, mounts, pause, ps, restore,
    resume, run, spec, start, state, update,
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
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Makes the commands of one list: name, type, and the field that says what the command is about.
macro_rules! commands {
    ($($name:literal => $module:ident::$variant:ident $(($subject:ident))?,)*) => {
        /// The commands.
        #[derive(Debug, Subcommand)]
        #[allow(clippy::large_enum_variant, reason = "one is made per process")]
        pub(crate) enum Command {
            $($variant($module::$variant),)*
        }

        const NAMES: &[&str] = &[$($name),*];

        impl Command {
            /// clap's command of this name. They are made one at a time, as a process needs no more.
            fn describe(name: &str) -> Option<clap::Command> {
                // By pointers: in one function, all of them would share a frame of ten pages of stack.
                type Augment = fn(clap::Command) -> clap::Command;
                const ALL: &[(&str, Augment)] = &[$(($name, $module::$variant::augment_args)),*];
                let (name, augment) = ALL.iter().find(|(known, _)| *known == name)?;
                Some(augment(clap::Command::new(*name)))
            }

            /// Does it: the exit status.
            ///
            /// # Errors
            /// What the command couldn't do.
            pub(crate) fn run(self, session: &Session) -> anyhow::Result<u8> {
                match self {
                    $(Self::$variant(command) => {
                        // A frame of its own, for the same reason.
                        #[inline(never)]
                        fn run(command: $module::$variant, session: &Session) -> anyhow::Result<u8> {
                            command.run(session)
                        }
                        run(command, session)
                    })*
                }
            }

            /// What is being done to what, for the front of an error: `create web1`.
            pub(crate) fn deed(&self) -> String {
                match self {
                    $(Self::$variant(_command) => {
                        let deed = String::from($name);
                        $(let deed = format!("{deed} {}", _command.$subject);)?
                        deed
                    })*
                }
            }
        }
    };
}

commands! {
    "check" => check::Check,
    "checkpoint" => checkpoint::Checkpoint(id),
    "create" => create::Create(id),
    "delete" => delete::Delete(id),
    "events" => events::Events(id),
    "exec" => exec::Exec(id),
    "features" => features::Features,
    "install-shim" => install_shim::InstallShim,
    "kill" => kill::Kill(id),
    "list" => list::List,
    "mounts" => mounts::Mounts(id),
    "pause" => pause::Pause(id),
    "ps" => ps::Ps(id),
    "restore" => restore::Restore(id),
    "resume" => resume::Resume(id),
    "run" => run::Run(id),
    "spec" => spec::Spec,
    "start" => start::Start(id),
    "state" => state::State(id),
    "update" => update::Update(id),
}

/// The name that help and `--version` give: `runc` when called by that name, as drop-in links are, else `rtc`.
pub(crate) fn program_name(argv0: &str) -> &'static str {
    match argv0.rsplit('/').next() {
        Some("runc") => "runc",
        _ => "rtc",
    }
}

/// clap's command for the global flags alone, with help laid out as runc lays it out: `NAME:` first.
pub(crate) fn root(program: &'static str) -> clap::Command {
    let help = Arg::new("help")
        .help("Print help")
        .short('h')
        .long("help")
        .action(ArgAction::HelpShort)
        .global(true)
        .display_order(usize::MAX);
    let template = format!(
        "NAME:\n   {program} - {{about}}\n\n{DESCRIPTION}\n\nUSAGE:\n   {program} [global options] command [command \
         options] [arguments...]\n\nVERSION:\n   {}\n\nCOMMANDS:\n{{subcommands}}\n\nGLOBAL OPTIONS:\n{{options}}\n",
        env!("CARGO_PKG_VERSION")
    );
    let root = clap::Command::new("rtc").no_binary_name(true).args_override_self(true);
    let root = root.disable_version_flag(true).disable_help_subcommand(true).disable_help_flag(true);
    // The flags' own description is not the program's.
    Global::augment_args(root.bin_name(program).arg(help).help_template(template).term_width(100)).about(ABOUT)
}

/// clap's command for one command. It finds its place below [`root`].
pub(crate) fn find(program: &'static str, name: &str) -> Option<clap::Command> {
    let command = Command::describe(name)?;
    let positionals: Vec<String> = command.get_positionals().map(|p| p.to_string()).collect();
    // clap would put two empty lines in front of its {after-help}.
    let description = command.get_after_help().map(|d| format!("DESCRIPTION:\n{d}\n\n")).unwrap_or_default();
    let template = format!(
        "NAME:\n   {program} {name} - {{about}}\n\nUSAGE:\n   {program} {name} [command options] \
         {}\n\n{description}OPTIONS:\n{{options}}\n",
        positionals.join(" ")
    );
    Some(command.help_template(template))
}

/// [`root`] with all commands, for its help.
pub(crate) fn complete(program: &'static str) -> clap::Command {
    root(program).subcommands(NAMES.iter().filter_map(|name| find(program, name)))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    /// All help texts in one file, so that a change of any is seen. `BLESS=1 cargo test -p rtc` writes it anew.
    #[test]
    fn help_texts() {
        let mut root = complete("rtc");
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
        let complete = complete("rtc");
        let derived = Cli::command();
        assert!(derived.get_subcommands().map(clap::Command::get_name).eq(NAMES.iter().copied()));
        complete.debug_assert();
    }
}
