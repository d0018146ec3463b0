//! Round trips of contents with holes, and damaged files.

use super::*;
use std::os::fd::AsFd as _;

/// A directory that goes away with the test.
struct Dir(std::path::PathBuf, File);

impl Dir {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("files-blob-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir(&path).unwrap();
        let dir = File::open(&path).unwrap();
        Self(path, dir)
    }
    fn image(&self) -> BorrowedFd<'_> {
        self.1.as_fd()
    }
    fn data(&self) -> std::path::PathBuf {
        self.0.join(FILE_NAME)
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn bytes_come_back_and_zero_blocks_are_not_stored() {
    let dir = Dir::new("bytes");
    let mut writer = Writer::create(dir.image()).unwrap();
    let mut contents = vec![0; 3 << 20];
    contents[5000] = 7;
    contents[(2 << 20) - 1] = 8;
    let small = writer.bytes(b"hello").unwrap();
    let large = writer.bytes(&contents).unwrap();
    let empty = writer.bytes(b"").unwrap();
    assert!(writer.len() < 9000, "two blocks and three tables, not {}", writer.len());
    let reader = Reader::open(dir.image()).unwrap();
    assert_eq!(reader.bytes(small, 5).unwrap(), b"hello");
    assert_eq!(reader.bytes(large, 3 << 20).unwrap(), contents);
    assert_eq!(reader.bytes(empty, 0).unwrap(), b"");
    assert!(reader.bytes(small, 4).unwrap_err().to_string().contains("5 bytes where at most 4"));
}

#[test]
fn long_contents_are_cut_into_extents() {
    let dir = Dir::new("long");
    let mut writer = Writer::create(dir.image()).unwrap();
    let contents: Vec<u8> = (0..(5_u32 << 20) / 2 + 3).map(|i| (i % 251) as u8 + 1).collect();
    let blob = writer.bytes(&contents).unwrap();
    let reader = Reader::open(dir.image()).unwrap();
    let mut lengths = Vec::new();
    reader
        .each(blob, |_, bytes| {
            lengths.push(bytes.len());
            Ok(())
        })
        .unwrap();
    assert_eq!(lengths, [PIECE, PIECE, PIECE / 2 + 3]);
    assert_eq!(reader.bytes(blob, contents.len()).unwrap(), contents);
}

#[test]
fn a_sparse_file_stays_sparse() {
    let dir = Dir::new("sparse");
    let source = File::create_new(dir.0.join("source")).unwrap();
    source.set_len(1 << 40).unwrap();
    source.write_all_at(b"near", 100).unwrap();
    source.write_all_at(b"far", (1 << 39) + 5).unwrap();
    let source = File::open(dir.0.join("source")).unwrap();
    let mut writer = Writer::create(dir.image()).unwrap();
    let blob = writer.file(&source, 1 << 40).unwrap();
    let reader = Reader::open(dir.image()).unwrap();
    let target = File::create_new(dir.0.join("target")).unwrap();
    reader.copy_to(blob, target.as_fd()).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    let meta = target.metadata().unwrap();
    assert_eq!(meta.len(), 1 << 40);
    assert!(meta.blocks() * 512 <= 64 << 10, "{} blocks", meta.blocks());
    let target = File::open(dir.0.join("target")).unwrap();
    let mut far = [0; 4];
    target.read_exact_at(&mut far, (1 << 39) + 4).unwrap();
    assert_eq!(&far, b"\0far");
}

#[test]
fn every_altered_byte_and_every_truncation_is_noticed() {
    let dir = Dir::new("damage");
    let mut writer = Writer::create(dir.image()).unwrap();
    let blob = writer.bytes(b"contents that matter").unwrap();
    let whole = std::fs::read(dir.data()).unwrap();
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(dir.data(), &damaged).unwrap();
        let result = Reader::open(dir.image()).and_then(|r| r.bytes(blob, 100));
        assert_eq!(*result.unwrap_err().kind(), crate::Kind::BadImage, "byte {at}");
    }
    for len in 0..whole.len() {
        std::fs::write(dir.data(), &whole[..len]).unwrap();
        let result = Reader::open(dir.image()).and_then(|r| r.bytes(blob, 100));
        assert_eq!(*result.unwrap_err().kind(), crate::Kind::BadImage, "length {len}");
    }
}

#[test]
fn a_table_with_its_checksum_right_is_still_checked() {
    let overlap = [Extent { offset: 0, len: 10, at: 8, crc: 0 }, Extent { offset: 9, len: 10, at: 8, crc: 0 }];
    assert!(check_order(&overlap, 100).is_none());
    assert!(check_order(&overlap[..1], 9).is_none());
    assert!(check_order(&overlap[..1], 10).is_some());
    assert!(check_order(&[Extent { offset: u64::MAX, len: 2, at: 0, crc: 0 }], u64::MAX).is_none());
    assert!(check_order(&[Extent { offset: 0, len: 2 << 20, at: 0, crc: 0 }], u64::MAX).is_none());
}
