//! Checkpoint and restore of a `sleep` and of Redis with 64 MB, beside runc with CRIU.

use crate::measure::{Table, time};
use crate::spec::{self, Kind};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const RUNTIMES: [&str; 2] = ["rtc", "runc"];

pub(crate) fn run(rounds: usize) -> Result<()> {
    let dir = Path::new("/tmp/ck-sleep");
    spec::bundle(dir, Kind::Default, &["/bin/sh", "-c", "while :; do sleep 1; done"])?;
    // CRIU's restore makes a folder in the container's root.
    change_spec(dir, |spec| spec["root"]["readonly"] = false.into())?;
    compare("sleep", dir, rounds, |_| Ok(()))?;
    let dir = Path::new("/tmp/ck-redis");
    redis_bundle(dir)?;
    compare("redis 64 MB", dir, rounds, fill_redis)
}

/// Redis and its libraries by read-only binds of the root's own /usr.
fn redis_bundle(dir: &Path) -> Result<()> {
    spec::bundle(
        dir,
        Kind::Default,
        &[
            "/usr/bin/redis-server",
            "--enable-debug-command",
            "yes",
            "--save",
            "",
            "--unixsocket",
            "/data/s",
            "--port",
            "0",
        ],
    )?;
    for name in ["usr", "data", "etc"] {
        std::fs::create_dir_all(dir.join("rootfs").join(name))?;
    }
    for name in ["lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), dir.join("rootfs").join(name))?;
    }
    change_spec(dir, |spec| {
        let usr =
            serde_json::json!({"destination": "/usr", "type": "bind", "source": "/usr", "options": ["rbind", "ro"]});
        if let Some(all) = spec["mounts"].as_array_mut() {
            all.push(usr);
        }
        spec["root"]["readonly"] = false.into();
    })
}

fn change_spec(dir: &Path, change: impl FnOnce(&mut serde_json::Value)) -> Result<()> {
    let path = dir.join("config.json");
    let mut spec = serde_json::from_slice(&std::fs::read(&path)?)?;
    change(&mut spec);
    std::fs::write(&path, serde_json::to_vec(&spec)?).context("config.json")
}

fn redis(dir: &Path, command: &[&str]) -> Result<String> {
    let socket = dir.join("rootfs/data/s");
    let output = Command::new("redis-cli").arg("-s").arg(socket).args(command).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn fill_redis(dir: &Path) -> Result<()> {
    wait_for(|| redis(dir, &["ping"]).is_ok_and(|answer| answer == "PONG"))?;
    redis(dir, &["debug", "populate", "64000", "key", "900"])?;
    if redis(dir, &["dbsize"])? != "64000" {
        bail!("redis isn't filled");
    }
    Ok(())
}

fn wait_for(mut ready: impl FnMut() -> bool) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !ready() {
        if Instant::now() > deadline {
            bail!("waited too long");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

fn compare(name: &str, dir: &Path, rounds: usize, fill: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let (mut saves, mut restores) = (Table::default(), Table::default());
    let bundle = dir.to_str().context("a plain path")?;
    let mut sizes = Vec::new();
    for round in 0..=rounds {
        for runtime in RUNTIMES {
            let image = format!("/tmp/image-{runtime}");
            let _ = std::fs::remove_dir_all(&image);
            time(runtime, &["run", "--detach", "--bundle", bundle, "bench-ck"])?;
            fill(dir)?;
            let save = time(
                runtime,
                &["checkpoint", "--image-path", &image, "--work-path", &image, "--file-locks", "bench-ck"],
            );
            let save = with_log(save, &image, "dump.log")?;
            let flags = ["restore", "--detach", "--bundle", bundle, "--image-path", &image, "--work-path", &image];
            let restore = time(runtime, &[&flags[..], &["--file-locks", "bench-ck"]].concat());
            let restore = with_log(restore, &image, "restore.log")?;
            time(runtime, &["delete", "--force", "bench-ck"])?;
            if round > 0 {
                saves.add(runtime, save);
                restores.add(runtime, restore);
            } else {
                sizes.push(format!("{runtime} {:.1} MB", size(Path::new(&image))? as f64 / 1e6));
            }
        }
    }
    saves.print(&format!("checkpoint, {name}"), "runc");
    restores.print(&format!("restore, {name}"), "runc");
    println!("image: {}", sizes.join(", "));
    Ok(())
}

fn with_log<T>(result: Result<T>, image: &str, log: &str) -> Result<T> {
    result.with_context(|| {
        let text = std::fs::read_to_string(format!("{image}/{log}")).unwrap_or_default();
        text.lines().filter(|l| l.contains("Error")).collect::<Vec<_>>().join("\n")
    })
}

fn size(dir: &Path) -> Result<u64> {
    std::fs::read_dir(dir)?.map(|e| Ok(e?.metadata()?.len())).sum()
}
