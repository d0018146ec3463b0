//! Takes values out of a configuration that the specification says to ignore when they are unknown.
//! A user that is left out is filled in, properties that are `null` are taken out, and names that the types spell
//! otherwise are respelled.

use oci_spec::runtime::Capability;
use serde_json::{Value, json};

/// The lists of capabilities in `process.capabilities`.
const CAPABILITY_SETS: &[&str] = &["bounding", "effective", "inheritable", "permitted", "ambient"];

/// Flags of `process.scheduler` as the specification names them, and as the types do.
const SCHEDULER_FLAGS: &[(&str, &str)] =
    &[("SCHED_FLAG_RESET_ON_FORK", "SCHED_RESET_ON_FORK"), ("SCHED_FLAG_DL_OVERRUN", "SCHED_FLAG_D_L_OVERRUN")];

/// Takes out properties that are `null`: it says what leaving them out says, as runc and crun have it.
pub(super) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

/// Prunes config.json; what is taken out is named in `ignored`.
pub(super) fn prune_spec(spec: &mut Value, ignored: &mut Vec<String>) {
    if let Some(process) = spec.get_mut("process") {
        prune_process(process, ignored);
    }
}

/// Prunes process.json, and makes root its user where it names none, as other runtimes do.
pub(super) fn prune_process(process: &mut Value, ignored: &mut Vec<String>) {
    if let Some(process) = process.as_object_mut() {
        process.entry("user").or_insert_with(|| json!({ "uid": 0, "gid": 0 }));
    }
    for flag in process.pointer_mut("/scheduler/flags").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some((_, known)) = SCHEDULER_FLAGS.iter().find(|(name, _)| flag == name) {
            *flag = json!(known);
        }
    }
    for set in CAPABILITY_SETS {
        if let Some(list) = process.pointer_mut(&format!("/capabilities/{set}")) {
            prune_list(list, ignored, "unknown capability", |value| Capability::deserialize_value(value).is_ok());
        }
    }
}

fn prune_list(list: &mut Value, ignored: &mut Vec<String>, noun: &str, known: impl Fn(&Value) -> bool) {
    let Value::Array(values) = list else { return };
    values.retain(|value| {
        // Anything but a string is a fault in the file, not a name from the future.
        let keep = !value.is_string() || known(value);
        if !keep {
            let line = format!("{noun} {value}");
            if !ignored.contains(&line) {
                ignored.push(line);
            }
        }
        keep
    });
}

trait FromValue: Sized {
    fn deserialize_value(value: &Value) -> serde_json::Result<Self>;
}

impl<T: serde::de::DeserializeOwned> FromValue for T {
    fn deserialize_value(value: &Value) -> serde_json::Result<Self> {
        serde_json::from_value(value.clone())
    }
}
