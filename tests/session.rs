//! A program in a container that takes commands on its standard input and answers on its standard output.
//!
//! Input is a FIFO that the program itself holds open, output a plain file, both in a folder that the host shares.
//! So nothing of the host is attached to the container while it is saved.

use crate::watch;
use rustix::fs::{Mode, OFlags, open};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Makes a FIFO that everybody may use.
///
/// # Panics
/// Where it can't be made.
pub fn make_fifo(path: &Path) {
    let mode = Mode::from(0o666);
    rustix::fs::mknodat(rustix::fs::CWD, path, rustix::fs::FileType::Fifo, mode, 0).expect("mkfifo");
    // The umask may have taken some of it away.
    rustix::fs::chmod(path, mode).expect("chmod");
}

/// Writes to a FIFO that a program in the container holds open.
///
/// # Panics
/// Where nobody does.
#[track_caller]
pub fn send(fifo: &Path, text: &str) {
    let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let end = open(fifo, flags, Mode::empty());
    let end = end.unwrap_or_else(|e| panic!("nobody listens at {}: {e}", fifo.display()));
    File::from(end).write_all(text.as_bytes()).expect("write to a FIFO");
}

/// The host's side of a talk with one program.
#[derive(Debug)]
pub struct Session {
    input: PathBuf,
    output: PathBuf,
    /// How much of the output has been read.
    seen: usize,
}

impl Session {
    /// Makes the FIFO `NAME.in` and the file `NAME.out` in a folder shared with the container.
    ///
    /// # Panics
    /// Where they can't be made.
    pub fn new(folder: &Path, name: &str) -> Self {
        let (input, output) = (folder.join(format!("{name}.in")), folder.join(format!("{name}.out")));
        let _ = (fs::remove_file(&input), fs::remove_file(&output));
        make_fifo(&input);
        Self { input, output, seen: 0 }
    }

    /// The shell redirections that connect a program to this session, where the folder is at `/ctl`.
    pub fn redirections(&self) -> String {
        let name = |path: &Path| path.file_name().expect("a file").to_string_lossy().into_owned();
        // Open for writing as well, or the first writer that leaves would mean the end of the input.
        format!("0<>/ctl/{} >/ctl/{} 2>&1", name(&self.input), name(&self.output))
    }

    /// Waits until the program has opened both ends.
    ///
    /// # Panics
    /// Where that doesn't happen.
    #[track_caller]
    pub(crate) fn wait_for_reader(&self, alive: &OwnedFd) {
        // The shell opens its redirections from left to right: the output appears after the input is open.
        let folder = self.output.parent().expect("a file in a folder");
        let there = watch::changes(folder, Some(alive), PATIENCE, || self.output.exists().then_some(()));
        assert!(there.is_some(), "nobody opened {}", self.input.display());
    }

    /// Sends one line.
    ///
    /// # Panics
    /// Where nobody holds the other end.
    #[track_caller]
    pub fn say(&self, line: &str) {
        send(&self.input, &format!("{line}\n"));
    }

    /// Waits until the output since the last call contains `text`, and returns that output.
    ///
    /// # Panics
    /// Where it doesn't come.
    #[track_caller]
    pub fn expect(&mut self, text: &str, alive: Option<&OwnedFd>) -> String {
        let seen = self.seen;
        let found = watch::until(&self.output, alive, PATIENCE, |all| {
            let new = all.get(seen..)?;
            new.contains(text).then(|| new.to_owned())
        });
        match found {
            Ok(answer) => {
                self.seen += answer.len();
                answer
            }
            Err(all) => panic!("{}: {text:?} did not come; last: {:?}", self.output.display(), all.get(seen..)),
        }
    }

    /// Sends one line and waits for the answer.
    ///
    /// # Panics
    /// Where it doesn't come.
    #[track_caller]
    pub fn ask(&mut self, line: &str, answer: &str) -> String {
        self.say(line);
        self.expect(answer, None)
    }

    /// Says that output up to now is of no interest.
    pub fn skip(&mut self) {
        self.seen = fs::read(&self.output).map_or(0, |all| String::from_utf8_lossy(&all).len());
    }
}
