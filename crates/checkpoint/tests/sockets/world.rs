//! Network and mount namespaces with a process that holds sockets, their dump, and their restore.

use crate::image_dir::ImageDir;
use rtc_checkpoint::files::dump::FileDumper;
use rtc_checkpoint::files::inside::{inside, own_thread};
use rtc_checkpoint::files::kind::Files;
use rtc_checkpoint::files::restore::OpenFiles;
use rtc_checkpoint::files::{Descriptor, DumpEnv, External, FileOptions, Held, RestoreEnv};
use rtc_checkpoint::image::blob::{Reader, Writer};
use rtc_checkpoint::netlink::{Connection, Message};
use rtc_checkpoint::program::Program;
use rustix::mount::{MountFlags, MountPropagationFlags};
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// The first number that a world's descriptors have.
const FIRST: i32 = 500;

/// A process in its own network and mount namespaces that holds descriptors and does nothing.
/// `/mnt` there is a tmpfs with a directory `dir`, and `lo` is up. It ends when its standard input does, so with the test.
pub(crate) struct World {
    child: Child,
    count: usize,
    _end: OwnedFd,
}

/// Tests go one after another: a child that one of them makes has copies of what another is about to close.
pub(crate) fn turn() -> std::sync::MutexGuard<'static, ()> {
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());
    TURN.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl World {
    /// Makes the namespaces, has `make` make descriptors there, and gives those to the process.
    pub(crate) fn new(make: impl FnOnce() -> Vec<OwnedFd> + Send) -> Self {
        let world = own_thread(|| {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET | nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
            let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
            rustix::mount::mount_change("/", private).unwrap();
            rustix::mount::mount("none", "/mnt", "tmpfs", MountFlags::empty(), None).unwrap();
            std::fs::create_dir("/mnt/dir").unwrap();
            loopback_up();
            Ok(Self::holding(make()))
        });
        world.unwrap()
    }

    /// A process in the namespaces of the calling thread that holds `fds`.
    fn holding(fds: Vec<OwnedFd>) -> Self {
        let (input, end) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let child = own_thread(|| {
            // The child inherits the table of the thread that makes it.
            rtc_sys::fdio::renumber_in_own_table(&[])?;
            let mut kept = Vec::new();
            for (n, fd) in fds.iter().enumerate() {
                let copy = rustix::io::fcntl_dupfd_cloexec(fd, FIRST + n as i32).unwrap();
                assert_eq!(copy.as_raw_fd(), FIRST + n as i32, "a number above {FIRST} is in use");
                rustix::io::fcntl_setfd(&copy, rustix::io::FdFlags::empty()).unwrap();
                kept.push(copy);
            }
            Ok(Command::new("cat").stdin(input).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
        });
        let world = Self { child: child.unwrap(), count: fds.len(), _end: end };
        // It waits for input: the loader has closed its libraries.
        let waits = |text: &str| text.starts_with("0 0x0 ");
        while !waits(&std::fs::read_to_string(format!("/proc/{}/syscall", world.pid())).unwrap()) {
            std::thread::yield_now();
        }
        world
    }

    pub(crate) fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Runs `act` in a thread in its namespaces.
    pub(crate) fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        inside(self.pid(), || Ok(act())).unwrap()
    }

    /// Everything that the process has besides what it was given: its stdio, and what the test itself inherited.
    fn strays(&self) -> Vec<External> {
        let external = |n: i32| {
            let path = format!("/proc/{}/fd/{n}", self.pid());
            let link = std::fs::read_link(&path).unwrap().into_os_string().into_string().unwrap();
            let stat = rustix::fs::stat(&path).unwrap();
            External { name: format!("stray:{n}"), link, dev: stat.st_dev, ino: stat.st_ino }
        };
        let list = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).unwrap();
        let numbers = list.map(|entry| entry.unwrap().file_name().to_str().unwrap().parse::<i32>().unwrap());
        numbers.filter(|n| !(FIRST..FIRST + self.count as i32).contains(n)).map(external).collect()
    }

    pub(crate) fn dump(&self) -> Image {
        self.dump_with(&FileOptions::default()).unwrap()
    }

    /// Why it can't be dumped.
    pub(crate) fn blockers(&self) -> Vec<String> {
        self.dump_with(&FileOptions::default()).map(|_| ()).unwrap_err()
    }

    /// As for a dump that ends the container.
    pub(crate) fn last_dump(&self) -> Image {
        self.try_dump(&FileOptions::default(), true).unwrap()
    }

    pub(crate) fn dump_with(&self, options: &FileOptions) -> Result<Image, Vec<String>> {
        self.try_dump(options, false)
    }

    fn try_dump(&self, options: &FileOptions, kills: bool) -> Result<Image, Vec<String>> {
        let dir = ImageDir::new();
        let mut blobs = Writer::create(dir.fd().as_fd()).unwrap();
        let (mut blockers, externals) = (Vec::new(), self.strays());
        let env = DumpEnv {
            init: self.pid(),
            options,
            externals: &externals,
            blobs: &mut blobs,
            blockers: &mut blockers,
            check_only: false,
            kills,
        };
        let mut dumper = FileDumper::new(env).unwrap();
        let table = dumper.add_table(self.pid(), rtc_sys::pidfd::open(self.pid()).unwrap()).unwrap();
        let files = dumper.finish();
        if !blockers.is_empty() {
            assert!(files.is_err());
            return Err(blockers.iter().map(ToString::to_string).collect());
        }
        let (files, held) = files.unwrap();
        Ok(Image { files, held, table, externals: externals.into_iter().map(|e| e.name).collect(), dir })
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Brings `lo` of the calling thread's network namespace up.
fn loopback_up() {
    const RTM_NEWLINK: u16 = 16;
    let up = (libc::IFF_UP as u32).to_ne_bytes();
    let fixed = [[0; 4], 1_i32.to_ne_bytes(), up, up].concat();
    let mut route = Connection::open(libc::NETLINK_ROUTE).unwrap();
    let mut message = Message::default();
    message.begin(RTM_NEWLINK, libc::NLM_F_ACK as u16, route.sequence()).fixed(&fixed);
    route.apply(message.bytes(), 1).unwrap();
}

/// What a dump found.
pub(crate) struct Image {
    pub(crate) files: Files,
    pub(crate) held: Vec<Box<dyn Held>>,
    table: Vec<Descriptor>,
    externals: Vec<String>,
    dir: ImageDir,
}

impl Image {
    /// Makes all files anew in fresh namespaces.
    pub(crate) fn restore(&self) -> Restored {
        self.restore_in(World::new(Vec::new))
    }

    /// Why the files can't be made anew in the namespaces of `world`.
    pub(crate) fn restore_error(&self, world: &World) -> String {
        self.try_restore(world).map(|_| ()).unwrap_err().to_string()
    }

    /// Makes all files anew in the namespaces of `world`.
    pub(crate) fn restore_in(&self, world: World) -> Restored {
        let (fds, program) = self.try_restore(&world).unwrap();
        Restored { world, fds, program }
    }

    fn try_restore(&self, world: &World) -> rtc_checkpoint::Result<(Vec<OwnedFd>, Program)> {
        // Through text, as an image is.
        let text = serde_json::to_string(&self.files).unwrap();
        let files: Files = serde_json::from_str(&text).unwrap();
        let blobs = Reader::open(self.dir.fd().as_fd()).unwrap();
        let null = |name: &String| (name.clone(), std::fs::File::open("/dev/null").unwrap().into());
        let externals: BTreeMap<String, OwnedFd> = self.externals.iter().map(null).collect();
        let env = RestoreEnv { init: world.pid(), blobs: &blobs, externals: &externals, cgroup: None };
        let mut open = OpenFiles::open_all(&files, &env)?;
        // The test itself stands for every task that sockets know of.
        let me = std::process::id() as i32;
        let pids = BTreeMap::from([(me, me)]);
        open.open_with_tasks(&files, &env, &pids)?;
        let program = open.after_table(&files, &self.table, me)?;
        open.finish(&files, &env, &pids)?;
        let given = self.table.iter().filter(|d| d.fd.0 >= FIRST);
        let fds = given.map(|d| open.get(d.file).unwrap().try_clone_to_owned().unwrap()).collect();
        Ok((fds, program))
    }
}

/// What a restore made: its namespaces, and the descriptors in the order they were given.
pub(crate) struct Restored {
    pub(crate) world: World,
    pub(crate) fds: Vec<OwnedFd>,
    pub(crate) program: Program,
}

impl Restored {
    /// The `n`th descriptor as any type that one can become.
    pub(crate) fn get<T: From<OwnedFd>>(&self, n: usize) -> T {
        self.fds[n].try_clone().unwrap().into()
    }

    /// Dumps and restores it once more.
    pub(crate) fn again(self) -> Self {
        let Self { world, fds, .. } = self;
        let holder = world.inside(|| World::holding(fds));
        drop(world);
        let image = holder.dump();
        drop(holder);
        image.restore()
    }
}

/// Makes sockets, dumps and restores them twice over.
pub(crate) fn twice(make: impl FnOnce() -> Vec<OwnedFd> + Send) -> Restored {
    let world = World::new(make);
    let image = world.dump();
    drop(world);
    image.restore().again()
}
