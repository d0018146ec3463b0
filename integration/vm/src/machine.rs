//! A running VM: start, commands, files, end.
//!
//! A VM never outlives its driver: the kernel kills QEMU when the thread that started it ends (`PR_SET_PDEATHSIG`),
//! and once the VM is up nothing of it has a name in the file system.

use crate::guest::Guest;
use crate::host;
use crate::image::Image;
use crate::share::Share;
use anyhow::{Context, Result, bail};
use rtc_vm_agent::frame::{self, Frame, MAX_PAYLOAD};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

/// The processor: all that QEMU can emulate but for three things that slow it down, the first two by half. Where string
/// instructions are said to be fast, kernel and Go copy byte by byte with them, each a turn of the emulator's loop; a
/// fifth level of page tables is one more to walk, in software, whenever a page is new to the emulator; and libraries
/// search and copy with AVX2 where they can, which is emulated piece by piece.
const CPU: &str = "max,erms=off,la57=off,avx2=off";

/// Longest wait for the agent after start. An idle machine needs 3 s, one with fifty busy processes a hundred.
const BOOT_TIMEOUT: Duration = Duration::from_secs(300);

/// What the host allows on top of a command's own time-out before it takes the VM for dead.
const GRACE: Duration = Duration::from_secs(60);

/// A running VM. Dropping it ends it.
#[derive(Debug)]
pub struct Machine {
    qemu: Child,
    line: BufReader<UnixStream>,
    console: File,
}

/// What a command in the guest did.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Exit status, or 128 + signal, or 127 when it could not be started.
    pub code: i32,
    /// It was killed because its time was up.
    pub timed_out: bool,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
}

impl Machine {
    /// Boots a VM with the files of the share under `/rtc` and waits for its agent.
    /// `folder` is a folder of the caller's; nothing in it is needed once this returns.
    pub fn start(image: &Image, guest: Guest, share: &Share, folder: &Path) -> Result<Self> {
        let disk = folder.join(format!("{guest}.ext4"));
        share.write(&disk)?;
        let console_name = folder.join(format!("{guest}.log"));
        let console = File::options().create_new(true).read(true).append(true).open(&console_name)?;
        let (ours, theirs) = UnixStream::pair()?;
        let qemu = launch(image, guest, &disk, &console, theirs)?;
        let mut machine = Self { qemu, line: BufReader::new(ours), console };
        machine.line.get_ref().set_read_timeout(Some(BOOT_TIMEOUT))?;
        match machine.receive()? {
            Frame::Ready => {}
            other => bail!("the VM's agent greeted with {other:?}"),
        }
        // QEMU has both open; without names nothing is left behind when driver and VM are killed.
        fs::remove_file(&disk)?;
        fs::remove_file(&console_name)?;
        Ok(machine)
    }

    /// Runs a shell command in `/` of the guest and waits for its end.
    pub fn shell(&mut self, script: &str, timeout: Duration) -> Result<Outcome> {
        self.run(&["bash", "-c", script], &[], timeout)
    }

    /// Runs a program in `/` of the guest with the bytes given as its standard input.
    /// A command that fails is an `Outcome`; an error means that the VM is gone.
    pub fn run(&mut self, argv: &[&str], input: &[u8], timeout: Duration) -> Result<Outcome> {
        let argv = argv.iter().map(|&arg| arg.to_owned()).collect();
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        self.line.get_ref().set_read_timeout(Some(timeout + GRACE))?;
        let command = Frame::Run(frame::Command { timeout_ms, dir: "/".to_owned(), argv });
        // The guest may send output while it is still given input: two directions, two threads.
        let mut sender = self.line.get_ref().try_clone()?;
        std::thread::scope(|scope| {
            let sending = scope.spawn(move || send(&mut sender, &command, input));
            let outcome = self.collect();
            match sending.join() {
                // An outcome tells more than a failure to send: both mean the same dead VM.
                Ok(sent) => outcome.and_then(|outcome| sent.map(|()| outcome).context("send to the VM")),
                Err(_) => bail!("the thread that sends to the VM panicked"),
            }
        })
    }

    /// Writes a file of the guest.
    pub fn put(&mut self, path: &str, contents: &[u8]) -> Result<()> {
        let outcome = self.run(&["sh", "-c", "cat > \"$1\"", "sh", path], contents, GRACE)?;
        outcome.expect_success(&format!("write {path} in the VM")).map(drop)
    }

    /// Reads a file of the guest.
    pub fn get(&mut self, path: &str) -> Result<Vec<u8>> {
        self.run(&["cat", "--", path], &[], GRACE)?.expect_success(&format!("read {path} in the VM"))
    }

    fn collect(&mut self) -> Result<Outcome> {
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        loop {
            match self.receive()? {
                Frame::Output(bytes) => stdout.extend(bytes),
                Frame::Error(bytes) => stderr.extend(bytes),
                Frame::Exit(exit) => {
                    return Ok(Outcome { code: exit.code, timed_out: exit.timed_out, stdout, stderr });
                }
                other => bail!("the VM's agent sent {other:?} while a command ran"),
            }
        }
    }

    fn receive(&mut self) -> Result<Frame> {
        Frame::read_from(&mut self.line).map_err(|error| {
            let why = match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset => "the VM died".to_owned(),
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => "the VM does not answer".to_owned(),
                _ => format!("the line to the VM failed: {error}"),
            };
            anyhow::anyhow!("{why}{}", console_tail(&self.console))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only for a process that is gone already.
        let _ = self.qemu.kill();
        let _ = self.qemu.wait();
    }
}

impl Outcome {
    /// The standard output of a command that must not fail.
    pub fn expect_success(self, what: &str) -> Result<Vec<u8>> {
        if self.code == 0 {
            return Ok(self.stdout);
        }
        bail!("{what}: exit status {}: {}", self.code, String::from_utf8_lossy(&self.stderr).trim())
    }
}

/// Starts QEMU. Its end of the line is its standard input, so that no other program that is started meanwhile inherits
/// it: QEMU's end must be seen as the end of the line.
fn launch(image: &Image, guest: Guest, share: &Path, console: &File, line: UnixStream) -> Result<Child> {
    let disk = |id: &str, file: &Path, more: &str| {
        // A comma in a name is written twice in QEMU's options.
        format!("if=none,id={id},format=raw,file={},{more}", file.display().to_string().replace(',', ",,"))
    };
    let mut command = host::command("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "qemu-system-x86_64", "-name", "rtc-vm"]);
    command.args("-M q35 -accel tcg -smp 1".split(' ')).args(["-cpu", CPU]);
    command.arg("-m").arg(guest.memory().to_string());
    command.args("-display none -nodefaults -no-user-config -no-reboot".split(' '));
    command.args("-chardev file,id=console,path=/dev/stdout,append=on -serial chardev:console".split(' '));
    command.arg("-kernel").arg(image.kernel(guest)).arg("-initrd").arg(image.initrd(guest));
    // no_timer_check: under load the check of the emulated timer can fail and panic.
    // norandmaps: where programs and libraries lie at other addresses in each process, the emulator translates all of
    // their code anew at each start, which took a third of all time (lib.sh).
    // init_on_alloc: the kernel need not clear what it is about to write.
    let options = "console=ttyS0 panic=-1 quiet mitigations=off no_timer_check norandmaps init_on_alloc=0";
    command.arg("-append").arg(format!("{options}{}", guest.boot_options()));
    command.args(["-drive", &disk("root", &image.disk(), "snapshot=on,cache=unsafe")]);
    command.args(["-device", "virtio-blk-pci,drive=root"]);
    command.args(["-drive", &disk("share", share, "readonly=on")]);
    command.args(["-device", "virtio-blk-pci,drive=share"]);
    command.args(["-device", "virtio-serial-pci"]);
    command.args(["-chardev", "socket,id=agent,fd=0"]);
    command.args(["-device", &format!("virtserialport,chardev=agent,name={}", frame::PORT_NAME)]);
    command.stdin(Stdio::from(OwnedFd::from(line))).stdout(console.try_clone()?).stderr(console.try_clone()?);
    command.spawn().context("start qemu-system-x86_64")
}

fn send(line: &mut UnixStream, command: &Frame, input: &[u8]) -> io::Result<()> {
    command.write_to(line)?;
    for part in input.chunks(MAX_PAYLOAD) {
        Frame::Input(part.to_vec()).write_to(line)?;
    }
    Frame::EndOfInput.write_to(line)
}

/// The last lines of the console (kernel messages, and QEMU's own), for an error message.
fn console_tail(mut console: &File) -> String {
    let mut text = String::new();
    let read = console.seek(SeekFrom::Start(0)).and_then(|_| {
        let mut bytes = Vec::new();
        console.read_to_end(&mut bytes)?;
        text = String::from_utf8_lossy(&bytes).replace('\r', "");
        Ok(())
    });
    match read {
        Err(_) => String::new(),
        Ok(()) if text.trim().is_empty() => "; its console is empty".to_owned(),
        Ok(()) => {
            let lines: Vec<&str> = text.trim_end().lines().collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n  ");
            format!("; the end of its console:\n  {tail}")
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let late = if self.timed_out { " (killed: its time was up)" } else { "" };
        let stdout = String::from_utf8_lossy(&self.stdout);
        let stderr = String::from_utf8_lossy(&self.stderr);
        write!(f, "exit status {}{late}\nstandard output:\n{}\n", self.code, stdout.trim_end())?;
        write!(f, "standard error:\n{}", stderr.trim_end())
    }
}

/// A folder for one VM's start, removed with its owner; one whose owner was killed is removed by the next.
#[derive(Debug)]
pub struct StartFolder {
    path: PathBuf,
}

impl StartFolder {
    /// Makes the folder under the system's folder for temporary files.
    pub fn new() -> Result<Self> {
        let parent = std::env::temp_dir();
        sweep(&parent)?;
        let path = parent.join(format!("{PREFIX}{}", std::process::id()));
        fs::create_dir(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self { path })
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for StartFolder {
    fn drop(&mut self) {
        // What could not be removed is swept by the next run.
        let _ = fs::remove_dir_all(&self.path);
    }
}

const PREFIX: &str = "rtc-vm-";

/// Removes the folders of processes that no longer live.
fn sweep(parent: &Path) -> Result<()> {
    for entry in fs::read_dir(parent).with_context(|| format!("read {}", parent.display()))? {
        let entry = entry?;
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)).and_then(|pid| pid.parse::<u32>().ok());
        let dead = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        if dead {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
    Ok(())
}
