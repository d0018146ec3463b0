//! Trees of all file types, saved and put back elsewhere.

use super::put_back::checks;
use super::*;
use crate::files::testing::{Contents, TempDir};
use std::fs::File;
use std::os::fd::AsFd as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

fn directory(path: &Path) -> OwnedFd {
    File::open(path).unwrap().into()
}

/// Everything that can be seen of a tree, one line for each file.
fn listing(root: &Path) -> String {
    let script = "find . -printf '%P %y %m %U:%G %s %T@ %l %n\\n' | sort; \
                  find . -type f -print0 | sort -z | xargs -0r md5sum; find . -type c -o -type b | sort | xargs -r stat -c '%n %t:%T'";
    let out = std::process::Command::new("sh").args(["-c", script]).current_dir(root).output().unwrap();
    String::from_utf8_lossy(&out.stdout).into_owned()
}

fn run(root: &Path, script: &str) {
    let status = std::process::Command::new("sh").args(["-ec", script]).current_dir(root).status().unwrap();
    assert!(status.success());
}

const TREE: &str = "mkdir -p a/deep/er empty; echo text > a/file; ln a/file a/deep/link; ln -s ../nowhere a/symlink
    mkfifo -m 640 a/fifo; mknod a/null c 1 3; mknod -m 600 block b 7 200; chown 12:34 a/file a/fifo
    chmod 4755 a/file; chmod 1777 empty; truncate -s 100M sparse; printf x | dd of=sparse bs=1 seek=50M conv=notrunc 2>/dev/null
    chown -h 5:6 a/symlink; touch -h -d @1000 a/symlink; touch -d @2000 a/deep a empty sparse; touch -d @3000 .
    printf 'odd' > \"$(printf 'new\\nline\\377')\"";

#[test]
fn a_tree_of_all_types_comes_back_elsewhere() {
    let (from, to, image) = (TempDir::new(), TempDir::new(), Contents::new());
    run(from.path(), TREE);
    let _socket = std::os::unix::net::UnixListener::bind(from.path().join("a/socket")).unwrap();
    run(from.path(), "touch -d @2000 a");
    for name in ["empty", "a/file"] {
        let file = directory(&from.path().join(name));
        rustix::fs::fsetxattr(&file, "trusted.x", b"y", rustix::fs::XattrFlags::empty()).unwrap();
    }
    let tree = save(directory(from.path()).as_fd(), &mut image.writer()).unwrap();
    let tree: Tmpfs = serde_json::from_str(&serde_json::to_string(&tree).unwrap()).unwrap();
    assert!(std::fs::metadata(image.path()).unwrap().len() < 100_000, "holes are not stored");
    // What the runtime made before: right, wrong, and superfluous things.
    run(
        to.path(),
        "mkdir -p a extra/dir; touch extra/dir/f; mknod a/null c 1 3; mknod block c 1 5; ln -s x sparse; mkdir a/fifo",
    );
    put_back(&tree, directory(to.path()).as_fd(), &image.reader()).unwrap();
    assert_eq!(listing(to.path()), listing(from.path()));
    for name in ["empty", "a/file", "a/deep/link"] {
        let attributes = Attributes::read(directory(&to.path().join(name)).as_fd()).unwrap();
        assert_eq!(attributes.xattrs.len(), 1, "{name}");
    }
    // Again, onto itself.
    put_back(&tree, directory(to.path()).as_fd(), &image.reader()).unwrap();
    assert_eq!(listing(to.path()), listing(from.path()));
}

#[test]
fn what_is_right_is_not_touched() {
    let (from, image) = (TempDir::new(), Contents::new());
    run(from.path(), "mkdir d; mknod d/null c 1 3");
    let tree = save(directory(from.path()).as_fd(), &mut image.writer()).unwrap();
    let node = File::open(from.path().join("d/null")).unwrap();
    put_back(&tree, directory(from.path()).as_fd(), &image.reader()).unwrap();
    use std::os::unix::fs::MetadataExt as _;
    assert_eq!(node.metadata().unwrap().nlink(), 1, "the same inode");
}

#[test]
fn no_path_of_an_image_leads_out() {
    let (root, outside, image) = (TempDir::new(), TempDir::new(), Contents::new());
    let attributes = Attributes { mode: 0o755, uid: 0, gid: 0, atime: (0, 0), mtime: (0, 0), xattrs: Vec::new() };
    let contents = image.writer().bytes(b"escaped").unwrap();
    let entry = |path: &str, node: Node| Entry { path: path.into(), node, attributes: attributes.clone() };
    let tree = |entries: Vec<Entry>| Tmpfs { root: attributes.clone(), entries };
    let file = || Node::File(contents);
    for path in ["/f", "../f", "a/../f", "./f", "", "d/", "d//f", "."] {
        assert!(checks(&tree(vec![entry("d", Node::Directory), entry(path, file())])).is_err(), "{path}");
    }
    let out = outside.path().to_str().unwrap();
    for entries in [
        vec![entry("l", Node::Symlink(out.into())), entry("l/f", file())],
        vec![entry("missing/f", file())],
        vec![entry("f", file()), entry("f", Node::Directory)],
        vec![entry("d", Node::Directory), entry("h", Node::HardLink("d".into()))],
        vec![entry("h", Node::HardLink("../../etc/passwd".into()))],
        vec![entry("h", Node::HardLink("h".into()))],
    ] {
        assert!(checks(&tree(entries)).is_err());
    }
    // A link of the runtime's where the image has a directory.
    std::os::unix::fs::symlink(out, root.path().join("d")).unwrap();
    let good = tree(vec![entry("d", Node::Directory), entry("d/f", file())]);
    put_back(&good, directory(root.path()).as_fd(), &image.reader()).unwrap();
    assert_eq!(std::fs::read(root.path().join("d/f")).unwrap(), b"escaped");
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
}

#[test]
fn a_file_that_grew_since_is_cut() {
    let (root, image) = (TempDir::new(), Contents::new());
    std::fs::write(root.path().join("f"), "short").unwrap();
    let tree = save(directory(root.path()).as_fd(), &mut image.writer()).unwrap();
    File::options().write(true).open(root.path().join("f")).unwrap().write_all_at(b"longer than before", 0).unwrap();
    put_back(&tree, directory(root.path()).as_fd(), &image.reader()).unwrap();
    assert_eq!(std::fs::read(root.path().join("f")).unwrap(), b"short");
}
