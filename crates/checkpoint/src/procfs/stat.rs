//! /proc/PID/stat (proc_pid_stat(5)).

use super::{Malformed, Parsed};

/// The fields that a checkpoint needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// The state's letter: R, S, D, T, t, Z, X, I.
    pub state: char,
    /// The parent, as the reader's pid namespace counts; 0 when it is outside.
    pub ppid: i32,
    /// The controlling terminal's device number, or 0.
    pub tty_nr: i32,
    /// The foreground process group of the terminal, or -1.
    pub tpgid: i32,
    /// -20 to 19.
    pub nice: i32,
    /// Number of threads.
    pub threads: u32,
    /// Bounds of the program text.
    pub code: (u64, u64),
    /// Where the stack began.
    pub start_stack: u64,
    /// The signal sent to the parent at the end.
    pub exit_signal: i32,
    /// Realtime priority, 1 to 99, or 0.
    pub rt_priority: u32,
    /// Scheduling policy.
    pub policy: u32,
    /// Bounds of the program's data.
    pub data: (u64, u64),
    /// Where the heap began.
    pub start_brk: u64,
    /// Bounds of the arguments.
    pub args: (u64, u64),
    /// Bounds of the environment.
    pub env: (u64, u64),
    /// Exit status as waitpid(2) gives it; only of a zombie.
    pub exit_code: i32,
}

/// Parses the file's text.
///
/// # Errors
/// When a field is missing or isn't a number.
pub fn parse(text: &str) -> Parsed<Stat> {
    let malformed = || Malformed("stat");
    // The name in parentheses may hold anything, also parentheses: the last one closes it.
    let rest = text.rsplit_once(") ").ok_or_else(malformed)?.1;
    let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
    // proc_pid_stat(5) counts from 1 and the state is field 3.
    let field = |n: usize| fields.get(n - 3).copied().ok_or_else(malformed);
    let int = |n: usize| field(n)?.parse::<i64>().map_err(|_| malformed());
    let addr = |n: usize| field(n)?.parse::<u64>().map_err(|_| malformed());
    Ok(Stat {
        state: field(3)?.chars().next().ok_or_else(malformed)?,
        ppid: int(4)? as i32,
        tty_nr: int(7)? as i32,
        tpgid: int(8)? as i32,
        nice: int(19)? as i32,
        threads: int(20)? as u32,
        code: (addr(26)?, addr(27)?),
        start_stack: addr(28)?,
        exit_signal: int(38)? as i32,
        rt_priority: int(40)? as u32,
        policy: int(41)? as u32,
        data: (addr(45)?, addr(46)?),
        start_brk: addr(47)?,
        args: (addr(48)?, addr(49)?),
        env: (addr(50)?, addr(51)?),
        exit_code: int(52)? as i32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_does_not_confuse() {
        let text = "12 (a) R (b)) S 1 12 12 34816 12 4194304 1 0 0 0 0 0 0 0 20 5 3 0 100 2 3 18446744073709551615 \
                    4096 8192 140000 0 0 0 0 0 0 0 0 0 17 1 7 2 0 0 0 20000 24000 30000 40000 40010 40010 40020 9\n";
        let stat = parse(text).unwrap();
        assert_eq!((stat.state, stat.ppid, stat.tty_nr, stat.nice, stat.threads), ('S', 1, 34816, 5, 3));
        assert_eq!((stat.code, stat.start_stack, stat.exit_signal), ((4096, 8192), 140_000, 17));
        assert_eq!((stat.rt_priority, stat.policy, stat.start_brk), (7, 2, 30000));
        assert_eq!((stat.data, stat.args, stat.env), ((20000, 24000), (40000, 40010), (40010, 40020)));
        assert_eq!(stat.exit_code, 9);
    }

    #[test]
    fn a_short_line_is_refused() {
        assert!(parse("12 (a) S 1 12").is_err());
        assert!(parse("").is_err());
    }
}
