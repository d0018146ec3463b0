//! What `exec` runs: a process.json, or the container's own process with changes.

use std::path::PathBuf;

use oci_spec::runtime::{Process, Spec};

use crate::error::{Error, Kind, Result};
use crate::spec;

/// What `exec` runs.
#[derive(Debug)]
pub enum ExecProcess {
    /// The bytes of a process.json: the specification's `process` object.
    Json(Vec<u8>),
    /// The container's own process with changes.
    Overrides(Overrides),
}

/// Changes to the container's own process.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Program and arguments; not empty.
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: Vec<String>,
    /// The working directory.
    pub cwd: Option<PathBuf>,
    /// The process gets a terminal.
    pub tty: bool,
    /// Another user.
    pub user: Option<User>,
    /// Added to the additional groups.
    pub additional_gids: Vec<u32>,
    /// Capabilities to add (`CAP_CHOWN`).
    pub capabilities: Vec<String>,
    /// Sets no_new_privs; `None` leaves the container's own setting.
    pub no_new_privs: Option<bool>,
    /// Another AppArmor profile.
    pub apparmor: Option<String>,
    /// Another SELinux label.
    pub process_label: Option<String>,
}

/// A user for `exec`, as `--user UID[:GID]` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct User {
    /// The user id.
    pub uid: u32,
    /// The group id; without it the container's own stays, as in runc.
    pub gid: Option<u32>,
}

impl std::str::FromStr for User {
    type Err = Error;

    /// Parses `UID` or `UID:GID`, decimal digits and nothing else.
    fn from_str(text: &str) -> Result<Self> {
        let number = |part: &str, what: &str| {
            let digits = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            part.parse().ok().filter(|_| digits).ok_or_else(|| {
                Error::new(Kind::Invalid, format!("{what} {part:?} of user {text:?} is not a number: give UID[:GID]"))
            })
        };
        match text.split_once(':') {
            None => Ok(Self { uid: number(text, "uid")?, gid: None }),
            Some((uid, gid)) => Ok(Self { uid: number(uid, "uid")?, gid: Some(number(gid, "gid")?) }),
        }
    }
}

/// The process to run, and the capabilities to add to it.
pub(crate) fn process_of(spec: &Spec, what: &ExecProcess) -> Result<(Process, Vec<String>)> {
    let own = spec.process().clone();
    match what {
        ExecProcess::Json(bytes) => {
            let mut process = spec::parse_process(bytes)?;
            if let Some(own) = own {
                inherit(&mut process, &own);
            }
            Ok((process, Vec::new()))
        }
        ExecProcess::Overrides(changes) => {
            let own = own.ok_or_else(|| Error::new(Kind::Invalid, "the container's configuration has no process"))?;
            Ok((changes.apply(own), changes.capabilities.clone()))
        }
    }
}

/// What a process.json doesn't say is as in the container's own process, as in runc.
///
/// Not so `noNewPrivileges` and `terminal`: engines leave them out when they are false.
fn inherit(process: &mut Process, own: &Process) {
    if process.capabilities().is_none() {
        process.set_capabilities(own.capabilities().clone());
    }
    if process.rlimits().as_ref().is_none_or(Vec::is_empty) {
        process.set_rlimits(own.rlimits().clone());
    }
    if process.scheduler().is_none() {
        process.set_scheduler(own.scheduler().clone());
    }
    if process.io_priority().is_none() {
        process.set_io_priority(*own.io_priority());
    }
    if process.exec_cpu_affinity().is_none() {
        process.set_exec_cpu_affinity(own.exec_cpu_affinity().clone());
    }
    if process.apparmor_profile().is_none() {
        process.set_apparmor_profile(own.apparmor_profile().clone());
    }
    if process.selinux_label().is_none() {
        process.set_selinux_label(own.selinux_label().clone());
    }
    if process.oom_score_adj().is_none() {
        process.set_oom_score_adj(own.oom_score_adj());
    }
    let umask = process.user().umask().or(own.user().umask());
    process.user_mut().set_umask(umask);
}

impl Overrides {
    fn apply(&self, mut process: Process) -> Process {
        process.set_args(Some(self.args.clone()));
        process.set_terminal(Some(self.tty));
        let mut env = process.env().clone().unwrap_or_default();
        env.extend(self.env.iter().cloned());
        process.set_env(Some(env));
        if let Some(cwd) = &self.cwd {
            process.set_cwd(cwd.clone());
        }
        let user = process.user_mut();
        if let Some(User { uid, gid }) = self.user {
            user.set_uid(uid);
            user.set_gid(gid.unwrap_or(user.gid()));
        }
        if !self.additional_gids.is_empty() {
            let mut gids = user.additional_gids().clone().unwrap_or_default();
            gids.extend(&self.additional_gids);
            user.set_additional_gids(Some(gids));
        }
        if self.no_new_privs.is_some() {
            process.set_no_new_privileges(self.no_new_privs);
        }
        if self.apparmor.is_some() {
            process.set_apparmor_profile(self.apparmor.clone());
        }
        if self.process_label.is_some() {
            process.set_selinux_label(self.process_label.clone());
        }
        process
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_numbers_and_nothing_else() {
        assert_eq!("1000:5".parse::<User>().unwrap(), User { uid: 1000, gid: Some(5) });
        assert_eq!("0".parse::<User>().unwrap(), User { uid: 0, gid: None });
        for bad in ["", ":", "1:", ":1", "1:2:3", "+1", "-1", "root", "1 ", "4294967296"] {
            assert!(bad.parse::<User>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn changes_leave_the_rest_as_it_is() {
        let own: Process = serde_json::from_str(
            r#"{"user":{"uid":1,"gid":2,"additionalGids":[3]},"cwd":"/x","args":["a"],"env":["A=1"],"terminal":true}"#,
        )
        .unwrap();
        let changes = Overrides {
            args: vec!["b".into()],
            env: vec!["B=2".into()],
            user: Some(User { uid: 7, gid: None }),
            additional_gids: vec![9],
            ..Overrides::default()
        };
        let process = changes.apply(own);
        assert_eq!((process.user().uid(), process.user().gid()), (7, 2));
        assert_eq!(process.user().additional_gids().as_deref(), Some(&[3, 9][..]));
        assert_eq!(process.env().as_deref(), Some(&["A=1".to_owned(), "B=2".to_owned()][..]));
        assert_eq!(process.terminal(), Some(false));
        assert_eq!(process.cwd(), &PathBuf::from("/x"));
    }
}
