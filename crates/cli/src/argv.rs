//! Brings argv into the form that clap takes, and clap's complaints into one line.
//!
//! Engines were written against Go's flag package: they send single-dash long options (`-no-subreaper`) and booleans
//! with a value (`--debug=true`), and match the text `flag needs an argument`.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, Command};

/// Rewrites the arguments after argv\[0\]:
/// * `-long` becomes `--long` where the command has an option of that name;
/// * `--flag=true` becomes `--flag`, and `--flag=false` is left out, also `-f=true`, in every way that Go writes them;
/// * an option with an empty value is left out;
/// * `help COMMAND` becomes `COMMAND -h`, and so do crun's `COMMAND -?` and `COMMAND --usage`;
/// * `exec ID PROGRAM …` and `ps ID …` get a `--` in front of what belongs to the program or to ps.
///
/// The command that is named is made by `find` and put below `root`.
///
/// # Errors
/// There is no such command.
pub(crate) fn normalise(
    root: &mut Command,
    args: impl IntoIterator<Item = OsString>,
    find: impl Fn(&str) -> Option<Command>,
) -> Result<Vec<OsString>, String> {
    let mut args = args.into_iter();
    let mut out = Vec::new();
    let mut help = false;
    while let Some(arg) = args.next() {
        if arg.as_bytes().starts_with(b"-") {
            if option(root, &arg, &mut out) {
                value(args.next(), &mut out);
            }
        } else if arg.as_bytes() == b"help" && !help {
            help = true;
        } else {
            let name = arg.to_string_lossy();
            let command = find(&name).ok_or_else(|| format!("No help topic for '{name}'"))?;
            out.push(arg);
            if help {
                out.push("-h".into());
            } else {
                arguments(&command, args, &mut out);
            }
            *root = std::mem::take(root).subcommand(command);
            return Ok(out);
        }
    }
    if help {
        out.push("-h".into());
    }
    Ok(out)
}

/// Rewrites what follows the command.
fn arguments(command: &Command, mut args: impl Iterator<Item = OsString>, out: &mut Vec<OsString>) {
    let foreign_after = foreign_after(command);
    let mut positionals = 0;
    while let Some(arg) = args.next() {
        let bytes = arg.as_bytes();
        let is_option = bytes.len() > 1 && bytes[0] == b'-';
        let is_foreign = Some(positionals) == foreign_after && (!is_option || command.get_name() == "ps");
        if bytes == b"--" || is_foreign {
            if is_foreign && bytes != b"--" {
                out.push("--".into());
            }
            out.push(arg);
            break;
        }
        if !is_option {
            positionals += 1;
            out.push(arg);
        } else if option(command, &arg, out) {
            value(args.next(), out);
        }
    }
    out.extend(args);
}

/// Pushes the value of the option that was pushed last; an empty one leaves the option out, as for Go's flags.
fn value(value: Option<OsString>, out: &mut Vec<OsString>) {
    match value {
        Some(value) if value.is_empty() => drop(out.pop()),
        other => out.extend(other),
    }
}

/// After how many positional arguments the rest belongs to another program.
fn foreign_after(command: &Command) -> Option<usize> {
    matches!(command.get_name(), "exec" | "ps").then_some(1)
}

/// Pushes one option in clap's form, but a `=false` not at all. True if its value is the next argument.
fn option(command: &Command, arg: &OsStr, out: &mut Vec<OsString>) -> bool {
    let bytes = arg.as_bytes();
    if matches!(bytes, b"-?" | b"--usage") {
        out.push("-h".into());
        return false;
    }
    let double = bytes.starts_with(b"--");
    let body = &bytes[if double { 2 } else { 1 }..];
    let equals = body.iter().position(|b| *b == b'=');
    let name = std::str::from_utf8(&body[..equals.unwrap_or(body.len())]).unwrap_or("");
    let long = (double || name.len() > 1).then(|| find(command, |a| is_called(a, name))).flatten();
    let short = name.chars().next().filter(|_| name.len() == 1);
    let Some(found) = long.or_else(|| find(command, |a| short.is_some() && a.get_short() == short)) else {
        out.push(arg.to_owned());
        return false;
    };
    let value = equals.map(|at| &body[at + 1..]);
    let dashes: &[u8] = if long.is_some() { b"--" } else { b"-" };
    match (takes_value(found), value.and_then(truth)) {
        (false, Some(false)) => return false,
        (false, Some(true)) => out.push(OsString::from_vec([dashes, name.as_bytes()].concat())),
        _ if takes_value(found) && value == Some(b"") => {}
        _ => out.push(OsString::from_vec([dashes, body].concat())),
    }
    takes_value(found) && value.is_none()
}

/// A boolean as Go's strconv.ParseBool reads it.
fn truth(word: &[u8]) -> Option<bool> {
    match word {
        b"1" | b"t" | b"T" | b"true" | b"TRUE" | b"True" => Some(true),
        b"0" | b"f" | b"F" | b"false" | b"FALSE" | b"False" => Some(false),
        _ => None,
    }
}

fn find(command: &Command, wanted: impl Fn(&Arg) -> bool) -> Option<&Arg> {
    command.get_arguments().find(|a| wanted(a))
}

/// Whether an option has this long name, or had it with another runtime.
fn is_called(arg: &Arg, name: &str) -> bool {
    arg.get_long() == Some(name) || arg.get_all_aliases().is_some_and(|aliases| aliases.contains(&name))
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// One line for what is wrong with the command line, in the words that callers of runc know.
pub(crate) fn complaint(root: &Command, error: &clap::Error) -> String {
    let context = |kind| match error.get(kind) {
        Some(ContextValue::String(s)) => s.as_str(),
        Some(ContextValue::Strings(s)) => s.first().map_or("", String::as_str),
        _ => "",
    };
    let invalid = context(ContextKind::InvalidArg);
    // clap names an option as `-b, --bundle <DIR>` or `--bundle <DIR>`; Go names it with one dash.
    let option = invalid.split("--").last().unwrap_or("").split([' ', '=']).next().unwrap_or("");
    match error.kind() {
        ErrorKind::UnknownArgument if invalid.starts_with('-') => {
            format!("flag provided but not defined: -{}", invalid.trim_start_matches('-'))
        }
        ErrorKind::InvalidValue if context(ContextKind::InvalidValue).is_empty() => {
            format!("flag needs an argument: -{option}")
        }
        ErrorKind::InvalidValue | ErrorKind::ValueValidation => {
            let value = context(ContextKind::InvalidValue);
            let reason = std::error::Error::source(error).map_or_else(|| allowed(error), |e| format!(": {e}"));
            format!("invalid value \"{value}\" for flag -{option}{reason}")
        }
        ErrorKind::MissingRequiredArgument | ErrorKind::UnknownArgument | ErrorKind::TooManyValues => {
            root.get_subcommands().next().map_or_else(|| plain(error), wrong_count)
        }
        _ => plain(error),
    }
}

/// `: use one of a, b` where clap knows the allowed values.
fn allowed(error: &clap::Error) -> String {
    match error.get(ContextKind::ValidValue) {
        Some(ContextValue::Strings(values)) => format!(": use one of {}", values.join(", ")),
        _ => String::new(),
    }
}

/// Names how many arguments a command takes.
fn wrong_count(command: &Command) -> String {
    let required = command.get_positionals().filter(|p| p.is_required_set()).count();
    let bounded = command.get_positionals().all(|p| p.get_num_args().is_none_or(|n| n.max_values() <= 1));
    let exactly = bounded && required == command.get_positionals().count();
    let how = if exactly { "exactly" } else { "a minimum of" };
    format!("\"{}\" requires {how} {required} argument(s)", command.get_name())
}

/// clap's own first line, for what has no words of its own above.
fn plain(error: &clap::Error) -> String {
    let text = error.to_string();
    text.lines().next().unwrap_or("bad usage").trim_start_matches("error: ").to_owned()
}

#[cfg(test)]
mod tests {
    use clap::FromArgMatches;

    use super::*;
    use crate::cli::{self, Cli};

    fn normal(line: &str) -> String {
        let find = |name: &str| cli::find("rtc", name);
        let args = normalise(&mut cli::root("rtc"), line.split(' ').map(OsString::from), find);
        args.expect("the command exists").join(OsStr::new(" ")).into_string().expect("it was UTF-8")
    }

    fn parse(line: &str) -> Result<Cli, String> {
        let mut root = cli::root("rtc");
        let args = normalise(&mut root, line.split(' ').map(OsString::from), |name| cli::find("rtc", name))?;
        let matches = root.try_get_matches_from_mut(&args);
        matches.and_then(|m| Cli::from_arg_matches(&m)).map_err(|e| complaint(&root, &e))
    }

    #[test]
    fn looser_forms() {
        for (typed, normal_form) in [
            ("restore -no-subreaper -bundle b -pid-file=p id", "restore --no-subreaper --bundle b --pid-file=p id"),
            ("--debug=true --systemd-cgroup=false state a", "--debug state a"),
            ("-root /r list", "--root /r list"),
            ("exec -t=false -d=1 --no-new-privs=T -u=5 a true", "exec -d --no-new-privs -u=5 a -- true"),
            ("--systemd-cgroup=0 list -q=TRUE --f=json", "list -q -f=json"),
            // A value is not an option, even if it looks like one.
            ("create --bundle -root a", "create --bundle -root a"),
            ("update --memory -1 a", "update --memory -1 a"),
            ("exec -t a sh -c -no-subreaper", "exec -t a -- sh -c -no-subreaper"),
            ("exec -e A=1 a -t sh --env", "exec -e A=1 a -t -- sh --env"),
            ("exec a -- -odd", "exec a -- -odd"),
            ("ps a -ef", "ps a -- -ef"),
            ("ps --format json a", "ps --format json a"),
            ("create a --bundle b", "create a --bundle b"),
            ("exec --cwd  a true", "exec a -- true"),
            ("--root= list --format=", "list"),
            ("help create", "create -h"),
            ("help", "-h"),
            ("create -? a", "create -h a"),
            ("--usage", "-h"),
            ("exec a sh -?", "exec a -- sh -?"),
            ("spec -file c.json", "spec --file c.json"),
        ] {
            assert_eq!(normal(typed), normal_form);
        }
    }

    /// Command lines that engines were seen to send.
    #[test]
    fn engines_lines() {
        for line in [
            "--systemd-cgroup --log-format=json --log /l create --bundle /u --pid-file /p --console-socket /c a",
            "--log-format=json --log /l exec --pid-file /p --process /x --detach --console-socket /c a",
            "checkpoint --image-path /i --work-path /w --leave-running --leave-running --tcp-established --file-locks a",
            "checkpoint --image-path /i --work-path /w --parent-path ../pre-checkpoint a",
            "--root /r --log /l --log-format json restore --image-path /i --work-path /w --detach --pid-file /p \
             -no-subreaper --bundle /t a",
            "restore --bundle /b --pid-file /p --no-pivot --no-new-keyring --detach --image-path /i --work-path /b \
             --tcp-close --lsm-profile=selinux:x --lsm-mount-context=y --preserve-fds 2 --console-socket /s a",
            "--root /r --log /l --log-format json ps --format json a",
            "update --resources=- a",
            "kill --all a 15",
            "kill a 10",
            "delete --force a",
            "--cgroup-manager disabled create --bundle /b a",
            "--rootless=true --criu /c state a",
            "update --cpu-quota -1 --pids-limit -1 --memory-swap=-1 a",
        ] {
            assert!(parse(line).is_ok(), "{line}: {:?}", parse(line).err());
        }
    }

    /// Every option that runc 1.3 and crun 1.28 name in their help, command by command.
    #[test]
    fn options_of_runc_and_crun() {
        for line in [
            "--debug --log l --log-format json --root r --systemd-cgroup --rootless true --cgroup-manager cgroupfs \
             --log-level debug list",
            "checkpoint --image-path i --work-path w --parent-path p --leave-running --tcp-established \
             --tcp-skip-in-flight --link-remap --ext-unix-sk --shell-job --lazy-pages --status-fd 1 --page-server h:1 \
             --file-locks --pre-dump --manage-cgroups-mode soft --empty-ns network --auto-dedup --network-lock nftables a",
            "create --bundle b -b b --console-socket s --pidfd-socket s --pid-file p --no-pivot --no-new-keyring \
             --preserve-fds 1 -f c --config c --no-subreaper a",
            "delete --force -f -r --regex a",
            "events --interval 5s --stats a",
            "exec --console-socket s --pidfd-socket s --cwd / --env A=1 -e A=1 --tty -t --user 1:2 -u 1:2 \
             --additional-gids 1 -g 1 --process p -p p --detach -d --pid-file p --process-label l --apparmor p \
             --no-new-privs --cap C -c C --preserve-fds 1 --cgroup g --ignore-paused a true",
            "kill -a --all -r --regex a",
            "list --format json -f json --quiet -q",
            "mounts add a file",
            "ps --format json -f json a",
            "restore --console-socket s --image-path i --work-path w --tcp-established --ext-unix-sk --shell-job \
             --file-locks --manage-cgroups-mode soft --bundle b -b b --detach -d --pid-file p --no-subreaper --no-pivot \
             --empty-ns network --auto-dedup --lazy-pages --lsm-profile selinux:l --lsm-mount-context c \
             --network-lock nftables --tcp-close a",
            "run --bundle b -b b --console-socket s --pidfd-socket s --detach -d --keep --pid-file p --no-subreaper \
             --no-pivot --no-new-keyring --preserve-fds 1 -f c --config c a",
            "spec --bundle b -b b --rootless -f c --file c",
            "update --resources r -r r --blkio-weight 10 --cpu-period 1 --cpu-quota 1 --cpu-burst 1 --cpu-share 1 \
             --cpu-rt-period 1 --cpu-rt-runtime 1 --cpuset-cpus 0 --cpuset-mems 0 --memory 1m --cpu-idle 1 \
             --memory-reservation 1 --memory-swap 1 --pids-limit 1 --l3-cache-schema s --mem-bw-schema s \
             --kernel-memory 1 --kernel-memory-tcp 1 a",
            "-V",
        ] {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert!(parse(&words.join(" ")).is_ok(), "{line}: {:?}", parse(&words.join(" ")).err());
        }
    }

    #[test]
    fn complaints() {
        for (typed, text) in [
            ("restore --lsm-mount-context", "flag needs an argument: -lsm-mount-context"),
            ("restore -lsm-mount-context", "flag needs an argument: -lsm-mount-context"),
            ("create -b", "flag needs an argument: -bundle"),
            ("foo -h", "No help topic for 'foo'"),
            ("create", "\"create\" requires exactly 1 argument(s)"),
            ("create a b", "\"create\" requires exactly 1 argument(s)"),
            ("exec", "\"exec\" requires a minimum of 1 argument(s)"),
            ("kill", "\"kill\" requires a minimum of 1 argument(s)"),
            ("create --nosuch a", "flag provided but not defined: -nosuch"),
            ("update --cpu-period x a", "invalid value \"x\" for flag -cpu-period: invalid digit found in string"),
            ("--log-format=xml list", "invalid value \"xml\" for flag -log-format: use one of text, json"),
        ] {
            assert_eq!(parse(typed).err().as_deref(), Some(text), "{typed}");
        }
    }
}
