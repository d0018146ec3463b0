//! The methods of the task API. Versions 2 and 3 of the service have the same.

use crate::fault::Result;
use crate::frame::{self, Request};
use crate::lifecycle::{self, Answer};
use crate::shim::Shim;
use crate::task::Caller;
use crate::wire::Message;
use crate::{control, queries};

const SERVICES: [&str; 2] = ["containerd.task.v2.Task", "containerd.task.v3.Task"];

type Method = fn(&mut Shim, Caller, &[u8]) -> Answer;

const METHODS: [(&str, Method); 17] = [
    ("State", queries::state),
    ("Create", lifecycle::create),
    ("Start", lifecycle::start),
    ("Delete", lifecycle::delete),
    ("Pids", queries::pids),
    ("Pause", control::pause),
    ("Resume", control::resume),
    ("Checkpoint", control::checkpoint),
    ("Kill", control::kill),
    ("Exec", lifecycle::exec),
    ("ResizePty", control::resize),
    ("CloseIO", control::close_io),
    ("Update", control::update),
    ("Wait", queries::wait),
    ("Stats", queries::stats),
    ("Connect", queries::connect),
    ("Shutdown", queries::shutdown),
];

/// Does what a request asks for: the answer, unless it comes later.
pub(crate) fn dispatch(shim: &mut Shim, caller: Caller, request: &Request) -> Option<Result<Message>> {
    let method = METHODS.iter().find(|(name, _)| *name == request.method);
    match method.filter(|_| SERVICES.contains(&request.service.as_str())) {
        Some((_, method)) => method(shim, caller, &request.payload).transpose(),
        None => Some(Err(frame::unimplemented(request))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Code;
    use crate::log::Log;

    fn ask(shim: &mut Shim, service: &str, method: &str, payload: Message) -> Option<Result<Message>> {
        let caller = Caller { connection: 1, stream: 1 };
        let (service, method) = (service.to_owned(), method.to_owned());
        dispatch(shim, caller, &Request { service, method, payload: payload.into_bytes() })
    }

    #[test]
    fn what_there_isn_t_is_refused() {
        let mut shim = Shim::new("default".into(), "/no-such".into(), Log::open("/no-such".as_ref()));
        let code = |answer: Option<Result<Message>>| answer.unwrap().unwrap_err().code;
        let web = || Message::new().text(1, "web");
        assert_eq!(code(ask(&mut shim, SERVICES[0], "Fly", web())), Code::Unimplemented);
        assert_eq!(code(ask(&mut shim, "containerd.task.v1.Task", "State", web())), Code::Unimplemented);
        for method in ["State", "Start", "Delete", "Pids", "Pause", "Kill", "Exec", "CloseIO", "Wait", "Stats"] {
            let request = web().text(2, if method == "Exec" { "x" } else { "" });
            assert_eq!(code(ask(&mut shim, SERVICES[1], method, request)), Code::NotFound, "{method}");
        }
    }

    #[test]
    fn without_containers_there_is_the_shim_alone() {
        let mut shim = Shim::new("default".into(), "/no-such".into(), Log::open("/no-such".as_ref()));
        let answer = ask(&mut shim, SERVICES[0], "Connect", Message::new().text(1, "web")).unwrap().unwrap();
        let expected = Message::new().number(1, std::process::id().into()).text(3, env!("CARGO_PKG_VERSION"));
        assert_eq!(answer, expected);
        assert!(!shim.stopping);
        ask(&mut shim, SERVICES[0], "Shutdown", Message::new()).unwrap().unwrap();
        assert!(shim.stopping);
    }
}
