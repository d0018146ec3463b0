//! Where log lines go: stderr, a file, journald, syslog.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use log::Level;
use rtc_sys::{CallExt, Result};

/// The socket of journald (systemd-journald.service(8)), and that of syslog (syslog(3)).
const JOURNAL: &str = "/run/systemd/journal/socket";
const SYSLOG: &str = "/dev/log";
/// `LOG_DAEMON` (syslog.h).
const FACILITY: u8 = 3 << 3;

/// Where log lines go.
#[derive(Debug)]
pub(crate) enum Sink {
    /// The standard error output.
    Stderr,
    /// A file that is appended to.
    File(File),
    /// journald, with the identifier of its messages.
    Journal(UnixDatagram, String),
    /// syslog, with the identifier of its messages.
    Syslog(UnixDatagram, String),
}

impl Sink {
    /// What `--log` says: `PATH`, `file:PATH`, `journald:ID`, `syslog:ID`; without it stderr.
    ///
    /// # Errors
    /// The file can't be opened or made, the socket isn't there.
    pub(crate) fn open(log: Option<&Path>) -> Result<Self> {
        let Some(path) = log else { return Ok(Self::Stderr) };
        let connected = |socket: &str| {
            let datagram = UnixDatagram::unbound().call("socket", "UNIX, DGRAM")?;
            datagram.connect(socket).call("connect", socket).map(|()| datagram)
        };
        match path.to_str().and_then(|text| text.split_once(':')) {
            Some(("journald", id)) => Ok(Self::Journal(connected(JOURNAL)?, id.to_owned())),
            Some(("syslog", id)) => Ok(Self::Syslog(connected(SYSLOG)?, id.to_owned())),
            Some(("file", path)) => Self::file(Path::new(path)),
            _ => Self::file(path),
        }
    }

    fn file(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path).call("open", path.display())?;
        Ok(Self::File(file))
    }

    /// Whether people at the terminal see nothing of it.
    pub(crate) fn is_elsewhere(&self) -> bool {
        !matches!(self, Self::Stderr)
    }

    /// Writes `message`, which is `line` with level and time. A full disk or a dead daemon must not stop the command.
    pub(crate) fn write(&self, level: Level, message: &str, line: &str) {
        let _ = match self {
            Self::Stderr => io::stderr().write_all(line.as_bytes()),
            // One write per line, so that lines of several processes don't mix.
            Self::File(file) => (&*file).write_all(line.as_bytes()),
            Self::Journal(socket, id) => socket.send(&journal_entry(level, id, message)).map(drop),
            Self::Syslog(socket, id) => socket.send(syslog_line(level, id, message).as_bytes()).map(drop),
        };
    }
}

/// The severity of syslog (syslog(3)).
fn severity(level: Level) -> u8 {
    match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    }
}

/// An entry in journald's own protocol; a text with newlines goes with its length.
fn journal_entry(level: Level, id: &str, message: &str) -> Vec<u8> {
    let mut entry = format!("PRIORITY={}\nSYSLOG_IDENTIFIER={}\nMESSAGE\n", severity(level), one_line(id)).into_bytes();
    entry.extend_from_slice(&(message.len() as u64).to_le_bytes());
    entry.extend_from_slice(message.as_bytes());
    entry.push(b'\n');
    entry
}

fn syslog_line(level: Level, id: &str, message: &str) -> String {
    format!("<{}>{}: {}", FACILITY | severity(level), one_line(id), one_line(message))
}

fn one_line(text: &str) -> String {
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn daemons_get_level_name_and_text() {
        assert_eq!(syslog_line(Level::Error, "web", "a\nb"), "<27>web: a b");
        let entry = journal_entry(Level::Warn, "web", "a\nb");
        assert_eq!(entry, b"PRIORITY=4\nSYSLOG_IDENTIFIER=web\nMESSAGE\n\x03\0\0\0\0\0\0\0a\nb\n");
    }

    #[test]
    fn a_file_may_have_its_kind_in_front() {
        let path = std::env::temp_dir().join(format!("rtc-log-sink-{}", std::process::id()));
        let named = format!("file:{}", path.display());
        Sink::open(Some(Path::new(&named))).unwrap().write(Level::Info, "m", "line\n");
        Sink::open(Some(&path)).unwrap().write(Level::Info, "m", "line\n");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "line\nline\n");
        std::fs::remove_file(&path).unwrap();
    }
}
