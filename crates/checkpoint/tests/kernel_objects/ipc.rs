//! System V IPC, POSIX message queues and their limits, in IPC namespaces of two children.

use crate::holder::{FIRST, Holder, alone, dump};
use crate::image_dir::ImageDir;
use nix::sched::{CloneFlags, setns};
use rtc_checkpoint::files::inside::own_thread;
use rtc_checkpoint::image::blob::{Reader, Writer};
use rtc_checkpoint::resource::ipc::{Ipc, IpcEnv};
use rtc_sys::ipc::{as_creator, msg, sem, shm};
use rtc_sys::mqueue::{self, Attributes};
use std::collections::BTreeSet;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Command;

/// A process in an IPC namespace of its own.
fn namespace() -> Holder {
    let mut command = Command::new("unshare");
    command.args(["--ipc", "cat"]);
    Holder::command(command, &[])
}

/// Does `act` in a holder's IPC namespace.
fn within<T: Send>(holder: &Holder, act: impl FnOnce() -> T + Send) -> T {
    let namespace = std::fs::File::open(format!("/proc/{}/ns/ipc", holder.pid())).unwrap();
    own_thread(|| {
        setns(&namespace, CloneFlags::CLONE_NEWIPC).unwrap();
        Ok(act())
    })
    .unwrap()
}

/// Dumps one namespace and restores into another; gives that and what was saved.
fn copy(from: &Holder) -> (Holder, Ipc, ImageDir) {
    let dir = ImageDir::new();
    let mut blobs = Writer::create(dir.fd().as_fd()).unwrap();
    let mut blockers = Vec::new();
    let env = IpcEnv {
        init: from.pid(),
        tasks: &BTreeSet::from([from.pid()]),
        attached: &BTreeSet::new(),
        blobs: Some(&mut blobs),
        blockers: &mut blockers,
    };
    let ipc = Ipc::dump(env).unwrap();
    assert_eq!(blockers, []);
    let text = serde_json::to_string(&ipc).unwrap();
    let ipc: Ipc = serde_json::from_str(&text).unwrap();
    let to = namespace();
    ipc.restore(to.pid(), &Reader::open(dir.fd().as_fd()).unwrap()).unwrap();
    (to, ipc, dir)
}

fn write_sysctl(name: &str, value: &str) {
    std::fs::write(format!("/proc/sys/{name}"), value).unwrap();
}

#[test]
fn segments_keep_ids_owners_and_contents() {
    let _alone = alone();
    let from = namespace();
    let (ids, doomed) = within(&from, || {
        // Ids that would not be given to the first objects of a new namespace.
        write_sysctl("kernel/shm_next_id", "98307");
        let sparse = as_creator(1001, 1002, || shm::create(0x1234, 300_000_000, 0o640)).unwrap();
        shm::set(sparse, &rtc_sys::ipc::Perm { uid: 7, gid: 8, mode: 0o604, ..Default::default() }).unwrap();
        let attached = shm::Attached::new(sparse, false).unwrap();
        attached.write(0, b"begin").unwrap();
        attached.write(299_999_997, b"end").unwrap();
        drop(attached);
        let locked = shm::create(0, 4096, 0o600).unwrap();
        shm::lock(locked).unwrap();
        let doomed = shm::create(0x77, 10, 0o600).unwrap();
        let user = shm::Attached::new(doomed, false).unwrap();
        user.write(0, b"last words").unwrap();
        shm::remove(doomed).unwrap();
        // Keeps it alive after this thread.
        std::mem::forget(user);
        ([sparse, locked, doomed], doomed)
    });
    assert_eq!(ids[0], 98307);
    let before = within(&from, || shm::list().unwrap());
    let (to, ipc, dir) = copy(&from);
    // The holes of the large segment take no room.
    assert!(std::fs::metadata(dir.path().join("data.img")).unwrap().len() < 1 << 20);
    within(&to, || {
        let user = shm::Attached::new(doomed, true).unwrap();
        ipc.finish(to.pid()).unwrap();
        let mut text = [0; 10];
        user.read(0, &mut text).unwrap();
        assert_eq!(&text, b"last words");
        assert_eq!(shm::list().unwrap(), before);
        drop(user);
        assert!(shm::list().unwrap().iter().all(|segment| segment.id != doomed));
        let sparse = shm::Attached::new(ids[0], true).unwrap();
        let mut ends = [1; 8];
        sparse.read(0, &mut ends[..5]).unwrap();
        sparse.read(299_999_997, &mut ends[5..]).unwrap();
        assert_eq!(&ends, b"beginend");
    });
}

#[test]
fn semaphores_keep_ids_and_values() {
    let _alone = alone();
    let from = namespace();
    within(&from, || {
        write_sysctl("kernel/sem_next_id", "65541");
        let set = as_creator(5, 6, || sem::create(42, 4, 0o660)).unwrap();
        sem::set_values(set, &[0, 1, 500, 32767]).unwrap();
        sem::create(0, 1, 0o600).unwrap();
    });
    let before = within(&from, || sem::list().unwrap());
    let (to, ipc, _dir) = copy(&from);
    within(&to, || {
        assert_eq!(sem::list().unwrap(), before);
        assert_eq!(sem::values(65541, 4).unwrap(), [0, 1, 500, 32767]);
    });
    // This test set the values last.
    let us = std::process::id() as i32;
    assert_eq!(ipc.sysv.changed_by(us)[0].calls().len(), 4);
}

#[test]
fn queues_keep_ids_and_messages_beyond_their_limits() {
    let _alone = alone();
    let from = namespace();
    let id = within(&from, || {
        write_sysctl("kernel/msgmax", "100000");
        write_sysctl("kernel/msgmnb", "200000");
        write_sysctl("kernel/msg_next_id", "32770");
        let id = msg::create(99, 0o600).unwrap();
        msg::send(id, 5, &[5; 90_000]).unwrap();
        msg::send(id, 1, b"").unwrap();
        msg::send(id, i64::MAX, b"after").unwrap();
        // Lower than what is in it.
        msg::set(id, &rtc_sys::ipc::Perm { uid: 3, mode: 0o622, ..Default::default() }, 1000).unwrap();
        write_sysctl("kernel/msgmax", "2000");
        id
    });
    assert_eq!(id, 32770);
    let before = within(&from, || msg::list().unwrap());
    let (to, ipc, _dir) = copy(&from);
    ipc.finish(to.pid()).unwrap();
    within(&to, || {
        assert_eq!(msg::list().unwrap(), before);
        let limit = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).unwrap();
        assert_eq!((limit("msgmax").trim(), limit("msgmnb").trim()), ("2000", "200000"));
        // A longer message isn't shown.
        write_sysctl("kernel/msgmax", "100000");
        assert_eq!(msg::peek(id, 0, 1 << 20).unwrap(), (5, vec![5; 90_000]));
        assert_eq!(msg::peek(id, 1, 10).unwrap(), (1, Vec::new()));
        assert_eq!(msg::peek(id, 2, 10).unwrap(), (i64::MAX, b"after".to_vec()));
    });
}

#[test]
fn an_id_that_is_taken_is_an_error_and_not_another_id() {
    let _alone = alone();
    let from = namespace();
    within(&from, || shm::create(1, 1, 0o600).unwrap());
    let (to, ipc, dir) = copy(&from);
    let again = ipc.restore(to.pid(), &Reader::open(dir.fd().as_fd()).unwrap()).unwrap_err();
    assert!(again.to_string().starts_with("IPC namespace: shared memory segment 0: "), "{again}");
}

#[test]
fn a_shared_namespace_is_left_alone() {
    let _alone = alone();
    let (holder, mut other) = (namespace(), Command::new("nsenter"));
    let id = within(&holder, || shm::create(1, 1, 0o600).unwrap());
    other.arg(format!("--ipc=/proc/{}/ns/ipc", holder.pid())).arg("cat");
    let other = Holder::command(other, &[]);
    let (mut blockers, tasks) = (Vec::new(), BTreeSet::from([holder.pid()]));
    let attached = BTreeSet::from([id]);
    let env = IpcEnv { init: holder.pid(), tasks: &tasks, attached: &attached, blobs: None, blockers: &mut blockers };
    assert!(Ipc::dump(env).unwrap().is_empty());
    let expected = format!(
        "System V shared memory segment {id}: it is in an IPC namespace that process {} (cat) uses, too; \
         give the container an IPC namespace of its own",
        other.pid()
    );
    assert_eq!(blockers.iter().map(ToString::to_string).collect::<Vec<_>>(), [expected]);
}

fn sizes() -> Attributes {
    Attributes { max_messages: 4, max_bytes: 100, messages: 0 }
}

#[test]
fn posix_queues_keep_names_and_messages() {
    let _alone = alone();
    let from = namespace();
    let put = || {
        let queue = mqueue::create("some queue", libc::O_RDWR, 0o640, sizes()).unwrap();
        rustix::fs::fchown(&queue, Some(rustix::fs::Uid::from_raw(11)), Some(rustix::fs::Gid::from_raw(12))).unwrap();
        mqueue::send(queue.as_fd(), 3, b"three").unwrap();
        mqueue::send(queue.as_fd(), 30, b"thirty").unwrap();
        mqueue::messages(queue.as_fd()).unwrap()
    };
    let messages = within(&from, put);
    let (to, ..) = copy(&from);
    for holder in [&from, &to] {
        within(holder, || {
            let queue = mqueue::open("some queue", libc::O_RDWR).unwrap();
            assert_eq!(mqueue::messages(queue.as_fd()).unwrap(), messages);
            assert_eq!(mqueue::attributes(queue.as_fd()).unwrap(), Attributes { messages: 2, ..sizes() });
            let stat = rustix::fs::fstat(&queue).unwrap();
            assert_eq!((stat.st_uid, stat.st_gid, stat.st_mode & 0o777), (11, 12, 0o640));
        });
    }
}

#[test]
fn descriptors_of_queues_by_name_and_of_unlinked_ones() {
    let _alone = alone();
    let name = format!("kobj-{}", std::process::id());
    let named = mqueue::create(&name, libc::O_RDWR, 0o600, sizes()).unwrap();
    let gone: OwnedFd = mqueue::create("kobj-gone", libc::O_RDWR | libc::O_NONBLOCK, 0o600, sizes()).unwrap();
    let reader = mqueue::open("kobj-gone", libc::O_RDONLY).unwrap();
    mqueue::unlink("kobj-gone").unwrap();
    mqueue::send(gone.as_fd(), 1, b"nobody sees me").unwrap();
    let holder = Holder::new(&[named.as_fd(), gone.as_fd(), reader.as_fd()]);
    let image = dump(&holder);
    drop((holder, gone, reader));
    // The restore is in the same namespace here: the named queue is there, as after Ipc::restore.
    let new = image.restore();
    mqueue::send(named.as_fd(), 2, b"by name").unwrap();
    mqueue::unlink(&name).unwrap();
    assert_eq!(mqueue::messages(new.get(FIRST).as_fd()).unwrap(), [(2, b"by name".to_vec())]);
    let gone = new.get(FIRST + 1);
    assert_eq!(mqueue::messages(gone.as_fd()).unwrap(), [(1, b"nobody sees me".to_vec())]);
    assert_eq!(mqueue::attributes(new.get(FIRST + 2).as_fd()).unwrap().messages, 1);
    let flags = |fd: &OwnedFd| nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL).unwrap();
    assert_ne!(flags(&gone) & libc::O_NONBLOCK, 0);
    assert_eq!(flags(&new.get(FIRST + 2)) & libc::O_ACCMODE, libc::O_RDONLY);
}
