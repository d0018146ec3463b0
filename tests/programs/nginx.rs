//! nginx: a master, workers under another user, shared memory between them, listening sockets, a kept-alive connection.

use rtc_tests::Container;
use std::fs;

const CONFIGURATION: &str = "
daemon off;
worker_processes 2;
pid /run/nginx.pid;
error_log /ctl/nginx.log notice;
events { worker_connections 64; }
http {
    access_log /var/access.log;
    # Shared between the workers: each counts the requests of both.
    limit_req_zone $uri zone=count:64k rate=1r/m;
    client_body_temp_path /tmp/b; proxy_temp_path /tmp/p; fastcgi_temp_path /tmp/f;
    uwsgi_temp_path /tmp/u; scgi_temp_path /tmp/s;
    keepalive_timeout 1d;
    keepalive_requests 100000;
    server {
        listen 8080;
        listen [::]:8080;
        listen unix:/run/nginx.sock;
        location / { root /var/www; }
        location /limited { limit_req zone=count burst=2 nodelay; root /var/www; }
    }
}
";

#[test]
fn nginx_keeps_workers_and_connections() {
    let (mut container, mut shell) = Container::shell("nginx", |bundle| bundle);
    fs::create_dir(container.rootfs().join("var/www")).unwrap();
    fs::write(container.rootfs().join("var/www/page"), "the page\n").unwrap();
    fs::write(container.rootfs().join("var/www/limited"), "limited\n").unwrap();
    fs::write(container.rootfs().join("var/nginx.conf"), CONFIGURATION).unwrap();
    shell.ask("ip link set lo up; mkdir -p /var/lib/nginx /var/log/nginx; echo up", "up");
    shell.say("nginx -c /var/nginx.conf -e /ctl/nginx.log &");
    // Both workers have announced themselves.
    container.wait_for("nginx.log", "start worker processes");

    // One connection that stays open, driven by hand.
    let mut kept = container.client(&shell, "kept", "busybox nc 127.0.0.1 8080");
    let get = |path: &str| format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r");
    kept.ask(&get("/page"), "the page");
    // Uses up the shared count: one request and a burst of two.
    for _ in 0..3 {
        kept.ask(&get("/limited"), "limited\n");
    }
    kept.ask(&get("/limited"), "503");
    container.lives_through_checkpoints(|container, when| {
        kept.ask(&get("/page"), "the page");
        kept.ask(&get("/limited"), "503");
        let unix = ["--unix-socket", "/run/nginx.sock", "http://localhost"];
        for to in [&["http://127.0.0.1:8080"][..], &["http://[::1]:8080"], &unix] {
            // New connections reach either worker; both know the count.
            let get = |path: &str| {
                let (url, flags) = to.split_last().expect("an address");
                let url = format!("{url}{path}");
                let args = [&["curl", "--silent", "--max-time", "20"], flags, &[&url]].concat();
                container.exec(&args).ok("curl").stdout
            };
            assert_eq!(get("/page"), "the page\n", "{when}: {to:?}");
            assert!(get("/limited").contains("503"), "{when}: {to:?}");
        }
    });
    // The master still rules: it starts new workers on a reload, and the old ones leave.
    container.exec(&["sh", "-c", "kill -HUP $(cat /run/nginx.pid)"]).ok("reload");
    container.wait_for("nginx.log", "exited with code 0");
    container.delete();
}
