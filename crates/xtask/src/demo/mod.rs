//! `cargo xtask demo`: rtc's main job on a real service, with a short account of what happened and how long it took.
//!
//! Everything happens in a temporary folder that goes away at the end; no port of the host is used.

mod key_value;
mod redis;
pub(crate) mod service;

use crate::packages::{self, Need};
use crate::{shell, suite};
use anyhow::Result;
use rtc_tests::container::After;
use rtc_tests::{Container, Image, Session, command};
use std::fs;
use std::time::{Duration, Instant};

pub(crate) use key_value::KEY_VALUE;
pub(crate) use redis::REDIS;

/// A service to show.
pub(crate) struct Show {
    title: &'static str,
    packages: &'static [Need],
    /// Makes the container, with a shell as its first process.
    start: fn() -> (Container, Session),
    /// Starts the service, connects clients, fills it; says what there is now.
    fill: fn(&Container, &mut Session) -> Filled,
}

/// The connected clients, and what there is now in words.
type Filled = (Box<dyn Clients>, String);

/// The clients that stay connected all the while.
trait Clients {
    /// One question and its answer, as quick as can be: for the measure of the downtime.
    fn ping(&mut self);
    /// Looks at everything that must be as before; says what was seen.
    fn inspect(&mut self, container: &Container) -> Vec<String>;
}

/// Shows a service through a checkpoint and a restore.
pub(crate) fn run(show: &Show) -> Result<bool> {
    packages::ensure(show.packages)?;
    println!("building rtc (release)");
    suite::build_rtc()?;
    command::choose(shell::built("release", "rtc"));
    shell::heading(show.title);

    let start = Instant::now();
    let (mut container, mut shell) = (show.start)();
    say("started", &format!("rtc run, in {}; first process {}", time(start.elapsed()), container.pid()));
    let (mut clients, filled) = (show.fill)(&container, &mut shell);
    say("filled", &filled);
    clients.inspect(&container).iter().for_each(|line| say("asked", line));

    clients.ping();
    let last_answer = Instant::now();
    let image = container.checkpoint(After::Gone);
    let gone = last_answer.elapsed();
    say("checkpoint", &format!("rtc checkpoint, in {}; {}", time(image.took()), size(&image)?));
    say("gone", "no process, no cgroup, no mount, and rtc knows no such container");
    let before = Instant::now();
    let restore = container.restore(&image);
    clients.ping();
    let answered = before.elapsed();
    say("restored", &format!("rtc restore, in {}; first process {}", time(restore), container.pid()));
    clients.inspect(&container).iter().for_each(|line| say("asked", line));
    container.delete();

    println!();
    say("checkpoint", &time(image.took()));
    say("restore", &format!("{}; {} to the first answer", time(restore), time(answered)));
    say("downtime", &format!("{} from the last answer to the first, checks included", time(gone + answered)));
    say("image", &size(&image)?);
    Ok(true)
}

fn say(what: &str, text: &str) {
    println!("{what:>10}  {text}");
}

fn time(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

/// How much an image takes on disk.
fn size(image: &Image) -> Result<String> {
    let (mut bytes, mut files) = (0, 0);
    for entry in fs::read_dir(image.path())? {
        bytes += entry?.metadata()?.len();
        files += 1;
    }
    Ok(format!("{:.2} MB in {files} files", bytes as f64 / 1e6))
}
