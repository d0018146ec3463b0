//! `run` of /bin/true, and the other commands one by one, for both specifications.

use crate::measure::{Sample, Table, time};
use crate::spec::{self, Kind};
use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Who takes part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Rtc,
    Crun,
    /// With its cache of compiled seccomp filters taken away before each run.
    CrunCold,
    Runc,
    /// clone3, the same mounts, exec: see bin/floor.rs.
    Floor,
}

impl Who {
    fn label(self) -> &'static str {
        match self {
            Self::CrunCold => "crun, no cache",
            Self::Floor => "floor",
            _ => self.program(),
        }
    }

    pub(crate) fn program(self) -> &'static str {
        match self {
            Self::Rtc => "rtc",
            Self::Crun | Self::CrunCold => "crun",
            Self::Runc => "runc",
            Self::Floor => "rtc-floor",
        }
    }
}

/// Where a bundle of this bench is.
pub(crate) fn made(name: &str, kind: Kind, args: &[&str]) -> Result<PathBuf> {
    let dir = Path::new("/tmp").join(format!("{name}-{}", kind.name()));
    spec::bundle(&dir, kind, args)?;
    Ok(dir)
}

/// The suite `run`.
pub(crate) fn run(rounds: usize) -> Result<()> {
    for kind in Kind::ALL {
        let dir = made("run", kind, &["/bin/true"])?;
        let mut all = vec![Who::Rtc, Who::Crun, Who::Runc, Who::Floor];
        if kind == Kind::Docker {
            all.insert(2, Who::CrunCold);
        }
        let mut table = Table::default();
        for round in 0..rounds + 2 {
            for who in rotated(&all, round) {
                let sample = once(who, kind, &dir)?;
                if round >= 2 {
                    table.add(who.label(), sample);
                }
            }
        }
        table.print(&format!("run /bin/true, {} spec", kind.name()), "crun");
        table.print(&format!("run /bin/true, {} spec", kind.name()), "floor");
    }
    Ok(())
}

fn once(who: Who, kind: Kind, dir: &Path) -> Result<Sample> {
    let path = dir.to_str().context("a plain path")?;
    if who == Who::CrunCold {
        let _ = std::fs::remove_dir_all("/run/crun/.cache");
    }
    match who {
        Who::Floor => {
            let root = format!("{path}/rootfs");
            time(who.program(), &[&root, "/sys/fs/cgroup/bench-floor", kind.name(), "/bin/true"])
        }
        _ => time(who.program(), &["run", "--bundle", path, "bench-run"]),
    }
}

/// The suite `commands`: create, start, state, exec, kill, delete.
pub(crate) fn commands(rounds: usize) -> Result<()> {
    for kind in Kind::ALL {
        let dir = made("commands", kind, &["/bin/sleep", "1000"])?;
        let dir = dir.to_str().context("a plain path")?;
        let steps: [(&str, &[&str]); 6] = [
            ("create", &["create", "--bundle", dir, "bench-step"]),
            ("start", &["start", "bench-step"]),
            ("state", &["state", "bench-step"]),
            ("exec", &["exec", "bench-step", "/bin/true"]),
            ("kill", &["kill", "bench-step", "KILL"]),
            ("delete", &["delete", "--force", "bench-step"]),
        ];
        let mut tables: Vec<Table> = steps.iter().map(|_| Table::default()).collect();
        for round in 0..rounds.div_ceil(2) + 1 {
            for who in rotated(&[Who::Rtc, Who::Crun, Who::Runc], round) {
                for ((_, args), table) in steps.iter().zip(&mut tables) {
                    let sample = time(who.program(), args)?;
                    if round > 0 {
                        table.add(who.label(), sample);
                    }
                }
            }
        }
        for ((name, _), table) in steps.iter().zip(&tables) {
            table.print(&format!("{name}, {} spec", kind.name()), "crun");
        }
    }
    Ok(())
}

/// The suite `memory`: the peak of each command, seen by a small parent.
pub(crate) fn memory(rounds: usize) -> Result<()> {
    for kind in Kind::ALL {
        let dir = made("memory", kind, &["/bin/sleep", "1000"])?;
        let dir = dir.to_str().context("a plain path")?;
        let steps: [(&str, &[&str]); 5] = [
            ("create", &["create", "--bundle", dir, "bench-memory"]),
            ("start", &["start", "bench-memory"]),
            ("state", &["state", "bench-memory"]),
            ("exec", &["exec", "bench-memory", "/bin/true"]),
            ("delete", &["delete", "--force", "bench-memory"]),
        ];
        println!("\npeak memory, {} spec (KiB, the most of {} rounds)", kind.name(), rounds.div_ceil(8));
        print!("{:<20}", "");
        steps.iter().for_each(|(name, _)| print!(" {name:>8}"));
        println!();
        for who in [Who::Rtc, Who::Crun, Who::CrunCold, Who::Runc] {
            let mut peaks = [0; 5];
            for _ in 0..rounds.div_ceil(8) {
                for ((_, args), peak) in steps.iter().zip(&mut peaks) {
                    if who == Who::CrunCold {
                        let _ = std::fs::remove_dir_all("/run/crun/.cache");
                    }
                    *peak = (*peak).max(peak_of(who.program(), args)?);
                }
            }
            print!("{:<20}", who.label());
            peaks.iter().for_each(|peak| print!(" {peak:>8}"));
            println!();
        }
    }
    Ok(())
}

fn peak_of(program: &str, args: &[&str]) -> Result<u64> {
    let mut command = std::process::Command::new("rtc-probe");
    let output = command.args(["peak", program]).args(args).stdin(std::process::Stdio::null()).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8_lossy(&output.stdout);
    text.trim().parse().with_context(|| format!("rtc-probe said {text:?}"))
}

pub(crate) fn rotated(all: &[Who], round: usize) -> impl Iterator<Item = Who> {
    (0..all.len()).map(move |at| all[(at + round) % all.len()])
}
