//! File watches, on plain file systems and on overlay.

use crate::holder::{FIRST, Holder, alone, copy, fdinfo, try_dump};
use crate::image_dir::ImageDir;
use rtc_checkpoint::files::inside::inside;
use rtc_checkpoint::procfs::fdinfo as parse;
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, WatchFlags};
use std::collections::BTreeMap;
use std::fs;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::Command;

fn instance() -> OwnedFd {
    inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).unwrap()
}

fn watch(instance: &OwnedFd, path: &Path, mask: WatchFlags) -> i32 {
    inotify::add_watch(instance, path, mask).unwrap()
}

/// Number, mask and inode of each watch, by number.
fn watches(instance: &OwnedFd) -> Vec<(i32, u32, u64, u32)> {
    let mut all: Vec<_> =
        parse::inotify(&fdinfo(instance)).unwrap().iter().map(|w| (w.wd, w.mask, w.ino, w.sdev)).collect();
    all.sort_unstable();
    all
}

/// Watch and name of each event that is there.
fn read(instance: &OwnedFd) -> Vec<(i32, String)> {
    let mut buffer = [MaybeUninit::uninit(); 4096];
    let mut reader = inotify::Reader::new(instance, &mut buffer);
    let mut all = Vec::new();
    while let Ok(event) = reader.next() {
        assert!(!event.events().contains(ReadFlags::QUEUE_OVERFLOW));
        all.push((event.wd(), event.file_name().map_or_else(String::new, |n| n.to_str().unwrap().to_owned())));
    }
    all
}

#[test]
fn watches_keep_numbers_and_masks() {
    let _alone = alone();
    let dir = ImageDir::new();
    let (file, link) = (dir.path().join("file"), dir.path().join("link"));
    fs::write(&file, "x").unwrap();
    std::os::unix::fs::symlink("nowhere", &link).unwrap();
    let all = instance();
    for n in 0..3 {
        let gone = watch(&all, &file, WatchFlags::OPEN);
        inotify::remove_watch(&all, gone).unwrap();
        assert_eq!(read(&all).len(), 1, "{n}");
    }
    let on_dir = watch(&all, dir.path(), WatchFlags::CREATE | WatchFlags::EXCL_UNLINK | WatchFlags::OPEN);
    let on_file = watch(&all, &file, WatchFlags::MODIFY | WatchFlags::ONESHOT);
    let on_link = watch(&all, &link, WatchFlags::ATTRIB | WatchFlags::DONT_FOLLOW);
    let on_proc = watch(&all, Path::new("/proc/sys/kernel"), WatchFlags::MODIFY);
    assert_eq!([on_dir, on_file, on_link, on_proc], [4, 5, 6, 7]);
    let before = watches(&all);
    let new = copy(vec![all]).get(FIRST);
    assert_eq!(watches(&new), before);
    // Making them anew is not seen by them.
    assert_eq!(read(&new), []);
    fs::write(dir.path().join("second"), "").unwrap();
    fs::OpenOptions::new().append(true).open(&file).unwrap();
    assert_eq!(read(&new), [(4, "second".into()), (4, "second".into()), (4, "file".into())]);
    assert_eq!(watch(&new, Path::new("/"), WatchFlags::CREATE), 8);
}

#[test]
fn a_deleted_file_that_is_open_is_watched_through_its_descriptor() {
    let _alone = alone();
    let dir = ImageDir::new();
    let path = dir.path().join("file");
    let file = fs::File::create_new(&path).unwrap();
    let all = instance();
    watch(&all, &path, WatchFlags::MODIFY);
    fs::remove_file(&path).unwrap();
    let new = copy(vec![all, file.into()]);
    rustix::io::write(new.get(FIRST + 1), b"seen").unwrap();
    assert_eq!(read(&new.get(FIRST)), [(1, String::new())]);
}

#[test]
fn events_that_nobody_read_stay_where_they_are() {
    let _alone = alone();
    let dir = ImageDir::new();
    let all = instance();
    watch(&all, dir.path(), WatchFlags::CREATE);
    fs::write(dir.path().join("new"), "").unwrap();
    let holder = Holder::new(&[all.as_fd()]);
    drop(try_dump(&[&holder]).unwrap());
    assert_eq!(read(&all), [(1, "new".into())]);
}

/// A process in a mount namespace with an overlay on `merged`, whose layers are below `layers`.
fn overlay(merged: &Path, layers: &Path, hidden: bool) -> Holder {
    let script = "
        if [ $3 = true ]; then mount -t tmpfs none $2; fi
        mkdir -p $2/lower/deep/er $2/upper $2/work
        touch $2/lower/deep/er/below $2/lower/changed
        mount -t overlay -o lowerdir=$2/lower,upperdir=$2/upper,workdir=$2/work none $1
        mkdir $1/deep/made; touch $1/deep/made/above; echo >> $1/changed
        exec cat";
    let mut command = Command::new("unshare");
    let hidden = if hidden { "true" } else { "false" };
    command.args(["--mount", "sh", "-ec", script, "sh"]).arg(merged).arg(layers).arg(hidden);
    Holder::command(command, &[])
}

fn watches_on_overlay_are_found(hidden: bool) {
    let _alone = alone();
    let (merged, layers) = (ImageDir::new(), ImageDir::new());
    let init = overlay(merged.path(), layers.path(), hidden);
    let all = inside(init.pid(), || {
        let all = instance();
        for name in ["", "changed", "deep/er", "deep/er/below", "deep/made", "deep/made/above"] {
            watch(&all, &merged.path().join(name), WatchFlags::ATTRIB);
        }
        Ok(all)
    });
    let all = all.unwrap();
    let before = watches(&all);
    let holder = Holder::new(&[all.as_fd()]);
    let image = try_dump(&[&init, &holder]).unwrap();
    let new = image.restore_in(&init, &BTreeMap::new()).get(FIRST);
    assert_eq!(watches(&new), before);
    inside(init.pid(), || {
        for name in ["deep/er/below", "deep/made/above", "changed"] {
            let path = merged.path().join(name);
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        }
        Ok(())
    })
    .unwrap();
    let of_files: Vec<_> = read(&new).into_iter().filter(|(_, name)| name.is_empty()).map(|(wd, _)| wd).collect();
    // What is copied up on being changed is another inode below, and is no longer seen as the watched one.
    assert!(of_files.ends_with(&[6, 2]), "{of_files:?}");
}

#[test]
fn watches_on_overlay_are_found_through_its_layers() {
    watches_on_overlay_are_found(false);
}

#[test]
fn watches_on_overlay_whose_layers_are_out_of_sight_are_found_by_walking() {
    watches_on_overlay_are_found(true);
}

#[test]
fn a_watch_on_what_has_no_path_is_a_blocker() {
    let _alone = alone();
    let dir = ImageDir::new();
    let elsewhere = {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-ec", "mount -t tmpfs none $1; exec cat", "sh"]).arg(dir.path());
        Holder::command(command, &[])
    };
    let all = inside(elsewhere.pid(), || {
        let all = instance();
        watch(&all, dir.path(), WatchFlags::CREATE);
        Ok(all)
    });
    let holder = Holder::new(&[all.unwrap().as_fd()]);
    let blockers = try_dump(&[&holder]).map(drop).unwrap_err();
    assert!(blockers.len() == 1 && blockers[0].contains("to which no path was found"), "{blockers:?}");
}
