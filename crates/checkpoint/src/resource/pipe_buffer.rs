//! What is in a pipe or FIFO: bytes, packet boundaries, capacity. Looked at without taking anything out.
//!
//! tee(2) gives a pipe of ours references to the same buffers. From there they are moved one by one into a pipe that
//! holds only one, which shows each buffer's length; and a packet (`O_DIRECT`) is told from plain bytes by a byte that
//! is written behind it, since a read ends with the packet.

use crate::error::{Context as _, Kind, Result, bad_image};
use crate::image::blob::{Blob, Reader, Writer};
use log::warn;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use rtc_sys::CallExt as _;
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_getpipe_size, fcntl_setpipe_size};
use serde::{Deserialize, Serialize};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The most that a pipe can be made to hold is 2 GiB; nobody has had reason to.
const MAX_BYTES: usize = 1 << 30;
/// The longest packet: writes in packet mode are cut into pieces of a page (pipe(2)).
const MAX_PACKET: u32 = 4096;
const PAGE: usize = 4096;
/// As many bytes as there are.
const ALL: usize = 1 << 30;

/// The contents and the capacity of a pipe.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeBuffer {
    /// Capacity in bytes (`F_GETPIPE_SZ`).
    pub size: u64,
    /// All bytes in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Blob>,
    /// Where packets are among them; empty when there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub runs: Vec<Run>,
}

/// Bytes that belong together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// How many.
    pub len: u32,
    /// Whether they are one packet.
    pub packet: bool,
}

impl PipeBuffer {
    /// The capacity of `pipe`, either end.
    ///
    /// # Errors
    /// The errno of the call.
    pub fn capacity(pipe: BorrowedFd<'_>) -> Result<Self> {
        let size = fcntl_getpipe_size(pipe).call("fcntl", "pipe, F_GETPIPE_SZ")?;
        Ok(Self { size: size as u64, ..Self::default() })
    }

    /// Looks at what is in the pipe; `reader` must be open for reading.
    ///
    /// # Errors
    /// `Unsupported` when this process may not make pipes large enough for all of it.
    pub fn dump(reader: BorrowedFd<'_>, blobs: &mut Writer) -> Result<Self> {
        let mut buffer = Self::capacity(reader)?;
        let (bytes, runs) = peek(reader, buffer.size as usize)?;
        if !bytes.is_empty() {
            buffer.data = Some(blobs.bytes(&bytes)?);
        }
        if runs.iter().any(|run| run.packet) {
            buffer.runs = runs;
        }
        Ok(buffer)
    }

    /// Gives an empty pipe the capacity and the contents. `writer` keeps the flags it gets here: `O_NONBLOCK`, and
    /// `O_DIRECT` perhaps.
    ///
    /// # Errors
    /// When the image is wrong, or the contents don't fit into a pipe here.
    pub fn fill(&self, writer: BorrowedFd<'_>, blobs: &Reader) -> Result<()> {
        self.resize(writer)?;
        let Some(data) = self.data else { return Ok(()) };
        let bytes = blobs.bytes(data, MAX_BYTES)?;
        let whole = [Run { len: bytes.len() as u32, packet: false }];
        let runs = if self.runs.is_empty() { &whole } else { &self.runs[..] };
        let total = runs.iter().map(|run| u64::from(run.len)).sum::<u64>();
        let sound = |run: &Run| run.len > 0 && (!run.packet || run.len <= MAX_PACKET);
        if total != bytes.len() as u64 || !runs.iter().all(sound) {
            return Err(bad_image("the packets of a pipe don't add up to its contents"));
        }
        let mut rest = &bytes[..];
        for (n, run) in runs.iter().enumerate() {
            let (now, later) = rest.split_at(run.len as usize);
            let flags = if run.packet { OFlag::O_NONBLOCK | OFlag::O_DIRECT } else { OFlag::O_NONBLOCK };
            fcntl(writer, FcntlArg::F_SETFL(flags)).call("fcntl", format_args!("pipe, F_SETFL, {flags:?}"))?;
            if !run.packet && n + 1 < runs.len() {
                write_apart(writer, now)?;
            } else {
                write(writer, now)?;
            }
            rest = later;
        }
        Ok(())
    }

    fn resize(&self, pipe: BorrowedFd<'_>) -> Result<()> {
        if self.size == fcntl_getpipe_size(pipe).call("fcntl", "pipe, F_GETPIPE_SZ")? as u64 {
            return Ok(());
        }
        let given = set_most(pipe, self.size as usize)?;
        if (given as u64) < self.size {
            warn!("a pipe held {} bytes; here it holds {given}, which is what fs.pipe-max-size allows", self.size);
        }
        Ok(())
    }
}

fn set_size(pipe: BorrowedFd<'_>, size: usize) -> rtc_sys::Result<()> {
    fcntl_setpipe_size(pipe, size).call("fcntl", format_args!("pipe, F_SETPIPE_SZ, {size}")).map(drop)
}

/// Gives a pipe the capacity `size`, or as much of it as fs.pipe-max-size allows; says how much it became.
fn set_most(pipe: BorrowedFd<'_>, mut size: usize) -> Result<usize> {
    loop {
        match set_size(pipe, size) {
            Err(e) if e.errno() == rtc_sys::Errno::EPERM && size > PAGE => size /= 2,
            result => return Ok(result.map(|()| size)?),
        }
    }
}

/// Writes everything without waiting; a pipe whose buffers are used up gets more.
fn write(pipe: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(pipe, bytes) {
            Ok(n) => bytes = &bytes[n..],
            // Buffers that were spliced in can hold more than a page each.
            Err(Errno::AGAIN) => enlarge(pipe)?,
            Err(e) => return Err(rtc_sys::Error::from_raw("write", "pipe", e.raw_os_error()).into()),
        }
    }
    Ok(())
}

/// As [`write()`], for bytes that a packet follows: the kernel appends even packets to the bytes written before, if they
/// fit into one page, but never to buffers that came by tee(2).
fn write_apart(pipe: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    let (copy_out, copy_in) = own_pipe(PAGE)?;
    for page in bytes.chunks(PAGE) {
        rustix::io::write(&copy_in, page).call("write", "own pipe")?;
        while let Err(e) = rustix::pipe::tee(&copy_out, pipe, PAGE, SpliceFlags::NONBLOCK) {
            match e {
                Errno::AGAIN => enlarge(pipe)?,
                e => return Err(rtc_sys::Error::from_raw("tee", "own pipe, pipe", e.raw_os_error()).into()),
            }
        }
        rustix::io::read(&copy_out, &mut [0; PAGE]).call("read", "own pipe")?;
    }
    Ok(())
}

fn enlarge(pipe: BorrowedFd<'_>) -> Result<()> {
    let size = fcntl_getpipe_size(pipe).call("fcntl", "pipe, F_GETPIPE_SZ")?;
    let enlarged = set_size(pipe, size * 2).context(|| "the contents of a pipe don't fit");
    enlarged.map_err(|e| e.with_kind(Kind::Incompatible).with_hint("raise fs.pipe-max-size"))
}

/// A pipe of ours with the capacity `size`, if that is allowed: read end, write end.
fn own_pipe(size: usize) -> Result<(OwnedFd, OwnedFd)> {
    let ends = rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).call("pipe2", "O_CLOEXEC")?;
    // Less than that may hold all there is nevertheless.
    set_most(ends.1.as_fd(), size)?;
    Ok(ends)
}

/// The bytes in a pipe, and which of them are packets; neighbouring plain bytes are one run.
fn peek(reader: BorrowedFd<'_>, size: usize) -> Result<(Vec<u8>, Vec<Run>)> {
    let held = |pipe: BorrowedFd<'_>| rustix::io::ioctl_fionread(pipe).call("ioctl", "pipe, FIONREAD");
    let total = held(reader)?;
    let (mut bytes, mut runs) = (Vec::new(), Vec::<Run>::new());
    if total == 0 {
        return Ok((bytes, runs));
    }
    let (all_out, all_in) = own_pipe(size)?;
    let flags = SpliceFlags::NONBLOCK;
    rustix::pipe::tee(reader, &all_in, ALL, flags).call("tee", "pipe, own pipe")?;
    let got = held(all_out.as_fd())?;
    if got != total {
        let why = format!("it holds {total} bytes in more buffers than a pipe of ours may have");
        return Err(crate::Error::new(Kind::Unsupported, why).with_hint("raise fs.pipe-max-size"));
    }
    let (one_out, one_in) = own_pipe(PAGE)?;
    let (two_out, two_in) = own_pipe(4 * PAGE)?;
    while (bytes.len() as u64) < total {
        let splice = |from: &OwnedFd, to: &OwnedFd| {
            rustix::pipe::splice(from, None, to, None, ALL, flags).call("splice", "own pipe, own pipe")
        };
        let len = splice(&all_out, &one_in)?;
        splice(&one_out, &two_in)?;
        rustix::io::write(&two_in, b"x").call("write", "own pipe, 1")?;
        let from = bytes.len();
        bytes.resize(from + len + 1, 0);
        let read = rustix::io::read(&two_out, &mut bytes[from..]).call("read", "own pipe")?;
        let packet = read == len;
        if packet {
            rustix::io::read(&two_out, &mut [0]).call("read", "own pipe, 1")?;
        }
        bytes.truncate(from + len);
        match runs.last_mut() {
            Some(last) if !last.packet && !packet => last.len += len as u32,
            _ => runs.push(Run { len: len as u32, packet }),
        }
    }
    Ok((bytes, runs))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipe() -> (OwnedFd, OwnedFd) {
        rustix::pipe::pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK).unwrap()
    }

    fn packets(writer: &OwnedFd, on: bool) {
        let flags = if on { OFlag::O_NONBLOCK | OFlag::O_DIRECT } else { OFlag::O_NONBLOCK };
        fcntl(writer, FcntlArg::F_SETFL(flags)).unwrap();
    }

    #[test]
    fn looking_takes_nothing_out_and_sees_packets() {
        let (reader, writer) = pipe();
        packets(&writer, true);
        rustix::io::write(&writer, b"first").unwrap();
        rustix::io::write(&writer, b"2").unwrap();
        packets(&writer, false);
        rustix::io::write(&writer, b"more").unwrap();
        rustix::io::write(&writer, b" and more").unwrap();
        let run = |len, packet| Run { len, packet };
        for _ in 0..2 {
            let (bytes, runs) = peek(reader.as_fd(), 65536).unwrap();
            assert_eq!(bytes, b"first2more and more");
            assert_eq!(runs, [run(5, true), run(1, true), run(13, false)]);
        }
        // A read ends with a packet, as before.
        let mut buffer = [0; 99];
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 5);
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 1);
        assert_eq!(rustix::io::read(&reader, &mut buffer).unwrap(), 13);
    }

    #[test]
    fn a_packet_behind_plain_bytes_stays_a_packet() {
        let (reader, writer) = pipe();
        write_apart(writer.as_fd(), &[9; 5000]).unwrap();
        packets(&writer, true);
        write(writer.as_fd(), b"packet").unwrap();
        let (bytes, runs) = peek(reader.as_fd(), 65536).unwrap();
        assert_eq!(bytes.len(), 5006);
        assert_eq!(runs, [Run { len: 5000, packet: false }, Run { len: 6, packet: true }]);
    }

    #[test]
    fn a_full_pipe_of_single_bytes_is_seen_whole() {
        let (reader, writer) = pipe();
        packets(&writer, true);
        let mut count = 0;
        while rustix::io::write(&writer, &[count]).is_ok() {
            count += 1;
        }
        assert_eq!(count, 16);
        let (bytes, runs) = peek(reader.as_fd(), 65536).unwrap();
        assert_eq!(bytes, (0..16).collect::<Vec<u8>>());
        assert_eq!(runs, [Run { len: 1, packet: true }; 16]);
    }

    #[test]
    fn packets_that_do_not_add_up_are_refused() {
        let dir = std::env::temp_dir().join(format!("kobj-pipe-{}", std::process::id()));
        std::fs::create_dir(&dir).unwrap();
        let fd = OwnedFd::from(std::fs::File::open(&dir).unwrap());
        let mut blobs = Writer::create(fd.as_fd()).unwrap();
        let data = Some(blobs.bytes(&[7; 5000]).unwrap());
        let blobs = Reader::open(fd.as_fd()).unwrap();
        std::fs::remove_dir_all(&dir).unwrap();
        for runs in
            [vec![(4999, false)], vec![(5000, true)], vec![(5000, false), (0, false)], vec![(u32::MAX, false); 2]]
        {
            let runs = runs.into_iter().map(|(len, packet)| Run { len, packet }).collect();
            let (_reader, writer) = pipe();
            let error = PipeBuffer { size: 65536, data, runs }.fill(writer.as_fd(), &blobs).unwrap_err();
            assert_eq!(error.kind(), &Kind::BadImage);
        }
    }
}
