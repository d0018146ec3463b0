//! The files that engines look for beside an image, in the bytes that they expect of CRIU.
//!
//! podman asks whether inventory.img is there and reads stats-dump and stats-restore for --print-stats;
//! runc and crun keep the names of the standard descriptors in descriptors.json. Restore reads none of them.

use crate::checkpointing::open_plain;
use anyhow::{Context, Result};
use rtc_checkpoint::{dump, restore};
use rtc_runtime::Stdio;
use rustix::fs::OFlags;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// `IMG_SERVICE_MAGIC` and `STATS_MAGIC` of CRIU's images.
const STATS_MAGIC: [u32; 2] = [0x5510_5940, 0x5709_3306];
/// `IMG_COMMON_MAGIC` and `INVENTORY_MAGIC`.
const INVENTORY_MAGIC: [u32; 2] = [0x5456_4319, 0x5831_3116];

/// A protobuf message in the making: fields of the type varint.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn field(mut self, number: u8, value: u64) -> Self {
        self.0.push(number << 3);
        self.varint(value);
        self
    }

    fn message(mut self, number: u8, inner: &Self) -> Self {
        self.0.push(number << 3 | 2);
        self.varint(inner.0.len() as u64);
        self.0.extend_from_slice(&inner.0);
        self
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// Magic numbers, length, message.
fn image(magic: [u32; 2], message: &Message) -> Vec<u8> {
    let mut bytes = magic.map(u32::to_le_bytes).concat();
    bytes.extend_from_slice(&(message.0.len() as u32).to_le_bytes());
    bytes.extend_from_slice(&message.0);
    bytes
}

/// Times are 32-bit microseconds.
fn micros(time: Duration) -> u64 {
    time.as_micros().min(u128::from(u32::MAX)) as u64
}

/// Writes stats-dump to the work directory.
///
/// # Errors
/// When the directory can't be written.
pub(crate) fn write_dump_stats(work: &Path, report: &dump::Report) -> Result<()> {
    let stats = Message::default()
        .field(1, micros(report.freezing))
        .field(2, micros(report.frozen))
        .field(3, micros(report.memory))
        .field(4, micros(report.memory))
        .field(5, report.pages_scanned)
        .field(6, 0)
        .field(7, report.pages_written)
        .field(9, 0);
    write(work, "stats-dump", &image(STATS_MAGIC, &Message::default().message(1, &stats)))
}

/// Writes stats-restore to the work directory.
///
/// # Errors
/// When the directory can't be written.
pub(crate) fn write_restore_stats(work: &Path, report: &restore::Report) -> Result<()> {
    let stats = Message::default()
        .field(1, 0)
        .field(2, 0)
        .field(3, micros(report.forking))
        .field(4, micros(report.restore))
        .field(5, report.pages_restored);
    write(work, "stats-restore", &image(STATS_MAGIC, &Message::default().message(2, &stats)))
}

/// inventory.img, whose existence makes a directory an image in the eyes of podman and CRI-O.
#[derive(Debug)]
pub(crate) struct Mark {
    /// The file, if it goes again with this.
    made: Option<PathBuf>,
}

impl Mark {
    /// Writes it, unless an earlier checkpoint has it.
    ///
    /// # Errors
    /// When the directory can't be written.
    pub(crate) fn set(dir: &Path) -> Result<Self> {
        // inventory_entry.img_version = 2; nothing else of it is required.
        let bytes = image(INVENTORY_MAGIC, &Message::default().field(1, 2));
        let path = dir.join("inventory.img");
        if holds(&path, &bytes) {
            return Ok(Self { made: None });
        }
        let mark = Self { made: Some(path) };
        write(dir, "inventory.img", &bytes)?;
        Ok(mark)
    }

    /// The checkpoint is complete: the mark stays.
    pub(crate) fn keep(mut self) {
        self.made = None;
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        if let Some(path) = &self.made {
            // What remains says nothing false to rtc, which goes by the manifest.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Whether there is a regular file with these bytes.
fn holds(path: &Path, bytes: &[u8]) -> bool {
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
    let mut there = Vec::new();
    OpenOptions::new().read(true).custom_flags(flags.bits() as i32).open(path).is_ok_and(|file| {
        let regular = file.metadata().is_ok_and(|found| found.is_file());
        regular && file.take(bytes.len() as u64 + 1).read_to_end(&mut there).is_ok() && there == bytes
    })
}

/// Writes descriptors.json: an array of three links as of /proc/PID/fd.
///
/// # Errors
/// When the directory can't be written.
pub(crate) fn describe_stdio(dir: &Path, stdio: &[Stdio; 3]) -> Result<()> {
    let links: Vec<&str> = stdio.iter().map(|s| s.link.as_str()).collect();
    write(dir, "descriptors.json", &serde_json::to_vec(&links).context("descriptors.json")?)
}

fn write(dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
    let path = dir.join(name);
    // Cut when it is known to be ours.
    let cut = |file: File| file.set_len(0).map(|()| file);
    let written = open_plain(&path, OpenOptions::new().write(true)).and_then(cut).and_then(|mut f| f.write_all(bytes));
    written.with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_criu_images() {
        let report = dump::Report { frozen: Duration::from_micros(300), pages_written: 5, ..dump::Report::default() };
        let dir = std::env::temp_dir().join(format!("cli-stats-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        write_dump_stats(&dir, &report).unwrap();
        let bytes = std::fs::read(dir.join("stats-dump")).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        let message = [10, 17, 8, 0, 16, 0xac, 2, 24, 0, 32, 0, 40, 0, 48, 0, 56, 5, 72, 0];
        assert_eq!(bytes[..8], [0x40, 0x59, 0x10, 0x55, 0x06, 0x33, 0x09, 0x57]);
        assert_eq!(bytes[8..12], [19, 0, 0, 0]);
        assert_eq!(bytes[12..], message);
    }
}
