//! The demo's default: the key-value service of this program in a container made of it and busybox.

use super::{Clients, Filled, Show, service};
use crate::packages::Need;
use rtc_tests::{Bundle, Container, Session};
use std::fs;
use std::path::Path;

/// See the module.
pub(crate) const KEY_VALUE: Show = Show {
    title: "a key-value service with two connected clients",
    packages: &[Need { package: "busybox-static", provides: "/bin/busybox" }],
    start,
    fill,
};

const KEYS: usize = 20_000;

fn start() -> (Container, Session) {
    Container::shell_in("demo", |folder| {
        let own = std::env::current_exe().expect("a running program has a path");
        let bundle = Bundle::empty(folder).file(Path::new("/bin/busybox"), "/bin/busybox").file(&own, "/bin/service");
        ["sh", "ip", "nc"].into_iter().fold(bundle, |bundle, name| bundle.link("busybox", &format!("/bin/{name}")))
    })
}

fn fill(container: &Container, shell: &mut Session) -> Filled {
    shell.ask("ip link set lo up && echo up", "up");
    shell.say("/bin/service service >/ctl/service.log 2>&1 &");
    container.wait_for("service.log", "listening");
    let connect = format!("nc {}", service::ADDRESS.replace(':', " "));
    let mut alice = container.client(shell, "alice", &connect);
    let mut bob = container.client(shell, "bob", &connect);
    alice.ask(&format!("fill {KEYS}"), "filled");
    bob.ask("set colour blue", "stored");
    let text = format!("{} keys, each change written to a log; alice and bob are connected over TCP", KEYS + 1);
    (Box::new(Pair { alice, bob, asked: 1, stored: KEYS + 1 }), text)
}

struct Pair {
    alice: Session,
    bob: Session,
    /// How often alice has asked on her connection.
    asked: u64,
    stored: usize,
}

impl Clients for Pair {
    fn ping(&mut self) {
        self.bob.ask("get colour", "blue\n");
    }

    fn inspect(&mut self, container: &Container) -> Vec<String> {
        self.asked += 1;
        self.alice.ask("asked", &format!("asked {}\n", self.asked));
        self.bob.ask("count", &format!("{}\n", self.stored));
        self.bob.ask("get key:12345", "value 12345");
        self.stored += 1;
        self.bob.ask(&format!("set new:{} x", self.stored), "stored\n");
        let log = fs::read_to_string(container.rootfs().join(service::LOG.trim_start_matches('/'))).unwrap_or_default();
        assert_eq!(log.lines().count(), self.stored, "lines of the log");
        vec![
            format!("alice, on the connection she has had from the start: question {}", self.asked),
            format!("bob: {} keys, the right value for key:12345, and a change that is in the log", self.stored),
        ]
    }
}
