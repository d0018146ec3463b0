//! redis-server: data in memory, an append-only file being written, several connected clients.

use rtc_tests::Container;

#[test]
fn redis_keeps_data_log_and_clients() {
    let (mut container, mut shell) = Container::shell("redis", |bundle| bundle);
    shell.ask("ip link set lo up; mkdir /var/redis && echo up", "up");
    let server = "redis-server --port 6379 --dir /var/redis --appendonly yes --appendfsync always --save ''";
    shell.say(&format!("{server} >/ctl/redis.log 2>&1 &"));
    container.wait_for("redis.log", "Ready to accept connections");

    let mut plain = container.client(&shell, "plain", "redis-cli");
    let mut transaction = container.client(&shell, "transaction", "redis-cli");
    let mut reader = container.client(&shell, "reader", "redis-cli");
    plain.ask("eval \"for i = 1, 20000 do redis.call('set', 'key:' .. i, string.rep('v', 100) .. i) end\" 0", "");
    plain.ask("DBSIZE", "20000");
    plain.ask("RPUSH list a b c", "3");
    plain.ask("CLIENT SETNAME plain", "OK");
    // State that lives in the server's side of a connection.
    transaction.ask("MULTI", "OK");
    transaction.ask("INCR counter", "QUEUED");
    // A client that is blocked in the server.
    reader.say("BLPOP queue 0");

    let mut round = 0;
    container.lives_through_checkpoints(|container, when| {
        round += 1;
        // The list; then the counter too, and one key of each round before.
        let keys = if round == 1 { 20_001 } else { 20_001 + round };
        plain.ask("DBSIZE", &format!("{keys}\n"));
        plain.ask("GET key:12345", "v12345");
        plain.ask("CLIENT GETNAME", "plain");
        plain.ask("CLIENT LIST", "cmd=blpop");
        transaction.ask("INCR counter", "QUEUED");
        transaction.ask("EXEC", &(2 * round).to_string());
        transaction.ask("MULTI", "OK");
        transaction.ask("INCR counter", "QUEUED");
        plain.ask(&format!("RPUSH queue from-{round}"), "1");
        reader.expect(&format!("from-{round}"), Some(container.init()));
        reader.say("BLPOP queue 0");
        // A new connection, and the log that was being written.
        let answer = container.exec(&["redis-cli", "SET", &format!("after {when}"), "x"]).ok("redis-cli");
        assert_eq!(answer.stdout.trim(), "OK", "{when}");
        plain.ask("INFO persistence", "aof_last_write_status:ok");
    });
    let log = container.exec(&["sh", "-c", "cat /var/redis/appendonlydir/*.aof"]).ok("cat");
    assert!(log.stdout.contains("after the second restore"), "the append-only file lacks a write");
    container.delete();
}
