//! /proc/PID/smaps (proc_pid_smaps(5)): the mappings with their flags.

use super::{Malformed, Parsed};
use serde::{Deserialize, Serialize};

/// One mapping.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Its first address.
    pub start: u64,
    /// The address behind its last.
    pub end: u64,
    /// `PROT_*`.
    pub prot: i32,
    /// `MAP_SHARED` rather than `MAP_PRIVATE`.
    pub shared: bool,
    /// Offset into the file, in bytes.
    pub offset: u64,
    /// The file's inode number, or 0.
    pub inode: u64,
    /// The file's path or a name in brackets; may be empty.
    pub name: String,
    /// The size of a page, in bytes.
    pub page_size: u64,
    /// Bytes of it that are anonymous memory.
    pub anonymous: u64,
    /// Bytes of it that are in swap.
    pub swap: u64,
    /// The protection key.
    pub pkey: u32,
    /// The kernel's flags.
    pub flags: VmFlags,
}

/// Flags of a mapping that a checkpoint needs, from the two-letter codes of `VmFlags`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct VmFlags(u32);

impl std::fmt::Debug for VmFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<&str> = VmFlags::CODES.iter().filter(|(_, bit)| self.has(*bit)).map(|(code, _)| *code).collect();
        write!(f, "VmFlags({})", names.join(" "))
    }
}

impl VmFlags {
    /// Grows downwards.
    pub const GROWS_DOWN: Self = Self(1);
    /// Locked in memory.
    pub const LOCKED: Self = Self(1 << 1);
    /// Locked when faulted in.
    pub const LOCKED_ON_FAULT: Self = Self(1 << 2);
    /// Memory-mapped I/O.
    pub const IO: Self = Self(1 << 3);
    /// Not inherited by fork.
    pub const DONT_COPY: Self = Self(1 << 4);
    /// Zeroed in the child of a fork.
    pub const WIPE_ON_FORK: Self = Self(1 << 5);
    /// Not in core dumps.
    pub const DONT_DUMP: Self = Self(1 << 6);
    /// No swap space is reserved.
    pub const NO_RESERVE: Self = Self(1 << 7);
    /// Huge pages wanted.
    pub const HUGE_PAGE: Self = Self(1 << 8);
    /// Huge pages not wanted.
    pub const NO_HUGE_PAGE: Self = Self(1 << 9);
    /// Pages may be merged.
    pub const MERGEABLE: Self = Self(1 << 10);
    /// Huge pages of hugetlbfs.
    pub const HUGE_TLB: Self = Self(1 << 11);
    /// Read in sequence.
    pub const SEQUENTIAL: Self = Self(1 << 12);
    /// Read at random.
    pub const RANDOM: Self = Self(1 << 13);
    /// Raw page frames.
    pub const PFN_MAP: Self = Self(1 << 14);
    /// Sealed by mseal(2).
    pub const SEALED: Self = Self(1 << 15);
    /// A shadow stack.
    pub const SHADOW_STACK: Self = Self(1 << 16);
    /// userfaultfd waits for missing pages.
    pub const UFFD_MISSING: Self = Self(1 << 17);
    /// userfaultfd tracks writes.
    pub const UFFD_WP: Self = Self(1 << 18);

    /// May be made writable.
    pub const MAY_WRITE: Self = Self(1 << 19);

    const CODES: [(&'static str, Self); 19] = [
        ("mw", Self::MAY_WRITE),
        ("gd", Self::GROWS_DOWN),
        ("lo", Self::LOCKED),
        ("lf", Self::LOCKED_ON_FAULT),
        ("io", Self::IO),
        ("dc", Self::DONT_COPY),
        ("wf", Self::WIPE_ON_FORK),
        ("dd", Self::DONT_DUMP),
        ("nr", Self::NO_RESERVE),
        ("hg", Self::HUGE_PAGE),
        ("nh", Self::NO_HUGE_PAGE),
        ("mg", Self::MERGEABLE),
        ("ht", Self::HUGE_TLB),
        ("sr", Self::SEQUENTIAL),
        ("rr", Self::RANDOM),
        ("pf", Self::PFN_MAP),
        ("sl", Self::SEALED),
        ("ss", Self::SHADOW_STACK),
        ("um", Self::UFFD_MISSING),
    ];

    /// Whether a flag holds.
    pub fn has(self, flag: Self) -> bool {
        self.0 & flag.0 != 0
    }

    /// Both sets together.
    #[must_use]
    pub fn with(self, flag: Self) -> Self {
        Self(self.0 | flag.0)
    }

    /// Without a flag.
    #[must_use]
    pub fn without(self, flag: Self) -> Self {
        Self(self.0 & !flag.0)
    }

    fn parse(codes: &str) -> Self {
        codes.split_ascii_whitespace().fold(Self(0), |flags, code| match code {
            "uw" | "ui" => flags.with(Self::UFFD_WP),
            code => Self::CODES.iter().find(|(name, _)| *name == code).map_or(flags, |(_, bit)| flags.with(*bit)),
        })
    }
}

/// Parses the file's text.
///
/// # Errors
/// When a line isn't what it should be.
pub fn parse(text: &str) -> Parsed<Vec<Mapping>> {
    let mut mappings: Vec<Mapping> = Vec::new();
    for line in text.lines() {
        // Attribute lines begin with a capital letter, mappings with a hexadecimal digit in lower case.
        if !line.starts_with(|c: char| c.is_ascii_uppercase()) {
            mappings.push(header(line)?);
            continue;
        }
        let (Some(mapping), Some((name, value))) = (mappings.last_mut(), line.split_once(':')) else {
            return Err(Malformed("smaps"));
        };
        match name {
            "KernelPageSize" => mapping.page_size = kib(value)?,
            "Anonymous" => mapping.anonymous = kib(value)?,
            "Swap" => mapping.swap = kib(value)?,
            "ProtectionKey" => mapping.pkey = value.trim().parse().map_err(|_| Malformed("smaps"))?,
            "VmFlags" => mapping.flags = VmFlags::parse(value),
            _ => {}
        }
    }
    Ok(mappings)
}

/// "7f00-7f10 rw-p 00000000 08:01 1234      /path with spaces"
fn header(line: &str) -> Parsed<Mapping> {
    let malformed = || Malformed("smaps");
    let mut rest = line;
    let mut next = || {
        let (word, tail) = rest.split_once(' ').unwrap_or((rest, ""));
        rest = tail;
        word
    };
    let (range, perms, offset, _dev, inode) = (next(), next(), next(), next(), next());
    let hex = |s: &str| u64::from_str_radix(s, 16).map_err(|_| malformed());
    let (start, end) = range.split_once('-').ok_or_else(malformed)?;
    let prot = [(0, b'r', libc::PROT_READ), (1, b'w', libc::PROT_WRITE), (2, b'x', libc::PROT_EXEC)];
    let perms = perms.as_bytes();
    let (start, end) = (hex(start)?, hex(end)?);
    if start >= end {
        return Err(malformed());
    }
    Ok(Mapping {
        start,
        end,
        prot: prot.iter().filter(|(i, c, _)| perms.get(*i) == Some(c)).map(|(_, _, p)| p).sum(),
        shared: perms.get(3) == Some(&b's'),
        offset: hex(offset)?,
        inode: inode.parse().map_err(|_| malformed())?,
        name: rest.trim_start().to_owned(),
        ..Mapping::default()
    })
}

fn kib(value: &str) -> Parsed<u64> {
    let digits = value.trim().strip_suffix(" kB").ok_or(Malformed("smaps"))?;
    digits.parse::<u64>().ok().and_then(|k| k.checked_mul(1024)).ok_or(Malformed("smaps"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
555500000000-555500002000 r-xp 00001000 08:01 1234                       /bin/a b
Size:                  8 kB
KernelPageSize:        4 kB
Anonymous:             0 kB
Swap:                  0 kB
ProtectionKey:         0
VmFlags: rd ex mr mw me
7ffc00000000-7ffc00021000 rw-p 00000000 00:00 0                          [stack]
Size:                132 kB
KernelPageSize:        4 kB
Anonymous:            12 kB
Swap:                  4 kB
THPeligible:           0
ProtectionKey:         3
VmFlags: rd wr mr mw me gd ac nh
7fff00000000-7fff00001000 rw-s 00000000 00:05 77
VmFlags: rd wr sh
";

    #[test]
    fn mappings_with_names_flags_and_sizes() {
        let m = parse(TEXT).unwrap();
        assert_eq!(m.len(), 3);
        assert_eq!((m[0].start, m[0].end, m[0].offset, m[0].inode), (0x5555_0000_0000, 0x5555_0000_2000, 0x1000, 1234));
        assert_eq!((m[0].name.as_str(), m[0].prot), ("/bin/a b", libc::PROT_READ | libc::PROT_EXEC));
        assert_eq!((m[1].name.as_str(), m[1].anonymous, m[1].swap, m[1].pkey), ("[stack]", 12288, 4096, 3));
        assert!(m[1].flags.has(VmFlags::GROWS_DOWN) && m[1].flags.has(VmFlags::NO_HUGE_PAGE));
        assert!(!m[1].flags.has(VmFlags::LOCKED));
        assert!(m[2].shared && m[2].name.is_empty() && !m[1].shared);
    }

    #[test]
    fn garbage_is_refused() {
        assert!(parse("zz-yy rw-p 0 0:0 0").is_err());
        assert!(parse("Size: 4 kB").is_err());
    }
}
