//! Who the process is: its ids, and what the container's passwd says about it.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use oci_spec::runtime::User;
use rtc_sys::{CallExt, Errno};
use rustix::fs::{OFlags, ResolveFlags};
use rustix::thread::{set_keep_capabilities, set_thread_groups, set_thread_res_gid, set_thread_res_uid};

use crate::error::{Context, Result};
use crate::rootfs::path::RootDir;

/// How much of a passwd is read: it is the image's, and may be anything.
const PASSWD_MAX: u64 = 1 << 20;

/// Becomes the user, keeping the permitted capabilities until they are set.
///
/// The thread's ids are those of the process: it has one thread.
///
/// `keep_groups`: the supplementary groups stay the caller's.
pub(crate) fn become_user(user: &User, keep_groups: bool) -> Result<()> {
    let groups: Vec<_> = user.additional_gids().iter().flatten().map(|gid| rustix::fs::Gid::from_raw(*gid)).collect();
    let uid = rustix::fs::Uid::from_raw(user.uid());
    let gid = rustix::fs::Gid::from_raw(user.gid());
    set_keep_capabilities(true).call("prctl", "SET_KEEPCAPS, 1")?;
    if !keep_groups {
        match set_thread_groups(&groups).call("setgroups", format_args!("{:?}", user.additional_gids())) {
            // Where a user namespace forbids it, it can't be wanted either.
            Err(e) if e.errno() == Errno::EPERM && groups.is_empty() => {}
            other => other.context(|| "process.user.additionalGids")?,
        }
    }
    set_thread_res_gid(gid, gid, gid).call("setresgid", user.gid()).context(|| "process.user.gid")?;
    set_thread_res_uid(uid, uid, uid).call("setresuid", user.uid()).context(|| "process.user.uid")?;
    set_keep_capabilities(false).call("prctl", "SET_KEEPCAPS, 0")?;
    Ok(())
}

/// Becomes the root of a user namespace, so that what is made belongs to it.
pub(crate) fn become_root(keep_groups: bool) -> Result<()> {
    let (uid, gid) = (rustix::fs::Uid::ROOT, rustix::fs::Gid::ROOT);
    set_thread_res_gid(gid, gid, gid).call("setresgid", 0).context(|| "the user namespace maps no gid 0")?;
    set_thread_res_uid(uid, uid, uid).call("setresuid", 0).context(|| "the user namespace maps no uid 0")?;
    if keep_groups {
        return Ok(());
    }
    match set_thread_groups(&[]).call("setgroups", "[]") {
        Err(e) if e.errno() == Errno::EPERM => Ok(()),
        other => Ok(other?),
    }
}

/// The home directory of a user by the container's passwd; `/` for one without an entry.
pub(crate) fn home(root: &RootDir, uid: u32) -> String {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    // Non-blocking: it could be a FIFO.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
    let Ok(passwd) = root.open(Path::new("/etc/passwd"), flags, resolve) else { return "/".to_owned() };
    find_home(BufReader::new(File::from(passwd).take(PASSWD_MAX)), uid).unwrap_or_else(|| "/".to_owned())
}

fn find_home(passwd: impl BufRead, uid: u32) -> Option<String> {
    let uid = uid.to_string();
    passwd.lines().map_while(std::io::Result::ok).find_map(|line| {
        let mut fields = line.split(':').skip(2);
        (fields.next() == Some(&uid)).then(|| fields.nth(2).unwrap_or_default().to_owned())
    })
}

/// The environment for the program: of several entries of one name the last, at the place of the first; and HOME where
/// it is missing or empty.
pub(crate) fn environment(entries: &[String], home: impl FnOnce() -> String) -> Vec<String> {
    let name = |entry: &str| entry.split('=').next().unwrap_or_default().to_owned();
    let mut places: std::collections::HashMap<String, usize> = std::collections::HashMap::new();
    let mut result: Vec<String> = Vec::with_capacity(entries.len() + 1);
    for entry in entries {
        match places.entry(name(entry)) {
            std::collections::hash_map::Entry::Occupied(place) => result[*place.get()].clone_from(entry),
            std::collections::hash_map::Entry::Vacant(place) => {
                place.insert(result.len());
                result.push(entry.clone());
            }
        }
    }
    match places.get("HOME") {
        Some(place) if result[*place] == "HOME=" => result[*place] = format!("HOME={}", home()),
        Some(_) => {}
        None => result.push(format!("HOME={}", home())),
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn home_is_the_sixth_field() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nbroken\nu:x:1000:100:::/bin/sh\nv:x:5:5:v:/home/v:\n";
        assert_eq!(find_home(passwd.as_bytes(), 0).as_deref(), Some("/root"));
        assert_eq!(find_home(passwd.as_bytes(), 5).as_deref(), Some("/home/v"));
        assert_eq!(find_home(passwd.as_bytes(), 7), None);
    }

    #[test]
    fn the_last_of_equal_names_wins_and_home_is_filled() {
        let entries = ["A=1", "B=\n", "A=2", "HOME="].map(str::to_owned);
        assert_eq!(environment(&entries, || "/h".into()), ["A=2", "B=\n", "HOME=/h"]);
        let entries = ["HOME=/x"].map(str::to_owned);
        assert_eq!(environment(&entries, || unreachable!()), ["HOME=/x"]);
    }
}
