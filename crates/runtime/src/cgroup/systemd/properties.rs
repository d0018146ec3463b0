//! Limits and annotations as properties of a unit (org.freedesktop.systemd1(5), systemd.resource-control(5)). Pure.

use std::collections::HashMap;

use crate::cgroup::limits::{Setting, Value as Wanted};
use crate::dbus::{self, Value};
use crate::error::Context;
use crate::{Error, Kind, Result};

/// A property: name and value.
pub(in crate::cgroup) type Property = (String, Value);

/// What annotations that become properties begin with.
const ANNOTATION: &str = "org.systemd.property.";
/// systemd's word for "no limit".
const INFINITY: u64 = u64::MAX;
/// The period of cpu.max that the kernel begins with, in microseconds.
const PERIOD: u64 = 100_000;
/// systemd keeps quotas as whole percents of a second.
const QUOTA_STEP: u64 = 10_000;

/// What every container's scope has; `pid` is the process that it is made around.
pub(in crate::cgroup) fn base(slice: &str, id: &str, pid: u32) -> Vec<Property> {
    let mut properties = common(id);
    properties.extend([
        ("Slice".to_owned(), Value::text(slice)),
        ("PIDs".to_owned(), Value::Array("u".to_owned(), vec![Value::Uint32(pid)])),
        // Below it the container's own manager may be at work.
        ("Delegate".to_owned(), Value::Bool(true)),
    ]);
    properties
}

/// What a container's slice has, as its scope.
pub(in crate::cgroup) fn common(id: &str) -> Vec<Property> {
    let flag = |name: &str, on: bool| (name.to_owned(), Value::Bool(on));
    vec![
        ("Description".to_owned(), Value::text(format!("rtc container {id}"))),
        // It isn't stopped for the sake of shutdown's order, but by its engine.
        flag("DefaultDependencies", false),
        // One that ended badly goes like any other, so that its name is free again.
        ("CollectMode".to_owned(), Value::text("inactive-or-failed")),
        flag("CPUAccounting", true),
        flag("IOAccounting", true),
        flag("MemoryAccounting", true),
        flag("TasksAccounting", true),
    ]
}

/// Limits that systemd has a property for; the others are only written to files.
///
/// `current` reads a file of the cgroup, where there is one already: some properties join two values of which only one
/// changes.
pub(in crate::cgroup) fn limits(plan: &[Setting], current: &dyn Fn(&str) -> Option<String>) -> Vec<Property> {
    let mut properties = Vec::new();
    for setting in plan {
        for (file, value) in &setting.files {
            match value {
                Wanted::Text(text) => from_text(file, text, current, &mut properties),
                Wanted::Period(period) => {
                    let text = current(file).unwrap_or_default();
                    let quota = text.split_ascii_whitespace().next().unwrap_or("max").to_owned();
                    bandwidth(&format!("{quota} {period}"), current, &mut properties);
                }
                Wanted::SwapOf(total) => {
                    let memory = current("memory.max").and_then(|text| text.trim().parse::<i64>().ok());
                    if let Some(swap) = memory.and_then(|memory| u64::try_from(total - memory).ok()) {
                        properties.push(("MemorySwapMax".to_owned(), Value::Uint64(swap)));
                    }
                }
            }
        }
    }
    properties
}

fn from_text(file: &str, text: &str, current: &dyn Fn(&str) -> Option<String>, properties: &mut Vec<Property>) {
    let text = text.trim();
    let mut push = |name: &str, value: Option<Value>| properties.extend(value.map(|value| (name.to_owned(), value)));
    let number = || match text {
        "max" => Some(Value::Uint64(INFINITY)),
        _ => text.parse().ok().map(Value::Uint64),
    };
    match file {
        "memory.max" => push("MemoryMax", number()),
        "memory.high" => push("MemoryHigh", number()),
        "memory.low" => push("MemoryLow", number()),
        "memory.min" => push("MemoryMin", number()),
        "memory.swap.max" => push("MemorySwapMax", number()),
        "pids.max" => push("TasksMax", number()),
        "cpu.weight" => push("CPUWeight", number()),
        // 0 is systemd's "idle" (252), and 100 the weight that the kernel gives one that is idle no longer.
        "cpu.idle" => push("CPUWeight", Some(Value::Uint64(if text == "0" { 100 } else { 0 }))),
        "cpu.max" => bandwidth(text, current, properties),
        "cpuset.cpus" => push("AllowedCPUs", bits(text).map(|bits| Value::bytes(&bits))),
        "cpuset.mems" => push("AllowedMemoryNodes", bits(text).map(|bits| Value::bytes(&bits))),
        "io.weight" => {
            let weight = text.strip_prefix("default ").unwrap_or(text);
            push("IOWeight", weight.parse().ok().map(Value::Uint64));
        }
        _ => {}
    }
}

/// A line of cpu.max: `QUOTA [PERIOD]`.
fn bandwidth(line: &str, current: &dyn Fn(&str) -> Option<String>, properties: &mut Vec<Property>) {
    let mut words = line.split_ascii_whitespace();
    let (quota, period) = (words.next().unwrap_or("max"), words.next().and_then(|word| word.parse::<u64>().ok()));
    if let Some(period) = period {
        properties.push(("CPUQuotaPeriodUSec".to_owned(), Value::Uint64(period)));
    }
    let per_second = if quota == "max" {
        Some(INFINITY)
    } else {
        let kept = || current("cpu.max").and_then(|text| text.split_ascii_whitespace().nth(1)?.parse().ok());
        let period = period.or_else(kept).unwrap_or(PERIOD).max(1);
        // Rounded up: a quota of the container's own, below it, must fit in.
        quota
            .parse::<u64>()
            .ok()
            .map(|quota| quota.saturating_mul(1_000_000).div_ceil(period).next_multiple_of(QUOTA_STEP))
    };
    properties.extend(per_second.map(|quota| ("CPUQuotaPerSecUSec".to_owned(), Value::Uint64(quota))));
}

/// A list of numbers (`0-3,8`) as bits, the lowest first. `None` for what is no such list.
fn bits(list: &str) -> Option<Vec<u8>> {
    // The kernel's own limit of CPUs is 8192.
    const MOST: usize = 1 << 16;
    let mut bytes = Vec::new();
    for part in list.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        if bytes.len() <= last / 8 {
            bytes.resize(last / 8 + 1, 0);
        }
        (first..=last).for_each(|bit| bytes[bit / 8] |= 1 << (bit % 8));
    }
    Some(bytes)
}

/// Annotations `org.systemd.property.NAME`, their values typed as GVariant text, sorted by name.
///
/// A time may be given in seconds by its `…Sec` name, as in unit files: it is systemd's `…USec`.
///
/// # Errors
/// `Kind::Invalid`, naming the annotation.
pub(in crate::cgroup) fn from_annotations(annotations: &HashMap<String, String>) -> Result<Vec<Property>> {
    let mut properties = Vec::new();
    for (key, text) in annotations {
        let Some(name) = key.strip_prefix(ANNOTATION) else { continue };
        if name.len() < 3 || !name.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(Error::new(Kind::Invalid, format!("annotation {key}: {name:?} is no property of a unit")));
        }
        let value = dbus::parse(text).context(|| format!("annotation {key}"))?;
        properties.push(match name.strip_suffix("Sec").filter(|stem| stem.ends_with(|c: char| c.is_lowercase())) {
            Some(stem) => {
                let value = microseconds(&value).ok_or_else(|| {
                    Error::new(Kind::Invalid, format!("annotation {key}: {text} is no number of seconds"))
                })?;
                (format!("{stem}USec"), Value::Uint64(value))
            }
            None => (name.to_owned(), value),
        });
    }
    properties.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(properties)
}

fn microseconds(value: &Value) -> Option<u64> {
    let whole = |seconds: i128| u64::try_from(seconds.checked_mul(1_000_000)?).ok();
    match value {
        Value::Byte(n) => whole((*n).into()),
        Value::Int16(n) => whole((*n).into()),
        Value::Uint16(n) => whole((*n).into()),
        Value::Int32(n) => whole((*n).into()),
        Value::Uint32(n) => whole((*n).into()),
        Value::Int64(n) => whole((*n).into()),
        Value::Uint64(u64::MAX) => Some(INFINITY),
        Value::Uint64(n) => whole((*n).into()),
        Value::Double(n) if n.is_finite() && (0.0..1e12).contains(n) => Some((n * 1e6) as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cgroup::limits::plan;

    /// The properties of `linux.resources`, a line each.
    fn listing(json: serde_json::Value, current: &dyn Fn(&str) -> Option<String>) -> String {
        let properties = limits(&plan(&serde_json::from_value(json).unwrap()).unwrap(), current);
        properties.iter().map(|(name, value)| format!("{name}={} ", show(value))).collect()
    }

    fn show(value: &Value) -> String {
        match value {
            Value::Uint64(INFINITY) => "infinity".to_owned(),
            Value::Uint64(number) => number.to_string(),
            Value::Array(_, bytes) => {
                bytes.iter().map(|b| if let Value::Byte(b) = b { format!("{b:02x}") } else { "?".into() }).collect()
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn limits_of_a_new_container() {
        let json = serde_json::json!({
            "memory": {"limit": 1000, "swap": 3000, "reservation": 500}, "pids": {"limit": -1},
            "cpu": {"shares": 1024, "quota": 50000, "period": 100000, "cpus": "0-1,9", "mems": "0"},
            "blockIO": {"weight": 750}, "unified": {"memory.high": "900", "memory.oom.group": "1"}
        });
        assert_eq!(
            listing(json, &|_| None),
            "MemoryMax=1000 MemorySwapMax=2000 MemoryLow=500 TasksMax=infinity CPUWeight=100 CPUQuotaPeriodUSec=100000 \
             CPUQuotaPerSecUSec=500000 AllowedCPUs=0302 AllowedMemoryNodes=01 IOWeight=7475 MemoryHigh=900 "
        );
    }

    #[test]
    fn half_a_value_takes_the_other_half_from_the_cgroup() {
        let current = |file: &str| match file {
            "cpu.max" => Some("20000 50000\n".to_owned()),
            "memory.max" => Some("1000\n".to_owned()),
            _ => None,
        };
        assert_eq!(listing(serde_json::json!({"cpu": {"quota": 25000}}), &current), "CPUQuotaPerSecUSec=500000 ");
        assert_eq!(
            listing(serde_json::json!({"cpu": {"period": 40000}}), &current),
            "CPUQuotaPeriodUSec=40000 CPUQuotaPerSecUSec=500000 "
        );
        assert_eq!(listing(serde_json::json!({"memory": {"swap": 1500}}), &current), "MemorySwapMax=500 ");
        // A third of a second, rounded up to a whole percent.
        assert_eq!(
            listing(serde_json::json!({"cpu": {"quota": 1000, "period": 3000}}), &current),
            "CPUQuotaPeriodUSec=3000 CPUQuotaPerSecUSec=340000 "
        );
        assert_eq!(listing(serde_json::json!({"cpu": {"quota": -1}}), &current), "CPUQuotaPerSecUSec=infinity ");
    }

    #[test]
    fn annotations_have_the_types_of_their_properties() {
        let annotations = [
            ("org.systemd.property.KillSignal", "15"),
            ("org.systemd.property.TimeoutStopUSec", "uint64 10000000"),
            ("org.systemd.property.RuntimeMaxSec", "7.5"),
            ("org.systemd.property.After", "['a.service', 'b.service']"),
            ("io.other", "x"),
        ];
        let map = annotations.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let after = Value::Array("s".into(), vec![Value::text("a.service"), Value::text("b.service")]);
        assert_eq!(
            from_annotations(&map).unwrap(),
            [
                ("After".into(), after),
                ("KillSignal".into(), Value::Int32(15)),
                ("RuntimeMaxUSec".into(), Value::Uint64(7_500_000)),
                ("TimeoutStopUSec".into(), Value::Uint64(10_000_000)),
            ]
        );
        for (key, value) in [("Kill_Signal", "15"), ("ab", "1"), ("KillSignal", "x"), ("RuntimeMaxSec", "-1")] {
            let map = [(format!("{ANNOTATION}{key}"), value.to_owned())].into();
            let error = from_annotations(&map).unwrap_err().to_string();
            assert!(error.starts_with(&format!("annotation {ANNOTATION}{key}: ")), "{error}");
        }
    }

    #[test]
    fn lists_of_cpus_are_bits() {
        assert_eq!(bits("0-3,8"), Some(vec![0x0f, 0x01]));
        assert_eq!(bits(""), Some(vec![]));
        for bad in ["3-1", "a", "0-99999999", "-1"] {
            assert_eq!(bits(bad), None, "{bad}");
        }
    }
}
