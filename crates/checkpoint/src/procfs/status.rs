//! /proc/PID/status and /proc/PID/task/TID/status (proc_pid_status(5)).

use super::{Malformed, Parsed};

/// The fields that a checkpoint needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The file mode creation mask.
    pub umask: u32,
    /// Who traces it, or 0.
    pub tracer: i32,
    /// Real, effective, saved and filesystem user ids, as the reader's user namespace counts.
    pub uid: [u32; 4],
    /// The same for group ids.
    pub gid: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// The thread's id in each pid namespace, outermost first.
    pub ns_tid: Vec<i32>,
    /// The process's id in each pid namespace, outermost first.
    pub ns_tgid: Vec<i32>,
    /// Its process group's id in each pid namespace, outermost first.
    pub ns_pgid: Vec<i32>,
    /// Its session's id in each pid namespace, outermost first.
    pub ns_sid: Vec<i32>,
    /// Ignored signals.
    pub sig_ignored: u64,
    /// Capability sets: inheritable, permitted, effective, bounding, ambient.
    pub caps: [u64; 5],
    /// `PR_SET_NO_NEW_PRIVS`.
    pub no_new_privs: bool,
    /// 0 off, 1 strict, 2 filters.
    pub seccomp: u32,
    /// The processors it may run on: words of 64, lowest first.
    pub cpus_allowed: Vec<u64>,
}

/// Parses the file's text.
///
/// # Errors
/// When a field isn't what it should be.
pub fn parse(text: &str) -> Parsed<Status> {
    let mut status = Status::default();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        let value = value.trim();
        match name {
            "Umask" => status.umask = u32::from_str_radix(value, 8).map_err(|_| Malformed("status"))?,
            "TracerPid" => status.tracer = number(value)?,
            "Uid" => status.uid = four(value)?,
            "Gid" => status.gid = four(value)?,
            "Groups" => status.groups = list(value)?,
            "NSpid" => status.ns_tid = list(value)?,
            "NStgid" => status.ns_tgid = list(value)?,
            "NSpgid" => status.ns_pgid = list(value)?,
            "NSsid" => status.ns_sid = list(value)?,
            "SigIgn" => status.sig_ignored = hex(value)?,
            "CapInh" => status.caps[0] = hex(value)?,
            "CapPrm" => status.caps[1] = hex(value)?,
            "CapEff" => status.caps[2] = hex(value)?,
            "CapBnd" => status.caps[3] = hex(value)?,
            "CapAmb" => status.caps[4] = hex(value)?,
            "NoNewPrivs" => status.no_new_privs = value == "1",
            "Seccomp" => status.seccomp = number(value)?,
            "Cpus_allowed" => status.cpus_allowed = mask(value)?,
            _ => {}
        }
    }
    if status.ns_tid.is_empty() || status.ns_tgid.is_empty() {
        return Err(Malformed("status"));
    }
    Ok(status)
}

fn number<T: std::str::FromStr>(value: &str) -> Parsed<T> {
    value.parse().map_err(|_| Malformed("status"))
}

fn hex(value: &str) -> Parsed<u64> {
    u64::from_str_radix(value, 16).map_err(|_| Malformed("status"))
}

fn list<T: std::str::FromStr>(value: &str) -> Parsed<Vec<T>> {
    value.split_ascii_whitespace().map(number).collect()
}

fn four(value: &str) -> Parsed<[u32; 4]> {
    list(value)?.try_into().map_err(|_| Malformed("status"))
}

/// "00ff,00000003": 32-bit words, highest first.
fn mask(value: &str) -> Parsed<Vec<u64>> {
    let words: Vec<u64> = value.rsplit(',').map(hex).collect::<Parsed<_>>()?;
    Ok(words.chunks(2).map(|pair| pair[0] | pair.get(1).copied().unwrap_or(0) << 32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_of_a_containers_task() {
        let text = "Name:\tsh\nUmask:\t0022\nState:\tS (sleeping)\nTgid:\t812\nNgid:\t0\nPid:\t812\nPPid:\t800\n\
                    TracerPid:\t0\nUid:\t0\t1\t2\t3\nGid:\t4\t5\t6\t7\nFDSize:\t64\nGroups:\t10 20 \nNStgid:\t812\t7\n\
                    NSpid:\t812\t7\nNSpgid:\t812\t7\nNSsid:\t812\t1\nSigIgn:\t0000000000000004\n\
                    CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
                    CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n\
                    Cpus_allowed:\t1,00000003\n";
        let status = parse(text).unwrap();
        assert_eq!((status.umask, status.uid, status.gid), (0o22, [0, 1, 2, 3], [4, 5, 6, 7]));
        assert_eq!((status.groups.as_slice(), status.ns_tid.as_slice()), ([10, 20].as_slice(), [812, 7].as_slice()));
        assert_eq!((status.ns_sid.as_slice(), status.sig_ignored), ([812, 1].as_slice(), 4));
        assert_eq!((status.caps[1], status.no_new_privs, status.seccomp), (0xa804_25fb, true, 2));
        assert_eq!(status.cpus_allowed, [0x1_0000_0003]);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(parse("Uid:\tx\n").is_err());
        assert!(parse("").is_err());
    }
}
