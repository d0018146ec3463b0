//! ttrpc: requests and responses as frames on a stream socket (containerd/ttrpc, PROTOCOL.md).
//!
//! A frame is a header of ten bytes (length and stream number, big-endian; type; flags) and a message. A client numbers
//! its streams 1, 3, 5, …; a response has its request's number.
//!
//! Left out: streaming calls. The task API has none.

use crate::fault::{Code, Fault, Result};
use crate::wire::{Malformed, Message, Record};

const HEADER: usize = 10;
/// What ttrpc allows a message to have.
const LONGEST: usize = 4 << 20;

const REQUEST: u8 = 1;
const RESPONSE: u8 = 2;

/// A frame that has come in.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) stream: u32,
    kind: u8,
    body: Vec<u8>,
}

/// A call.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) service: String,
    pub(crate) method: String,
    pub(crate) payload: Vec<u8>,
}

/// Takes the first whole frame off a buffer.
///
/// # Errors
/// Its length is beyond what the protocol allows: the stream can't be followed any more.
pub(crate) fn take(buffer: &mut Vec<u8>) -> std::result::Result<Option<Frame>, Malformed> {
    let Some((header, rest)) = buffer.split_at_checked(HEADER) else { return Ok(None) };
    let word = |at: usize| u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let (length, stream, kind) = (word(0) as usize, word(4), header[8]);
    if length > LONGEST {
        return Err(Malformed);
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let frame = Frame { stream, kind, body: body.to_vec() };
    buffer.drain(..HEADER + length);
    if buffer.is_empty() {
        // One large message must not cost memory for ever.
        buffer.shrink_to(4096);
    }
    Ok(Some(frame))
}

impl Frame {
    /// The call in it; none if it is no request.
    ///
    /// # Errors
    /// It is no message.
    pub(crate) fn request(&self) -> std::result::Result<Option<Request>, Malformed> {
        if self.kind != REQUEST {
            return Ok(None);
        }
        let record = Record::parse(&self.body)?;
        let (service, method) = (record.text(1)?, record.text(2)?);
        Ok(Some(Request { service, method, payload: record.bytes(3).to_vec() }))
    }

    /// What the other side answered; none if it is no response.
    pub(crate) fn response(&self) -> Option<Result<()>> {
        if self.kind != RESPONSE {
            return None;
        }
        let answer = Record::parse(&self.body).and_then(|record| {
            let status = Record::parse(record.bytes(1))?;
            Ok((status.number(1), status.text(2)?))
        });
        Some(match answer {
            Ok((0, _)) => Ok(()),
            Ok((_, message)) => Err(Fault::unknown(message)),
            Err(malformed) => Err(malformed.into()),
        })
    }
}

/// The bytes of a request.
pub(crate) fn request(stream: u32, service: &str, method: &str, payload: Message) -> Vec<u8> {
    frame(stream, REQUEST, Message::new().text(1, service).text(2, method).bytes(3, &payload.into_bytes()))
}

/// The bytes of a response.
pub(crate) fn response(stream: u32, answer: Result<Message>) -> Vec<u8> {
    let body = match answer {
        Ok(message) => Message::new().bytes(2, &message.into_bytes()),
        Err(fault) => Message::new().message(1, Message::new().number(1, fault.code as u64).text(2, &fault.message)),
    };
    frame(stream, RESPONSE, body)
}

fn frame(stream: u32, kind: u8, body: Message) -> Vec<u8> {
    let body = body.into_bytes();
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let mut bytes = Vec::with_capacity(HEADER + body.len());
    bytes.extend(length.to_be_bytes());
    bytes.extend(stream.to_be_bytes());
    bytes.extend([kind, 0]);
    bytes.extend(body);
    bytes
}

/// The fault of a method that there isn't.
pub(crate) fn unimplemented(request: &Request) -> Fault {
    Fault::new(Code::Unimplemented, format!("/{}/{} is not there", request.service, request.method))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_comes_whole_or_not_at_all() {
        let bytes = request(7, "svc", "Do", Message::new().text(1, "x"));
        assert_eq!(bytes[..10], [0, 0, 0, 14, 0, 0, 0, 7, 1, 0]);
        let mut buffer = Vec::new();
        for (n, byte) in bytes.iter().enumerate() {
            buffer.push(*byte);
            let frame = take(&mut buffer).unwrap();
            assert_eq!(frame.is_some(), n + 1 == bytes.len());
            if let Some(frame) = frame {
                assert_eq!((frame.stream, frame.response()), (7, None));
                let Request { service, method, payload } = frame.request().unwrap().unwrap();
                assert_eq!((service.as_str(), method.as_str(), &payload[..]), ("svc", "Do", &b"\x0a\x01x"[..]));
            }
        }
        assert!(buffer.is_empty());
    }

    #[test]
    fn two_frames_in_one_read_are_two() {
        let mut buffer = response(1, Ok(Message::new()));
        buffer.extend(response(3, Err(Fault::not_found("container", "web"))));
        let first = take(&mut buffer).unwrap().unwrap();
        let second = take(&mut buffer).unwrap().unwrap();
        assert_eq!((first.stream, first.response()), (1, Some(Ok(()))));
        let refused = second.response().unwrap().unwrap_err();
        assert_eq!((second.stream, refused.message.as_str()), (3, "container web does not exist"));
        assert_eq!(first.request(), Ok(None));
    }

    #[test]
    fn a_length_beyond_the_protocol_ends_the_stream() {
        let mut buffer = vec![0x7f, 0, 0, 0, 0, 0, 0, 1, 1, 0];
        assert_eq!(take(&mut buffer), Err(Malformed));
    }
}
