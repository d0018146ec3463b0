//! CRIU's configuration files, which administrators of runc and crun already have: the options of it that say what is
//! allowed. Options about CRIU's own working are passed over; two of rtc's own are here for engines that give no flags.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// The annotation that names a file to be read in place of [`RUNTIMES`]; empty for none.
const ANNOTATION: &str = "org.criu.config";
/// Read always, first.
const DEFAULT: &str = "/etc/criu/default.conf";
/// Read for containers of a runtime. rtc stands in for both.
const RUNTIMES: [&str; 2] = ["/etc/criu/runc.conf", "/etc/criu/crun.conf"];

/// What the files say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CriuConfig {
    pub(crate) tcp_established: bool,
    pub(crate) tcp_skip_in_flight: bool,
    pub(crate) ext_unix_sk: bool,
    pub(crate) shell_job: bool,
    pub(crate) leave_running: bool,
    /// Seconds.
    pub(crate) exec_timeout: Option<u32>,
    pub(crate) skip_exec: bool,
    /// Name of the log, relative to the work directory.
    pub(crate) log_file: Option<PathBuf>,
}

impl CriuConfig {
    /// Reads the files that count for a container with these annotations.
    ///
    /// # Errors
    /// The annotation names a file that can't be read, or another file can't be read although it is there.
    pub(crate) fn load(annotations: Option<&HashMap<String, String>>) -> Result<Self> {
        let mut config = Self::default();
        config.add_if_there(Path::new(DEFAULT))?;
        match annotations.and_then(|all| all.get(ANNOTATION)).map(String::as_str) {
            Some("") => {}
            Some(path) => config.add(&fs::read_to_string(path).with_context(|| format!("{ANNOTATION}: read {path}"))?),
            None => RUNTIMES.iter().try_for_each(|path| config.add_if_there(Path::new(path)))?,
        }
        Ok(config)
    }

    fn add_if_there(&mut self, path: &Path) -> Result<()> {
        match fs::read_to_string(path) {
            Ok(text) => self.add(&text),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            Err(e) => return Err(e).with_context(|| format!("read {}", path.display())),
        }
        Ok(())
    }

    /// Adds the options of one file: a line each, `name`, `name value` or `name=value`; `#` begins a comment.
    fn add(&mut self, text: &str) {
        for line in text.lines() {
            let line = line.split('#').next().unwrap_or("").trim();
            let (name, value) = line.split_once([' ', '\t', '=']).unwrap_or((line, ""));
            let value = value.trim_start_matches([' ', '\t', '=']).trim_matches('"');
            match name.trim_start_matches('-') {
                "tcp-established" => self.tcp_established = true,
                "skip-in-flight" => self.tcp_skip_in_flight = true,
                "ext-unix-sk" => self.ext_unix_sk = true,
                "shell-job" => self.shell_job = true,
                "leave-running" => self.leave_running = true,
                "exec-timeout" => self.exec_timeout = value.parse().ok().or(self.exec_timeout),
                "skip-exec" => self.skip_exec = true,
                "log-file" if !value.is_empty() => self.log_file = Some(value.into()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_of_a_line() {
        let mut config = CriuConfig::default();
        config.add("# nothing\n\ntcp-established\n  ext-unix-sk # said so\nghost-limit 10M\nlog-file=a.log\n");
        let expected = CriuConfig { tcp_established: true, ext_unix_sk: true, ..CriuConfig::default() };
        assert_eq!(config, CriuConfig { log_file: Some("a.log".into()), ..expected.clone() });
        config.add("log-file   \"b.log\"\n#shell-job");
        assert_eq!(config, CriuConfig { log_file: Some("b.log".into()), ..expected.clone() });
        config.add("exec-timeout 30\nskip-exec\nexec-timeout x\nlog-file a.log");
        let execs = CriuConfig { exec_timeout: Some(30), skip_exec: true, ..expected };
        assert_eq!(config, CriuConfig { log_file: Some("a.log".into()), ..execs });
    }

    #[test]
    fn an_annotation_names_the_file() {
        let of = |path: &str| CriuConfig::load(Some(&HashMap::from([(ANNOTATION.to_owned(), path.to_owned())])));
        let error = format!("{:#}", of("/nosuch/criu.conf").expect_err("it is not there"));
        assert!(error.contains("/nosuch/criu.conf"), "{error}");
        assert!(of("").is_ok());
    }
}
