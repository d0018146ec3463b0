//! `delete`: removes what is left of a container whose shim has died.

use std::fs;
use std::io::{self, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use containerd_shim::api::DeleteResponse;
use containerd_shim::protos::protobuf::well_known_types::timestamp::Timestamp;
use containerd_shim::protos::protobuf::{Message, MessageField};
use rtc_sys::CallExt;

use crate::bundle::Config;
use crate::fault::Fault;
use crate::lifecycle::{PID_FILE, ROOTFS};
use crate::runtime::{self, Runtime};
use crate::{mounts, options, sockets};

/// What a process that SIGKILL has ended is said to have returned.
const KILLED: u32 = 128 + 9;

/// Does `delete`, and prints the answer.
///
/// # Errors
/// There is no working directory, or stdout fails.
pub(crate) fn print(namespace: &str, id: &str, bundle: &str) -> Result<()> {
    let answer = delete(namespace, id, bundle)?;
    answer.write_to_writer(&mut io::stdout()).context("write to stdout")?;
    io::stdout().flush().context("write to stdout")
}

/// The answer that the shim would have given. Without a bundle it is the working directory.
///
/// What can't be removed is told on stderr, and the rest removed all the same.
///
/// # Errors
/// There is no working directory.
fn delete(namespace: &str, id: &str, bundle: &str) -> Result<DeleteResponse> {
    let bundle = match bundle {
        "" => std::env::current_dir().context("find the bundle")?,
        bundle => PathBuf::from(bundle),
    };
    let config = Config::load(&bundle).unwrap_or_default();
    let options = options::load(&bundle).unwrap_or_default();
    let mut call = Runtime::new(&options, namespace, &bundle, &config).call("delete", 0);
    let program = call.command.get_program().to_string_lossy().into_owned();
    let status = call.command.args(["--force", id]).status().call("spawn", program).map_err(Fault::from);
    let status = status.map(|status| status.code().unwrap_or(1).unsigned_abs());
    let removed = status.and_then(|status| runtime::outcome("delete", &call.log, status));
    for outcome in [removed, mounts::unmount_all(&bundle.join(ROOTFS))] {
        if let Err(fault) = outcome {
            // containerd logs it. Without an answer it would tell nobody that the container has ended.
            let _ = writeln!(io::stderr(), "{fault}");
        }
    }
    remove_socket(&bundle);
    let pid = fs::read_to_string(bundle.join(PID_FILE)).ok().and_then(|text| text.trim().parse().ok());
    let exited_at = MessageField::some(Timestamp::now());
    Ok(DeleteResponse { pid: pid.unwrap_or(0), exit_status: KILLED, exited_at, ..DeleteResponse::default() })
}

/// Removes the socket of a shim that is no more; that of a pod may still serve others.
fn remove_socket(bundle: &Path) {
    let Ok(address) = fs::read_to_string(bundle.join(sockets::ADDRESS)) else { return };
    let path = sockets::path_of(&address);
    if UnixStream::connect(path).is_err() {
        let _ = fs::remove_file(path);
    }
}
