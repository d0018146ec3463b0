//! Makes a container's open file descriptions anew, each once.
//!
//! The order: [`OpenFiles::open_all`] before the tree exists; [`OpenFiles::open_with_tasks`] when all tasks do;
//! [`OpenFiles::after_table`] for each table when it is in place, its program run in that task;
//! [`OpenFiles::finish`] once, before any task runs.

use super::inside::inside;
use super::kind::{FileKind, Files, OpenFile, Owner};
use super::restoring::{Kept, Restore};
use super::{Descriptor, FileId, FileRef, RestoreEnv, Stage, Table, unknown_file};
use crate::error::{Context as _, Result, bad_image};
use crate::program::{Program, TargetFd};
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// Status flags that F_SETFL changes (fcntl(2)); the others are given when a file is opened.
const SETTABLE: i32 = libc::O_APPEND | libc::O_NONBLOCK | libc::O_DIRECT | libc::O_NOATIME;

/// One descriptor of ours for each description of an image.
pub struct OpenFiles {
    /// By [`FileId`].
    opened: Vec<Option<OwnedFd>>,
    /// Those whose `after_table` has said that it is done.
    done: BTreeSet<FileId>,
    /// The host's.
    proc: OwnedFd,
    kept: Kept,
}

impl OpenFiles {
    /// Opens all descriptions that can be opened before the tree exists.
    ///
    /// # Errors
    /// When one can't be made, or when the image is wrong.
    pub fn open_all(files: &Files, env: &RestoreEnv<'_>) -> Result<Self> {
        raise_descriptor_limit()?;
        for (n, file) in files.files.iter().enumerate() {
            if file.id.index() != n {
                return Err(bad_image(format!("{} stands at position {n}", file.id)));
            }
        }
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let proc = rustix::fs::open("/proc", flags, Mode::empty()).call("open", "/proc, O_PATH")?;
        let opened = files.files.iter().map(|_| None).collect();
        let mut all = Self { opened, done: BTreeSet::new(), proc, kept: Kept::default() };
        all.open_stage(files, env, Stage::BeforeTasks, &BTreeMap::new())?;
        Ok(all)
    }

    /// Opens those that name tasks, and sets the owners of signals.
    /// `pids` gives the host's pid or tid for each of the container's.
    ///
    /// # Errors
    /// As [`OpenFiles::open_all`].
    pub fn open_with_tasks(&mut self, files: &Files, env: &RestoreEnv<'_>, pids: &BTreeMap<i32, i32>) -> Result<()> {
        self.open_stage(files, env, Stage::WithTasks, pids)?;
        for file in &files.files {
            if let Some(owner) = file.owner {
                let fd = self.get(file.id)?;
                set_owner(fd, owner, pids).context(|| format!("{} ({})", file.id, file.file.name()))?;
            }
        }
        Ok(())
    }

    /// The descriptor of ours for a description.
    ///
    /// # Errors
    /// When the image has none of that name, or it isn't open yet.
    pub fn get(&self, id: FileId) -> Result<BorrowedFd<'_>> {
        let fd = self.opened.get(id.index()).and_then(Option::as_ref);
        fd.map(AsFd::as_fd).ok_or_else(|| unknown_file(id))
    }

    /// What the task `pid` (the container's count) must do itself, with `table` in place.
    ///
    /// # Errors
    /// When the image is wrong.
    pub fn after_table(&mut self, files: &Files, table: &[Descriptor], pid: i32) -> Result<Program> {
        let mut program = Program::new();
        let table = Table { pid, descriptors: table };
        for descriptor in table.descriptors {
            let Some(file) = files.files.get(descriptor.file.index()) else {
                return Err(unknown_file(descriptor.file));
            };
            let first = !self.done.contains(&file.id);
            for lock in &file.locks {
                lock.take_in_task(pid, descriptor.fd, first, &mut program)?;
            }
            if !self.done.contains(&file.id) && file.file.after_table(table, descriptor.fd, &mut program)? {
                async_flag(file, descriptor.fd, &mut program);
                self.done.insert(file.id);
            }
        }
        Ok(program)
    }

    /// The last touch: queues that carry descriptors, timers, repair modes.
    ///
    /// # Errors
    /// As [`OpenFiles::open_all`].
    pub fn finish(&mut self, files: &Files, env: &RestoreEnv<'_>, pids: &BTreeMap<i32, i32>) -> Result<()> {
        if !files.files.iter().any(|file| file.file.finishes() || file.file.is_together()) {
            return Ok(());
        }
        let Self { opened, proc, kept, .. } = self;
        inside(env.init, || {
            let mut cx = Restore::new(env, opened, proc, pids, kept)?;
            for file in files.files.iter().filter(|file| file.file.finishes()) {
                file.file.finish(file_ref(file), &mut cx).context(|| noun(file))?;
            }
            FileKind::together(files, None, &mut cx)
        })
    }

    fn open_stage(
        &mut self,
        files: &Files,
        env: &RestoreEnv<'_>,
        stage: Stage,
        pids: &BTreeMap<i32, i32>,
    ) -> Result<()> {
        let of_stage = |file: &&OpenFile| file.file.stage() == stage;
        if !files.files.iter().any(|file| of_stage(&file)) {
            return Ok(());
        }
        let Self { opened, proc, kept, .. } = self;
        inside(env.init, || {
            let mut cx = Restore::new(env, opened, proc, pids, kept)?;
            FileKind::together(files, Some(stage), &mut cx)?;
            for file in files.files.iter().filter(of_stage) {
                open(file, &mut cx).context(|| noun(file))?;
            }
            Ok(())
        })
    }
}

fn noun(file: &OpenFile) -> String {
    format!("{} ({})", file.id, file.file.name())
}

fn file_ref(file: &OpenFile) -> FileRef {
    FileRef { id: file.id, flags: file.flags }
}

fn open(file: &OpenFile, cx: &mut Restore<'_>) -> Result<()> {
    if cx.opened(file.id).is_err() {
        let fd = file.file.open(file_ref(file), cx)?;
        cx.place(file.id, fd)?;
    }
    // What came from outside is shared with whoever gave it, and keeps its flags.
    if file.file.is_external() || file.flags & libc::O_PATH != 0 {
        return Ok(());
    }
    let fd = cx.opened(file.id)?;
    set_flags(fd, file.flags)?;
    file.locks.iter().try_for_each(|lock| lock.take(fd))
}

/// Allows this process as many descriptors as it may have: it is about to hold all of a container's at once, some under
/// the numbers they had (epoll).
fn raise_descriptor_limit() -> Result<()> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).call("getrlimit", "RLIMIT_NOFILE")?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).call("setrlimit", format_args!("RLIMIT_NOFILE, {hard}"))?;
    }
    Ok(())
}

/// Gives a description the status flags it had; the access mode must be right already.
fn set_flags(fd: BorrowedFd<'_>, wanted: i32) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).call("fcntl", "F_GETFL")?;
    if (flags ^ wanted) & libc::O_ACCMODE != 0 {
        return Err(bad_image(format!("opened with flags {flags:#o} where the image says {wanted:#o}")));
    }
    if (flags ^ wanted) & SETTABLE == 0 {
        return Ok(());
    }
    let flags = OFlag::from_bits_retain(flags & !SETTABLE | wanted & SETTABLE);
    fcntl(fd, FcntlArg::F_SETFL(flags)).call("fcntl", format_args!("F_SETFL, {flags:?}"))?;
    Ok(())
}

/// O_ASYNC must be set by a task that holds the file, under its number there: the signal's si_fd is that number.
fn async_flag(file: &OpenFile, fd: TargetFd, program: &mut Program) {
    if file.flags & libc::O_ASYNC != 0 {
        let flags = file.flags & (SETTABLE | libc::O_ASYNC);
        program.call(libc::SYS_fcntl, [fd.into(), libc::F_SETFL.into(), flags.into()]);
    }
}

/// The tracer sets owners itself, as the user who did it first: no task needs to be told.
fn set_owner(fd: BorrowedFd<'_>, owner: Owner, pids: &BTreeMap<i32, i32>) -> Result<()> {
    use rtc_sys::fdio;
    fdio::set_signal(fd, owner.signal)?;
    if owner.pid == 0 {
        return Ok(());
    }
    let Some(pid) = pids.get(&owner.pid) else {
        return Err(bad_image(format!("its signals go to pid {}, which is not in the image", owner.pid)));
    };
    let to = fdio::Owner { kind: owner.kind, pid: *pid };
    // Threads have credentials of their own, and this one ends here.
    super::inside::own_thread(|| Ok(fdio::as_user(owner.uids.0, owner.uids.1, || fdio::set_owner(fd, to))?))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{TempDir, dump_ours, us};
    use serde_json::{Value, json};
    use std::fs::File;
    use std::os::fd::AsFd;

    /// Paths to all numbers and strings of a JSON value.
    fn leaves(value: &Value, at: &str, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &format!("{at}/{key}"), found)),
            Value::Array(list) => {
                list.iter().enumerate().for_each(|(n, value)| leaves(value, &format!("{at}/{n}"), found));
            }
            Value::Number(_) | Value::String(_) => found.push(at.to_owned()),
            _ => {}
        }
    }

    #[test]
    fn whatever_an_image_says_restore_answers_with_a_result() {
        let dir = TempDir::new();
        std::fs::write(dir.path().join("named"), "x").unwrap();
        let ghost = File::options().read(true).write(true).create_new(true).open(dir.path().join("ghost")).unwrap();
        std::fs::remove_file(dir.path().join("ghost")).unwrap();
        rustix::fs::flock(&ghost, rustix::fs::FlockOperation::LockShared).unwrap();
        let ghost_again = File::open(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&ghost))).unwrap();
        let memfd = rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::ALLOW_SEALING).unwrap();
        let named = File::open(dir.path().join("named")).unwrap();
        let (folder, device) = (File::open(dir.path()).unwrap(), File::open("/dev/zero").unwrap());
        let files: [&dyn AsFd; 6] = [&named, &ghost, &ghost_again, &memfd, &folder, &device];
        let mut dumped = dump_ours(&files);
        drop(ghost);
        let good = serde_json::to_value(dumped.files.as_ref().unwrap()).unwrap();
        let mut paths = Vec::new();
        leaves(&good, "", &mut paths);
        assert!(paths.len() > 50, "{paths:?}");
        let (mut refused, mut taken) = (0, 0);
        for path in &paths {
            let numbers = [json!(0), json!(-1), json!(u32::MAX), json!(i64::MAX), json!(u64::MAX)];
            let strings =
                [json!(""), json!("/"), json!("../../../x"), json!("\\x00"), json!("/proc/self/root/dev/zero")];
            let number = good.pointer(path).is_some_and(Value::is_number);
            for bad in if number { numbers } else { strings } {
                let mut altered = good.clone();
                *altered.pointer_mut(path).unwrap() = bad;
                let Ok(files) = serde_json::from_value(altered) else { continue };
                dumped.files = Ok(files);
                match dumped.restore_in(us()) {
                    Ok(_) => taken += 1,
                    Err(e) => {
                        assert!(!e.to_string().contains("panicked"), "{path}: {e}");
                        refused += 1;
                    }
                }
            }
        }
        assert!(refused > 40 && taken > 40, "{refused} {taken}");
        let left: Vec<_> = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["named"]);
    }
}
