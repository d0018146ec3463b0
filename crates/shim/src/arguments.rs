//! The command line that containerd gives a shim: Go's flags, then an action.

/// What was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Arguments {
    pub(crate) namespace: String,
    pub(crate) id: String,
    /// Where the shim serves; only from `start` to itself.
    pub(crate) socket: String,
    pub(crate) bundle: Option<String>,
    pub(crate) version: bool,
    pub(crate) info: bool,
    /// `start`, `delete`, or empty: serve.
    pub(crate) action: String,
}

/// Flags without a value.
const SWITCHES: [&str; 3] = ["debug", "v", "info"];

impl Arguments {
    /// Reads `-name value`, `-name=value` and the same with two dashes. Flags that are not the shim's business are
    /// passed over: later versions of containerd may have more.
    pub(crate) fn parse(words: impl IntoIterator<Item = String>) -> Self {
        let mut arguments = Self::default();
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                arguments.action = word;
                continue;
            };
            let (name, value) = match flag.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (flag, None),
            };
            let value = match value {
                Some(value) => value,
                None if SWITCHES.contains(&name) => "true".to_owned(),
                None => words.next().unwrap_or_default(),
            };
            match name {
                "namespace" => arguments.namespace = value,
                "id" => arguments.id = value,
                "socket" => arguments.socket = value,
                "bundle" => arguments.bundle = Some(value),
                "v" => arguments.version = value == "true",
                "info" => arguments.info = value == "true",
                _ => {}
            }
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Arguments {
        Arguments::parse(line.split(' ').map(str::to_owned))
    }

    #[test]
    fn containerd_s_command_lines_are_read() {
        let start =
            parse("-namespace pods -address /run/c.sock -publish-binary /usr/bin/containerd -id web -debug start");
        assert_eq!((start.namespace.as_str(), start.id.as_str(), start.action.as_str()), ("pods", "web", "start"));
        let delete = parse("--namespace=default --id=web -bundle /run/b delete");
        assert_eq!((delete.bundle.as_deref(), delete.action.as_str()), (Some("/run/b"), "delete"));
        assert!(parse("-info").info && parse("-v").version);
    }
}
