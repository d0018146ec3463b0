//! Bytes carried from one descriptor to another: terminals, and logs in files.
//!
//! Output that isn't a terminal's needs none of this: its fifo is the container's own.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::task::JoinHandle;

/// As much as a terminal gives at once.
const PIECE: usize = 4096;
/// More than a terminal or a pipe holds for each of a process's outputs.
const UNDER_WAY: u64 = 1 << 20;

/// A one-way connection. It ends with what it reads, or with this, and then closes both descriptors.
#[derive(Debug)]
pub(crate) struct Pump {
    task: JoinHandle<()>,
    /// How many bytes it has carried.
    carried: Arc<AtomicU64>,
}

impl Pump {
    /// Carries bytes from now on, in a task of the runtime's.
    ///
    /// # Errors
    /// One of them can't be made non-blocking, or not be waited for.
    pub(crate) fn start(from: OwnedFd, to: OwnedFd) -> io::Result<Self> {
        for fd in [&from, &to] {
            fcntl_setfl(fd, fcntl_getfl(fd)? | OFlags::NONBLOCK)?;
        }
        let from = watch(from, Interest::READABLE).map_err(|(_, error)| error)?;
        let to = Sink::new(to)?;
        let carried = Arc::new(AtomicU64::new(0));
        let task = tokio::spawn(carry(from, to, carried.clone()));
        Ok(Self { task, carried })
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until pumps have carried all that there is to their ends: as long as it takes, if their readers take something
/// within every `pause`. But a process that was left behind may hold a terminal open, or write to it, for ever: it ends
/// when nothing moves, or more has come than can have been on its way.
pub(crate) async fn drain(mut pumps: Vec<Pump>, pause: Duration) {
    let count = |pumps: &[Pump]| pumps.iter().map(|pump| pump.carried.load(Ordering::Relaxed)).sum::<u64>();
    let first = count(&pumps);
    let mut before = None;
    loop {
        let all = async {
            for Pump { task, .. } in pumps.iter_mut().filter(|pump| !pump.task.is_finished()) {
                // One that has panicked has ended, too.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(pause, all).await.is_ok() {
            return;
        }
        let now = count(&pumps);
        // What is left is given up, as the pumps are dropped.
        if before == Some(now) || now - first > UNDER_WAY {
            return;
        }
        before = Some(now);
    }
}

/// Has the runtime watch a descriptor; it is given back if epoll(7) refuses it.
#[expect(
    deprecated,
    reason = "what replaces it asks, in unsafe code, for what OwnedFd and File keep: fd stays the same"
)]
pub(crate) fn watch<T: AsRawFd + Into<OwnedFd>>(fd: T, interest: Interest) -> Result<AsyncFd<T>, (T, io::Error)> {
    AsyncFd::try_with_interest(fd, interest).map_err(|refused| refused.into_parts())
}

async fn carry(from: AsyncFd<OwnedFd>, to: Sink, carried: Arc<AtomicU64>) {
    // A terminal without a process left gives EIO.
    while let Ok(piece) = from.async_io(Interest::READABLE, read).await {
        if piece.is_empty() || to.write_all(&piece, &carried).await.is_err() {
            return;
        }
    }
}

/// What there is, and nothing at the end. Nothing is kept between two reads: most terminals are silent.
fn read(fd: &OwnedFd) -> io::Result<Vec<u8>> {
    let mut piece = [0; PIECE];
    let count = rustix::io::retry_on_intr(|| rustix::io::read(fd, &mut piece))?;
    Ok(piece[..count].to_vec())
}

/// Where bytes go.
#[derive(Debug)]
enum Sink {
    /// A pipe or a terminal.
    Waits(AsyncFd<OwnedFd>),
    /// A file, /dev/null: epoll(7) doesn't take it, and it never needs to be waited for.
    Takes(OwnedFd),
}

impl Sink {
    fn new(fd: OwnedFd) -> io::Result<Self> {
        match watch(fd, Interest::WRITABLE) {
            Ok(fd) => Ok(Self::Waits(fd)),
            Err((fd, error)) if error.kind() == ErrorKind::PermissionDenied => Ok(Self::Takes(fd)),
            Err((_, error)) => Err(error),
        }
    }

    async fn write_all(&self, mut bytes: &[u8], carried: &AtomicU64) -> io::Result<()> {
        while !bytes.is_empty() {
            let write = |fd: &OwnedFd| Ok(rustix::io::retry_on_intr(|| rustix::io::write(fd, bytes))?);
            let count = match self {
                Self::Waits(fd) => fd.async_io(Interest::WRITABLE, write).await?,
                Self::Takes(fd) => write(fd)?,
            };
            carried.fetch_add(count as u64, Ordering::Relaxed);
            bytes = &bytes[count..];
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::pipe::{PipeFlags, pipe_with};
    use std::fs::File;
    use std::io::{Read, Write};

    /// Pumps between two pipes, and the other ends.
    fn pumped() -> (Pump, File, File) {
        let (from, source) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let (sink, to) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        (Pump::start(from, to).unwrap(), source.into(), sink.into())
    }

    #[tokio::test]
    async fn a_full_target_is_waited_for() {
        let (pump, mut source, mut sink) = pumped();
        let writer = tokio::task::spawn_blocking(move || {
            for _ in 0..10 {
                source.write_all(&[7; 40_000]).unwrap();
            }
        });
        // Both pipes are full long before.
        let reader = tokio::task::spawn_blocking(move || {
            let mut taken = Vec::new();
            sink.read_to_end(&mut taken).unwrap();
            taken
        });
        writer.await.unwrap();
        let taken = reader.await.unwrap();
        assert_eq!(taken.len(), 400_000);
        assert!(taken.iter().all(|byte| *byte == 7));
        drop(pump);
    }

    #[tokio::test]
    async fn what_is_dropped_closes_its_ends() {
        let (pump, source, mut sink) = pumped();
        drop(pump);
        let rest = tokio::task::spawn_blocking(move || sink.read(&mut [0]).unwrap()).await.unwrap();
        assert_eq!(rest, 0, "the writing end is still open");
        drop(source);
    }

    #[tokio::test]
    async fn what_is_drained_waits_for_a_slow_reader_but_not_for_ever() {
        let (pump, mut source, mut sink) = pumped();
        // More than the pipe behind the pump takes: the rest is on its way when the draining begins.
        source.write_all(&[7; 60_000]).unwrap();
        let full = rustix::pipe::fcntl_setpipe_size(&sink, 4096).unwrap();
        assert!(full < 60_000);
        drop(source);
        let reader = tokio::task::spawn_blocking(move || {
            let mut taken = Vec::new();
            sink.read_to_end(&mut taken).unwrap();
            taken.len()
        });
        drain(vec![pump], Duration::from_secs(60)).await;
        assert_eq!(reader.await.unwrap(), 60_000);
        let (pump, source, _sink) = pumped();
        drain(vec![pump], Duration::from_millis(1)).await;
        drop(source);
        let (pump, mut source, mut sink) = pumped();
        // One that writes on is left after a megabyte; both ends go with the pump.
        let writer = tokio::task::spawn_blocking(move || while source.write_all(&[7; 4096]).is_ok() {});
        let reader = tokio::task::spawn_blocking(move || while sink.read(&mut [0; 4096]).unwrap() > 0 {});
        drain(vec![pump], Duration::from_millis(1)).await;
        writer.await.unwrap();
        reader.await.unwrap();
    }

    #[tokio::test]
    async fn a_file_takes_everything() {
        let path = std::env::temp_dir().join(format!("shim-pump-{}", std::process::id()));
        let (from, source) = pipe_with(PipeFlags::CLOEXEC).unwrap();
        let mut source = File::from(source);
        let pump = Pump::start(from, File::create(&path).unwrap().into()).unwrap();
        source.write_all(b"line\n").unwrap();
        drop(source);
        while !pump.task.is_finished() {
            tokio::task::yield_now().await;
        }
        assert_eq!(std::fs::read(&path).unwrap(), b"line\n");
        std::fs::remove_file(&path).unwrap();
    }
}
