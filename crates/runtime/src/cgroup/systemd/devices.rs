//! Device rules as properties of a unit, where systemd can say the same. Pure.
//!
//! The rules themselves are kept by rtc's own program on the cgroup; systemd's stands beside it, and both must allow.

use crate::cgroup::devices::rule::{ALL, Device, MKNOD, READ, Rule, WRITE};
use crate::dbus::Value;

use super::properties::Property;

/// `DevicePolicy` and `DeviceAllow` for rules that forbid all and then allow some; nothing for others, which systemd has
/// no words for.
pub(in crate::cgroup) fn rules(rules: &[Rule]) -> Vec<Property> {
    let all = |allow| Rule { allow, device: None, major: None, minor: None, access: ALL };
    let mut list: Vec<(String, u8)> = Vec::new();
    let mut is_open = false;
    for rule in rules {
        if *rule == all(rule.allow) {
            list.clear();
            is_open = rule.allow;
            continue;
        }
        if is_open && rule.allow {
            continue;
        }
        let kinds = match rule.device {
            Some(Device::Char) => &["char"][..],
            Some(Device::Block) => &["block"],
            None => &["char", "block"],
        };
        let name = |kind: &str| match (rule.major, rule.minor) {
            (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
            (Some(major), None) => Some(format!("{kind}-{major}")),
            (None, None) => Some(format!("{kind}-*")),
            (None, Some(_)) => None,
        };
        for kind in kinds {
            match name(kind) {
                // systemd keeps one entry for a name, the last.
                Some(name) if rule.allow => match list.iter_mut().find(|(known, _)| *known == name) {
                    Some((_, access)) => *access |= rule.access,
                    None => list.push((name, rule.access)),
                },
                _ => return Vec::new(),
            }
        }
    }
    let policy = if is_open { "auto" } else { "strict" };
    let list = list.into_iter().map(|(name, access)| Value::Struct(vec![Value::Text(name), letters(access)])).collect();
    // Only what comes behind "forbid all" is a list of what is allowed; without it, all else is forbidden all the same.
    vec![
        ("DevicePolicy".to_owned(), Value::text(policy)),
        ("DeviceAllow".to_owned(), Value::Array("(ss)".to_owned(), list)),
    ]
}

fn letters(access: u8) -> Value {
    let letters = [(READ, 'r'), (WRITE, 'w'), (MKNOD, 'm')];
    Value::Text(letters.iter().filter(|(bit, _)| access & bit != 0).map(|(_, letter)| letter).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(json: serde_json::Value) -> Option<String> {
        let configured: Vec<_> = serde_json::from_value(json).unwrap();
        let properties = rules(&crate::cgroup::devices::rule::rules(&configured).unwrap());
        let (_, Value::Array(_, list)) = properties.get(1)? else { panic!("{properties:?}") };
        let line = |entry: &Value| match entry {
            Value::Struct(pair) => format!("{} {}, ", pair[0].as_text().unwrap(), pair[1].as_text().unwrap()),
            other => panic!("{other:?}"),
        };
        Some(list.iter().map(line).collect())
    }

    #[test]
    fn what_is_allowed_is_listed() {
        let json = serde_json::json!([
            {"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"},
            {"allow": false, "access": "rwm"},
            {"allow": true, "type": "b", "major": 8, "access": "rw"},
            {"allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm"},
        ]);
        let defaults = "char-* m, block-* m, /dev/char/1:3 rwm, /dev/char/1:5 rwm, /dev/char/1:7 rwm, \
                        /dev/char/1:8 rwm, /dev/char/1:9 rwm, /dev/char/5:0 rwm, /dev/char/5:2 rwm, char-136 rwm, \
                        /dev/char/10:200 rwm, ";
        assert_eq!(names(json).unwrap(), format!("block-8 rw, /dev/char/10:229 rwm, {defaults}"));
    }

    #[test]
    fn all_are_allowed_without_a_list() {
        let privileged = serde_json::json!([{"allow": true, "access": "rwm"}]);
        let privileged: Vec<_> = serde_json::from_value(privileged).unwrap();
        let rules = rules(&crate::cgroup::devices::rule::rules(&privileged).unwrap());
        assert_eq!(rules[0], ("DevicePolicy".to_owned(), Value::text("auto")));
        assert_eq!(rules[1], ("DeviceAllow".to_owned(), Value::Array("(ss)".to_owned(), Vec::new())));
    }

    #[test]
    fn one_name_has_all_that_is_allowed_of_it() {
        let json = serde_json::json!([{"allow": false}, {"allow": true, "type": "b", "access": "rw"}]);
        assert!(names(json).unwrap().starts_with("block-* rwm, char-* m, "));
    }

    #[test]
    fn what_systemd_can_not_say_is_left_to_our_program() {
        for json in [
            serde_json::json!([{"allow": true}, {"allow": false, "type": "c", "major": 1, "minor": 11}]),
            serde_json::json!([{"allow": true, "type": "c", "minor": 3}]),
        ] {
            assert_eq!(names(json), None);
        }
    }
}
