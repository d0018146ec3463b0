//! The system call interfaces of the machines that rtc runs on.

use oci_spec::runtime::Arch;

/// A system call interface: a set of numbers, and how the kernel shows them to a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(usize)]
pub(super) enum Abi {
    X86_64,
    X86,
    X32,
    Aarch64,
    Arm,
}

/// What tells the calls of x32 from those of x86-64: both have the same AUDIT_ARCH value.
pub(super) const X32_BIT: u32 = 0x4000_0000;

/// Where the private calls of 32-bit ARM begin (cacheflush, set_tls).
pub(super) const ARM_PRIVATE: u32 = 0x000f_0000;

impl Abi {
    /// `AUDIT_ARCH_...` of linux/audit.h: the `arch` field of `struct seccomp_data`.
    pub(super) fn audit(self) -> u32 {
        match self {
            Self::X86_64 | Self::X32 => 0xc000_003e,
            Self::X86 => 0x4000_0003,
            Self::Aarch64 => 0xc000_00b7,
            Self::Arm => 0x4000_0028,
        }
    }

    /// Whether arguments fill 64-bit registers. Where not, the kernel shows upper halves of 0.
    pub(super) fn is_64_bit(self) -> bool {
        !matches!(self, Self::X86 | Self::Arm)
    }

    /// The interfaces that a filter covers: the machine's own, and those listed that it has too.
    ///
    /// Sorted so that those with one `audit` value follow each other. Architectures of other machines can't occur.
    pub(super) fn covered(machine: Machine, listed: &[Arch]) -> Vec<Self> {
        let all: &[(Arch, Self)] = match machine {
            Machine::X86 => {
                &[(Arch::ScmpArchX86_64, Self::X86_64), (Arch::ScmpArchX32, Self::X32), (Arch::ScmpArchX86, Self::X86)]
            }
            Machine::Arm => &[(Arch::ScmpArchAarch64, Self::Aarch64), (Arch::ScmpArchArm, Self::Arm)],
        };
        let native = all.first().map(|(_, abi)| *abi);
        all.iter().filter(|(arch, abi)| Some(*abi) == native || listed.contains(arch)).map(|(_, abi)| *abi).collect()
    }
}

/// A family of machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    /// x86-64.
    #[cfg_attr(not(any(test, target_arch = "x86_64")), expect(dead_code, reason = "each build knows one machine"))]
    X86,
    /// 64-bit ARM.
    #[cfg_attr(not(any(test, target_arch = "aarch64")), expect(dead_code, reason = "each build knows one machine"))]
    Arm,
}

impl Machine {
    /// The machine of this build.
    #[cfg(target_arch = "x86_64")]
    pub(super) const THIS: Self = Self::X86;
    /// The machine of this build.
    #[cfg(target_arch = "aarch64")]
    pub(super) const THIS: Self = Self::Arm;
}
