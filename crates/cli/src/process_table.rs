//! The table of processes that `ps -ef` would print, from procfs, so that no other program is needed.
//!
//! Left out: local time. Start times are in UTC.

use std::collections::HashMap;
use std::fs;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::clock;

/// The table of the given processes; those that have ended meanwhile are left out.
pub(crate) fn table(pids: &[i32]) -> String {
    let users = fs::read_to_string("/etc/passwd").map(|text| user_names(&text)).unwrap_or_default();
    let hertz = rustix::param::clock_ticks_per_second().max(1);
    let now = Now { time: SystemTime::now(), uptime: uptime().unwrap_or_default(), hertz };
    let header = format!(
        "{:<8} {:>7} {:>7} {:>2} {:>5} {:<8} {:>8} {}\n",
        "UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"
    );
    let rows = pids.iter().filter_map(|pid| row(*pid, &users, &now));
    std::iter::once(header).chain(rows).collect()
}

/// What times are counted against.
struct Now {
    time: SystemTime,
    /// Since the machine's start.
    uptime: Duration,
    /// Ticks of a second in /proc/PID/stat.
    hertz: u64,
}

fn row(pid: i32, users: &HashMap<u32, String>, now: &Now) -> Option<String> {
    let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).ok();
    let stat = Stat::parse(&read("stat")?)?;
    let uid = read("status")?.lines().find_map(|l| l.strip_prefix("Uid:")?.split_whitespace().nth(1)?.parse().ok())?;
    let user = users.get(&uid).cloned().unwrap_or_else(|| uid.to_string());
    let command = command(&read("cmdline")?, &stat);
    let busy = Duration::from_millis(stat.cpu_ticks * 1000 / now.hertz);
    let age = now.uptime.saturating_sub(Duration::from_millis(stat.start_ticks * 1000 / now.hertz));
    let percent = busy.as_millis() * 100 / age.as_millis().max(1);
    let seconds = busy.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let started = started(now.time, age);
    let tty = terminal_name(stat.terminal);
    let ppid = stat.parent;
    Some(format!(
        "{user:<8} {pid:>7} {ppid:>7} {percent:>2} {started:>5} {tty:<8} {hours:02}:{minutes:02}:{seconds:02} {command}\n"
    ))
}

/// The hour of a start within the last day, else the date.
fn started(now: SystemTime, age: Duration) -> String {
    const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let text = clock::rfc3339(now.checked_sub(age).unwrap_or(UNIX_EPOCH));
    if age < Duration::from_secs(86_400) {
        return text[11..16].to_owned();
    }
    let month = text[5..7].parse::<usize>().ok().and_then(|month| MONTHS.get(month - 1));
    format!("{}{}", month.unwrap_or(&"???"), &text[8..10])
}

/// The arguments; in brackets the name of what has none, a kernel thread or a zombie.
fn command(cmdline: &str, stat: &Stat) -> String {
    let arguments: Vec<&str> = cmdline.trim_end_matches('\0').split('\0').collect();
    let text = match arguments.as_slice() {
        [""] => format!("[{}]{}", stat.name, if stat.state == 'Z' { " <defunct>" } else { "" }),
        words => words.join(" "),
    };
    // A process must not be able to add lines to the table.
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// `pts/3`, or `?` without a terminal. Device numbers: Linux's admin-guide/devices.txt.
fn terminal_name(device: u64) -> String {
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    match major {
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        5 if minor == 1 => "console".to_owned(),
        _ => "?".to_owned(),
    }
}

fn uptime() -> Option<Duration> {
    let text = fs::read_to_string("/proc/uptime").ok()?;
    Duration::try_from_secs_f64(text.split_whitespace().next()?.parse().ok()?).ok()
}

/// User names by id; the first name of an id counts.
fn user_names(passwd: &str) -> HashMap<u32, String> {
    let mut names = HashMap::new();
    for line in passwd.lines() {
        let mut fields = line.split(':');
        if let (Some(name), Some(uid)) = (fields.next(), fields.nth(1).and_then(|uid| uid.parse().ok())) {
            names.entry(uid).or_insert_with(|| name.to_owned());
        }
    }
    names
}

/// The fields of /proc/PID/stat that the table shows (proc(5)).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    parent: i32,
    terminal: u64,
    cpu_ticks: u64,
    start_ticks: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The name may hold spaces and parentheses.
        let (name, rest) = (text.find('(')?, text.rfind(')')?);
        let fields: Vec<&str> = text.get(rest + 1..)?.split_whitespace().collect();
        let number = |n: usize| fields.get(n - 3)?.parse::<u64>().ok();
        Some(Self {
            name: text.get(name + 1..rest)?.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: fields.get(1)?.parse().ok()?,
            terminal: number(7)?,
            cpu_ticks: number(14)?.checked_add(number(15)?)?,
            start_ticks: number(22)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_with_a_nasty_name() {
        let line = "42 (a) b ( c) S 7 42 42 34817 42 4194304 100 0 0 0 150 50 0 0 20 0 1 0 12345 1000 1 2 3";
        let stat = Stat::parse(line).expect("it is well formed");
        assert_eq!(
            stat,
            Stat {
                name: "a) b ( c".into(),
                state: 'S',
                parent: 7,
                terminal: 34817,
                cpu_ticks: 200,
                start_ticks: 12345
            }
        );
        assert_eq!(Stat::parse("42 (a"), None);
        assert_eq!(Stat::parse(") 42 ("), None);
    }

    #[test]
    fn columns() {
        assert_eq!(terminal_name(34817), "pts/1");
        assert_eq!(terminal_name(0), "?");
        let stat = |state| Stat { name: "x".into(), state, parent: 1, terminal: 0, cpu_ticks: 0, start_ticks: 0 };
        assert_eq!(command("sh\0-c\0a\nb\0", &stat('S')), "sh -c a?b");
        assert_eq!(command("", &stat('Z')), "[x] <defunct>");
        let noon = UNIX_EPOCH + Duration::from_secs(951_825_600); // 2000-02-29
        assert_eq!(started(noon, Duration::from_secs(3600)), "11:00");
        assert_eq!(started(noon, Duration::from_secs(2 * 86_400)), "Feb27");
        assert_eq!(user_names("root:x:0:0\ntoor:x:0:0\nbad\n").get(&0).map(String::as_str), Some("root"));
    }

    #[test]
    fn this_process_has_a_row() {
        let pid = rustix::process::getpid().as_raw_nonzero().get();
        let table = table(&[pid, i32::MAX]);
        let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(lines.len(), 2);
        assert_eq!(lines[0], ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"]);
        assert_eq!(lines[1][1], pid.to_string());
    }
}
