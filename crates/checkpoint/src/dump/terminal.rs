//! Which sessions have a controlling terminal.

use crate::error::{Context as _, Result};
use crate::files::dump::FileDumper;
use crate::image::tree::SessionTerminal;
use crate::proc::Proc;

/// The controlling terminals of the sessions that the processes lead.
pub(super) fn look(pids: &[i32], files: &mut FileDumper<'_>) -> Result<Vec<SessionTerminal>> {
    let mut found = Vec::new();
    for pid in pids {
        let (stat, status) = (Proc(*pid).stat()?, Proc(*pid).status()?);
        let session = status.ns_sid.last().copied().unwrap_or(0);
        if stat.tty_nr == 0 || status.ns_tgid.last() != Some(&session) {
            continue;
        }
        let file = files.add_terminal(*pid, device(stat.tty_nr)).context(|| format!("terminal of process {pid}"))?;
        if let Some(file) = file {
            found.push(SessionTerminal { session, file, foreground: foreground(pids, stat.tpgid)? });
        }
    }
    Ok(found)
}

/// The kernel prints device numbers with 12 bits of major between the minor's low 8 and high 12.
fn device(tty_nr: i32) -> u64 {
    let raw = tty_nr as u32;
    libc::makedev((raw >> 8) & 0xfff, (raw & 0xff) | ((raw >> 12) & 0xf_ff00))
}

/// The container's id of a process group that is known by the host's. Its leader may be dead, so any member will do.
fn foreground(pids: &[i32], host: i32) -> Result<i32> {
    for pid in pids {
        let status = Proc(*pid).status()?;
        if status.ns_pgid.first() == Some(&host) {
            return Ok(status.ns_pgid.last().copied().unwrap_or(0));
        }
    }
    Ok(0)
}
