//! The device rules of config.json, checked, with those that every container has.

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use crate::{Error, Kind, Result};

/// Kinds of access, as the kernel numbers them (`BPF_DEVCG_ACC_...`).
pub(in crate::cgroup) const MKNOD: u8 = 1;
pub(in crate::cgroup) const READ: u8 = 2;
pub(in crate::cgroup) const WRITE: u8 = 4;
pub(in crate::cgroup) const ALL: u8 = MKNOD | READ | WRITE;

/// Kinds of device, as the kernel numbers them (`BPF_DEVCG_DEV_...`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::cgroup) enum Device {
    Block = 1,
    Char = 2,
}

/// One rule. `None` matches any.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cgroup) struct Rule {
    pub(in crate::cgroup) allow: bool,
    pub(in crate::cgroup) device: Option<Device>,
    pub(in crate::cgroup) major: Option<u32>,
    pub(in crate::cgroup) minor: Option<u32>,
    /// A set of [`MKNOD`], [`READ`] and [`WRITE`].
    pub(in crate::cgroup) access: u8,
}

/// What is allowed behind all rules, as runc does: to make any node, and to use those that every container has.
const DEFAULTS: [Rule; 10] = [
    Rule { allow: true, device: None, major: None, minor: None, access: MKNOD },
    char_device(1, Some(3)), // null
    char_device(1, Some(5)), // zero
    char_device(1, Some(7)), // full
    char_device(1, Some(8)), // random
    char_device(1, Some(9)), // urandom
    char_device(5, Some(0)), // tty
    char_device(5, Some(2)), // ptmx
    char_device(136, None),  // pts/N, and console, which is one of them
    // net/tun, which nobody gets by default, but may have bound: of use to its network namespace's administrator alone.
    char_device(10, Some(200)),
];

const fn char_device(major: u32, minor: Option<u32>) -> Rule {
    Rule { allow: true, device: Some(Device::Char), major: Some(major), minor, access: ALL }
}

/// The rules of a container, in order of growing weight.
pub(in crate::cgroup) fn rules(configured: &[LinuxDeviceCgroup]) -> Result<Vec<Rule>> {
    let configured = configured.iter().enumerate().map(|(index, rule)| {
        parse(rule).map_err(|text| Error::new(Kind::Invalid, format!("linux.resources.devices[{index}]: {text}")))
    });
    configured.chain(DEFAULTS.into_iter().map(Ok)).collect()
}

fn parse(rule: &LinuxDeviceCgroup) -> std::result::Result<Rule, String> {
    let device = match rule.typ().unwrap_or(LinuxDeviceType::A) {
        LinuxDeviceType::A => None,
        LinuxDeviceType::B => Some(Device::Block),
        LinuxDeviceType::C | LinuxDeviceType::U => Some(Device::Char),
        LinuxDeviceType::P => return Err("type p: a FIFO is no device".to_owned()),
    };
    let mut access = 0;
    for letter in rule.access().as_deref().unwrap_or("").chars() {
        access |= match letter {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => return Err(format!("access {letter:?} is none of r, w and m")),
        };
    }
    // Absent or empty: the rule is about the device as such.
    let access = if access == 0 { ALL } else { access };
    let (major, minor) = (number("major", rule.major())?, number("minor", rule.minor())?);
    Ok(Rule { allow: rule.allow(), device, major, minor, access })
}

/// A device number; -1 and absent mean any.
fn number(name: &str, number: Option<i64>) -> std::result::Result<Option<u32>, String> {
    match number {
        None | Some(-1) => Ok(None),
        Some(number) => match u32::try_from(number) {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(format!("{name} {number} is not a device number")),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(json: serde_json::Value) -> std::result::Result<Rule, String> {
        parse(&serde_json::from_value(json).unwrap())
    }

    #[test]
    fn rules_of_config_json() {
        let deny_all = Rule { allow: false, device: None, major: None, minor: None, access: ALL };
        assert_eq!(parsed(serde_json::json!({"allow": false, "access": "rwm"})), Ok(deny_all));
        assert_eq!(parsed(serde_json::json!({"allow": false})), Ok(deny_all));
        let json = serde_json::json!({"allow": true, "type": "b", "major": 8, "minor": -1, "access": "wr"});
        let sda = Rule { allow: true, device: Some(Device::Block), major: Some(8), minor: None, access: READ | WRITE };
        assert_eq!(parsed(json), Ok(sda));
    }

    #[test]
    fn rules_that_make_no_sense() {
        for (json, text) in [
            (serde_json::json!({"allow": true, "access": "rx"}), "access 'x' is none of r, w and m"),
            (serde_json::json!({"allow": true, "type": "p"}), "type p: a FIFO is no device"),
            (serde_json::json!({"allow": true, "type": "c", "major": -2}), "major -2 is not a device number"),
            (serde_json::json!({"allow": true, "minor": 1i64 << 40}), "minor 1099511627776 is not a device number"),
        ] {
            assert_eq!(parsed(json).unwrap_err(), text);
        }
    }
}
