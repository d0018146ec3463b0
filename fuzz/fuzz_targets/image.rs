//! A checkpoint of which one part is anything at all: it is read or refused.
#![no_main]

use std::fs::{self, File};
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use rtc_checkpoint::restore::Checkpoint;
use serde_json::Value;

const PARTS: [(&str, &str); 4] = [
    ("tree", "tree-1.json"),
    ("files", "files-1.json"),
    ("container", "container-1.json"),
    ("pagemap", "pagemap-1.img"),
];

/// The image of the unit tests.
const ORIGINAL: [(&str, &[u8]); 7] = [
    ("container-1.json", include_bytes!("../../crates/checkpoint/tests/data/image-v1/container-1.json")),
    ("data-1.img", include_bytes!("../../crates/checkpoint/tests/data/image-v1/data-1.img")),
    ("files-1.json", include_bytes!("../../crates/checkpoint/tests/data/image-v1/files-1.json")),
    ("manifest.json", include_bytes!("../../crates/checkpoint/tests/data/image-v1/manifest.json")),
    ("pagemap-1.img", include_bytes!("../../crates/checkpoint/tests/data/image-v1/pagemap-1.img")),
    ("pages-1.img", include_bytes!("../../crates/checkpoint/tests/data/image-v1/pages-1.img")),
    ("tree-1.json", include_bytes!("../../crates/checkpoint/tests/data/image-v1/tree-1.json")),
];

/// A copy in memory; `cargo xtask fuzz` removes it.
fn folder() -> &'static PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = PathBuf::from(format!("/dev/shm/rtc-fuzz-image-{}", std::process::id()));
        fs::create_dir_all(&folder).expect("a folder in memory");
        for (name, bytes) in ORIGINAL {
            fs::write(folder.join(name), bytes).expect("room in memory");
        }
        folder
    })
}

fuzz_target!(|bytes: &[u8]| {
    let Some((which, content)) = bytes.split_first() else { return };
    let folder = folder();
    let (part, file) = PARTS[usize::from(*which) % PARTS.len()];
    let mut manifest: Value = serde_json::from_slice(ORIGINAL[3].1).expect("the image's manifest");
    if which / 4 % 2 == 1 {
        // The manifest itself.
        fs::write(folder.join("manifest.json"), content).expect("room in memory");
    } else {
        manifest["parts"][part]["size"] = content.len().into();
        manifest["parts"][part]["crc32"] = crc32fast::hash(content).into();
        fs::write(folder.join("manifest.json"), manifest.to_string()).expect("room in memory");
        fs::write(folder.join(file), content).expect("room in memory");
    }
    if let Err(error) = Checkpoint::parse(File::open(folder).expect("the folder").into()) {
        assert!(!error.to_string().is_empty());
    }
    let original = ORIGINAL.iter().find(|(name, _)| *name == file).expect("all parts are there").1;
    fs::write(folder.join(file), original).expect("room in memory");
});
