//! Where containers are kept on this host, and who makes their cgroups.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

pub use crate::cgroup::CgroupManager;
use crate::container::Container;
use crate::error::{Context, Error, Kind, Result};
use crate::{rootless, state};

/// The global settings of a call: what the command line's global flags say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// The directory that holds a directory of state for every container.
    pub root: PathBuf,
    /// Who makes the cgroups of containers created now; containers that exist keep theirs.
    pub cgroup_manager: CgroupManager,
    /// The caller is an ordinary user, or root of a user's namespace: systemd is the user's own, and what only root can
    /// have (cgroups where none is delegated, device rules) is left out unless it was asked for.
    pub rootless: bool,
}

impl Default for Host {
    fn default() -> Self {
        let rootless = rootless::detect();
        Self { root: default_root(rootless), cgroup_manager: CgroupManager::default(), rootless }
    }
}

impl Host {
    /// The container named `id`.
    ///
    /// # Errors
    /// [`Kind::NotFound`] with the sentence "container does not exist", or a state file that can't be read.
    pub fn load(&self, id: &str) -> Result<Container> {
        Container::load(&self.root, id)
    }

    /// All containers, sorted by id. A container that goes while it is being looked at is left out, and so is, with a
    /// warning, one whose state is damaged: the others are none the worse for it.
    ///
    /// # Errors
    /// The root directory can't be read; a missing one is an error too when `root` was given by the user
    /// (the caller knows), and so it is always reported.
    pub fn list(&self) -> Result<Vec<Container>> {
        let entries = fs::read_dir(&self.root).context(|| format!("read {}", self.root.display()))?;
        let mut ids = Vec::new();
        for entry in entries {
            let entry = entry.context(|| format!("read {}", self.root.display()))?;
            let name = entry.file_name();
            let id = name.to_str().filter(|id| state::check_id(id).is_ok());
            if let Some(id) = id.filter(|_| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
                ids.push(id.to_owned());
            }
        }
        ids.sort();
        let mut containers = Vec::with_capacity(ids.len());
        for id in ids {
            match self.load(&id) {
                Ok(container) => containers.push(container),
                Err(e) if *e.kind() == Kind::NotFound => {}
                Err(e) => log::warn!("{id}: {e}"),
            }
        }
        Ok(containers)
    }

    /// The directory of one container's state.
    pub(crate) fn dir(&self, id: &str) -> PathBuf {
        self.root.join(id)
    }

    /// Makes the root directory, 0711 so that a container's user may reach what is below but not list it.
    pub(crate) fn make_root(&self) -> Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        match fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.root) {
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Err(Error::new(
                Kind::Invalid,
                format!("{} is not a directory: name another with --root", self.root.display()),
            )),
            other => other.context(|| format!("make {}", self.root.display())),
        }
    }
}

/// `/run/rtc` for root; for users `$XDG_RUNTIME_DIR/rtc`, or where the variable is unset or empty `/run/user/UID/rtc`.
///
/// Root's XDG_RUNTIME_DIR is ignored: podman passes it empty or as /run/user/0, and a container must be found again by
/// calls that don't have it.
fn default_root(rootless: bool) -> PathBuf {
    if !rootless {
        return PathBuf::from("/run/rtc");
    }
    match std::env::var_os("XDG_RUNTIME_DIR").filter(|dir| !dir.is_empty()) {
        Some(dir) => Path::new(&dir).join("rtc"),
        None => format!("/run/user/{}/rtc", rustix::process::geteuid().as_raw()).into(),
    }
}
