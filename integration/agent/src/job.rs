//! Runs one command: feeds its input, forwards its output, watches its time.

use rtc_vm_agent::frame::{Command, Exit, Frame, MAX_PAYLOAD};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

/// What a pipe can hold fits in this many buffers, with room to spare. A bound, because a daemon that the command left
/// behind may go on writing.
const LAST_READS: usize = 4;

/// A running command and the agent's ends of its pipes; an end is `None` once it is closed.
struct Job {
    child: Child,
    ended: OwnedFd,
    stdin: Option<File>,
    stdout: Option<File>,
    stderr: Option<File>,
    input: VecDeque<u8>,
    input_ends: bool,
}

/// What `poll` found to do.
#[derive(Default)]
struct Events {
    port: bool,
    ended: bool,
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

/// Runs `command` to its end. Errors are those of the port: the driver is gone and the agent with it.
pub(crate) fn run(command: &Command, port: &mut File) -> io::Result<Exit> {
    let mut job = match start(command) {
        Ok(job) => job,
        Err(error) => {
            Frame::Error(format!("agent: start {}: {error}\n", command.argv[0]).into_bytes()).write_to(port)?;
            return Ok(Exit { code: 127, timed_out: false });
        }
    };
    let deadline = Instant::now() + Duration::from_millis(command.timeout_ms);
    let mut timed_out = false;
    loop {
        let wait = if timed_out { None } else { Some(deadline.saturating_duration_since(Instant::now())) };
        let events = job.wait(port, wait)?;
        if events.port {
            job.take_input(port)?;
        }
        if events.stdin {
            job.feed();
        }
        job.forward_output(port, &events)?;
        if events.ended {
            return job.finish(port, timed_out);
        }
        if !timed_out && Instant::now() >= deadline {
            timed_out = true;
            job.kill()?;
        }
    }
}

fn start(command: &Command) -> io::Result<Job> {
    let mut child = std::process::Command::new(&command.argv[0])
        .args(&command.argv[1..])
        .current_dir(&command.dir)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let ended = pidfd_open(pid(&child), PidfdFlags::empty())?;
    let stdin = child.stdin.take().map(|pipe| nonblocking(OwnedFd::from(pipe))).transpose()?;
    let stdout = child.stdout.take().map(|pipe| nonblocking(OwnedFd::from(pipe))).transpose()?;
    let stderr = child.stderr.take().map(|pipe| nonblocking(OwnedFd::from(pipe))).transpose()?;
    Ok(Job { child, ended, stdin, stdout, stderr, input: VecDeque::new(), input_ends: false })
}

fn pid(child: &Child) -> Pid {
    Pid::from_child(child)
}

/// The ends of a pipe are separate descriptions, so this does not change what the command sees.
fn nonblocking(fd: OwnedFd) -> io::Result<File> {
    fcntl_setfl(&fd, OFlags::NONBLOCK)?;
    Ok(File::from(fd))
}

impl Job {
    fn wait(&self, port: &File, timeout: Option<Duration>) -> io::Result<Events> {
        let timeout =
            timeout.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        let wants_input = !self.input.is_empty() || self.input_ends;
        let mut fds = vec![PollFd::new(port, PollFlags::IN), PollFd::new(&self.ended, PollFlags::IN)];
        let mut slots = [None; 3];
        let ends = [
            (self.stdin.as_ref().filter(|_| wants_input), PollFlags::OUT),
            (self.stdout.as_ref(), PollFlags::IN),
            (self.stderr.as_ref(), PollFlags::IN),
        ];
        for (slot, (file, flags)) in slots.iter_mut().zip(ends) {
            if let Some(file) = file {
                *slot = Some(fds.len());
                fds.push(PollFd::new(file, flags));
            }
        }
        poll(&mut fds, timeout.as_ref())?;
        let ready = |slot: Option<usize>| slot.is_some_and(|index| !fds[index].revents().is_empty());
        Ok(Events {
            port: ready(Some(0)),
            ended: ready(Some(1)),
            stdin: ready(slots[0]),
            stdout: ready(slots[1]),
            stderr: ready(slots[2]),
        })
    }

    fn take_input(&mut self, port: &mut File) -> io::Result<()> {
        match Frame::read_from(port)? {
            Frame::Input(bytes) => self.input.extend(bytes),
            Frame::EndOfInput => self.input_ends = true,
            other => return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{other:?} while a command runs"))),
        }
        Ok(())
    }

    /// Passes on what the command takes. One that closed its input loses the rest, as with any pipe.
    fn feed(&mut self) {
        let Some(stdin) = self.stdin.as_mut() else { return };
        while !self.input.is_empty() {
            match stdin.write(self.input.as_slices().0) {
                Ok(count) => drop(self.input.drain(..count)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(_) => {
                    self.stdin = None;
                    self.input.clear();
                    return;
                }
            }
        }
        if self.input_ends {
            self.stdin = None;
        }
    }

    /// One read each, so that a command that writes without end does not keep its time-out from being seen.
    fn forward_output(&mut self, port: &mut File, events: &Events) -> io::Result<()> {
        if events.stdout {
            forward(&mut self.stdout, port, Frame::Output, 1)?;
        }
        if events.stderr {
            forward(&mut self.stderr, port, Frame::Error, 1)?;
        }
        Ok(())
    }

    fn kill(&self) -> io::Result<()> {
        match kill_process_group(pid(&self.child), Signal::KILL) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn finish(mut self, port: &mut File, timed_out: bool) -> io::Result<Exit> {
        let status = self.child.wait()?;
        forward(&mut self.stdout, port, Frame::Output, LAST_READS)?;
        forward(&mut self.stderr, port, Frame::Error, LAST_READS)?;
        let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(-1);
        Ok(Exit { code, timed_out })
    }
}

/// Sends what is in the pipe, at most `reads` buffers full; forgets the pipe at its end.
fn forward(end: &mut Option<File>, port: &mut File, frame: fn(Vec<u8>) -> Frame, reads: usize) -> io::Result<()> {
    let mut buffer = vec![0; MAX_PAYLOAD];
    for _ in 0..reads {
        let Some(pipe) = end.as_mut() else { return Ok(()) };
        match pipe.read(&mut buffer) {
            Ok(0) => *end = None,
            Ok(count) => frame(buffer[..count].to_vec()).write_to(port)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
