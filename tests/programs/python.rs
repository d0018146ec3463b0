//! python3: threads, a subprocess behind pipes, an open sqlite database with a transaction.

use rtc_tests::Container;
use std::fs;

const PROGRAM: &str = r#"
import asyncio, collections, os, queue, random, signal, socket, sqlite3, subprocess, sys, tempfile, threading

box, answers = queue.Queue(), queue.Queue()
def work():
    own = threading.local()
    own.count = 0
    while True:
        word = box.get()
        own.count += 1
        answers.put(f"{word}-{own.count}")
threading.Thread(target=work, daemon=True).start()

child = subprocess.Popen(["sh", "-c", "n=0; while read line; do n=$((n+1)); echo \"$n:$line\"; done"],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

db = sqlite3.connect("/var/data.db", isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("CREATE TABLE t (word TEXT)")
db.execute("BEGIN")

loop = asyncio.new_event_loop()
ticks = collections.deque(maxlen=3)
async def tick():
    while True:
        await asyncio.sleep(0.02)
        ticks.append(loop.time())
threading.Thread(target=loop.run_forever, daemon=True).start()
asyncio.run_coroutine_threadsafe(tick(), loop)

scratch = tempfile.TemporaryFile()
scratch.write(b"nameless")
left, right = socket.socketpair()
left.send(b"queued")
random.seed(7)
generated = (n * n for n in range(10**9))
caught = []
signal.signal(signal.SIGUSR1, lambda *_: caught.append(1))
blob = bytearray(os.urandom(3_000_000))
digest = hash(bytes(blob))

print("ready", flush=True)
for line in sys.stdin:
    word = line.strip()
    box.put(word)
    child.stdin.write(word + "\n")
    child.stdin.flush()
    db.execute("INSERT INTO t VALUES (?)", (word,))
    before = len(ticks) and ticks[-1]
    while not ticks or ticks[-1] == before:
        pass
    os.kill(os.getpid(), signal.SIGUSR1)
    scratch.seek(0)
    data = right.recv(100)
    left.send(data)
    print(answers.get(), child.stdout.readline().strip(), db.execute("SELECT count(*) FROM t").fetchone()[0],
          db.in_transaction, scratch.read().decode(), data.decode(), next(generated), len(caught),
          hash(bytes(blob)) == digest, flush=True)
"#;

#[test]
fn python_keeps_threads_subprocess_and_database() {
    let (mut container, shell) = Container::shell("python", |bundle| bundle);
    fs::write(container.rootfs().join("var/program.py"), PROGRAM).unwrap();
    let mut talk = container.client(&shell, "python", "python3 -u /var/program.py");
    talk.expect("ready\n", Some(container.init()));
    let mut count = 0_u64;
    let mut ask = |word: &str| {
        count += 1;
        let square = (count - 1) * (count - 1);
        let answer = format!("{word}-{count} {count}:{word} {count} True nameless queued {square} {count} True\n");
        talk.ask(word, &answer);
    };
    ask("first");
    container.lives_through_checkpoints(|_, when| ask(when));
}
