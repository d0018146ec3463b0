//! Java: a virtual machine with its compiler and collector threads, a heap with objects, a server with a connection.

use rtc_tests::Container;
use std::process::Command;

const PROGRAM: &str = r#"
import java.io.*;
import java.net.*;
import java.nio.file.*;
import java.util.*;
import java.util.concurrent.*;
import java.util.concurrent.atomic.*;

public class Program {
    static int hot(int n) {
        int sum = 0;
        for (int i = 0; i < n; i++) sum = (sum * 31 + i) % 1000003;
        return sum;
    }

    public static void main(String[] args) throws Exception {
        Map<String, List<Integer>> heap = new ConcurrentHashMap<>();
        for (int i = 0; i < 100000; i++) heap.computeIfAbsent("key" + i % 1000, k -> new ArrayList<>()).add(i);
        ExecutorService pool = Executors.newFixedThreadPool(3);
        ScheduledExecutorService clock = Executors.newScheduledThreadPool(1);
        AtomicLong ticks = new AtomicLong();
        clock.scheduleAtFixedRate(ticks::incrementAndGet, 0, 10, TimeUnit.MILLISECONDS);
        ThreadLocal<Integer> own = ThreadLocal.withInitial(() -> 0);
        ServerSocket server = new ServerSocket(0, 5, InetAddress.getLoopbackAddress());
        Socket client = new Socket(server.getInetAddress(), server.getLocalPort());
        Socket accepted = server.accept();
        new Thread(() -> {
            try {
                BufferedReader in = new BufferedReader(new InputStreamReader(accepted.getInputStream()));
                PrintWriter out = new PrintWriter(accepted.getOutputStream(), true);
                int count = 0;
                for (String line; (line = in.readLine()) != null; ) out.println(++count + "<" + line + ">");
            } catch (IOException e) { e.printStackTrace(); }
        }).start();
        ExecutorService single = Executors.newSingleThreadExecutor();
        RandomAccessFile file = new RandomAccessFile("/var/file", "rw");
        int expected = hot(10_000_000);
        PrintWriter to = new PrintWriter(client.getOutputStream(), true);
        BufferedReader from = new BufferedReader(new InputStreamReader(client.getInputStream()));
        System.out.println("ready");
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in));
        for (String word; (word = in.readLine()) != null; ) {
            long before = ticks.get();
            to.println(word);
            int visits = single.submit(() -> { own.set(own.get() + 1); return own.get(); }).get();
            List<Future<Integer>> sums = new ArrayList<>();
            for (int i = 0; i < 3; i++) sums.add(pool.submit(() -> hot(10_000_000)));
            boolean right = true;
            for (Future<Integer> sum : sums) right &= sum.get() == expected;
            file.writeBytes(word + "\n");
            while (ticks.get() == before) Thread.onSpinWait();
            System.gc();
            int objects = heap.values().stream().mapToInt(List::size).sum();
            System.out.println(from.readLine() + " " + visits + " " + right + " " + objects);
        }
    }
}
"#;

#[test]
fn java_keeps_heap_threads_and_connection() {
    let (mut container, mut shell) = Container::shell("java", |bundle| bundle);
    let folder = container.rootfs().join("var");
    std::fs::write(folder.join("Program.java"), PROGRAM).unwrap();
    let compiled = Command::new("javac").arg("Program.java").current_dir(&folder).status().expect("javac is installed");
    assert!(compiled.success(), "javac: {compiled}");
    shell.ask("ip link set lo up; echo up", "up");
    let mut talk = container.client(&shell, "java", "java -Xmx128m -cp /var Program");
    talk.expect("ready\n", Some(container.init()));
    let mut count = 0;
    let mut ask = |word: &str| {
        count += 1;
        talk.ask(word, &format!("{count}<{word}> {count} true 100000\n"));
    };
    ask("first");
    container.lives_through_checkpoints(|_, when| ask(when));
}
