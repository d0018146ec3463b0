//! Finding the program to execute, and executing it, with the messages that engines match as text.

use std::convert::Infallible;
use std::ffi::{CString, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rtc_sys::Errno;
use rustix::fs::{Access, AtFlags, FileType};

use crate::error::{Error, Kind, Result};

/// Finds `name` as a shell would: as it is when it has a slash, else along the PATH of the environment.
///
/// The texts are those of Go's os/exec, which podman, containerd and docker look for.
pub(crate) fn find(name: &str, environment: &[String]) -> Result<String> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.to_owned()),
            Err(Errno::ENOENT) => Err(failure(name, format!("stat {name}: no such file or directory"))),
            Err(e) => Err(failure(name, text(e))),
        };
    }
    let path = environment.iter().find_map(|entry| entry.strip_prefix("PATH=")).unwrap_or_default();
    let mut denied = false;
    for directory in path.split(':') {
        let directory = if directory.is_empty() { "." } else { directory };
        let candidate = format!("{}/{name}", directory.trim_end_matches('/'));
        match check(Path::new(&candidate)) {
            Ok(()) => return Ok(candidate),
            Err(Errno::EACCES) => denied = true,
            Err(_) => {}
        }
    }
    if denied && !name.is_empty() {
        return Err(failure(name, text(Errno::EACCES)));
    }
    Err(failure(name, "executable file not found in $PATH".to_owned()))
}

fn check(path: &Path) -> std::result::Result<(), Errno> {
    let errno = |e: rustix::io::Errno| Errno::from_raw(e.raw_os_error());
    let stat = rustix::fs::stat(path).map_err(errno)?;
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        return Err(Errno::EISDIR);
    }
    match rustix::fs::accessat(rustix::fs::CWD, path, Access::EXEC_OK, AtFlags::EACCESS) {
        // faccessat2 came with Linux 5.8, and a seccomp filter may not know it: execve will tell.
        Ok(()) | Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(errno(e)),
    }
}

fn failure(name: &str, text: String) -> Error {
    Error::new(Kind::Exec, format!("exec: {name:?}: {text}"))
}

/// An errno in the words of Go, which are those of strerror(3) in lower case.
pub(crate) fn text(errno: Errno) -> String {
    errno.desc().to_lowercase()
}

/// Replaces the process; returns only with the error.
pub(crate) fn execute(path: &str, args: &[String], environment: &[String]) -> Result<Infallible> {
    let c = |text: &str| {
        CString::new(text).map_err(|_| Error::new(Kind::Exec, format!("exec {path}: {text:?} holds a NUL byte")))
    };
    let args: Vec<CString> = args.iter().map(|arg| c(arg)).collect::<Result<_>>()?;
    let environment: Vec<CString> = environment.iter().map(|entry| c(entry)).collect::<Result<_>>()?;
    let program = CString::new(OsStr::new(path).as_bytes())
        .map_err(|_| Error::new(Kind::Exec, format!("exec {path:?}: the name holds a NUL byte")))?;
    nix::unistd::execve(&program, &args, &environment)
        .map_err(|e| Error::new(Kind::Exec, format!("exec {path}: {}", text(e))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_those_that_engines_match() {
        let env = ["PATH=/nowhere:/bin".to_owned()];
        assert_eq!(
            find("nosuch", &env).unwrap_err().to_string(),
            "exec: \"nosuch\": executable file not found in $PATH"
        );
        assert_eq!(
            find("/no/such", &env).unwrap_err().to_string(),
            "exec: \"/no/such\": stat /no/such: no such file or directory"
        );
        assert_eq!(find("/etc", &env).unwrap_err().to_string(), "exec: \"/etc\": is a directory");
        assert_eq!(find("/etc/passwd", &env).unwrap_err().to_string(), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(find("sh", &env).unwrap(), "/bin/sh");
    }
}
