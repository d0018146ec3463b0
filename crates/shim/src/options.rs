//! How this container's runtime is to be called: containerd's options for runc-like runtimes.
//!
//! They come as containerd.runc.v1.Options, or, through the CRI plugin, as runtimeoptions.v1.Options with a TOML text of
//! the same names. What isn't given has rtc's defaults. They are kept in the bundle, for the `delete` of a shim that
//! has died.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use containerd_shim::api::Options;
use containerd_shim::protos::protobuf;
use containerd_shim::protos::protobuf::well_known_types::any::Any;
use containerd_shim::protos::shim::oci::CheckpointOptions;
use containerd_shim::util::{JsonOptions, OPTIONS_FILE_NAME};

use crate::any::{Fields, decode};
use crate::fault::Result;

/// Below it are the states of containers, a directory per containerd namespace.
const ROOT: &str = "/run/containerd/rtc";
const RUNC: &str = "containerd.runc.v1.Options";
const GENERIC: &str = "runtimeoptions.v1.Options";

/// Some clients write type.googleapis.com/ in front.
fn kind(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

/// Whether a message is one with options.
pub(crate) fn is_known(any: &Any) -> bool {
    [RUNC, GENERIC].contains(&kind(any))
}

/// The options that mean something to rtc; paths of CRIU don't.
///
/// # Errors
/// The message is malformed.
pub(crate) fn from_any(any: &Any) -> protobuf::Result<Options> {
    match kind(any) {
        RUNC => decode(any),
        GENERIC => from_generic(any),
        _ => Ok(Options::default()),
    }
}

/// config_path is field 2, config_body 3.
fn from_generic(any: &Any) -> protobuf::Result<Options> {
    let message = Fields::parse(&any.value)?;
    let (path, body) = (message.text(2), message.text(3));
    let body = if body.is_empty() && !path.is_empty() { fs::read_to_string(path).unwrap_or_default() } else { body };
    Ok(from_toml(&body))
}

/// Plain `Name = value` lines are all that these options ever need of TOML.
fn from_toml(text: &str) -> Options {
    let mut options = Options::default();
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
            "CriuImagePath" => options.criu_image_path = value.into(),
            "CriuWorkPath" => options.criu_work_path = value.into(),
            _ => {}
        }
    }
    options
}

/// The directory that keeps the states of this namespace's containers.
pub(crate) fn state_directory(options: &Options, namespace: &str) -> PathBuf {
    let root = if options.root.is_empty() { ROOT } else { &options.root };
    Path::new(root).join(namespace)
}

/// rtc's executable: the one that is asked for, or the one beside the shim, or the one in PATH.
pub(crate) fn binary(options: &Options) -> PathBuf {
    if !options.binary_name.is_empty() {
        return options.binary_name.clone().into();
    }
    let beside = env::current_exe().ok().map(|own| own.with_file_name("rtc"));
    beside.filter(|path| path.is_file()).unwrap_or_else(|| "rtc".into())
}

pub(crate) fn save(options: &Options, bundle: &Path) -> Result<()> {
    let options = JsonOptions::from(options.clone());
    Ok(fs::write(bundle.join(OPTIONS_FILE_NAME), serde_json::to_vec(&options)?)?)
}

/// What [`save`] kept; defaults if the shim died before.
pub(crate) fn load(bundle: &Path) -> Result<Options> {
    match fs::read(bundle.join(OPTIONS_FILE_NAME)) {
        Ok(bytes) => Ok(serde_json::from_slice::<JsonOptions>(&bytes)?.into()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(Options::default()),
        Err(e) => Err(e.into()),
    }
}

/// The flags of `rtc checkpoint` for the options of one.
pub(crate) fn checkpoint_flags(options: &CheckpointOptions) -> Vec<&str> {
    let known = [
        ("--tcp-established", options.open_tcp),
        ("--ext-unix-sk", options.external_unix_sockets),
        ("--shell-job", options.terminal),
        ("--file-locks", options.file_locks),
        ("--leave-running", !options.exit),
    ];
    let mut flags: Vec<&str> = known.iter().filter(|(_, given)| *given).map(|(flag, _)| *flag).collect();
    flags.extend(options.empty_namespaces.iter().flat_map(|namespace| ["--empty-ns", namespace]));
    if !options.cgroups_mode.is_empty() {
        flags.extend(["--manage-cgroups-mode", &options.cgroups_mode]);
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::any::encode;

    #[test]
    fn both_forms_say_the_same() {
        let expected = Options {
            binary_name: "/opt/rtc".into(),
            root: "/run/x".into(),
            systemd_cgroup: true,
            io_uid: 7,
            ..Options::default()
        };
        let mut any = encode("containerd.runc.v1", &expected);
        assert_eq!(any.type_url, "containerd.runc.v1.Options");
        assert_eq!(from_any(&any).unwrap(), expected);
        any.type_url.insert_str(0, "type.googleapis.com/");
        assert_eq!(from_any(&any).unwrap(), expected);
        let toml = "BinaryName = \"/opt/rtc\"\n  Root = '/run/x'\nSystemdCgroup = true\nIoUid = 7\nCriuPath = \"x\"\n";
        let mut generic = Fields::default();
        generic.set_text(3, toml);
        let value = generic.bytes().unwrap();
        // Field 3, bytes: as Google's own library writes it.
        assert_eq!(value[..2], [0x1a, toml.len() as u8]);
        let any = Any { type_url: "runtimeoptions.v1.Options".into(), value, ..Any::default() };
        assert_eq!(from_any(&any).unwrap(), expected);
        assert_eq!(state_directory(&expected, "default"), Path::new("/run/x/default"));
        assert_eq!(binary(&expected), Path::new("/opt/rtc"));
    }

    #[test]
    fn unknown_options_are_defaults() {
        assert_eq!(from_any(&Any::default()).unwrap(), Options::default());
        assert_eq!(state_directory(&Options::default(), "default"), Path::new("/run/containerd/rtc/default"));
    }

    #[test]
    fn options_are_kept_in_the_bundle() {
        let bundle = env::temp_dir().join(format!("shim-options-{}", std::process::id()));
        fs::create_dir(&bundle).unwrap();
        assert_eq!(load(&bundle).unwrap(), Options::default());
        let options = Options { root: "/run/x".into(), systemd_cgroup: true, ..Options::default() };
        save(&options, &bundle).unwrap();
        assert_eq!(load(&bundle).unwrap(), options);
        fs::remove_dir_all(&bundle).unwrap();
    }

    #[test]
    fn a_checkpoint_has_flags() {
        let options = CheckpointOptions {
            open_tcp: true,
            file_locks: true,
            empty_namespaces: vec!["network".into()],
            cgroups_mode: "ignore".into(),
            ..CheckpointOptions::default()
        };
        let line = "--tcp-established --file-locks --leave-running --empty-ns network --manage-cgroups-mode ignore";
        assert_eq!(checkpoint_flags(&options).join(" "), line);
        let exit = CheckpointOptions { exit: true, ..CheckpointOptions::default() };
        assert!(checkpoint_flags(&exit).is_empty());
    }
}
