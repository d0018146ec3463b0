//! A process's input and output, as containerd names them: fifos, logging programs, files.
//!
//! A process that has no terminal gets its fifos directly; nothing is copied. The shim holds both ends of each open as
//! long as the process lives: a client that goes away, or a containerd that restarts, must not look to the container
//! like a closed pipe. A logging program gets pipes, and a file is written by the shim alone: a container that held it
//! could rewrite its own log.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use containerd_shim::api::Options;
use rtc_sys::CallExt;
use rtc_sys::process::{with_default_signals, with_files};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::pipe::{PipeFlags, pipe_with};

use crate::fault::{Fault, Result};
use crate::logger::Logger;
use crate::pump::Pump;

/// How long a logging program may take until it is ready. Nobody else is served in the meantime.
const READY: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Where a process's input comes from and its output goes to, in containerd's words: paths of fifos, or URIs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Streams {
    pub(crate) terminal: bool,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The files of a process, opened.
#[derive(Debug, Default)]
pub(crate) struct Opened {
    /// Descriptors 0, 1, 2; /dev/null where there is none.
    pub(crate) given: [Option<OwnedFd>; 3],
    /// Ends that the shim keeps until the process ends.
    pub(crate) kept: Vec<OwnedFd>,
    /// The writing end of the input: closed when the client says so.
    pub(crate) stdin: Option<OwnedFd>,
    /// What carries its input to a terminal.
    pub(crate) input: Option<Pump>,
    /// What carries its output to a file, or from a terminal.
    pub(crate) outputs: Vec<Pump>,
    pub(crate) logger: Option<Logger>,
}

impl Opened {
    /// Opens what a process without terminal needs. `names` are the container's and its namespace's, for loggers.
    pub(crate) fn plain(streams: &Streams, options: &Options, names: [&str; 2]) -> Result<Self> {
        let mut opened = Self::default();
        if !streams.stdin.is_empty() {
            let path = fifo(&streams.stdin)?;
            opened.stdin = Some(open(path, OFlags::RDWR | OFlags::NONBLOCK)?);
            opened.given[0] = Some(open(path, OFlags::RDONLY)?);
        }
        match Output::parse(&streams.stdout)? {
            Output::Program { path, arguments } => opened.log_by(&path, &arguments, names)?,
            stdout => {
                opened.output(1, stdout)?;
                opened.output(2, Output::parse(&streams.stderr)?)?;
            }
        }
        // So that a process of that user can open /dev/stdout anew.
        if options.io_uid != 0 || options.io_gid != 0 {
            let (uid, gid) = (Uid::from_raw(options.io_uid), Gid::from_raw(options.io_gid));
            for fd in opened.given.iter().flatten() {
                rustix::fs::fchown(fd, Some(uid), Some(gid)).call("fchown", options.io_uid)?;
            }
        }
        Ok(opened)
    }

    /// Connects a terminal's master.
    pub(crate) fn terminal(streams: &Streams, master: &OwnedFd, names: [&str; 2]) -> Result<Self> {
        let mut opened = Self::default();
        let copy = || master.try_clone().call("fcntl", "F_DUPFD_CLOEXEC");
        if !streams.stdin.is_empty() {
            // Both ends in one, so that it never ends: clients come and go.
            let from = open(fifo(&streams.stdin)?, OFlags::RDWR | OFlags::NONBLOCK)?;
            opened.input = Some(Pump::start(from, copy()?)?);
        }
        let to = match Output::parse(&streams.stdout)? {
            Output::None => Some(open(Path::new("/dev/null"), OFlags::WRONLY)?),
            Output::Fifo(path) => Some(open(&path, OFlags::RDWR | OFlags::NONBLOCK)?),
            Output::File(path) => Some(log_file(&path)?),
            Output::Program { path, arguments } => {
                let mut logger = Self::default();
                logger.log_by(&path, &arguments, names)?;
                opened.logger = logger.logger.take();
                logger.given[1].take()
            }
        };
        if let Some(to) = to {
            opened.outputs.push(Pump::start(copy()?, to)?);
        }
        Ok(opened)
    }

    fn output(&mut self, number: usize, output: Output) -> Result<()> {
        match output {
            Output::None => {}
            Output::Fifo(path) => {
                self.kept.push(open(&path, OFlags::RDWR | OFlags::NONBLOCK)?);
                self.given[number] = Some(open(&path, OFlags::WRONLY)?);
            }
            Output::File(path) => {
                let (from, to) = pipe()?;
                self.outputs.push(Pump::start(from, log_file(&path)?)?);
                self.given[number] = Some(to);
            }
            Output::Program { .. } => return Err(Fault::unknown("a logging program takes stdout and stderr together")),
        }
        Ok(())
    }

    /// Starts a logging program, and waits until it says that it is ready, by closing its descriptor 5.
    ///
    /// It reads the container's output at 3 and its errors at 4 (containerd, docs: Runtime v2, logging).
    fn log_by(&mut self, program: &Path, arguments: &[OsString], names: [&str; 2]) -> Result<()> {
        let (stdout, out) = pipe()?;
        let (stderr, err) = pipe()?;
        let (ready, readiness) = pipe()?;
        let mut command = Command::new(program);
        command.args(arguments).env("CONTAINER_ID", names[0]).env("CONTAINER_NAMESPACE", names[1]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        with_files(with_default_signals(&mut command), vec![stdout, stderr, readiness])?;
        // The reaper takes its end.
        let mut logger = command.spawn().call("spawn", program.display())?;
        let running = Logger::new(&logger).inspect_err(|_| drop(logger.kill()))?;
        // The command holds the writing end until it goes.
        drop(command);
        let ready = &mut [PollFd::new(&ready, PollFlags::IN)];
        if rustix::io::retry_on_intr(|| poll(ready, Some(&READY))).call("poll", "readiness")? == 0 {
            // It may have ended.
            let _ = logger.kill();
            let program = program.display();
            return Err(Fault::unknown(format!("{program} didn't close its descriptor 5 within {} s", READY.tv_sec)));
        }
        self.logger = Some(running);
        self.given[1] = Some(out);
        self.given[2] = Some(err);
        Ok(())
    }
}

/// Where output goes.
#[derive(Debug, PartialEq, Eq)]
enum Output {
    None,
    Fifo(PathBuf),
    File(PathBuf),
    Program { path: PathBuf, arguments: Vec<OsString> },
}

impl Output {
    fn parse(uri: &str) -> Result<Self> {
        let Some((scheme, rest)) = uri.split_once("://") else {
            return Ok(if uri.is_empty() { Self::None } else { Self::Fifo(uri.into()) });
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let path = || PathBuf::from(unescape(path));
        match scheme {
            "fifo" => Ok(Self::Fifo(path())),
            "file" => Ok(Self::File(path())),
            // ?key=value&flag: its arguments, one after another.
            "binary" => {
                let words = query.split('&').flat_map(|pair| pair.split('=')).filter(|word| !word.is_empty());
                Ok(Self::Program { path: path(), arguments: words.map(unescape).collect() })
            }
            _ => Err(Fault::unknown(format!("output to {uri} is not supported: use a fifo, file:// or binary://"))),
        }
    }
}

/// Undoes %20 and the like.
fn unescape(text: &str) -> OsString {
    let mut result = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let digits = tail.get(..2).filter(|_| first == b'%').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                result.push(byte);
                rest = &tail[2..];
            }
            None => {
                result.push(first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(result)
}

fn fifo(name: &str) -> Result<&Path> {
    let path = name.strip_prefix("fifo://").unwrap_or(name);
    if path.contains("://") {
        Err(Fault::unknown(format!("input from {name} is not supported")))
    } else {
        Ok(Path::new(path))
    }
}

fn open(path: &Path, flags: OFlags) -> Result<OwnedFd> {
    Ok(rustix::fs::open(path, flags | OFlags::CLOEXEC | OFlags::NOCTTY, Mode::empty()).call("open", path.display())?)
}

fn log_file(path: &Path) -> Result<OwnedFd> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).call("mkdir", folder.display())?;
    }
    let file = OpenOptions::new().append(true).create(true).open(path).call("open", path.display())?;
    Ok(file.as_fd().try_clone_to_owned().call("fcntl", "F_DUPFD_CLOEXEC")?)
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    Ok(pipe_with(PipeFlags::CLOEXEC).call("pipe2", "O_CLOEXEC")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_named_in_several_ways() {
        assert_eq!(Output::parse(""), Ok(Output::None));
        assert_eq!(Output::parse("/run/x-stdout"), Ok(Output::Fifo("/run/x-stdout".into())));
        assert_eq!(Output::parse("file:///var/log/a%20b"), Ok(Output::File("/var/log/a b".into())));
        let program =
            Output::Program { path: "/bin/log".into(), arguments: vec!["--to".into(), "x=y".into(), "-v".into()] };
        assert_eq!(Output::parse("binary:///bin/log?--to=x%3Dy&-v"), Ok(program));
        assert!(Output::parse("npipe://x").is_err());
        assert!(fifo("vsock://3").is_err());
    }

    #[test]
    fn a_log_file_s_folder_is_made() {
        let top = std::env::temp_dir().join(format!("shim-log-folder-{}", std::process::id()));
        log_file(&top.join("a/b/log")).unwrap();
        assert!(top.join("a/b/log").is_file());
        fs::remove_dir_all(&top).unwrap();
    }

    #[tokio::test]
    async fn a_logging_program_gets_both_outputs_and_says_when() {
        let file = std::env::temp_dir().join(format!("shim-logger-{}", std::process::id()));
        let script = file.with_extension("sh");
        let text = format!(
            "#!/bin/sh\necho \"$CONTAINER_NAMESPACE/$CONTAINER_ID $*\" > {0}\nexec 5>&-\ncat <&3 >> {0}\ncat <&4 >> {0}\n",
            file.display()
        );
        std::fs::write(&script, text).unwrap();
        let streams = Streams { stdout: format!("binary:///bin/sh?{}&-x", script.display()), ..Streams::default() };
        let mut opened = Opened::plain(&streams, &Options::default(), ["web", "ns"]).unwrap();
        // Before it was ready it wrote its first line.
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "ns/web -x\n");
        for (number, word) in [(2, "err\n"), (1, "out\n")] {
            let to = opened.given[number].take().unwrap();
            rustix::io::write(&to, word.as_bytes()).unwrap();
        }
        // It is this process's only child of a test's thread that ends by itself.
        while std::fs::read_to_string(&file).unwrap() != "ns/web -x\nout\nerr\n" {
            std::thread::yield_now();
        }
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(&script).unwrap();
    }
}
