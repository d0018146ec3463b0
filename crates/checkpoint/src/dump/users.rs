//! Users and groups of tasks that have a user namespace of their own.
//!
//! /proc shows ids as its reader counts them; a restored task sets its own ids as it counts them.

use crate::error::{Context as _, Result};
use crate::proc::Proc;
use crate::procfs::idmap;
use crate::procfs::status::Status;
use crate::{Error, Kind};

/// Translates the ids in `status`, as we read it, to those of the process's user namespace.
pub(super) fn as_inside(pid: i32, status: &mut Status) -> Result<()> {
    let ours = Proc(std::process::id() as i32).link("ns/user")?;
    if Proc(pid).link("ns/user")? == ours {
        return Ok(());
    }
    let translate = |name: &str, ids: &mut [u32]| {
        let map = idmap::parse(&Proc(pid).text(name)?)?;
        for id in ids {
            *id = map.inside(*id).ok_or_else(|| {
                Error::new(Kind::Unsupported, format!("the id {id} is not in {name} of its user namespace"))
            })?;
        }
        Ok::<_, Error>(())
    };
    translate("uid_map", &mut status.uid).context(|| "users")?;
    translate("gid_map", &mut status.gid).context(|| "groups")?;
    translate("gid_map", &mut status.groups).context(|| "supplementary groups")
}
