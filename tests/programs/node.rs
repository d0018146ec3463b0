//! node: its event loop with timers, a server with a connection, worker threads, a child process, compiled code.

use rtc_tests::Container;
use serde_json::json;
use std::fs;

const PROGRAM: &str = r#"
const { Worker } = require('worker_threads');
const { spawn } = require('child_process');
const fs = require('fs'), net = require('net'), readline = require('readline');

const worker = new Worker(`
  const { parentPort } = require('worker_threads');
  let count = 0;
  parentPort.on('message', word => parentPort.postMessage(word + '-' + ++count));
`, { eval: true });
const child = spawn('cat');
let ticks = 0;
setInterval(() => ticks++, 10);
let requests = 0;
const server = net.createServer(socket => socket.on('data', data => socket.write(`${++requests}<${data}>`)));
const heap = new Map();
for (let i = 0; i < 100000; i++) heap.set('key' + i, { i });
// Run often enough to be compiled.
function hot(n) { let sum = 0; for (let i = 0; i < n; i++) sum = (sum * 31 + i) % 1000003; return sum; }
const expected = hot(1000000);

server.listen(0, '127.0.0.1', () => {
  const client = net.connect(server.address().port, '127.0.0.1', () => {
    const next = (from, event) => new Promise(done => from.once(event, done));
    console.log('ready');
    readline.createInterface({ input: process.stdin }).on('line', async word => {
      const before = ticks;
      worker.postMessage(word);
      const fromWorker = await next(worker, 'message');
      child.stdin.write(word);
      const fromChild = await next(child.stdout, 'data');
      client.write(word);
      const fromServer = await next(client, 'data');
      while (ticks === before) await new Promise(done => setImmediate(done));
      console.log([fromWorker, fromChild, fromServer, heap.get('key99999').i, hot(1000000) === expected].join(' | '));
    });
  });
});
"#;

#[test]
fn node_keeps_its_event_loop() {
    // As the seccomp profiles of all engines do: newer versions of node look for io_uring, and do without.
    let deny = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{ "names": ["io_uring_setup"], "action": "SCMP_ACT_ERRNO" }],
    });
    let (mut container, mut shell) =
        Container::shell("node", |bundle| bundle.with(|config| config["linux"]["seccomp"] = deny));
    fs::write(container.rootfs().join("var/program.js"), PROGRAM).unwrap();
    shell.ask("ip link set lo up; echo up", "up");
    let mut talk = container.client(&shell, "node", "node /var/program.js");
    talk.expect("ready\n", Some(container.init()));
    let mut count = 0;
    let mut ask = |word: &str| {
        count += 1;
        talk.ask(word, &format!("{word}-{count} | {word} | {count}<{word}> | 99999 | true\n"));
    };
    ask("first");
    container.lives_through_checkpoints(|_, when| ask(when));
}
