//! The kinds of VM that one image makes, by what boots on it.

use anyhow::{Result, bail};
use std::fmt;

/// What boots on the image's disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guest {
    /// Debian 13's kernel and a shell script as init: no service runs. The quickest to boot.
    Shell,
    /// Debian 13's kernel and systemd, with its bus and its journal.
    Systemd,
    /// Debian 12's kernel, 6.1, and the shell script: programs stay those of Debian 13.
    Debian12,
    /// Debian 13's kernel with SELinux instead of AppArmor, and the shell script. It has no policy at first.
    Selinux,
}

impl Guest {
    /// All kinds, in the order in which they are started.
    pub const ALL: [Self; 4] = [Self::Shell, Self::Systemd, Self::Debian12, Self::Selinux];

    /// The kind of this name.
    pub fn named(name: &str) -> Result<Self> {
        match Self::ALL.into_iter().find(|guest| guest.name() == name) {
            Some(guest) => Ok(guest),
            None => bail!("no guest is named {name:?}; there are {}", Self::ALL.map(Self::name).join(", ")),
        }
    }

    /// Its name in suites and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shell => "shell",
            Self::Systemd => "systemd",
            Self::Debian12 => "debian12",
            Self::Selinux => "selinux",
        }
    }

    /// What the names of its kernel and initrd in the image end with.
    pub(crate) fn boot_suffix(self) -> &'static str {
        match self {
            Self::Shell | Self::Systemd | Self::Selinux => "",
            Self::Debian12 => "-debian12",
        }
    }

    /// What it adds to the kernel's command line.
    pub(crate) fn boot_options(self) -> &'static str {
        match self {
            Self::Shell | Self::Debian12 => "",
            Self::Selinux => " security=selinux selinux=1",
            Self::Systemd => " rtcinit=/lib/systemd/systemd systemd.show_status=no",
        }
    }

    /// Memory, in MiB.
    pub(crate) fn memory(self) -> u32 {
        match self {
            Self::Shell | Self::Debian12 | Self::Selinux => 1024,
            Self::Systemd => 1536,
        }
    }
}

impl fmt::Display for Guest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_have_names() {
        for guest in Guest::ALL {
            assert_eq!(Guest::named(guest.name()).ok(), Some(guest));
        }
        let error = Guest::named("other").err().map(|error| error.to_string());
        assert_eq!(error.as_deref(), Some("no guest is named \"other\"; there are shell, systemd, debian12, selinux"));
    }
}
