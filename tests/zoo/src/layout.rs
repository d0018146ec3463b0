//! What a process shows of itself: its layout, arguments and program; and that the vDSO's clocks go on.

use crate::base::{Check, Named, Prepare, Result, check, holds, same, sys};
use std::fs;
use std::time::{Duration, Instant, SystemTime};

pub(crate) const ZOO: &[(&str, Prepare)] = &[("layout", layout), ("clocks", clocks), ("rseq", rseq)];

/// Mappings, auxiliary vector, arguments, environment, program, limits of the areas.
fn layout() -> Result<Check> {
    // The check's own allocations must not change the layout they look at.
    let show = || -> Result<Vec<(&str, String)>> {
        let maps = fs::read_to_string("/proc/self/maps").named("maps")?;
        let mappings: Vec<String> = maps.lines().map(line).collect();
        let auxv = fs::read("/proc/self/auxv").named("auxv")?;
        let stat = fs::read_to_string("/proc/self/stat").named("stat")?;
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        // start_code end_code start_stack; start_data end_data start_brk arg_start arg_end env_start env_end.
        let areas = [&fields[23..26], &fields[42..49]].concat().join(" ");
        Ok(vec![
            ("mappings", mappings.join("\n")),
            ("auxv", format!("{auxv:x?}")),
            ("areas", areas),
            ("cmdline", fs::read_to_string("/proc/self/cmdline").named("cmdline")?),
            ("environ", fs::read_to_string("/proc/self/environ").named("environ")?),
            ("comm", fs::read_to_string("/proc/self/comm").named("comm")?),
            ("exe", fs::read_link("/proc/self/exe").named("exe")?.to_string_lossy().into_owned()),
            ("cwd", fs::read_link("/proc/self/cwd").named("cwd")?.to_string_lossy().into_owned()),
        ])
    };
    // The second look sees the heap as the first has grown it.
    show()?;
    let before = show()?;
    check(move || {
        for ((name, now), (_, before)) in show()?.into_iter().zip(&before) {
            same(name, &now, before)?;
        }
        Ok(())
    })
}

/// A line of maps without device and inode, which a restore may change; the heap's and stack's ends may move.
fn line(text: &str) -> String {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let range = match fields.get(5) {
        Some(&("[heap]" | "[stack]")) => "",
        _ => fields[0],
    };
    format!("{range} {} {} {}", fields[1], fields[2], fields[5..].join(" "))
}

/// Clocks go forward, through the vDSO and by system call, and agree.
fn clocks() -> Result<Check> {
    let mut last = (Instant::now(), SystemTime::now());
    check(move || {
        let now = (Instant::now(), SystemTime::now());
        holds("the monotonic clock goes on", now.0 >= last.0)?;
        holds("the wall clock goes on", now.1 >= last.1)?;
        let passed = now.0 - last.0;
        let wall = now.1.duration_since(last.1).named("clock")?;
        holds(&format!("{passed:?} and {wall:?} have passed"), passed.abs_diff(wall) < Duration::from_secs(2))?;
        let mut direct = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        sys!(libc::syscall(libc::SYS_clock_gettime, libc::CLOCK_REALTIME, &raw mut direct))?;
        let direct = Duration::new(direct.tv_sec as u64, direct.tv_nsec as u32);
        let vdso = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).named("clock")?;
        holds("the vDSO agrees with the kernel", vdso.abs_diff(direct) < Duration::from_secs(1))?;
        last = now;
        Ok(())
    })
}

/// The restartable sequences area that libc registered is kept up to date by the kernel.
fn rseq() -> Result<Check> {
    // glibc's `sched_getcpu` reads the area; a stale one would keep its last value for ever.
    let agree = || -> Result<bool> {
        let mut cpu = 0_u32;
        let by_area = sys!(libc::sched_getcpu())?;
        sys!(libc::syscall(libc::SYS_getcpu, &raw mut cpu, std::ptr::null_mut::<u32>(), 0))?;
        Ok(by_area == cpu as i32)
    };
    check(move || {
        let cpus = std::thread::available_parallelism().named("cpus")?.get();
        for cpu in 0..cpus {
            // SAFETY: a set of processors is plain bits.
            let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            // SAFETY: the number is within the set.
            unsafe { libc::CPU_SET(cpu, &mut set) };
            if sys!(libc::sched_setaffinity(0, size_of_val(&set), &raw const set)).is_ok() {
                holds("rseq names the processor", agree()?)?;
            }
        }
        Ok(())
    })
}
