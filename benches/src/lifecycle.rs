//! `run` of /bin/true, and the other commands one by one.

use crate::measure::{Table, time};
use anyhow::{Context, Result};
use std::path::Path;
use std::process::Command;

const RUNTIMES: [&str; 3] = ["rtc", "crun", "runc"];

/// Makes a bundle whose program is `args`, with runc's default spec.
pub(crate) fn bundle(dir: &Path, args: &[&str]) -> Result<()> {
    let bin = dir.join("rootfs/bin");
    std::fs::create_dir_all(&bin)?;
    std::fs::copy("/usr/bin/busybox", bin.join("busybox"))?;
    for name in ["sh", "true", "sleep"] {
        std::os::unix::fs::symlink("busybox", bin.join(name))?;
    }
    let output = Command::new("runc").args(["spec", "--bundle"]).arg(dir).output()?;
    anyhow::ensure!(output.status.success(), "runc spec: {}", String::from_utf8_lossy(&output.stderr));
    let path = dir.join("config.json");
    let mut spec: serde_json::Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    spec["process"]["terminal"] = false.into();
    spec["process"]["args"] = args.into();
    // The limit of runc's default spec can't be raised by a root without CAP_SYS_RESOURCE.
    spec["process"]["rlimits"] = serde_json::json!([]);
    std::fs::write(&path, serde_json::to_vec(&spec)?).context("config.json")
}

pub(crate) fn run(rounds: usize) -> Result<()> {
    let dir = Path::new("/tmp/lifecycle");
    bundle(dir, &["/bin/true"])?;
    let dir = dir.to_str().context("a plain path")?;
    let mut table = Table::default();
    for round in 0..rounds + 2 {
        for runtime in rotated(round) {
            let sample = time(runtime, &["run", "--bundle", dir, "bench-run"])?;
            if round >= 2 {
                table.add(runtime, sample);
            }
        }
    }
    table.print("run /bin/true, default spec", "crun");
    steps(rounds)
}

/// create, start, state, exec, kill, delete.
fn steps(rounds: usize) -> Result<()> {
    let dir = Path::new("/tmp/steps");
    bundle(dir, &["/bin/sleep", "1000"])?;
    let dir = dir.to_str().context("a plain path")?;
    let steps: [(&str, &[&str]); 6] = [
        ("create", &["create", "--bundle", dir]),
        ("start", &["start"]),
        ("state", &["state"]),
        ("exec", &["exec"]),
        ("kill", &["kill"]),
        ("delete", &["delete", "--force"]),
    ];
    let mut tables: Vec<Table> = steps.iter().map(|_| Table::default()).collect();
    for round in 0..rounds.div_ceil(2) + 1 {
        for runtime in rotated(round) {
            for ((name, args), table) in steps.iter().zip(&mut tables) {
                let mut args = args.to_vec();
                args.push("bench-step");
                match *name {
                    "exec" => args.push("/bin/true"),
                    "kill" => args.push("KILL"),
                    _ => {}
                }
                let sample = time(runtime, &args)?;
                if round > 0 {
                    table.add(runtime, sample);
                }
            }
        }
    }
    for ((name, _), table) in steps.iter().zip(&tables) {
        table.print(name, "crun");
    }
    Ok(())
}

fn rotated(round: usize) -> impl Iterator<Item = &'static str> {
    (0..RUNTIMES.len()).map(move |i| RUNTIMES[(i + round) % RUNTIMES.len()])
}
