//! Messages as Google's own library writes them, from containerd's .proto files, beside ours.
//!
//! Made by `protoc --encode=TYPE FILE` (libprotoc 3.21) of containerd-shim-protos 0.12's files; the text form stands over
//! each. Fields of ours are written in the order of their numbers, as there, so the bytes are the same.

use crate::api::{Any, Create, Kill, Target};
use crate::events::Event;
use crate::fault::{Code, Fault};
use crate::frame;
use crate::moment::Moment;
use crate::options::Options;
use crate::wire::{Malformed, Message};

/// Bytes from hexadecimal digits.
fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let text = |pair: &[u8]| String::from_utf8(pair.to_vec()).expect("digits are ASCII");
    digits.chunks(2).map(|pair| u8::from_str_radix(&text(pair), 16).expect("two digits")).collect()
}

/// A frame around a message of another's.
fn framed(stream: u8, kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).expect("a short body").to_be_bytes();
    [&length[..], &[0, 0, 0, stream, kind, 0], body].concat()
}

/// CreateTaskRequest: id "web", bundle "/b", one overlay with two options, terminal, "/in", "/out", "/err",
/// checkpoint "/image", parent_checkpoint "/parent", options containerd.runc.v1.Options.
const CREATE: &str = "0a0377656212022f621a230a076f7665726c617912076f7665726c6179220b6c6f7765726469723d2f612202726f\
    20012a032f696e32042f6f75743a042f65727242062f696d6167654a072f706172656e7452200a1a636f6e7461696e6572642e72756e632e76\
    312e4f7074696f6e7312020801";

/// KillRequest: id "web", exec_id "x1", signal 15, all.
const KILL: &str = "0a037765621202783118 0f2001";

/// containerd.runc.v1.Options: no_pivot_root, shim_cgroup "/s", io_uid 1000, io_gid 1001, binary_name "/opt/rtc",
/// root "/run/x", systemd_cgroup, criu_image_path "/i".
const OPTIONS: &str = "08011a022f7320e80728e90732082f6f70742f7274633a062f72756e2f78480152022f69";

/// ttrpc's Request: service "containerd.task.v2.Task", method "State", payload, timeout_nano 1000000000, metadata.
const REQUEST: &str = "0a17636f6e7461696e6572642e7461736b2e76322e5461736b120553746174651a050a03776562208094ebdc032a25\
    0a1a636f6e7461696e6572642d6e616d6573706163652d7474727063120764656661756c74";

/// ttrpc's Response: status { code 5, message "container web does not exist" }.
const RESPONSE: &str = "0a200805121c636f6e7461696e65722077656220646f6573206e6f74206578697374";

/// TaskExit: "web", "x1", pid 7, exit_status 137, exited_at { 5, 6 }.
const EXIT: &str = "0a037765621202783118072089012a0408051006";

/// StateResponse: "web", "/b", pid 4711, STOPPED, "/in", "/out", terminal, 137, exited_at { 1795253239, 999999999 }, "x1".
const STATE: &str = "0a0377656212022f6218e72420032a032f696e32042f6f75744001488901520c08f7c785d80610ff93ebdc035a027831";

/// cgroups.v2.Metrics: pids { current 3 }, cpu { 100, psi { some { avg10 1.5, total 9 }, full {} } },
/// memory { anon 5, usage 4096, usage_limit 2^64 - 1 }.
const METRICS: &str = "0a020803121308643a0f0a0b09000000000000f83f2009120022120805800280208802ffffffffffffffffff01";

#[test]
fn requests_of_others_are_read() {
    let create = Create::parse(&bytes(CREATE)).unwrap();
    assert_eq!((create.id.as_str(), create.bundle.as_str(), create.checkpoint.as_str()), ("web", "/b", "/image"));
    assert_eq!(
        (create.rootfs[0].kind.as_str(), &create.rootfs[0].options[..]),
        ("overlay", &["lowerdir=/a".into(), "ro".to_owned()][..])
    );
    let streams = &create.streams;
    assert_eq!((streams.stdin.as_str(), streams.stdout.as_str(), streams.stderr.as_str()), ("/in", "/out", "/err"));
    assert!(streams.terminal);
    assert_eq!(create.options, Any { name: "containerd.runc.v1.Options".into(), value: vec![8, 1] });
    let target = Target { id: "web".into(), exec_id: "x1".into() };
    assert_eq!(Kill::parse(&bytes(KILL)).unwrap(), Kill { target, signal: 15, all: true });
    let any = Any { name: "containerd.runc.v1.Options".into(), value: bytes(OPTIONS) };
    let options = Options::from_any(&any).unwrap();
    assert_eq!(
        (options.binary_name.as_str(), options.root.as_str(), options.shim_cgroup.as_str()),
        ("/opt/rtc", "/run/x", "/s")
    );
    assert_eq!((options.io_uid, options.io_gid, options.image_path.as_str()), (1000, 1001, "/i"));
    assert!(options.systemd_cgroup && options.no_pivot_root && !options.no_new_keyring);
}

#[test]
fn frames_of_others_are_read() {
    let mut buffer = framed(3, 1, &bytes(REQUEST));
    let frame = frame::take(&mut buffer).unwrap().unwrap();
    let request = frame.request().unwrap().unwrap();
    assert_eq!(
        (frame.stream, request.service.as_str(), request.method.as_str()),
        (3, "containerd.task.v2.Task", "State")
    );
    assert_eq!(Target::parse(&request.payload).unwrap().id, "web");
    let mut buffer = framed(5, 2, &bytes(RESPONSE));
    let refusal = frame::take(&mut buffer).unwrap().unwrap().response().unwrap();
    assert_eq!(refusal.unwrap_err().message, "container web does not exist");
}

#[test]
fn ours_are_the_same_bytes() {
    let fault = Fault::new(Code::NotFound, "container web does not exist");
    assert_eq!(frame::response(5, Err(fault)), framed(5, 2, &bytes(RESPONSE)));
    let at = Moment { seconds: 5, nanoseconds: 6 };
    let exit = Event::Exit { id: "web".into(), process: "x1".into(), pid: 7, status: 137, at };
    let any = Message::new().text(1, "containerd.events.TaskExit").bytes(2, &bytes(EXIT));
    let envelope = Message::new().message(1, at.message()).text(2, "pods").text(3, "/tasks/exit").message(4, any);
    assert_eq!(exit.forward("pods", at), Message::new().message(1, envelope));
    let moment = Moment { seconds: 1_795_253_239, nanoseconds: 999_999_999 };
    let state = Message::new().text(1, "web").text(2, "/b").number(3, 4711).number(4, 3).text(5, "/in").text(6, "/out");
    let state = state.flag(8, true).number(9, 137).message(10, moment.message()).text(11, "x1");
    assert_eq!(state.into_bytes(), bytes(STATE));
    let some = Message::new().double(1, 1.5).number(4, 9);
    let psi = Message::new().message(1, some).message(2, Message::new());
    let memory = Message::new().number(1, 5).number(32, 4096).number(33, u64::MAX);
    let metrics = Message::new()
        .message(1, Message::new().number(1, 3))
        .message(2, Message::new().number(1, 100).message(7, psi))
        .message(4, memory);
    assert_eq!(metrics.into_bytes(), bytes(METRICS));
}

/// Every prefix of a frame, and frames altered at random: nothing panics, and what is no message is refused.
#[test]
fn altered_frames_do_no_harm() {
    let originals = [framed(1, 1, &bytes(REQUEST)), framed(1, 2, &bytes(RESPONSE)), {
        let create = Message::new().text(1, "containerd.task.v2.Task").text(2, "Create").bytes(3, &bytes(CREATE));
        framed(1, 1, &create.into_bytes())
    }];
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut draw = |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % below as u64).unwrap()
    };
    for original in &originals {
        for length in 0..original.len() {
            let mut buffer = original[..length].to_vec();
            assert_eq!(frame::take(&mut buffer), Ok(None), "a part of a frame is none");
            crate::read_untrusted(&original[10..length.max(10)]);
        }
        for _ in 0..20_000 {
            let mut altered = original.clone();
            for _ in 0..=draw(3) {
                let at = draw(altered.len());
                altered[at] = draw(256) as u8;
            }
            crate::read_untrusted(&altered);
        }
    }
}

/// A length that no memory could hold is refused before any is reserved, in a frame and in a message.
#[test]
fn lengths_are_bounded() {
    assert_eq!(frame::take(&mut framed(1, 1, &[]).tap(|frame| frame[..4].fill(0xff))), Err(Malformed));
    // Field 1, 2^63 bytes.
    assert!(Target::parse(&[0x0a, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01]).is_err());
}

/// Alters a value in place.
trait Tap: Sized {
    fn tap(mut self, alter: impl FnOnce(&mut Self)) -> Self {
        alter(&mut self);
        self
    }
}

impl Tap for Vec<u8> {}
