//! An image that was written once and for all: it is still understood, and whatever becomes of its bytes is refused or
//! read, but never makes rtc panic. Left out: restoring it, which only its own machine could.

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use rtc_checkpoint::restore::Checkpoint;
use serde_json::Value;
use std::fs::{self, File};
use std::path::PathBuf;

/// The parts that are metadata, in the manifest's words.
const METADATA: [&str; 4] = ["tree", "files", "container", "pagemap"];
/// Numbers that are often mistaken.
const NUMBERS: [i128; 12] = [
    0,
    1,
    -1,
    4095,
    1 << 31,
    (1 << 31) - 1,
    1 << 32,
    (1 << 32) - 1,
    i64::MAX as i128,
    i64::MIN as i128,
    1 << 63,
    u64::MAX as i128,
];

/// The image, within the test: it also runs where the source isn't.
const ORIGINAL: [(&str, &[u8]); 7] = [
    ("container-1.json", include_bytes!("data/image-v1/container-1.json")),
    ("data-1.img", include_bytes!("data/image-v1/data-1.img")),
    ("files-1.json", include_bytes!("data/image-v1/files-1.json")),
    ("manifest.json", include_bytes!("data/image-v1/manifest.json")),
    ("pagemap-1.img", include_bytes!("data/image-v1/pagemap-1.img")),
    ("pages-1.img", include_bytes!("data/image-v1/pages-1.img")),
    ("tree-1.json", include_bytes!("data/image-v1/tree-1.json")),
];

/// A copy of the image, which goes with this.
struct Copy(PathBuf);

impl Copy {
    fn new(name: &str) -> Self {
        let copy = std::env::temp_dir().join(format!("image-{name}-{}", std::process::id()));
        fs::create_dir(&copy).unwrap();
        for (file, bytes) in ORIGINAL {
            fs::write(copy.join(file), bytes).unwrap();
        }
        Self(copy)
    }

    fn parse(&self) -> rtc_checkpoint::Result<Checkpoint> {
        Checkpoint::parse(File::open(&self.0).unwrap().into())
    }

    fn part(&self, part: &str) -> PathBuf {
        self.0.join(format!("{part}-1.{}", if part == "pagemap" { "img" } else { "json" }))
    }

    /// Writes a part, with a manifest that says what it is.
    fn write(&self, part: &str, bytes: &[u8]) {
        fs::write(self.part(part), bytes).unwrap();
        let path = self.0.join("manifest.json");
        let mut manifest: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        manifest["parts"][part]["size"] = bytes.len().into();
        manifest["parts"][part]["crc32"] = crc32fast::hash(bytes).into();
        fs::write(path, manifest.to_string()).unwrap();
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Numbers that look random and are the same every time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit
    }
}

#[test]
fn an_image_of_version_1_is_understood() {
    let image = Copy::new("v1").parse().unwrap();
    assert_eq!(image.manifest().container, "robust-img");
    let pids: Vec<i32> = image.tree().processes.iter().map(|p| p.pid).collect();
    assert_eq!(pids.first(), Some(&1));
    assert!(pids.len() > 1 && image.tree().mms.len() == pids.len(), "{pids:?}");
    assert!(image.tree().mms.iter().all(|mm| !mm.vmas.is_empty()));
}

#[test]
fn altered_bytes_are_refused_or_read() {
    let copy = Copy::new("bytes");
    let mut dice = Dice(1);
    let mut refused = 0;
    for part in METADATA {
        let good = fs::read(copy.part(part)).unwrap();
        for _ in 0..150 {
            let mut bytes = good.clone();
            for _ in 0..=dice.below(3) {
                let at = dice.below(bytes.len());
                match dice.below(4) {
                    0 => bytes[at] = dice.below(256) as u8,
                    1 => bytes[at] = b"0129-,:[]{}\""[dice.below(12)],
                    2 => bytes.truncate(at.max(1)),
                    _ => bytes.insert(at, bytes[at]),
                }
            }
            copy.write(part, &bytes);
            refused += u32::from(copy.parse().is_err());
        }
        copy.write(part, &good);
        copy.parse().unwrap();
    }
    assert!(refused > 150, "{refused}");
}

#[test]
fn altered_numbers_are_refused_or_read() {
    let copy = Copy::new("numbers");
    let mut dice = Dice(2);
    let mut refused = 0;
    for part in METADATA.iter().filter(|part| **part != "pagemap") {
        let good = fs::read(copy.part(part)).unwrap();
        let value: Value = serde_json::from_slice(&good).unwrap();
        let mut places = Vec::new();
        numbers(&value, String::new(), &mut places);
        for _ in 0..300 {
            let mut altered = value.clone();
            let number = NUMBERS[dice.below(NUMBERS.len())];
            let number = i64::try_from(number).map_or_else(|_| Value::from(number as u64), Value::from);
            *altered.pointer_mut(&places[dice.below(places.len())]).unwrap() = number;
            copy.write(part, altered.to_string().as_bytes());
            refused += u32::from(copy.parse().is_err());
        }
        copy.write(part, &good);
    }
    assert!(refused > 50, "{refused}");
}

/// Each generation takes a piece of the stack of whoever makes them.
#[test]
fn a_family_of_too_many_generations_is_refused() {
    let copy = Copy::new("family");
    let mut tree: Value = serde_json::from_slice(&fs::read(copy.part("tree")).unwrap()).unwrap();
    let mut first = tree["processes"][0].clone();
    first["live"]["threads"].as_array_mut().unwrap().truncate(1);
    first["live"]["threads"][0]["xstate"] = "".into();
    let family = (1..1200).map(|pid: i32| {
        let mut process = first.clone();
        process["pid"] = pid.into();
        process["ppid"] = (pid - 1).into();
        process["live"]["threads"][0]["tid"] = pid.into();
        process
    });
    tree["processes"] = family.collect();
    copy.write("tree", tree.to_string().as_bytes());
    let error = copy.parse().err().unwrap().to_string();
    assert!(error.ends_with("process 1002 has more than 1000 ancestors"), "{error}");
}

/// The JSON pointers to all numbers in a value.
fn numbers(value: &Value, place: String, places: &mut Vec<String>) {
    match value {
        Value::Number(_) => places.push(place),
        Value::Array(all) => all.iter().enumerate().for_each(|(i, v)| numbers(v, format!("{place}/{i}"), places)),
        Value::Object(all) => all.iter().for_each(|(key, v)| numbers(v, format!("{place}/{key}"), places)),
        _ => {}
    }
}
