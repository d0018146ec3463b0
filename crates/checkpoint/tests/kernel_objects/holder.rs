//! A child that holds descriptors, its dump, and its restore into descriptors of ours.

use crate::image_dir::ImageDir;
use rtc_checkpoint::files::dump::FileDumper;
use rtc_checkpoint::files::inside::own_thread;
use rtc_checkpoint::files::kind::Files;
use rtc_checkpoint::files::restore::OpenFiles;
use rtc_checkpoint::files::{Blocker, Descriptor, DumpEnv, External, FileId, FileOptions, RestoreEnv};
use rtc_checkpoint::image::blob::{Reader, Writer};
use rtc_checkpoint::proc::Proc;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// The first number that a holder's descriptors have; those of the test are below.
pub(crate) const FIRST: i32 = 500;

/// Keeps the tests apart: between fork and exec, a child of one test has copies of another's descriptors.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process that holds what it was given and does nothing. It ends when its standard input does, so with the test.
pub(crate) struct Holder {
    child: Child,
    given: Vec<i32>,
    /// Its standard input, which ends with us.
    _end: OwnedFd,
}

impl Holder {
    /// Gives a child each of `fds`, under the numbers from [`FIRST`] on.
    pub(crate) fn new(fds: &[BorrowedFd<'_>]) -> Self {
        let numbered: Vec<_> = fds.iter().enumerate().map(|(n, fd)| (*fd, FIRST + n as i32)).collect();
        Self::numbered(&numbered)
    }

    /// Gives a child each of `fds` under the number that stands with it.
    pub(crate) fn numbered(fds: &[(BorrowedFd<'_>, i32)]) -> Self {
        Self::command(Command::new("cat"), fds)
    }

    /// As [`Holder::numbered`], with another program than cat(1), which reads its standard input in the end, too.
    pub(crate) fn command(mut command: Command, fds: &[(BorrowedFd<'_>, i32)]) -> Self {
        let (input, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        command.stdin(input).stdout(Stdio::null());
        let child = own_thread(|| {
            // The child inherits the table of the thread that makes it; the numbers are free there, and others that
            // tests running beside this one have open are close-on-exec.
            rtc_sys::fdio::renumber_in_own_table(&[])?;
            let mut kept = Vec::new();
            for (fd, number) in fds {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, *number).unwrap();
                assert_eq!(copy.as_raw_fd(), *number, "a number above {FIRST} is in use");
                rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
                kept.push(copy);
            }
            Ok(command.spawn().unwrap())
        });
        let holder = Self { child: child.unwrap(), given: fds.iter().map(|(_, number)| *number).collect(), _end: end };
        // It waits for input: the loader has closed its libraries.
        while !Proc(holder.pid()).text("syscall").unwrap().starts_with("0 0x0 ") {
            std::thread::yield_now();
        }
        holder
    }

    /// A process without anything.
    pub(crate) fn idle() -> Self {
        Self::new(&[])
    }

    /// Its pid.
    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a dump found.
pub(crate) struct Image {
    pub(crate) files: Files,
    pub(crate) tables: Vec<Vec<Descriptor>>,
    externals: Vec<String>,
    dir: ImageDir,
}

impl Image {
    /// Makes all files anew.
    pub(crate) fn restore(&self) -> Restored {
        self.restore_with(&BTreeMap::new())
    }

    /// Makes all files anew; `pids` gives the new pid for each of the container's.
    pub(crate) fn restore_with(&self, pids: &BTreeMap<i32, i32>) -> Restored {
        self.restore_in(&Holder::idle(), pids)
    }

    /// Makes all files anew in the namespaces of `init`.
    pub(crate) fn restore_in(&self, init: &Holder, pids: &BTreeMap<i32, i32>) -> Restored {
        // Through text, as an image is.
        let text = serde_json::to_string(&self.files).unwrap();
        let files: Files = serde_json::from_str(&text).unwrap();
        let blobs = Reader::open(self.dir.fd().as_fd()).unwrap();
        let null = |name: &String| (name.clone(), std::fs::File::open("/dev/null").unwrap().into());
        let externals: BTreeMap<String, OwnedFd> = self.externals.iter().map(null).collect();
        let env = RestoreEnv { init: init.pid(), blobs: &blobs, externals: &externals, cgroup: None };
        let mut open = OpenFiles::open_all(&files, &env).unwrap();
        open.open_with_tasks(&files, &env, pids).unwrap();
        for table in &self.tables {
            let program = open.after_table(&files, table, 1).unwrap();
            assert!(program.is_empty(), "{program}");
        }
        open.finish(&files, &env, pids).unwrap();
        let numbers = self.tables.iter().flatten().map(|d| (d.fd.0, d.file));
        Restored { numbers: numbers.collect(), open }
    }
}

/// What a restore made.
pub(crate) struct Restored {
    numbers: BTreeMap<i32, FileId>,
    open: OpenFiles,
}

impl Restored {
    /// A descriptor of ours of what a holder had under the number `fd`.
    pub(crate) fn get(&self, fd: i32) -> OwnedFd {
        self.open.get(self.numbers[&fd]).unwrap().try_clone_to_owned().unwrap()
    }
}

/// Dumps the tables of holders; what can't be saved is given as text.
pub(crate) fn try_dump(holders: &[&Holder]) -> Result<Image, Vec<String>> {
    let dir = ImageDir::new();
    let mut blobs = Writer::create(dir.fd().as_fd()).unwrap();
    let mut blockers: Vec<Blocker> = Vec::new();
    let externals: Vec<External> = holders.iter().flat_map(|h| strays(h)).collect();
    let env = DumpEnv {
        init: holders[0].pid(),
        options: &FileOptions::default(),
        externals: &externals,
        blobs: &mut blobs,
        blockers: &mut blockers,
        check_only: false,
        kills: false,
    };
    let mut dumper = FileDumper::new(env).unwrap();
    let mut tables = Vec::new();
    for holder in holders {
        tables.push(dumper.add_table(holder.pid(), rtc_sys::pidfd::open(holder.pid()).unwrap()).unwrap());
    }
    let files = dumper.finish();
    if !blockers.is_empty() {
        assert!(files.is_err());
        return Err(blockers.iter().map(ToString::to_string).collect());
    }
    Ok(Image { files: files.unwrap().0, tables, externals: externals.into_iter().map(|e| e.name).collect(), dir })
}

/// Dumps one holder.
pub(crate) fn dump(holder: &Holder) -> Image {
    try_dump(&[holder]).unwrap()
}

/// Gives `fds` to a holder, dumps it, lets it and them go, and makes them anew.
pub(crate) fn copy(fds: Vec<OwnedFd>) -> Restored {
    let holder = Holder::new(&fds.iter().map(AsFd::as_fd).collect::<Vec<_>>());
    let image = dump(&holder);
    drop((holder, fds));
    image.restore()
}

/// The fdinfo text of a descriptor of ours.
pub(crate) fn fdinfo(fd: impl AsFd) -> String {
    std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd())).unwrap()
}

/// Everything that a holder has besides what it was given: its stdio, and what the test itself inherited.
fn strays(holder: &Holder) -> Vec<External> {
    let pid = holder.pid();
    let external = |n: i32| {
        let path = format!("/proc/{pid}/fd/{n}");
        let link = std::fs::read_link(&path).unwrap().into_os_string().into_string().unwrap();
        let stat = rustix::fs::stat(&path).unwrap();
        External { name: format!("{pid}:{n}"), link, dev: stat.st_dev, ino: stat.st_ino }
    };
    let numbers = Proc(pid).numbers("fd").unwrap();
    numbers.into_iter().filter(|n| !holder.given.contains(n)).map(external).collect()
}
