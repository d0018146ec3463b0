//! Frames and their encoding; no descriptors are opened here.

use std::io::{self, Read, Write};

/// The name of the virtio serial port that joins the two ends.
pub const PORT_NAME: &str = "rtc.agent";

/// Largest payload of one frame, bytes. Longer output and input travel in several.
pub const MAX_PAYLOAD: usize = 64 * 1024;

/// One message on the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Host to guest: run this command.
    Run(Command),
    /// Host to guest: more of the command's standard input.
    Input(Vec<u8>),
    /// Host to guest: standard input ends.
    EndOfInput,
    /// Guest to host: the agent listens. Sent once, first.
    Ready,
    /// Guest to host: the command wrote to standard output.
    Output(Vec<u8>),
    /// Guest to host: the command wrote to standard error.
    Error(Vec<u8>),
    /// Guest to host: the command is over; all its output has been sent before this.
    Exit(Exit),
}

/// A command to run in the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// After this many milliseconds its process group is killed.
    pub timeout_ms: u64,
    /// Working directory.
    pub dir: String,
    /// Program and arguments; the program is searched on the agent's `PATH`.
    pub argv: Vec<String>,
}

/// How a command ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The exit status, or 128 + the signal that ended it, or 127 when it could not be started.
    pub code: i32,
    /// It was killed because its time was up.
    pub timed_out: bool,
}

impl Frame {
    /// Writes the frame to `line` in one call, so that frames of one writer never mix.
    pub fn write_to(&self, line: &mut impl Write) -> io::Result<()> {
        let (kind, payload) = self.encode();
        let length = u32::try_from(payload.len()).map_err(io::Error::other)?;
        let mut bytes = Vec::with_capacity(payload.len() + 5);
        bytes.push(kind);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&payload);
        line.write_all(&bytes)?;
        line.flush()
    }

    /// Reads one frame, waiting for it. `UnexpectedEof` when the other end is gone.
    pub fn read_from(line: &mut impl Read) -> io::Result<Self> {
        let mut header = [0; 5];
        line.read_exact(&mut header)?;
        let length = u32::from_le_bytes([header[1], header[2], header[3], header[4]]) as usize;
        if length > MAX_PAYLOAD {
            return Err(bad(format!("a frame of {length} bytes; at most {MAX_PAYLOAD} are allowed")));
        }
        let mut payload = vec![0; length];
        line.read_exact(&mut payload)?;
        Self::decode(header[0], payload)
    }

    fn encode(&self) -> (u8, Vec<u8>) {
        match self {
            Self::Run(command) => {
                let mut fields = vec![command.timeout_ms.to_string(), command.dir.clone()];
                fields.extend(command.argv.iter().cloned());
                (b'C', fields.join("\0").into_bytes())
            }
            Self::Input(bytes) => (b'I', bytes.clone()),
            Self::EndOfInput => (b'Z', Vec::new()),
            Self::Ready => (b'R', Vec::new()),
            Self::Output(bytes) => (b'O', bytes.clone()),
            Self::Error(bytes) => (b'E', bytes.clone()),
            Self::Exit(exit) => (b'X', format!("{} {}", exit.code, u8::from(exit.timed_out)).into_bytes()),
        }
    }

    fn decode(kind: u8, payload: Vec<u8>) -> io::Result<Self> {
        Ok(match kind {
            b'C' => Self::Run(decode_command(&payload)?),
            b'I' => Self::Input(payload),
            b'Z' => Self::EndOfInput,
            b'R' => Self::Ready,
            b'O' => Self::Output(payload),
            b'E' => Self::Error(payload),
            b'X' => Self::Exit(decode_exit(&payload)?),
            other => return Err(bad(format!("a frame of unknown kind {other:#04x}"))),
        })
    }
}

fn decode_command(payload: &[u8]) -> io::Result<Command> {
    let text = std::str::from_utf8(payload).map_err(|_| bad("a command that is not UTF-8"))?;
    let mut fields = text.split('\0').map(str::to_owned);
    let timeout_ms = fields.next().and_then(|field| field.parse().ok()).ok_or_else(|| bad("no time-out"))?;
    let dir = fields.next().ok_or_else(|| bad("no working directory"))?;
    let argv: Vec<String> = fields.collect();
    if argv.is_empty() {
        return Err(bad("a command without a program"));
    }
    Ok(Command { timeout_ms, dir, argv })
}

fn decode_exit(payload: &[u8]) -> io::Result<Exit> {
    let text = std::str::from_utf8(payload).map_err(|_| bad("an exit that is not UTF-8"))?;
    let (code, timed_out) = text.split_once(' ').ok_or_else(|| bad("an exit without a time-out flag"))?;
    let code = code.parse().map_err(|_| bad("an exit without a code"))?;
    Ok(Exit { code, timed_out: timed_out == "1" })
}

fn bad(what: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn round_trip(frame: Frame) {
        let mut line = Vec::new();
        frame.write_to(&mut line).unwrap();
        assert_eq!(Frame::read_from(&mut line.as_slice()).unwrap(), frame);
    }

    #[test]
    fn frames_come_back_as_they_were() {
        let argv = vec!["sh".to_owned(), "-c".to_owned(), "exit 3\n".to_owned(), String::new()];
        round_trip(Frame::Run(Command { timeout_ms: 1500, dir: "/".to_owned(), argv }));
        round_trip(Frame::Input(vec![0, 255, b'C']));
        round_trip(Frame::EndOfInput);
        round_trip(Frame::Ready);
        round_trip(Frame::Output(vec![b'x'; MAX_PAYLOAD]));
        round_trip(Frame::Error(Vec::new()));
        round_trip(Frame::Exit(Exit { code: 137, timed_out: true }));
    }

    #[test]
    fn broken_frames_are_refused() {
        let cases: [&[u8]; 5] =
            [b"R\0\0\0", b"C\x02\0\0\0x\0", b"?\0\0\0\0", b"O\xff\xff\xff\xff", b"C\x03\0\0\x001\0/"];
        for case in cases {
            assert!(Frame::read_from(&mut &case[..]).is_err(), "{case:?}");
        }
    }
}
