//! Debian's redis-server, unmodified, with connected clients of its own kind.

use super::{Clients, Filled, Show};
use crate::packages::Need;
use rtc_tests::{Container, Session};

/// See the module.
pub(crate) const REDIS: Show = Show {
    title: "redis-server with two connected clients",
    packages: &[
        Need { package: "iproute2", provides: "ip" },
        Need { package: "redis-server", provides: "/usr/bin/redis-server" },
        Need { package: "redis-tools", provides: "/usr/bin/redis-cli" },
    ],
    start: || Container::shell("demo", |bundle| bundle),
    fill,
};

const KEYS: u64 = 100_000;

fn fill(container: &Container, shell: &mut Session) -> Filled {
    shell.ask("ip link set lo up; mkdir /var/redis; echo up", "up");
    let server = "redis-server --dir /var/redis --appendonly yes --save ''";
    shell.say(&format!("{server} >/ctl/redis.log 2>&1 &"));
    container.wait_for("redis.log", "Ready to accept connections");
    let mut plain = container.client(shell, "plain", "redis-cli");
    let mut transaction = container.client(shell, "transaction", "redis-cli");
    plain.say(&format!(
        "eval \"for i = 1, {KEYS} do redis.call('set', 'key:' .. i, string.rep('v', 500) .. i) end return 'filled'\" 0"
    ));
    plain.expect("filled", Some(container.init()));
    plain.ask("CLIENT SETNAME from-the-start", "OK");
    transaction.ask("MULTI", "OK");
    transaction.ask("INCR counter", "QUEUED");
    let text = format!("{KEYS} keys, append-only file; two clients, one inside a transaction");
    (Box::new(Pair { plain, transaction, rounds: 0 }), text)
}

struct Pair {
    plain: Session,
    transaction: Session,
    rounds: u64,
}

impl Clients for Pair {
    fn ping(&mut self) {
        self.plain.ask("PING", "PONG\n");
    }

    fn inspect(&mut self, container: &Container) -> Vec<String> {
        self.rounds += 1;
        // The counter is a key from the first EXEC on.
        self.plain.ask("DBSIZE", &format!("{}\n", KEYS + u64::from(self.rounds > 1)));
        self.plain.ask("GETRANGE key:54321 500 -1", "54321\n");
        self.plain.ask("CLIENT GETNAME", "from-the-start\n");
        self.transaction.ask("EXEC", &format!("{}\n", self.rounds));
        self.transaction.ask("MULTI", "OK");
        self.transaction.ask("INCR counter", "QUEUED");
        let set = ["redis-cli", "SET", &format!("round:{}", self.rounds), "x"];
        assert_eq!(container.exec(&set).ok("redis-cli SET").stdout.trim(), "OK");
        self.plain.ask("DBSIZE", &format!("{}\n", KEYS + 2));
        self.plain.ask(&format!("DEL round:{}", self.rounds), "1\n");
        vec![
            format!("{KEYS} keys, the right value for key:54321, on the connection named at the start"),
            format!("the open transaction went through: counter is {}", self.rounds),
            "a new client, by rtc exec, sets a key that the old one sees".to_owned(),
        ]
    }
}
