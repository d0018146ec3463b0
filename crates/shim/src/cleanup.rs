//! `delete`: removes what is left of a container whose shim has died.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::arguments::Arguments;
use crate::bundle::Config;
use crate::lifecycle::{PID_FILE, ROOTFS};
use crate::moment::Moment;
use crate::options::Options;
use crate::runtime::{self, Runtime};
use crate::wire::Message;
use crate::{mounts, names};

/// What a process that SIGKILL has ended is said to have returned.
const KILLED: u64 = 128 + 9;

/// Does `delete`, and prints the answer that the shim would have given.
///
/// # Errors
/// rtc can't remove the container.
pub(crate) fn delete(arguments: &Arguments) -> Result<()> {
    // containerd runs it in the bundle, and names it too.
    let bundle = match &arguments.bundle {
        Some(bundle) => PathBuf::from(bundle),
        None => std::env::current_dir().context("find the bundle")?,
    };
    let config = Config::load(&bundle).unwrap_or_default();
    let options = Options::load(&bundle).unwrap_or_default();
    let mut call = Runtime::new(&options, &arguments.namespace, &bundle, &config).call("delete", 0);
    let status = call.command.args(["--force", &arguments.id]).status().context("run rtc")?;
    if let Err(fault) = runtime::outcome("delete", &call.log, status.code().unwrap_or(1).unsigned_abs()) {
        bail!(fault.message);
    }
    mounts::unmount_all(&bundle.join(ROOTFS)).map_err(|fault| anyhow::anyhow!(fault.message))?;
    remove_socket(&bundle);
    let pid = fs::read_to_string(bundle.join(PID_FILE)).ok().and_then(|text| text.trim().parse().ok());
    let answer = Message::new().number(1, pid.unwrap_or(0)).number(2, KILLED).message(3, Moment::now().message());
    io::stdout().write_all(&answer.into_bytes()).context("write to stdout")
}

/// Removes the socket of a shim that is no more; that of a pod may still serve others.
fn remove_socket(bundle: &Path) {
    let Ok(address) = fs::read_to_string(bundle.join(names::ADDRESS)) else { return };
    let path = names::path_of(&address);
    if UnixStream::connect(path).is_err() {
        let _ = fs::remove_file(path);
    }
}
