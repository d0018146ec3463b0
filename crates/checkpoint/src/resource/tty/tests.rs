//! Pseudo terminals of a devpts of their own, made anew in another.

use crate::files::FileOptions;
use crate::files::kind::FileKind;
use crate::files::testing::{Dumped, How, Shell, dump_with};
use rtc_sys::tty;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;

/// A mount namespace with its own devpts.
fn world() -> Shell {
    Shell::in_namespaces(
        "mount -t devpts -o newinstance,ptmxmode=666,mode=620 d /dev/pts; mount --bind /dev/pts/ptmx /dev/ptmx",
    )
}

struct Pty {
    master: File,
    slave: File,
}

fn open(world: &Shell, path: &str) -> File {
    let path = format!("/proc/{}/root{path}", world.pid());
    let flags = libc::O_NOCTTY | libc::O_NONBLOCK;
    File::options().read(true).write(true).custom_flags(flags).open(path).unwrap()
}

impl Pty {
    fn new(world: &Shell) -> Self {
        let master = open(world, "/dev/pts/ptmx");
        tty::lock(master.as_fd(), false).unwrap();
        let slave = open(world, &format!("/dev/pts/{}", tty::pty_number(master.as_fd()).unwrap()));
        Self { master, slave }
    }
}

fn dumped(world: &Shell, files: &[&File], how: &How) -> Dumped<Vec<crate::files::FileId>> {
    dump_with(world.pid(), how, |dumper| {
        let mut add =
            |file: &&File| dumper.add_descriptor_of_ours(file.try_clone().unwrap().into(), world.pid(), "test");
        files.iter().map(|file| add(file).unwrap()).collect()
    })
}

fn read(mut from: &File) -> String {
    let mut bytes = [0; 8192];
    match from.read(&mut bytes) {
        Ok(read) => String::from_utf8_lossy(&bytes[..read]).into_owned(),
        Err(e) => format!("{:?}", e.raw_os_error().map(rtc_sys::Errno::from_raw)),
    }
}

fn link(fd: &OwnedFd) -> String {
    std::fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap().to_str().unwrap().to_owned()
}

#[test]
fn a_pair_comes_back_under_its_number_with_what_was_unread() {
    let (old, new) = (world(), world());
    let (low, gap, pty) = (Pty::new(&old), Pty::new(&old), Pty::new(&old));
    drop(gap);
    rustix::fs::fchmod(&pty.slave, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
    let mut modes = tty::termios(pty.slave.as_fd()).unwrap();
    modes.cc[libc::VERASE] = b'#';
    modes.lflag &= !libc::ECHO;
    tty::set_termios(pty.slave.as_fd(), &modes).unwrap();
    (&pty.slave).write_all(b"one\ntwo").unwrap();
    (&pty.master).write_all(b"typed\nand un#finished").unwrap();
    let size = rustix::termios::Winsize { ws_row: 33, ws_col: 77, ws_xpixel: 0, ws_ypixel: 0 };
    rustix::termios::tcsetwinsize(&pty.master, size).unwrap();
    tty::set_packet_mode(pty.master.as_fd(), true).unwrap();

    let dumped = dumped(&old, &[&pty.slave, &pty.master, &low.master], &How::default());
    let open = dumped.restore_in(new.pid()).unwrap();
    let [slave, master] = [0, 1].map(|n| open.copy(dumped.added[n]));
    assert_eq!(link(&slave), "/dev/pts/2");
    assert_eq!(tty::pty_number(master.as_fd()).unwrap(), 2);
    assert!(tty::packet_mode(master.as_fd()).unwrap());
    assert_eq!(tty::termios(slave.as_fd()).unwrap(), modes);
    assert_eq!(rustix::termios::tcgetwinsize(&slave).unwrap(), size);
    use std::os::unix::fs::MetadataExt as _;
    let (slave, master) = (File::from(slave), File::from(master));
    assert_eq!(slave.metadata().unwrap().mode() & 0o777, 0o600);
    tty::set_packet_mode(master.as_fd(), false).unwrap();
    assert_eq!(read(&master), "one\r\ntwo");
    assert_eq!((read(&slave).as_str(), read(&slave).as_str()), ("typed\n", "Some(EAGAIN)"));
    (&master).write_all(b"\n").unwrap();
    assert_eq!(read(&slave), "and ufinished\n", "# is the erase character");
}

#[test]
fn a_dump_leaves_what_was_unread_in_place() {
    let old = world();
    let pty = Pty::new(&old);
    (&pty.slave).write_all(b"out").unwrap();
    (&pty.master).write_all(b"in\npart").unwrap();
    let before = tty::termios(pty.slave.as_fd()).unwrap();
    drop(dumped(&old, &[&pty.slave, &pty.master], &How::default()));
    assert_eq!(tty::termios(pty.slave.as_fd()).unwrap(), before);
    assert!(read(&pty.master).starts_with("out"));
    assert_eq!(read(&pty.slave), "in\n");
}

#[test]
fn a_closed_side_stays_closed() {
    let (old, new) = (world(), world());
    let (lone_master, lone_slave) = (Pty::new(&old), Pty::new(&old));
    drop((lone_master.slave, lone_slave.master));
    assert_eq!(read(&lone_master.master), "Some(EIO)");
    let dumped = dumped(&old, &[&lone_master.master, &lone_slave.slave], &How::default());
    let open = dumped.restore_in(new.pid()).unwrap();
    let [master, slave] = [0, 1].map(|n| File::from(open.copy(dumped.added[n])));
    assert_eq!((read(&master).as_str(), read(&slave).as_str()), ("Some(EIO)", ""));
    assert!(tty::termios(slave.as_fd()).is_err(), "hung up");
}

#[test]
fn a_master_outside_is_a_blocker_unless_the_caller_says_otherwise() {
    let (old, new) = (world(), world());
    let pty = Pty::new(&old);
    let refused = dumped(&old, &[&pty.slave], &How::default());
    assert!(refused.blockers[0].to_string().contains("(/dev/pts/0): the terminal's other end is outside"));
    let options = FileOptions { shell_job: true, ..FileOptions::default() };
    let allowed = dumped(&old, &[&pty.slave], &How { options, ..How::default() });
    let slave = File::from(allowed.restore_in(new.pid()).unwrap().copy(allowed.added[0]));
    assert!(tty::termios(slave.as_fd()).is_err());
}

#[test]
fn numbers_of_an_image_are_bounded_and_never_shared() {
    let (old, new) = (world(), world());
    let pty = Pty::new(&old);
    let mut dumped = dumped(&old, &[&pty.master], &How::default());
    let taken = Pty::new(&new);
    let error = dumped.restore_in(new.pid()).err().unwrap().to_string();
    assert!(error.contains("pty 0: the number is taken in the new container"), "{error}");
    drop(taken);
    let FileKind::PtyMaster(master) = &mut dumped.files.as_mut().unwrap().files[0].file else { panic!() };
    master.number = 1 << 30;
    let error = dumped.restore_in(new.pid()).err().unwrap().to_string();
    assert!(error.contains("no pseudo terminals above"), "{error}");
}
