//! Commands, their order, their exit statuses.

use crate::case::{Case, calls, prints};

const RUN: (&str, i32, Option<&str>, &str) = ("run --detach --bundle BUNDLE ID", 0, Some(""), "");

pub(super) fn all() -> Vec<Case> {
    [commands(), created(), failures(), bad_names()].into_iter().flatten().collect()
}

fn commands() -> Vec<Case> {
    vec![
        calls(
            "a life",
            &[],
            &[
                ("create --bundle BUNDLE ID", 0, Some(""), ""),
                ("exec ID true", 0, Some(""), ""),
                ("start ID", 0, Some(""), ""),
                ("start ID", 1, None, "cannot start an already running container"),
                ("exec ID false", 1, None, ""),
                ("exec ID sh -c exit${IFS}42", 42, None, ""),
                ("exec ID sh -c kill${IFS}-9${IFS}$$", 137, None, ""),
                ("list -q", 0, None, ""),
                ("pause ID", 0, Some(""), ""),
                ("resume ID", 0, Some(""), ""),
                ("delete --force ID", 0, Some(""), ""),
            ],
        ),
        calls(
            "options after the id",
            &[],
            &[("create ID --bundle BUNDLE", 0, Some(""), ""), ("delete ID --force", 0, Some(""), "")],
        ),
        calls("create says nothing", &[], &[("create --bundle BUNDLE ID", 0, Some(""), "")]),
        calls(
            "delete by force of a paused container",
            &[],
            &[RUN, ("pause ID", 0, Some(""), ""), ("delete --force ID", 0, Some(""), "")],
        ),
        calls("an option with an empty value", &[], &[RUN, ("exec --cwd  --user= ID pwd", 0, Some("/\n"), "")]),
        calls("delete of nothing by force", &[], &[("delete --force ID", 0, Some(""), "")]),
        calls(
            "ps as json",
            &[],
            &[RUN, ("ps --format json NOSUCH", 1, None, "does not exist"), ("ps --format json ID", 0, None, "")],
        ),
        calls("features", &[], &[("features", 0, None, "")]),
        prints("the program's status", &[], "true", ""),
    ]
}

fn created() -> Vec<Case> {
    vec![
        calls(
            "delete of a created container",
            &[],
            &[
                ("create --bundle BUNDLE ID", 0, Some(""), ""),
                ("delete ID", 0, Some(""), ""),
                ("state ID", 1, None, "does not exist"),
            ],
        ),
        calls(
            "a created container that is paused",
            &[],
            &[
                ("create --bundle BUNDLE ID", 0, Some(""), ""),
                ("pause ID", 0, Some(""), ""),
                ("start ID", 1, None, "cannot start a container in the paused state"),
                ("delete ID", 1, None, "that is not stopped: paused"),
                ("resume ID", 0, Some(""), ""),
                ("start ID", 0, Some(""), ""),
                ("exec ID true", 0, Some(""), ""),
            ],
        ),
    ]
}

fn failures() -> Vec<Case> {
    vec![
        calls(
            "exec fails with 255",
            &[],
            &[
                ("exec ID true", 255, None, "container does not exist"),
                RUN,
                ("exec ID nosuch", 255, None, "exec: \"nosuch\": executable file not found in $PATH"),
                ("exec --pid-file HERE/none/file ID true", 255, None, "--pid-file"),
                ("pause ID", 0, Some(""), ""),
                ("exec ID true", 255, None, "cannot exec in a paused container"),
            ],
        ),
        calls(
            "delete of a running container",
            &[],
            &[RUN, ("delete ID", 1, None, "that is not stopped: running"), ("exec ID true", 0, None, "")],
        ),
        calls(
            "an id that is taken",
            &[],
            &[
                RUN,
                ("create --bundle BUNDLE ID", 1, None, "container with given ID already exists"),
                ("exec ID true", 0, None, ""),
            ],
        ),
        calls(
            "signals that are none",
            &[],
            &[
                RUN,
                ("kill ID BOGUS", 1, None, "unknown signal \"BOGUS\""),
                ("kill ID 65", 1, None, "unknown signal \"65\""),
            ],
        ),
    ]
}

fn bad_names() -> Vec<Case> {
    vec![
        calls(
            "commands on nothing",
            &[],
            &[
                ("state ID", 1, None, "does not exist"),
                ("start ID", 1, None, "does not exist"),
                ("kill ID KILL", 1, None, "does not exist"),
                ("pause ID", 1, None, "does not exist"),
                ("resume ID", 1, None, "does not exist"),
                ("delete ID", 1, None, "does not exist"),
                ("update --pids-limit 5 ID", 1, None, "does not exist"),
            ],
        ),
        calls("resume of a running container", &[], &[RUN, ("resume ID", 1, None, "container not paused")]),
        calls(
            "no id",
            &[],
            &[
                ("state", 1, None, "requires exactly 1 argument"),
                ("kill", 1, None, "requires"),
                ("delete", 1, None, "requires"),
            ],
        ),
        calls(
            "ids that lead elsewhere",
            &[],
            &[
                ("create --bundle BUNDLE ../x", 1, None, "invalid container ID format"),
                ("create --bundle BUNDLE a/b", 1, None, "invalid container ID format"),
            ],
        ),
        calls(
            "descriptors that aren't open",
            &[],
            &[RUN, ("exec --preserve-fds 5 ID true", 255, None, "--preserve-fds 5: fd 3 is not open")],
        ),
        calls("a root of states that isn't there", &[], &[("--root HERE/none list", 1, None, "/none")]),
        calls(
            "a terminal without a socket",
            &[("/process/terminal", "true")],
            &[("create --bundle BUNDLE ID", 1, None, "cannot allocate tty"), ("state ID", 1, None, "does not exist")],
        ),
    ]
}
