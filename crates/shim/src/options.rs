//! How this container's runtime is to be called: containerd's options for runc-like runtimes.
//!
//! They come as containerd.runc.v1.Options, or, through the CRI plugin, as runtimeoptions.v1.Options with a TOML text of
//! the same names. What isn't given has rtc's defaults. They are kept in the bundle, for the `delete` of a shim that
//! has died.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::{Deserialize, Serialize};

use crate::api::Any;
use crate::fault::Result;
use crate::wire::{Malformed, Record};

/// Below it are the states of containers, a directory per containerd namespace.
const ROOT: &str = "/run/containerd/rtc";
/// In the bundle.
const FILE: &str = "rtc-shim.json";

/// The options that mean something to rtc; paths of CRIU don't.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Options {
    pub(crate) binary_name: String,
    pub(crate) root: String,
    pub(crate) systemd_cgroup: bool,
    pub(crate) no_pivot_root: bool,
    pub(crate) no_new_keyring: bool,
    pub(crate) shim_cgroup: String,
    pub(crate) io_uid: u32,
    pub(crate) io_gid: u32,
    /// Directory of an image that a new container is restored from.
    pub(crate) image_path: String,
}

impl Options {
    /// # Errors
    /// The message is malformed.
    pub(crate) fn from_any(any: &Any) -> std::result::Result<Self, Malformed> {
        match any.name.as_str() {
            "containerd.runc.v1.Options" => Self::from_runc(&any.value),
            "runtimeoptions.v1.Options" => Self::from_generic(&any.value),
            _ => Ok(Self::default()),
        }
    }

    fn from_runc(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let record = Record::parse(bytes)?;
        let id = |field| u32::try_from(record.number(field)).map_err(|_| Malformed);
        Ok(Self {
            no_pivot_root: record.flag(1),
            no_new_keyring: record.flag(2),
            shim_cgroup: record.text(3)?,
            io_uid: id(4)?,
            io_gid: id(5)?,
            binary_name: record.text(6)?,
            root: record.text(7)?,
            systemd_cgroup: record.flag(9),
            image_path: record.text(10)?,
        })
    }

    fn from_generic(bytes: &[u8]) -> std::result::Result<Self, Malformed> {
        let record = Record::parse(bytes)?;
        let (path, body) = (record.text(2)?, record.text(3)?);
        let body =
            if body.is_empty() && !path.is_empty() { fs::read_to_string(path).unwrap_or_default() } else { body };
        Ok(Self::from_toml(&body))
    }

    /// Plain `Name = value` lines are all that these options ever need of TOML.
    fn from_toml(text: &str) -> Self {
        let mut options = Self::default();
        for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
            let value = value.trim().trim_matches(['"', '\'']);
            let number = || value.parse().unwrap_or_default();
            match name.trim() {
                "BinaryName" => options.binary_name = value.into(),
                "Root" => options.root = value.into(),
                "SystemdCgroup" => options.systemd_cgroup = value == "true",
                "NoPivotRoot" => options.no_pivot_root = value == "true",
                "NoNewKeyring" => options.no_new_keyring = value == "true",
                "ShimCgroup" => options.shim_cgroup = value.into(),
                "IoUid" => options.io_uid = number(),
                "IoGid" => options.io_gid = number(),
                "CriuImagePath" => options.image_path = value.into(),
                _ => {}
            }
        }
        options
    }

    /// The directory that keeps the states of this namespace's containers.
    pub(crate) fn state_directory(&self, namespace: &str) -> PathBuf {
        let root = if self.root.is_empty() { ROOT } else { &self.root };
        Path::new(root).join(namespace)
    }

    /// rtc's executable: the one that is asked for, or the one beside the shim, or the one in PATH.
    pub(crate) fn binary(&self) -> PathBuf {
        if !self.binary_name.is_empty() {
            return self.binary_name.clone().into();
        }
        let beside = env::current_exe().ok().map(|own| own.with_file_name("rtc"));
        beside.filter(|path| path.is_file()).unwrap_or_else(|| "rtc".into())
    }

    pub(crate) fn save(&self, bundle: &Path) -> Result<()> {
        Ok(fs::write(bundle.join(FILE), serde_json::to_vec(self)?)?)
    }

    /// What [`Options::save`] kept; defaults if the shim died before.
    pub(crate) fn load(bundle: &Path) -> Result<Self> {
        match fs::read(bundle.join(FILE)) {
            Ok(bytes) => Ok(serde_json::from_slice(&bytes)?),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(e) => Err(e.into()),
        }
    }
}

/// The options of one checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct CheckpointOptions {
    /// End the container.
    pub(crate) exit: bool,
    /// Further flags for `rtc checkpoint`.
    pub(crate) flags: Vec<String>,
    /// Where dump.log goes; empty for a directory of our own.
    pub(crate) work_path: String,
}

impl CheckpointOptions {
    /// # Errors
    /// The message is malformed.
    pub(crate) fn from_any(any: &Any) -> std::result::Result<Self, Malformed> {
        let record = Record::parse(&any.value)?;
        let known = [(2, "--tcp-established"), (3, "--ext-unix-sk"), (4, "--shell-job"), (5, "--file-locks")];
        let mut flags: Vec<String> =
            known.iter().filter(|(field, _)| record.flag(*field)).map(|(_, flag)| (*flag).to_owned()).collect();
        for namespace in record.texts(6)? {
            flags.extend(["--empty-ns".to_owned(), namespace]);
        }
        let mode = record.text(7)?;
        if !mode.is_empty() {
            flags.extend(["--manage-cgroups-mode".to_owned(), mode]);
        }
        Ok(Self { exit: record.flag(1), flags, work_path: record.text(9)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Message;

    #[test]
    fn both_forms_say_the_same() {
        let expected = Options {
            binary_name: "/opt/rtc".into(),
            root: "/run/x".into(),
            systemd_cgroup: true,
            io_uid: 7,
            ..Options::default()
        };
        let runc = Message::new().number(4, 7).text(6, "/opt/rtc").text(7, "/run/x").flag(9, true).into_bytes();
        let any = Any { name: "containerd.runc.v1.Options".into(), value: runc };
        assert_eq!(Options::from_any(&any).unwrap(), expected);
        let toml = "BinaryName = \"/opt/rtc\"\n  Root = '/run/x'\nSystemdCgroup = true\nIoUid = 7\nCriuPath = \"x\"\n";
        let generic = Message::new().text(3, toml).into_bytes();
        let any = Any { name: "runtimeoptions.v1.Options".into(), value: generic };
        assert_eq!(Options::from_any(&any).unwrap(), expected);
        assert_eq!(expected.state_directory("default"), Path::new("/run/x/default"));
        assert_eq!(expected.binary(), Path::new("/opt/rtc"));
    }

    #[test]
    fn unknown_options_are_defaults() {
        assert_eq!(Options::from_any(&Any::default()).unwrap(), Options::default());
        assert_eq!(Options::default().state_directory("default"), Path::new("/run/containerd/rtc/default"));
    }

    #[test]
    fn a_checkpoint_has_flags() {
        let value = Message::new().flag(1, true).flag(2, true).flag(5, true).item(6, "network").text(7, "ignore");
        let any = Any { name: String::new(), value: value.into_bytes() };
        let options = CheckpointOptions::from_any(&any).unwrap();
        assert!(options.exit);
        let flags = ["--tcp-established", "--file-locks", "--empty-ns", "network", "--manage-cgroups-mode", "ignore"];
        assert_eq!(options.flags, flags);
    }
}
