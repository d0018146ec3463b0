//! The log: runc's two formats, to a file or to stderr.
//!
//! Engines read the file: containerd takes its last `"level":"error"` line, podman parses the *whole* file as one JSON
//! object. So in JSON, without `--debug`, warnings wait until the command's end: after a success they are written, and
//! after a failure they stand inside the one error object.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, OnceLock};
use std::time::SystemTime;

use log::{Level, LevelFilter, Log, Metadata, Record};
use rtc_sys::Result;

use crate::clock;
use crate::global::LogFormat;
use crate::log_sink::Sink;

static LOGGER: OnceLock<Logger> = OnceLock::new();

struct Logger {
    sink: Sink,
    format: LogFormat,
    /// The least important level that is written.
    level: LevelFilter,
    /// Warnings that wait for the end; none once they need not wait (any more).
    waiting: Mutex<Option<Vec<(Level, String)>>>,
    /// Where everything is written besides: dump.log or restore.log.
    copy: Mutex<Option<File>>,
}

/// Starts the log, to where `log` says ([`Sink::open`]).
///
/// # Errors
/// The file can't be opened or made.
pub(crate) fn start(log: Option<&Path>, format: LogFormat, level: LevelFilter) -> Result<()> {
    let sink = Sink::open(log)?;
    let waits = format == LogFormat::Json && level < LevelFilter::Debug;
    let waiting = Mutex::new(waits.then(Vec::new));
    let logger = LOGGER.get_or_init(|| Logger { sink, format, level, waiting, copy: Mutex::new(None) });
    // Only a second call could find a logger set, and it would be this one.
    let _ = log::set_logger(logger);
    log::set_max_level(level);
    Ok(())
}

/// From now on writes everything, debug messages too, to a second file as well.
pub(crate) fn copy_to(file: File) {
    if let Some(Ok(mut copy)) = LOGGER.get().map(|logger| logger.copy.lock()) {
        *copy = Some(file);
        log::set_max_level(LevelFilter::Debug);
    }
}

/// Writes the warnings that wait, and lets later ones through at once.
pub(crate) fn release() {
    let Some(logger) = LOGGER.get() else { return };
    let waiting = logger.waiting.lock().ok().and_then(|mut w| w.take());
    for (level, message) in waiting.into_iter().flatten() {
        logger.write(level, &message, &[]);
    }
}

/// Reports the failure that ends the program: a line in the log, and the bare message on stderr if the log is a file.
pub(crate) fn fail(message: &str) {
    let Some(logger) = LOGGER.get() else {
        // Bad usage: nothing is known of --log yet.
        to_stderr(&line(LogFormat::Text, Level::Error, message, &[], SystemTime::now()));
        return;
    };
    let waiting = logger.waiting.lock().ok().and_then(|mut w| w.take()).unwrap_or_default();
    let warnings: Vec<String> = waiting.into_iter().map(|(_, message)| message).collect();
    logger.write_copy(Level::Error, message);
    logger.write(Level::Error, message, &warnings);
    if logger.sink.is_elsewhere() {
        to_stderr(&format!("{message}\n"));
    }
}

/// A line on stderr as it is, and in the log if that is elsewhere.
pub(crate) fn bare(message: &str) {
    if let Some(logger) = LOGGER.get().filter(|logger| logger.sink.is_elsewhere()) {
        logger.write(Level::Error, message, &[]);
    }
    to_stderr(&format!("{message}\n"));
}

impl Logger {
    fn write(&self, level: Level, message: &str, warnings: &[String]) {
        let line = line(self.format, level, message, warnings, SystemTime::now());
        self.sink.write(level, message, &line);
    }

    /// Engines look for `Error` in the copy, as criu writes it.
    fn write_copy(&self, level: Level, message: &str) {
        let copy = self.copy.lock();
        if let Ok(Some(file)) = copy.as_deref() {
            let mut file: &File = file;
            let level = match level {
                Level::Error => "Error",
                Level::Warn => "Warn ",
                Level::Info => "Info ",
                Level::Debug | Level::Trace => "Debug",
            };
            let time = clock::rfc3339(SystemTime::now());
            let _ = file.write_all(format!("{time} {level}: {message}\n").as_bytes());
        }
    }
}

/// stderr may be closed, and nobody could be told.
fn to_stderr(text: &str) {
    let _ = io::stderr().write_all(text.as_bytes());
}

fn line(format: LogFormat, level: Level, message: &str, warnings: &[String], time: SystemTime) -> String {
    let time = clock::rfc3339(time);
    let level = match level {
        Level::Warn => "warning",
        other => &other.as_str().to_ascii_lowercase(),
    };
    match format {
        LogFormat::Text => format!("time=\"{time}\" level={level} msg={message:?}\n"),
        LogFormat::Json => {
            let mut object = serde_json::json!({ "level": level, "msg": message, "time": time });
            if !warnings.is_empty() {
                object["warnings"] = warnings.into();
            }
            format!("{object}\n")
        }
    }
}

impl Log for Logger {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &Record<'_>) {
        let message = record.args().to_string();
        self.write_copy(record.level(), &message);
        if record.level() > self.level {
            return;
        }
        if let Ok(mut waiting) = self.waiting.lock() {
            if let Some(waiting) = waiting.as_mut() {
                waiting.push((record.level(), message));
                return;
            }
        }
        self.write(record.level(), &message, &[]);
    }

    fn flush(&self) {}
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at_noon(format: LogFormat, level: Level, message: &str, warnings: &[String]) -> String {
        line(format, level, message, warnings, UNIX_EPOCH + Duration::from_secs(43_200))
    }

    #[test]
    fn text_is_one_quoted_line() {
        assert_eq!(
            at_noon(LogFormat::Text, Level::Error, "exec \"x\":\nno", &[]),
            "time=\"1970-01-01T12:00:00Z\" level=error msg=\"exec \\\"x\\\":\\nno\"\n"
        );
    }

    #[test]
    fn json_has_the_keys_that_engines_read() {
        assert_eq!(
            at_noon(LogFormat::Json, Level::Error, "no \"x\"", &[]),
            "{\"level\":\"error\",\"msg\":\"no \\\"x\\\"\",\"time\":\"1970-01-01T12:00:00Z\"}\n"
        );
    }

    #[test]
    fn warnings_stand_inside_the_one_error_object() {
        let line = at_noon(LogFormat::Json, Level::Error, "no", &["careful".into()]);
        assert_eq!(line.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&line).expect("one JSON object");
        assert_eq!(object["warnings"][0], "careful");
    }
}
