//! The mounts of the container's first mount namespace, and what lives only in them.
//!
//! The runtime makes a container's mounts from config.json, at restore as at creation; the image can't add to those.
//! Here is the rest: the contents of tmpfs mounts, and the mounts that the container made itself after it started.
//! Of the latter, new tmpfs mounts and binds of something that is mounted in the container already come back;
//! others are refused.
//! What is mounted on a bind mount is the host's, or the container's if it came later and isn't mounted outside
//! (Linux 6.8; on an older kernel all of it is taken for the host's).
//! Left out: other mount namespaces within the container; propagation groups of mounts that the container made; mounts on
//! a bind mount that others hide.

mod classify;
mod image;
mod make;

pub use classify::Given;
pub use image::{Mounts, Origin, SavedMount};

use classify::{Known, Place, Refused};

use super::tmpfs::{self, Tmpfs};
use crate::error::{Context as _, Result};
use crate::files::Blocker;
use crate::files::inside::inside;
use crate::files::view::{View, mount_birth, statx};
use crate::image::blob::{Reader, Writer};
use crate::image::path::ImagePath;
use crate::procfs::mountinfo::{self, Mount};
use crate::{Error, Kind};
use rtc_sys::CallExt as _;
use rustix::fs::{Mode, OFlags};
use std::collections::HashMap;
use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::ffi::OsStringExt as _;

/// What dump is going to save, as far as it is known without changing anything.
pub struct Plan {
    places: Vec<Place>,
}

/// Looks at the mounts of the task `init`; what can't be saved goes to the blockers.
/// `given` are the mounts that the runtime makes from config.json, the root not among them.
///
/// # Errors
/// When something can't be read.
pub fn look(init: i32, given: &[Given], blockers: &mut Vec<Blocker>) -> Result<Plan> {
    let view = view_of(init)?;
    let given = given.iter().map(|given| canonical(&view, given)).collect::<Result<Vec<_>>>()?;
    let known = known(&view, &given)?;
    let mut places = Vec::new();
    for place in classify::classify(view.mounts(), &given, &known) {
        match place.and_then(|place| check(&view, &place).map(|()| place)) {
            Ok(place) => places.push(place),
            Err(refused) => blockers.push(Blocker {
                pid: 0,
                what: format!("mount on {} ({})", refused.0.mountpoint, refused.0.fs_type),
                why: refused.1,
                remedy: "unmount it before the checkpoint, or let config.json mount it".into(),
            }),
        }
    }
    Ok(Plan { places })
}

impl Plan {
    /// Refuses the container's own mounts where its processes can't have made any, as they can't at restore: they are of
    /// a hook, or of somebody outside.
    pub(crate) fn refuse_own(&self, blockers: &mut Vec<Blocker>) {
        let own = |place: &&Place| matches!(place.origin, Origin::Tmpfs(_) | Origin::Bind(_));
        blockers.extend(self.places.iter().filter(own).map(|place| Blocker {
            pid: 0,
            what: format!("mount on {} ({})", place.mount.mountpoint, place.mount.fs_type),
            why: "the container has no CAP_SYS_ADMIN, so a hook or somebody outside has made it".into(),
            remedy: "let config.json mount it".into(),
        }));
    }
}

/// Saves what [`look`] planned, from a thread inside the namespaces of `init`, whose tasks are stopped.
///
/// # Errors
/// When something can't be read or stored.
pub fn dump(plan: Plan, init: i32, blobs: &mut Writer) -> Result<Mounts> {
    inside(init, || {
        let mut mounts = Vec::with_capacity(plan.places.len());
        for place in plan.places {
            let mount = place.mount;
            let contents = match place.save {
                true => Some(save(&mount, blobs).context(|| format!("contents of {}", mount.mountpoint))?),
                false => None,
            };
            let Mount { mountpoint, fs_type, options, .. } = mount;
            mounts.push(SavedMount { mountpoint, fs_type, options, origin: place.origin, contents });
        }
        Ok(Mounts { mounts })
    })
}

fn save(mount: &Mount, blobs: &mut Writer) -> Result<Tmpfs> {
    let clone = make::clone_of(&make::root()?, &mount.mountpoint)?;
    tmpfs::save(clone.as_fd(), blobs)
}

/// Makes the container's own mounts on top of those that the runtime has made for the held process `init`,
/// and puts the contents of tmpfs mounts back: of those that config.json makes anew, and no others of `given`.
///
/// # Errors
/// `Incompatible` when config.json no longer has a mount that the image builds on; otherwise when a call fails.
pub fn restore(mounts: &Mounts, init: i32, given: &[Given], blobs: &Reader) -> Result<()> {
    let view = view_of(init)?;
    let given = given.iter().map(|given| canonical(&view, given)).collect::<Result<Vec<_>>>()?;
    let text = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).context(|| "mounts of the new container")?;
    let present = mountinfo::parse(&text)?;
    inside(init, || {
        let root = make::root()?;
        let mut seen: Vec<&ImagePath> = Vec::new();
        for saved in &mounts.mounts {
            let nth = seen.iter().filter(|at| **at == &saved.mountpoint).count();
            seen.push(&saved.mountpoint);
            let here = present.iter().filter(|mount| mount.mountpoint == saved.mountpoint).nth(nth);
            one(saved, here, &given, &root, blobs).context(|| format!("mount on {}", saved.mountpoint))?;
        }
        Ok(())
    })
}

fn one(saved: &SavedMount, here: Option<&Mount>, given: &[Given], root: &OwnedFd, blobs: &Reader) -> Result<()> {
    match &saved.origin {
        Origin::Below => return Ok(()),
        Origin::Given => {
            let Some(here) = here else {
                let message = format!("config.json has no {} there, and the image builds on it", saved.fs_type);
                return Err(Error::new(Kind::Incompatible, message));
            };
            if saved.contents.is_some() {
                check_own_tmpfs(saved, here, given)?;
            }
            make::tighten(root, here, saved)?;
        }
        Origin::Tmpfs(options) => make::tmpfs(root, saved, options)?,
        Origin::Bind(source) => make::bind(root, saved, source)?,
    }
    let Some(contents) = &saved.contents else { return Ok(()) };
    let clone = match here.filter(|_| saved.origin == Origin::Given) {
        Some(here) => make::clone_of_mount(root, here)?,
        None => make::clone_of(root, &saved.mountpoint)?,
    };
    if rustix::fs::fstatfs(&clone).call("fstatfs", &saved.mountpoint)?.f_type != libc::TMPFS_MAGIC {
        return Err(crate::error::bad_image("its contents are an image's, and it is no tmpfs"));
    }
    make::writable(&clone)?;
    tmpfs::put_back(contents, clone.as_fd(), blobs)
}

/// Whether a mount of config.json's is a tmpfs of the container's own, whose contents are the image's to give: a volume of
/// the host's keeps what is in it, also where it is a tmpfs.
fn check_own_tmpfs(saved: &SavedMount, here: &Mount, given: &[Given]) -> Result<()> {
    if here.fs_type != "tmpfs" {
        let message = format!("it is {} here, and was {}", here.fs_type, saved.fs_type);
        return Err(Error::new(Kind::Incompatible, message));
    }
    let mut same = given.iter().filter(|given| given.mountpoint == saved.mountpoint).peekable();
    if same.peek().is_none() || same.any(|given| given.external) {
        let message = "the image has contents for it, and config.json doesn't make it anew";
        return Err(Error::new(Kind::Incompatible, message));
    }
    Ok(())
}

fn view_of(init: i32) -> Result<View> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let path = format!("/proc/{init}/root");
    let root = rustix::fs::open(&path, flags, Mode::empty()).call("open", path)?;
    let text = std::fs::read_to_string(format!("/proc/{init}/mountinfo")).context(|| "mounts of the container")?;
    Ok(View::new(root, mountinfo::parse(&text)?))
}

/// The mountpoint without symbolic links, as mountinfo has it: config.json can say /var/run for /run.
fn canonical(view: &View, given: &Given) -> Result<Given> {
    let Some(fd) = view.follow(&given.mountpoint)? else { return Ok(given.clone()) };
    let link = rustix::fs::readlink(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd)), Vec::new());
    let link = link.call("readlink", &given.mountpoint)?.into_bytes();
    Ok(Given { mountpoint: std::ffi::OsString::from_vec(link).as_os_str().into(), external: given.external })
}

fn known(view: &View, given: &[Given]) -> Result<Known> {
    let (mut known, mut births) = (Known::default(), HashMap::new());
    for mount in view.mounts() {
        // A mount of another user's may be closed even to root (FUSE); it can only be judged by its place.
        let Ok(found) = view.look(&mount.mountpoint) else {
            known.reachable.insert(mount.id);
            continue;
        };
        let Some(found) = found else { continue };
        if statx(found.as_fd())?.stx_mnt_id == mount.id as u64 {
            known.reachable.insert(mount.id);
            births.extend(mount_birth(found.as_fd())?.map(|birth| (mount.id, birth)));
        }
    }
    let places = classify::classify(view.mounts(), given, &known).into_iter().filter_map(std::result::Result::ok);
    let runtimes = places.filter(|place| place.origin == Origin::Given);
    let Some(last) = runtimes.filter_map(|place| births.get(&place.mount.id).copied()).max() else { return Ok(known) };
    let text = std::fs::read_to_string("/proc/thread-self/mountinfo").context(|| "mounts outside the container")?;
    let outside = mountinfo::parse(&text)?;
    let is_outside = |mount: &Mount| outside.iter().any(|other| (other.dev, &other.root) == (mount.dev, &mount.root));
    let own = view.mounts().iter().filter(|mount| births.get(&mount.id).is_some_and(|birth| *birth > last));
    known.own = own.filter(|mount| !is_outside(mount)).map(|mount| mount.id).collect();
    Ok(known)
}

/// Whether a bind's source is what is mounted.
fn check(view: &View, place: &Place) -> std::result::Result<(), Refused> {
    let Origin::Bind(source) = &place.origin else { return Ok(()) };
    let identity = |path: &ImagePath| {
        let stat = view.stat(path).ok().flatten()?;
        Some((stat.stx_dev_major, stat.stx_dev_minor, stat.stx_ino))
    };
    if identity(source).is_some() && identity(source) == identity(&place.mount.mountpoint) {
        return Ok(());
    }
    Err(Box::new((place.mount.clone(), format!("what it was bound from, {source}, is gone or hidden"))))
}

#[cfg(test)]
mod tests;
