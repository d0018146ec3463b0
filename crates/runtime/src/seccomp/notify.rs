//! Telling the seccomp agent about a container (runtime-spec, config-linux, "The Container Process State").

use std::io::IoSlice;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;

use oci_spec::runtime::{ContainerProcessState, ContainerProcessStateBuilder, SECCOMP_FD_NAME, State};
use rtc_sys::CallExt;
use rustix::net::{
    AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketAddrUnix, SocketFlags, SocketType,
};

use super::filter::Notify;
use crate::error::Context;
use crate::{Error, Kind, Result};

/// Connects to the agent and sends it the state of a process with the listener of its filter.
///
/// `pid` is the process under the filter, as the host counts; `state` the container's.
///
/// # Errors
/// `failed to connect with seccomp agent`, or the agent hung up.
pub fn send(notify: &Notify, listener: BorrowedFd<'_>, pid: i32, state: State) -> Result<()> {
    let path = notify.path.display();
    let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .call("socket", "AF_UNIX, SOCK_STREAM")?;
    let address = SocketAddrUnix::new(&notify.path).call("connect", &path);
    address
        .and_then(|address| rustix::net::connect(&socket, &address).call("connect", &path))
        .context(|| "failed to connect with seccomp agent")?;
    let message = message(notify, pid, state)?;
    let mut rest = message.as_slice();
    // The descriptor goes with the first byte; a stream socket may take the rest in parts.
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [listener];
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(Error::new(Kind::System, "no room for one descriptor"));
    }
    while !rest.is_empty() {
        let sent = rustix::net::sendmsg(&socket, &[IoSlice::new(rest)], &mut control, SendFlags::NOSIGNAL)
            .call("sendmsg", &path)
            .context(|| "seccomp agent")?;
        rest = &rest[sent..];
        control.clear();
    }
    Ok(())
}

/// The `ContainerProcessState` document.
fn message(notify: &Notify, pid: i32, state: State) -> Result<Vec<u8>> {
    let invalid = |e: &dyn std::fmt::Display| Error::new(Kind::Invalid, format!("seccomp agent: {e}"));
    let document = ContainerProcessStateBuilder::default()
        .version(state.version().clone())
        .fds(vec![SECCOMP_FD_NAME.to_owned()])
        .pid(pid)
        .state(state);
    let document = match &notify.metadata {
        Some(metadata) => document.metadata(metadata.clone()),
        None => document,
    };
    let document: ContainerProcessState = document.build().map_err(|e| invalid(&e))?;
    serde_json::to_vec(&document).map_err(|e| invalid(&e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_agent_gets_the_state_of_the_process() {
        let notify = Notify { path: "/run/agent".into(), metadata: Some("profile 7".into()), reports_sendmsg: false };
        let mut state = State::default();
        state.set_version("1.2.0".into()).set_id("web1".into()).set_pid(Some(7)).set_bundle("/b".into());
        let text = String::from_utf8(message(&notify, 42, state).unwrap()).unwrap();
        assert_eq!(
            text,
            r#"{"ociVersion":"1.2.0","fds":["seccompFd"],"pid":42,"metadata":"profile 7","state":{"ociVersion":"1.2.0","id":"web1","status":"stopped","pid":7,"bundle":"/b"}}"#
        );
    }
}
