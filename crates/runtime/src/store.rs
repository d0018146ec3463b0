//! A container's directory of state: made, locked, read, replaced, removed.
//!
//! `ROOT/ID/state.json` (mode 0600) is replaced atomically and small: what `state`, `kill` and `delete` need.
//! `ROOT/ID/config.json` is the configuration as it was when the container was created.
//! `ROOT/ID/exec.fifo` exists as long as init waits for `start`.
//! The directory itself carries the lock (flock(2)), so that there is no lock file to be left behind.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use oci_spec::runtime::Hook;
use rtc_sys::clone::flags;
use rtc_sys::{CallExt, Errno};
use rustix::fs::{CWD, FileType, FlockOperation, Mode, OFlags, RenameFlags};
use serde::{Deserialize, Serialize};

use crate::cgroup::Placement;
use crate::error::{Context, Error, Kind, Result};
use crate::namespaces::Namespaces;
use crate::rootfs::inherited;
use crate::state::Stdio;

const STATE: &str = "state.json";
/// The record that is to replace it.
const NEW_STATE: &str = "state.json.new";
const CONFIG: &str = "config.json";
const FIFO: &str = "exec.fifo";
const NOTIFY: &str = "notify";
const ANCHOR: &str = "rootfs";
/// The version of state.json that this program writes and reads.
const VERSION: u32 = 1;

/// What is written down of a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    version: u32,
    pub(crate) id: String,
    pub(crate) oci_version: String,
    pub(crate) bundle: PathBuf,
    pub(crate) rootfs: PathBuf,
    pub(crate) created: String,
    pub(crate) owner: u32,
    #[serde(default, skip_serializing_if = "HashMap::is_empty")]
    pub(crate) annotations: HashMap<String, String>,
    /// Where its cgroup is; written before the cgroup is made.
    pub(crate) cgroup: Option<Placement>,
    /// Whether that cgroup was made by us; until then nothing in it may be killed.
    #[serde(default)]
    pub(crate) cgroup_made: bool,
    /// Whether init is the first of a pid namespace, whose end ends all others.
    pub(crate) own_pid_namespace: bool,
    /// It has no mount namespace of its own: its mounts are in the runtime's, below a directory of its state.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) inherits_mounts: bool,
    /// Its limit of memory and swap together, which a new memory limit leaves as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) memory_swap: Option<i64>,
    /// Where its processes are in resctrl.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) rdt: Option<crate::rdt::Placed>,
    /// The name by which later processes join the session keyring; `None` with `--no-new-keyring`.
    #[serde(default)]
    pub(crate) keyring: Option<String>,
    /// The hooks that later commands run, from config.json: it is long, and they need nothing else of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) poststop: Vec<Hook>,
    /// `None` while the container is being created.
    pub(crate) init: Option<Init>,
}

/// The container's first process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Init {
    /// As the host counts.
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat, in clock ticks: tells it from a later process with its number.
    pub(crate) start_time: u64,
    pub(crate) stdio: [Stdio; 3],
}

impl Record {
    /// A record of a container that is being created.
    pub(crate) fn new(
        id: &str,
        bundle: &crate::bundle::Bundle,
        cgroup: Option<Placement>,
        namespaces: &Namespaces,
    ) -> Self {
        let hooks = bundle.spec.hooks().as_ref();
        let resources = bundle.spec.linux().as_ref().and_then(|linux| linux.resources().as_ref());
        Self {
            version: VERSION,
            id: id.to_owned(),
            oci_version: bundle.spec.version().clone(),
            bundle: bundle.dir.clone(),
            rootfs: bundle.rootfs.clone(),
            created: crate::state::timestamp(std::time::SystemTime::now()),
            owner: bundle.entered_by.unwrap_or_else(|| rustix::process::getuid().as_raw()),
            annotations: bundle.spec.annotations().clone().unwrap_or_default(),
            cgroup,
            cgroup_made: false,
            own_pid_namespace: namespaces.new & flags::NEWPID != 0,
            inherits_mounts: !namespaces.has(flags::NEWNS),
            memory_swap: resources.and_then(crate::cgroup::memory_and_swap),
            rdt: None,
            keyring: None,
            poststart: hooks.and_then(|hooks| hooks.poststart().clone()).unwrap_or_default(),
            poststop: hooks.and_then(|hooks| hooks.poststop().clone()).unwrap_or_default(),
            init: None,
        }
    }
}

/// A container's directory.
#[derive(Debug)]
pub(crate) struct Store {
    path: PathBuf,
}

/// The lock of a container's directory, held until dropped.
#[derive(Debug)]
pub(crate) struct Lock(#[allow(dead_code, reason = "its being open is the lock")] File);

impl Store {
    /// The directory at `path`, whether it exists or not.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// Makes the directory and locks it.
    ///
    /// One without state, left by a call that was killed in its first moments, is taken over.
    pub(crate) fn create(path: PathBuf) -> Result<(Self, Lock)> {
        let store = Self { path };
        let exists = || Error::new(Kind::Exists, "container with given ID already exists");
        let is_new = match fs::DirBuilder::new().mode(0o700).create(&store.path) {
            Ok(()) => true,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => false,
            Err(e) => return Err(e).call("mkdir", store.path.display()).map_err(Into::into),
        };
        let lock = store.try_lock()?.ok_or_else(exists)?;
        // Another call may have been quicker to lock a new one, too.
        if store.has(STATE) || !(is_new || store.is_leftover()?) {
            return Err(exists());
        }
        Ok((store, lock))
    }

    /// Locks it, waiting for another's lock.
    pub(crate) fn lock(&self) -> Result<Lock> {
        match self.lock_with(FlockOperation::LockExclusive)? {
            Some(lock) => Ok(lock),
            None => Err(missing()),
        }
    }

    /// Locks it; `None` when another has it.
    pub(crate) fn try_lock(&self) -> Result<Option<Lock>> {
        self.lock_with(FlockOperation::NonBlockingLockExclusive)
    }

    fn lock_with(&self, operation: FlockOperation) -> Result<Option<Lock>> {
        let directory = match File::open(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
            other => other.call("open", self.path.display())?,
        };
        match rustix::io::retry_on_intr(|| rustix::fs::flock(&directory, operation)) {
            Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
            other => other.call("flock", self.path.display())?,
        }
        // Whoever had the lock may have removed the directory, and another may have made it anew.
        let (held, named) = (directory.metadata(), fs::metadata(&self.path));
        match (held, named) {
            (Ok(held), Ok(named)) if held.ino() == named.ino() && held.dev() == named.dev() => {
                Ok(Some(Lock(directory)))
            }
            _ => Err(missing()),
        }
    }

    /// Reads the record.
    ///
    /// # Errors
    /// [`Kind::NotFound`] where there is none.
    pub(crate) fn read(&self) -> Result<Record> {
        let path = self.path.join(STATE);
        let bytes = match fs::read(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(missing()),
            other => other.call("open", path.display())?,
        };
        let damaged = |why: String| Error::new(Kind::System, format!("{} is damaged: {why}", path.display()));
        let record: Record = serde_json::from_slice(&bytes).map_err(|e| damaged(e.to_string()))?;
        if record.version != VERSION {
            return Err(damaged(format!("version {} is not {VERSION}", record.version)));
        }
        Ok(record)
    }

    /// Replaces the record.
    pub(crate) fn write(&self, record: &Record) -> Result<()> {
        self.prepare(record)?;
        self.commit()
    }

    /// Writes a record that nobody finds before [`Self::commit`].
    pub(crate) fn prepare(&self, record: &Record) -> Result<()> {
        let bytes = serde_json::to_vec(record).map_err(|e| Error::new(Kind::System, e.to_string()))?;
        write_file(&self.path.join(NEW_STATE), &bytes)
    }

    /// Puts the prepared record into its place.
    pub(crate) fn commit(&self) -> Result<()> {
        let (new, path) = (self.path.join(NEW_STATE), self.path.join(STATE));
        // Where /run is on a disk: ext4 starts to write a file out that is renamed over another (auto_da_alloc, ext4(5)),
        // ten times the cost of the rest. A record need not outlive the machine, so the two change places instead.
        let exchanged = rustix::fs::renameat_with(CWD, &new, CWD, &path, RenameFlags::EXCHANGE);
        match exchanged.call("renameat2", path.display()) {
            Ok(()) => self.remove_file(NEW_STATE),
            // The first record, or a file system that can't exchange.
            Err(e) if matches!(e.errno(), Errno::ENOENT | Errno::EINVAL | Errno::ENOSYS) => {
                Ok(fs::rename(&new, &path).call("rename", path.display())?)
            }
            Err(e) => Err(e.into()),
        }
    }

    /// Keeps the configuration.
    pub(crate) fn write_config(&self, config: &[u8]) -> Result<()> {
        write_file(&self.path.join(CONFIG), config)
    }

    /// The configuration that was kept.
    pub(crate) fn read_config(&self) -> Result<Vec<u8>> {
        let path = self.path.join(CONFIG);
        Ok(fs::read(&path).call("open", path.display())?)
    }

    /// Makes the FIFO and opens it without an end (`O_PATH`), to be reopened by init.
    pub(crate) fn make_fifo(&self) -> Result<OwnedFd> {
        let path = self.path.join(FIFO);
        rustix::fs::mknodat(CWD, &path, FileType::Fifo, Mode::from(0o622), 0).call("mkfifo", path.display())?;
        // Init opens it as the container's user, and the caller's umask has taken others' right to write.
        rustix::fs::chmod(&path, Mode::from(0o622)).call("chmod", path.display())?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::open(&path, flags, Mode::empty()).call("open", path.display())?)
    }

    /// Makes the directory for the socket on which the container says that it is ready.
    pub(crate) fn make_notify_directory(&self) -> Result<PathBuf> {
        let path = self.path.join(NOTIFY);
        // What is in it is for the container's users, whoever they are.
        fs::DirBuilder::new().mode(0o755).create(&path).call("mkdir", path.display())?;
        rustix::fs::chmod(&path, Mode::from(0o755)).call("chmod", path.display())?;
        Ok(path)
    }

    /// That directory, where the container has one.
    pub(crate) fn notify_directory(&self) -> Option<PathBuf> {
        self.has(NOTIFY).then(|| self.path.join(NOTIFY))
    }

    /// Makes the directory that the root file system of a container without a mount namespace of its own is attached to.
    pub(crate) fn make_anchor(&self) -> Result<PathBuf> {
        let path = self.path.join(ANCHOR);
        fs::DirBuilder::new().mode(0o700).create(&path).call("mkdir", path.display())?;
        Ok(path)
    }

    /// Opens what is mounted there: the container's root, whatever its processes have made of theirs.
    pub(crate) fn open_anchor(&self) -> Result<OwnedFd> {
        inherited::open_root(&self.path.join(ANCHOR))
    }

    /// Takes that away, with all that is mounted there.
    pub(crate) fn remove_anchor(&self) -> Result<()> {
        let path = self.path.join(ANCHOR);
        inherited::detach_root(&path).context(|| "unmount the container's root")?;
        match fs::remove_dir(&path).call("rmdir", path.display()) {
            Err(e) if e.errno() == Errno::ENOENT => Ok(()),
            other => Ok(other?),
        }
    }

    /// Whether init waits for `start`.
    pub(crate) fn has_fifo(&self) -> bool {
        self.has(FIFO)
    }

    /// Opens the reading end, which lets init go on, and removes the FIFO.
    pub(crate) fn open_fifo(&self) -> Result<OwnedFd> {
        let path = self.path.join(FIFO);
        let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fifo = rustix::fs::open(&path, flags, Mode::empty()).call("open", path.display())?;
        self.remove_file(FIFO)?;
        Ok(fifo)
    }

    fn has(&self, name: &str) -> bool {
        fs::symlink_metadata(self.path.join(name)).is_ok()
    }

    fn remove_file(&self, name: &str) -> Result<()> {
        let path = self.path.join(name);
        match fs::remove_file(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => Ok(other.call("unlink", path.display())?),
        }
    }

    /// Removes the directory; what is there in any case first, the record last, so that an interrupted removal can be
    /// done again, and is found even by those who look for no record ([`Self::remove_leftover`]).
    pub(crate) fn remove(&self) -> Result<()> {
        self.remove_file(CONFIG)?;
        match fs::remove_dir_all(self.path.join(NOTIFY)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e).call("rm", NOTIFY).map_err(Into::into),
            _ => self.remove_file(STATE)?,
        }
        match fs::remove_dir(&self.path).call("rmdir", self.path.display()) {
            Err(e) if e.errno() == Errno::ENOENT => Ok(()),
            // A FIFO that nobody opened, a record that was never put into its place.
            Err(e) if e.errno() == Errno::ENOTEMPTY => {
                // Before all else, which would go through what is mounted there.
                self.remove_anchor()?;
                Ok(fs::remove_dir_all(&self.path).call("rm", self.path.display())?)
            }
            other => Ok(other?),
        }
    }

    /// Removes what a call that was killed in its first moments has left: a directory without a record, locked by nobody.
    pub(crate) fn remove_leftover(&self) -> Result<()> {
        match self.try_lock()? {
            Some(_lock) if !self.has(STATE) && self.is_leftover()? => self.remove(),
            _ => Ok(()),
        }
    }

    /// Whether a directory without a record has nothing but what rtc makes. Another runtime may have the same root
    /// directory, or `--root` may name one that is no runtime's at all: nothing there is rtc's to remove.
    fn is_leftover(&self) -> Result<bool> {
        let own = fs::symlink_metadata(&self.path).call("stat", self.path.display())?;
        if !own.is_dir() || own.mode() & 0o777 != 0o700 || own.uid() != rustix::process::geteuid().as_raw() {
            return Ok(false);
        }
        for entry in fs::read_dir(&self.path).call("opendir", self.path.display())? {
            let entry = entry.call("readdir", self.path.display())?;
            let kind = entry.file_type().call("stat", entry.path().display())?;
            let ours = match entry.file_name().to_str() {
                Some(CONFIG | NEW_STATE) => kind.is_file(),
                Some(FIFO) => kind.is_fifo(),
                Some(NOTIFY) => kind.is_dir(),
                // A bundle has one, too.
                Some(ANCHOR) => kind.is_dir() && inherited::is_anchor(&entry.path())?,
                _ => false,
            };
            if !ours {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

fn missing() -> Error {
    Error::new(Kind::NotFound, "container does not exist")
}

fn write_file(path: &Path, bytes: &[u8]) -> Result<()> {
    let describe = || path.display();
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .call("open", describe())?;
    file.write_all(bytes).call("write", describe()).context(|| "keep the container's state")
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Temp(PathBuf);
    impl Drop for Temp {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }
    fn temp(name: &str) -> Temp {
        Temp(std::env::temp_dir().join(format!("runtime-store-{name}-{}", std::process::id())))
    }

    fn record() -> Record {
        serde_json::from_str(
            r#"{"version":1,"id":"c","ociVersion":"1.2.0","bundle":"/b","rootfs":"/b/r","created":"t","owner":0,
                "cgroup":null,"ownPidNamespace":true,"init":null}"#,
        )
        .unwrap()
    }

    #[test]
    fn a_record_comes_back_and_goes() {
        let temp = temp("back");
        let (store, lock) = Store::create(temp.0.clone()).unwrap();
        store.write(&record()).unwrap();
        assert_eq!(store.read().unwrap(), record());
        let later = Record { created: "later".into(), ..record() };
        store.write(&later).unwrap();
        assert_eq!(store.read().unwrap(), later);
        assert!(!store.has(NEW_STATE));
        assert_eq!(*Store::create(temp.0.clone()).unwrap_err().kind(), Kind::Exists);
        store.remove().unwrap();
        drop(lock);
        assert_eq!(*store.lock().unwrap_err().kind(), Kind::NotFound);
        assert!(!temp.0.exists());
    }

    #[test]
    fn a_directory_without_record_is_taken_over_only_when_nobody_works_on_it() {
        let temp = temp("left");
        let (store, lock) = Store::create(temp.0.clone()).unwrap();
        assert_eq!(*Store::create(temp.0.clone()).unwrap_err().kind(), Kind::Exists);
        store.remove_leftover().unwrap();
        assert!(temp.0.exists());
        drop(lock);
        let (_, lock) = Store::create(temp.0.clone()).unwrap();
        drop(lock);
        store.remove_leftover().unwrap();
        assert!(!temp.0.exists());
    }

    #[test]
    fn what_others_have_made_stays() {
        // Of another runtime, a bundle, somebody's folder.
        for (index, (files, folder)) in
            [(&["config.json", "status"][..], None), (&["config.json"], Some("rootfs/bin")), (&[], Some("src"))]
                .into_iter()
                .enumerate()
        {
            let temp = temp(&format!("others{index}"));
            fs::DirBuilder::new().mode(0o700).create(&temp.0).unwrap();
            files.iter().for_each(|name| fs::write(temp.0.join(name), "{}").unwrap());
            folder.iter().for_each(|name| fs::create_dir_all(temp.0.join(name)).unwrap());
            let store = Store::at(temp.0.clone());
            store.remove_leftover().unwrap();
            assert!(files.iter().chain(folder.iter()).all(|name| store.has(name)), "{index}");
            assert_eq!(*Store::create(temp.0.clone()).unwrap_err().kind(), Kind::Exists);
        }
    }

    #[test]
    fn a_damaged_record_is_one_line() {
        let temp = temp("damaged");
        let (store, _lock) = Store::create(temp.0.clone()).unwrap();
        fs::write(temp.0.join(STATE), b"{").unwrap();
        let error = store.read().unwrap_err().to_string();
        assert!(error.contains("state.json is damaged: EOF") && !error.contains('\n'), "{error}");
    }
}
