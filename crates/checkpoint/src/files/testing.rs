//! For the tests of the kinds of files: dump descriptors of this process or of a child, and restore them here.
#![cfg(test)]

use super::dump::FileDumper;
use super::kind::Files;
use super::restore::OpenFiles;
use super::{Blocker, DumpEnv, External, FileId, FileOptions, RestoreEnv};
use crate::Result;
use crate::image::blob::{Reader, Writer};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

/// A directory that goes away with the test.
pub(crate) struct TempDir(PathBuf);

impl TempDir {
    pub(crate) fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let n = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("files-test-{}-{n}", std::process::id()));
        std::fs::create_dir(&path).unwrap();
        Self(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for TempDir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// The contents of an image, data-N.img, and nothing else of it.
pub(crate) struct Contents(TempDir);

impl Contents {
    pub(crate) fn new() -> Self {
        Self(TempDir::new())
    }
    pub(crate) fn path(&self) -> PathBuf {
        self.0.path().join("data.img")
    }
    pub(crate) fn writer(&self) -> Writer {
        Writer::new(File::create_new(self.path()).unwrap()).unwrap()
    }
    pub(crate) fn reader(&self) -> Reader {
        Reader::new(File::open(self.path()).unwrap()).unwrap()
    }
}

/// What a dump gave.
pub(crate) struct Dumped<T> {
    pub(crate) files: Result<Files>,
    pub(crate) blockers: Vec<Blocker>,
    /// What `add` returned.
    pub(crate) added: T,
    image: TempDir,
    /// What lasts as long as the dump.
    _held: Vec<Box<dyn super::Held>>,
}

/// How [`dump_with`] dumps.
#[derive(Default)]
pub(crate) struct How {
    pub(crate) options: FileOptions,
    pub(crate) externals: Vec<External>,
    pub(crate) check_only: bool,
}

/// Dumps what `add` adds of the container whose first task is `init`.
pub(crate) fn dump_with<T>(init: i32, how: &How, add: impl FnOnce(&mut FileDumper<'_>) -> T) -> Dumped<T> {
    let image = TempDir::new();
    let dir = std::fs::File::open(image.path()).unwrap();
    let mut blobs = Writer::create(dir.as_fd()).unwrap();
    let mut blockers = Vec::new();
    let env = DumpEnv {
        init,
        options: &how.options,
        externals: &how.externals,
        blobs: &mut blobs,
        blockers: &mut blockers,
        check_only: how.check_only,
        kills: false,
    };
    let mut dumper = FileDumper::new(env).unwrap();
    let added = add(&mut dumper);
    let files = dumper.finish();
    let (files, held) = match files {
        Ok((files, held)) => (Ok(files), held),
        Err(e) => (Err(e), Vec::new()),
    };
    // What a restore sees has been through the image.
    let files = files.map(|f| serde_json::from_str(&serde_json::to_string_pretty(&f).unwrap()).unwrap());
    Dumped { files, blockers, added, image, _held: held }
}

/// Dumps descriptors of this process, which is its own container.
pub(crate) fn dump_ours(files: &[&dyn AsFd]) -> Dumped<Vec<FileId>> {
    dump_with(us(), &How::default(), |dumper| {
        let add = |fd: &&dyn AsFd| {
            let fd = fd.as_fd().try_clone_to_owned().unwrap();
            dumper.add_descriptor_of_ours(fd, us(), "test").unwrap()
        };
        files.iter().map(add).collect()
    })
}

/// This process's pid.
pub(crate) fn us() -> i32 {
    std::process::id() as i32
}

impl<T> Dumped<T> {
    /// Where contents are.
    pub(crate) fn blobs(&self) -> Reader {
        Reader::open(std::fs::File::open(self.image.path()).unwrap().as_fd()).unwrap()
    }

    /// Makes all files anew in the namespaces of `init`.
    pub(crate) fn restore_in(&self, init: i32) -> Result<OpenFiles> {
        let files = self.files.as_ref().expect("the dump succeeded");
        let (blobs, externals) = (self.blobs(), BTreeMap::new());
        let env = RestoreEnv { init, blobs: &blobs, externals: &externals, cgroup: None };
        let pids = BTreeMap::from([(us(), us()), (1, us())]);
        let mut open = OpenFiles::open_all(files, &env)?;
        open.open_with_tasks(files, &env, &pids)?;
        open.finish(files, &env, &pids)?;
        Ok(open)
    }

    /// Makes all files anew here.
    pub(crate) fn restore(&self) -> OpenFiles {
        self.restore_in(us()).unwrap()
    }
}

impl OpenFiles {
    /// A copy of a restored descriptor.
    pub(crate) fn copy(&self, id: FileId) -> OwnedFd {
        self.get(id).unwrap().try_clone_to_owned().unwrap()
    }
}

/// A shell that says when its script is done and then waits; it ends with the test, however that ends:
/// its standard input is a pipe of ours.
pub(crate) struct Shell(std::process::Child);

impl Shell {
    /// Runs `script` in a shell at `path`.
    pub(crate) fn at(path: &Path, script: &str) -> Self {
        Self::spawn(std::process::Command::new(path).arg("-c"), script)
    }

    /// Runs `script` in a shell.
    pub(crate) fn new(script: &str) -> Self {
        Self::at(Path::new("/bin/bash"), script)
    }

    /// Runs `script` in a shell in new mount, UTS, network and IPC namespaces.
    pub(crate) fn in_namespaces(script: &str) -> Self {
        Self::in_namespaces_with("", script)
    }

    /// As [`Shell::in_namespaces`], with further options of unshare(1).
    pub(crate) fn in_namespaces_with(options: &str, script: &str) -> Self {
        let mut unshare = std::process::Command::new("unshare");
        unshare.args(["--mount", "--uts", "--net", "--ipc"]).args(options.split_ascii_whitespace());
        Self::spawn(unshare.args(["bash", "-c"]), script)
    }

    fn spawn(command: &mut std::process::Command, script: &str) -> Self {
        use std::process::Stdio;
        // Whoever started the tests may have left descriptors open.
        let close = "for f in /proc/self/fd/*; do n=${f##*/}; [ $n -le 2 ] || eval \"exec $n>&-\"; done";
        let command =
            command.arg(format!("{close}\n{script}\necho ready; read x")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut shell = Self(command.spawn().unwrap());
        let mut answer = [0; 6];
        let out = shell.0.stdout.as_mut().unwrap();
        std::io::Read::read_exact(out, &mut answer).expect("the script succeeds");
        shell
    }

    pub(crate) fn pid(&self) -> i32 {
        self.0.id() as i32
    }

    pub(crate) fn pidfd(&self) -> OwnedFd {
        rtc_sys::pidfd::open(self.pid()).unwrap()
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
