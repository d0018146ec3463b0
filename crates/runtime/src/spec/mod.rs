//! config.json and process.json: from bytes to the types of `oci-spec`.
//!
//! The specification wants runtimes to go on with values they don't know in some lists (capabilities, seccomp
//! architectures), which the strict types refuse. The strict parse is tried first, as it is the fast one; when it fails,
//! `tolerant` takes such values out and says which.

pub(crate) mod annotations;
pub(crate) mod memory_policy;
mod tolerant;
pub(crate) mod validate;

pub use annotations::keeps_groups;

use oci_spec::runtime::{LinuxResources, Process, Spec};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::error::{Error, Kind, Result};
use crate::seccomp::{self, Filter};

/// Parses config.json. Values that are ignored are logged as warnings.
///
/// # Errors
/// [`Kind::Invalid`] with line and column, or the name of what is wrong.
pub fn parse(bytes: &[u8]) -> Result<Spec> {
    let parsed: Result<Spec> = parse_with(bytes, tolerant::prune_spec, memory_policy::complaint);
    let mut spec = parsed.map_err(|e| e.context("config.json"))?;
    // It is optional, and all in it is.
    if spec.linux().is_none() {
        spec.set_linux(Some(serde_json::from_str("{}").map_err(|e| Error::new(Kind::System, e.to_string()))?));
    }
    annotations::apply(&mut spec);
    let resources = spec.linux_mut().as_mut().and_then(|linux| linux.resources_mut().as_mut());
    if let Some(resources) = resources {
        take_out_empty_pids(resources, bytes, "/linux/resources/pids/limit");
    }
    Ok(spec)
}

/// Parses the specification's `linux.resources` object.
///
/// # Errors
/// As [`parse`].
pub fn parse_resources(bytes: &[u8]) -> Result<LinuxResources> {
    let mut resources = parse_with(bytes, |_, _| {}, |_| None)?;
    take_out_empty_pids(&mut resources, bytes, "/pids/limit");
    Ok(resources)
}

/// `pids` without a limit asks for nothing; the types make it a limit of 0.
fn take_out_empty_pids(resources: &mut LinuxResources, bytes: &[u8], limit: &str) {
    if resources.pids().is_some_and(|pids| pids.limit() == 0) && !says(bytes, limit) {
        resources.set_pids(None);
    }
}

/// Whether a text that has been parsed has this property (RFC 6901), which its type fills in where it is left out.
fn says(bytes: &[u8], property: &str) -> bool {
    serde_json::from_slice::<Value>(bytes).is_ok_and(|value| value.pointer(property).is_some())
}

/// Parses process.json, the specification's `process` object.
///
/// # Errors
/// As [`parse`].
pub fn parse_process(bytes: &[u8]) -> Result<Process> {
    parse_with(bytes, tolerant::prune_process, |_| None).map_err(|e| e.context("process.json"))
}

/// Parses and checks config.json.
///
/// # Errors
/// [`Kind::Invalid`], one line.
pub fn read(bytes: &[u8]) -> Result<Spec> {
    let spec = parse(bytes)?;
    need_io_class(bytes, spec.process().as_ref(), "/process/ioPriority/class")?;
    validate::validate(&spec)?;
    Ok(spec)
}

/// Parses and checks process.json.
///
/// # Errors
/// As [`read`].
pub fn read_process(bytes: &[u8]) -> Result<Process> {
    let process = parse_process(bytes)?;
    need_io_class(bytes, Some(&process), "/ioPriority/class")?;
    validate::validate_process(&process)?;
    Ok(process)
}

/// Refuses an ioPriority without its class, which the specification requires and the types fill in.
///
/// A priority that is missing is 0, as it is for the other runtimes.
fn need_io_class(bytes: &[u8], process: Option<&Process>, class: &str) -> Result<()> {
    if process.is_none_or(|process| process.io_priority().is_none()) || says(bytes, class) {
        return Ok(());
    }
    Err(Error::new(Kind::Invalid, "process.ioPriority has no class: give one, as IOPRIO_CLASS_BE"))
}

/// The filter that config.json asks for, in whichever way: what every process of the container is under.
///
/// # Errors
/// As [`seccomp::compile`].
pub fn filter(spec: &Spec) -> Result<Option<Filter>> {
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().as_ref());
    match annotations::filter(spec)? {
        Some(given) => Ok(Some(given)),
        None => profile.map(seccomp::compile).transpose(),
    }
}

/// `complaint` has better words than the parser for some of what is wrong.
fn parse_with<T: DeserializeOwned>(
    bytes: &[u8],
    prune: fn(&mut Value, &mut Vec<String>),
    complaint: fn(&Value) -> Option<String>,
) -> Result<T> {
    let first = match serde_json::from_slice(bytes) {
        Ok(parsed) => return Ok(parsed),
        Err(e) => e,
    };
    // The first error has line and column; what remains after pruning has the field's name at best.
    let invalid = |e: serde_json::Error| Error::new(Kind::Invalid, one_line(&e.to_string()));
    let Ok(mut value) = serde_json::from_slice::<Value>(bytes) else { return Err(invalid(first)) };
    if let Some(complaint) = complaint(&value) {
        return Err(Error::new(Kind::Invalid, one_line(&complaint)));
    }
    let mut ignored = Vec::new();
    let before = value.clone();
    tolerant::drop_nulls(&mut value);
    prune(&mut value, &mut ignored);
    let same = value == before;
    let parsed = match serde_json::from_value(value) {
        Ok(parsed) => parsed,
        Err(_) if same => return Err(invalid(first)),
        Err(e) => return Err(invalid(e)),
    };
    for what in ignored {
        log::warn!("ignoring {what}");
    }
    Ok(parsed)
}

/// The parser repeats names that it doesn't know as they are, line ends and all.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_values_that_may_be_ignored_are() {
        let spec = parse(
            br#"{"ociVersion":"1.2.0","process":{"user":{"uid":0,"gid":0},"cwd":"/","args":["a"],
            "capabilities":{"bounding":["CAP_CHOWN","CAP_UNKNOWN"]}}}"#,
        )
        .unwrap();
        let capabilities = spec.process().as_ref().unwrap().capabilities().as_ref().unwrap();
        assert_eq!(capabilities.bounding().as_ref().unwrap().len(), 1);
    }

    #[test]
    fn pids_without_a_limit_are_none() {
        let pids = |json: &[u8]| parse_resources(json).unwrap().pids().map(|pids| pids.limit());
        assert_eq!(pids(br#"{"pids": {}}"#), None);
        assert_eq!(pids(br#"{"pids": {"limit": 0}}"#), Some(0));
        let spec = parse(br#"{"ociVersion": "1.2.0", "linux": {"resources": {"pids": {}}}}"#).unwrap();
        assert!(spec.linux().as_ref().unwrap().resources().as_ref().unwrap().pids().is_none());
    }

    #[test]
    fn a_process_without_a_user_is_roots() {
        let process = parse_process(br#"{"args":["a"],"cwd":"/"}"#).unwrap();
        assert_eq!((process.user().uid(), process.user().gid()), (0, 0));
    }

    #[test]
    fn an_io_priority_has_a_class() {
        let with = |io| format!(r#"{{"args":["a"],"cwd":"/","user":{{"uid":0,"gid":0}},"ioPriority":{io}}}"#);
        let error = read_process(with(r#"{"priority":4}"#).as_bytes()).unwrap_err().to_string();
        assert!(error.contains("ioPriority has no class"), "{error}");
        let process = read_process(with(r#"{"class":"IOPRIO_CLASS_BE"}"#).as_bytes()).unwrap();
        assert_eq!(process.io_priority().unwrap().priority(), 0);
    }

    #[test]
    fn null_is_nothing() {
        let spec = parse(
            br#"{"ociVersion":"1.2.0","root":{"path":"r","readonly":null},"annotations":{"a":null,"b":"c"},
            "process":{"user":null,"cwd":"/","args":["a"],"rlimits":null},"linux":null}"#,
        )
        .unwrap();
        assert_eq!(spec.process().as_ref().unwrap().user().uid(), 0);
        assert_eq!(spec.annotations().as_ref().unwrap().len(), 1);
        assert!(spec.linux().as_ref().unwrap().namespaces().is_none());
        assert!(parse(br#"{"ociVersion":null,"linux":{"namespaces":[null]}}"#).is_err());
    }

    #[test]
    fn errors_are_one_line_and_name_the_place() {
        let error = parse(b"{\"ociVersion\": 1}").unwrap_err().to_string();
        assert_eq!(error, "config.json: invalid type: integer `1`, expected a string at line 1 column 16");
        let error = parse(b"{").unwrap_err().to_string();
        assert_eq!(error, "config.json: EOF while parsing an object at line 1 column 1");
        let error = parse(
            br#"{"ociVersion":"1","process":{"user":{"uid":0,"gid":0},"cwd":"/",
            "rlimits":[{"type":"RLIMIT_BOGUS","hard":1,"soft":1}]}}"#,
        );
        assert!(error.unwrap_err().to_string().contains("unknown variant `RLIMIT_BOGUS`"));
    }

    #[test]
    fn a_name_with_line_ends_stays_in_its_line() {
        let error =
            parse_process(br#"{"cwd":"/","args":["a"],"rlimits":[{"type":"a\nb\u001b[0m","soft":1,"hard":1}]}"#);
        let error = error.unwrap_err().to_string();
        assert!(error.starts_with("process.json: unknown variant `a\\nb\\u{1b}[0m`"), "{error}");
    }

    /// A short and repeatable piece of what fuzz/ does for longer: bytes changed, cut out, doubled.
    #[test]
    fn damaged_files_are_read_or_refused_in_one_line() {
        let whole = include_bytes!("../../../../fuzz/seeds/config/full.json");
        let of_process = include_bytes!("../../../../fuzz/seeds/process/full.json");
        read(whole).unwrap();
        read_process(of_process).unwrap();
        let mut dice = 0x2545_f491_4f6c_dd1d_u64;
        let mut roll = |sides: usize| {
            dice ^= dice << 13;
            dice ^= dice >> 7;
            dice ^= dice << 17;
            (dice % sides as u64) as usize
        };
        let mut read_all_the_same = 0;
        for _ in 0..1500 {
            let mut bytes = if roll(2) == 0 { whole.to_vec() } else { of_process.to_vec() };
            for _ in 0..=roll(3) {
                let at = roll(bytes.len() - 8);
                match roll(4) {
                    0 => bytes[at] = roll(256) as u8,
                    1 => drop(bytes.drain(at..at + roll(8))),
                    2 => bytes[at] = b"0123456789-\"{}[],:"[roll(18)],
                    _ => bytes.extend_from_within(at..),
                }
            }
            for result in [read(&bytes).map(drop), read_process(&bytes).map(drop)] {
                match result {
                    Ok(()) => read_all_the_same += 1,
                    Err(e) => assert!(!e.to_string().contains('\n'), "{e}"),
                }
            }
        }
        assert!(read_all_the_same > 50, "{read_all_the_same}");
    }
}
