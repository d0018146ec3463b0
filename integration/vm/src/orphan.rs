//! Checks that a VM dies with its driver, however the driver dies, and that nothing of it stays.

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Starts a second driver, kills it when its VM is up, and looks for remains.
pub(crate) fn check() -> Result<()> {
    // In the folder of this run, which goes with it.
    let folder = std::env::temp_dir().join(format!("rtc-vm-{}", std::process::id())).join("orphan");
    let mut driver = start(&folder)?;
    let seen = watch(&mut driver);
    // Killed already, unless `watch` failed before it.
    let _ = driver.kill();
    let _ = driver.wait();
    seen
}

fn start(folder: &Path) -> Result<Child> {
    fs::create_dir(folder).with_context(|| format!("create {}", folder.display()))?;
    // Any files will do for rtc and its shim, which the driver would build otherwise: they are not called.
    for name in ["rtc", "containerd-shim-rtc-v2"] {
        symlink("/bin/true", folder.join(name)).with_context(|| format!("link {name} in {}", folder.display()))?;
    }
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.args(["shell", "--rtc"]).arg(folder.join("rtc")).stdin(Stdio::piped()).stdout(Stdio::piped());
    command.spawn().context("start a second driver")
}

fn watch(driver: &mut Child) -> Result<()> {
    let mut input = driver.stdin.take().context("the driver's input")?;
    let output = driver.stdout.take().context("the driver's output")?;
    writeln!(input, "true")?;
    let answer = BufReader::new(output).lines().map_while(Result::ok).find(|line| line == "[0]");
    ensure!(answer.is_some(), "the second VM did not come up");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", driver.id()))?;
    let qemu: i32 = children.trim().parse().with_context(|| format!("one child in {children:?}"))?;
    let pid = Pid::from_raw(qemu).context("a process id")?;
    let ended = pidfd_open(pid, PidfdFlags::empty()).context("watch QEMU")?;
    driver.kill()?;
    let minute = Timespec { tv_sec: 60, tv_nsec: 0 };
    let count = poll(&mut [PollFd::new(&ended, PollFlags::IN)], Some(&minute))?;
    ensure!(count == 1, "QEMU ({qemu}) outlives its driver");
    let folder = std::env::temp_dir().join(format!("rtc-vm-{}", driver.id()));
    ensure!(!Path::new(&folder).exists(), "{} stays", folder.display());
    Ok(())
}
