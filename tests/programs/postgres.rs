//! PostgreSQL: many processes, shared memory, a transaction open in a client, locks, its log of changes.

use rtc_tests::Container;
use std::path::PathBuf;

/// Where Debian puts the programs of the installed version.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql").expect("postgresql is installed");
    let mut versions: Vec<PathBuf> = versions.flatten().map(|entry| entry.path().join("bin")).collect();
    versions.retain(|path| path.join("postgres").exists());
    versions.sort();
    versions.pop().expect("postgresql is installed")
}

#[test]
fn postgres_keeps_an_open_transaction() {
    let (mut container, mut shell) = Container::shell("postgres", |bundle| bundle);
    let bin = programs();
    let bin = bin.display();
    shell.ask("ip link set lo up; install -d -o postgres -g postgres /var/pg; echo up", "up");
    let user = "setpriv --reuid=postgres --regid=postgres --clear-groups";
    let init = format!("{user} {bin}/initdb --no-sync --auth=trust --no-locale --encoding=UTF8 -D /var/pg/data");
    shell.ask(&format!("{init} >/ctl/initdb.log 2>&1; echo initdb $?"), "initdb 0");
    let server = format!("{user} {bin}/postgres -D /var/pg/data -k /var/pg -c shared_buffers=16MB");
    shell.say(&format!("{server} >/ctl/pg.log 2>&1 &"));
    container.wait_for("pg.log", "ready to accept connections");

    let psql = format!("{user} psql --no-psqlrc --quiet --tuples-only --no-align -v ON_ERROR_STOP=0");
    let mut local = container.client(&shell, "local", &format!("{psql} -h /var/pg postgres"));
    let mut remote = container.client(&shell, "remote", &format!("{psql} -h 127.0.0.1 postgres"));
    local.ask("CREATE TABLE kept (id int PRIMARY KEY, word text);", "");
    local.say("INSERT INTO kept SELECT i, repeat('w', 200) || i FROM generate_series(1, 5000) i;");
    local.ask("SELECT 'rows', count(*) FROM kept;", "rows|5000");
    local.ask("PREPARE again AS SELECT 'prepared', $1::int * 2; EXECUTE again(21);", "prepared|42");
    // A transaction with a change that nobody else sees, and a row lock.
    remote.say("BEGIN ISOLATION LEVEL REPEATABLE READ;");
    remote.say("UPDATE kept SET word = 'changed' WHERE id = 7;");
    remote.ask("SELECT 'mine', word FROM kept WHERE id = 7;", "mine|changed");

    let mut round = 0;
    container.lives_through_checkpoints(|container, when| {
        round += 1;
        local.ask("EXECUTE again(21);", "prepared|42");
        let lock = local.ask("SELECT word FROM kept WHERE id = 7 FOR UPDATE NOWAIT;", "could not obtain lock");
        assert!(!lock.contains("changed"), "{when}: the open transaction is seen by another: {lock}");
        local.say(&format!("INSERT INTO kept VALUES ({}, 'round');", 10_000 + round));
        local.ask("SELECT 'rows', count(*) FROM kept;", &format!("rows|{}", 5000 + round));
        // The open transaction sees the table as it was when it began, with its own change.
        remote.ask("SELECT 'mine', word FROM kept WHERE id = 7;", "mine|changed");
        remote.ask("SELECT 'then', count(*) FROM kept;", "then|5000");
        let new = [
            "setpriv",
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "psql",
            "-h",
            "127.0.0.1",
            "-At",
            "-c",
            "SELECT sum(id) > 0 FROM kept",
            "postgres",
        ];
        assert_eq!(container.exec(&new).ok("psql").stdout.trim(), "t", "{when}: a new connection");
    });
    remote.say("COMMIT;");
    remote.ask("SELECT 'done', word FROM kept WHERE id = 7;", "done|changed");
    local.ask("SELECT 'seen', word FROM kept WHERE id = 7;", "seen|changed");
    // Writers, checkpointer and log writer work on: a checkpoint of theirs succeeds.
    local.ask("CHECKPOINT; SELECT 'checkpoint';", "checkpoint");
    container.delete();
}
