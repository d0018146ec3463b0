//! Mounts added to a running container, and taken from it: crun's `mounts add` and `mounts remove`.
//!
//! Sources are opened on the host, as detached mounts; then this process goes into the container's namespaces and
//! attaches them, by the same means and with the same checks as when a container is made. It executes nothing there.
//! They are the container's until it ends: they aren't written down, and a checkpoint doesn't know them.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use oci_spec::runtime::{Linux, Mount};
use rtc_sys::clone::{flags, setns};
use rtc_sys::mount::propagation;
use rtc_sys::{CallExt, Errno};
use rustix::mount::UnmountFlags;

use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::exec::kinds_to_join;
use crate::idmap::IdMaps;
use crate::init::{self, Opener};
use crate::namespaces::Namespaces;
use crate::proc::Proc;
use crate::rootfs::inherited;
use crate::rootfs::mount::Mounter;
use crate::rootfs::path::RootDir;
use crate::rootfs::{procfs, tree};
use crate::state::Status;

impl Container {
    /// Adds mounts, given as the JSON of `mounts` in config.json; relative sources count from the working directory.
    ///
    /// This process must have one thread, and is in the container's namespaces afterwards: it should end.
    ///
    /// # Errors
    /// The first mount that can't be made; those before it are taken back.
    pub fn add_mounts(&self, json: &[u8]) -> Result<()> {
        let mounts = parse(json)?;
        let (spec, proc, cgroup) = (self.spec()?, Proc::open()?, self.cgroup()?);
        let linux = spec.linux().clone().unwrap_or_default();
        let namespaces = Namespaces::plan(&linux);
        let list = |maps: &Option<Vec<_>>| maps.clone().unwrap_or_default();
        let id_maps = IdMaps::new(&list(linux.uid_mappings()), &list(linux.gid_mappings()));
        let opener = Opener {
            namespaces: &namespaces,
            id_maps: &id_maps,
            cgroup: cgroup.as_ref(),
            proc: &proc,
            from_outside: true,
            propagation: propagation::SLAVE,
        };
        let here = std::env::current_dir().call("getcwd", "")?;
        let mut plans = opener.all(&mounts, &here, &self.record.rootfs)?;
        let root = self.enter(&linux)?;
        let mut mounter = Mounter::new(&root, namespaces.has(flags::NEWCGROUP), None);
        mounter.shares_namespace = self.record.inherits_mounts;
        let mut made = Vec::new();
        let all = || {
            for plan in &mut plans {
                made.extend(mounter.mount(plan)?);
            }
            mounter.into_readonly_later().iter().try_for_each(|mount| Ok(tree::set_readonly(mount.as_fd())?))
        };
        let result = all();
        if result.is_err() {
            for mount in made.iter().rev() {
                proc.unmount(mount).unwrap_or_else(|e| log::warn!("{e}"));
            }
        }
        result
    }

    /// Takes mounts away, given in the same form; only their destinations count. The last of the list goes first.
    ///
    /// This process must have one thread, and is in the container's namespaces afterwards: it should end.
    ///
    /// # Errors
    /// A destination is no mount.
    pub fn remove_mounts(&self, json: &[u8]) -> Result<()> {
        let mounts = parse(json)?;
        let linux = self.spec()?.linux().clone().unwrap_or_default();
        let root = self.enter(&linux)?;
        for mount in mounts.iter().rev() {
            unmount(&root, mount.destination())?;
        }
        Ok(())
    }

    /// Goes into the container's namespaces, but that of pids. Gives the container's root.
    fn enter(&self, linux: &Linux) -> Result<RootDir> {
        let stopped = || Error::new(Kind::WrongState, "container not running");
        if matches!(self.status()?, Status::Stopped | Status::Creating) {
            return Err(stopped());
        }
        let init = self.open_init()?.ok_or_else(stopped)?;
        // Who is in the container may not look into this process.
        rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable)
            .call("prctl", "SET_DUMPABLE, 0")?;
        let kinds = kinds_to_join(linux) & !flags::NEWPID;
        let root = self.inherited_root()?;
        if kinds != 0 {
            setns(init.as_fd(), kinds).context(|| "join the container's namespaces")?;
        }
        root.map_or(Ok(()), inherited::change_root)?;
        if kinds & flags::NEWUSER != 0 {
            init::become_root(false)?;
        }
        rustix::process::umask(rustix::fs::Mode::empty());
        init::current_root()
    }
}

fn parse(json: &[u8]) -> Result<Vec<Mount>> {
    serde_json::from_slice(json)
        .map_err(|e| Error::new(Kind::Invalid, format!("not a list of mounts as in config.json: {e}")))
}

/// Takes the uppermost mount at `destination` away.
fn unmount(root: &RootDir, destination: &Path) -> Result<()> {
    let path: PathBuf = Path::new("/").join(destination);
    let what = || format!("unmount {}", destination.display());
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::new(Kind::Invalid, "the container's root can't be unmounted").context(what()));
    };
    // By name in a directory that is held open: no symlink can lead elsewhere.
    let parent = directory_of_mount(root, parent).context(what)?;
    rustix::process::fchdir(&parent).call("fchdir", "the mount's directory").context(what)?;
    let flags = UnmountFlags::DETACH | UnmountFlags::NOFOLLOW;
    rustix::mount::unmount(name, flags).call("umount2", path.display()).context(what)
}

/// The directory that a mount is in. Links in the container may lead there, but not to what is hidden from it: the
/// mounts in procfs and sysfs are those that mask it.
fn directory_of_mount(root: &RootDir, path: &Path) -> Result<OwnedFd> {
    match root.resolve_plain(path) {
        Err(e) if e.errno() == Errno::ELOOP => {}
        plain => return Ok(plain?),
    }
    let directory = root.resolve(path)?;
    if procfs::is_procfs(&directory)? || procfs::is_sysfs(&directory)? {
        let message = format!("a link in the container leads from {} to its procfs or sysfs", path.display());
        return Err(Error::new(Kind::Invalid, message));
    }
    Ok(directory)
}
