//! What a shim keeps of containers that are gone: nothing. The shim of a pod lives as long as the pod.
//!
//! `RTC_ROUNDS=200` for more of them.

use super::*;

/// Kilobytes, for a heap that settles.
const SETTLING: u64 = 256;

impl Shim {
    /// A line of its /proc/PID/status.
    fn status(&self, name: &str) -> u64 {
        let pid = self.process.as_ref().unwrap().id();
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.trim_matches([':', '\t', ' ', 'k', 'B']).parse().unwrap()
    }

    /// A container with a process of Exec: made, started, ended and deleted.
    async fn life(&self, round: usize, out: &Path) {
        let exec = format!("exec{round}");
        self.create(false, out).await.unwrap();
        self.begin("").await;
        self.exec(&exec, round % 2 == 0, out, &["/bin/busybox", "echo", "hello"]).await;
        assert_eq!(self.wait(&exec).await, 0);
        // Some are left to their container's deletion.
        if round % 3 != 0 {
            self.delete(&exec).await;
        }
        self.kill(9).await.unwrap();
        assert_eq!(self.wait("").await, 137);
        self.delete("").await;
    }
}

#[tokio::test]
async fn containers_leave_nothing_behind() {
    let rounds = std::env::var("RTC_ROUNDS").map_or(20, |text| text.parse().unwrap());
    let shim = Shim::start("leaks", "while :; do sleep 1000; done", |bundle| bundle).await;
    let out = shim.fifo("out");
    let mut fifo = std::fs::File::options().read(true).write(true).open(&out).unwrap();
    for round in 0..6 {
        shim.life(round, &out).await;
    }
    let before = (shim.holdings(), shim.status("Threads"));
    let memory = shim.status("VmRSS");
    for round in 0..rounds {
        shim.life(round, &out).await;
        // It holds 64 KiB.
        fifo.read_exact(&mut [0; 6]).unwrap();
    }
    assert_eq!((shim.holdings(), shim.status("Threads")), before);
    let now = shim.status("VmRSS");
    eprintln!("resident after 6 containers {memory} kB, after {rounds} more {now} kB");
    assert!(now <= memory + SETTLING, "{memory} kB have become {now}");
    shim.end().await;
}
