//! What a container uses, as io.containerd.cgroups.v2.Metrics (containerd/cgroups, cgroup2/stats).
//!
//! Left out: network interfaces, which the CRI plugin counts itself.

use std::collections::BTreeMap;

use containerd_shim::protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat, RdmaEntry,
    RdmaStat,
};
use containerd_shim::protos::protobuf::MessageField;

use crate::cgroup::Watched;

/// Of the message.
pub(crate) const PACKAGE: &str = "io.containerd.cgroups.v2";

/// Reads the control files of a cgroup. What a missing controller would count is left out.
pub(crate) fn read(cgroup: &Watched) -> Metrics {
    metrics(&|name| cgroup.read(name), &cgroup.names("hugetlb."))
}

fn metrics(read: &dyn Fn(&str) -> Option<String>, hugetlb: &[String]) -> Metrics {
    let rdma = read("rdma.current").zip(read("rdma.max"));
    let rdma = rdma.map(|(now, max)| RdmaStat { current: devices(&now), limit: devices(&max), ..RdmaStat::default() });
    let events = read("memory.events");
    Metrics {
        pids: pids(read).into(),
        cpu: cpu(read).into(),
        memory: memory(read).into(),
        rdma: rdma.into(),
        io: io(read).into(),
        hugetlb: huge_pages(read, hugetlb),
        memory_events: events.map(|text| counters(&text, &MEMORY_EVENTS)).into(),
        ..Metrics::default()
    }
}

type Read<'a> = &'a dyn Fn(&str) -> Option<String>;
/// The name of a number, and where it goes.
type Field<M> = (&'static str, fn(&mut M) -> &mut u64);

const CPU: [Field<CPUStat>; 8] = [
    ("usage_usec", |m| &mut m.usage_usec),
    ("user_usec", |m| &mut m.user_usec),
    ("system_usec", |m| &mut m.system_usec),
    ("nr_periods", |m| &mut m.nr_periods),
    ("nr_throttled", |m| &mut m.nr_throttled),
    ("throttled_usec", |m| &mut m.throttled_usec),
    ("nr_bursts", |m| &mut m.nr_bursts),
    ("burst_usec", |m| &mut m.burst_usec),
];

/// Several lines of one field are added up: slab and the refaults have been split up since the message was made.
const MEMORY: [Field<MemoryStat>; 34] = [
    ("anon", |m| &mut m.anon),
    ("file", |m| &mut m.file),
    ("kernel_stack", |m| &mut m.kernel_stack),
    ("slab_reclaimable", |m| &mut m.slab),
    ("slab_unreclaimable", |m| &mut m.slab),
    ("sock", |m| &mut m.sock),
    ("shmem", |m| &mut m.shmem),
    ("file_mapped", |m| &mut m.file_mapped),
    ("file_dirty", |m| &mut m.file_dirty),
    ("file_writeback", |m| &mut m.file_writeback),
    ("anon_thp", |m| &mut m.anon_thp),
    ("inactive_anon", |m| &mut m.inactive_anon),
    ("active_anon", |m| &mut m.active_anon),
    ("inactive_file", |m| &mut m.inactive_file),
    ("active_file", |m| &mut m.active_file),
    ("unevictable", |m| &mut m.unevictable),
    ("slab_reclaimable", |m| &mut m.slab_reclaimable),
    ("slab_unreclaimable", |m| &mut m.slab_unreclaimable),
    ("pgfault", |m| &mut m.pgfault),
    ("pgmajfault", |m| &mut m.pgmajfault),
    ("workingset_refault_anon", |m| &mut m.workingset_refault),
    ("workingset_refault_file", |m| &mut m.workingset_refault),
    ("workingset_activate_anon", |m| &mut m.workingset_activate),
    ("workingset_activate_file", |m| &mut m.workingset_activate),
    ("workingset_nodereclaim", |m| &mut m.workingset_nodereclaim),
    ("pgrefill", |m| &mut m.pgrefill),
    ("pgscan", |m| &mut m.pgscan),
    ("pgsteal", |m| &mut m.pgsteal),
    ("pgactivate", |m| &mut m.pgactivate),
    ("pgdeactivate", |m| &mut m.pgdeactivate),
    ("pglazyfree", |m| &mut m.pglazyfree),
    ("pglazyfreed", |m| &mut m.pglazyfreed),
    ("thp_fault_alloc", |m| &mut m.thp_fault_alloc),
    ("thp_collapse_alloc", |m| &mut m.thp_collapse_alloc),
];

/// Files with one number.
const MEMORY_FILES: [Field<MemoryStat>; 6] = [
    ("memory.current", |m| &mut m.usage),
    ("memory.max", |m| &mut m.usage_limit),
    ("memory.swap.current", |m| &mut m.swap_usage),
    ("memory.swap.max", |m| &mut m.swap_limit),
    ("memory.peak", |m| &mut m.max_usage),
    ("memory.swap.peak", |m| &mut m.swap_max_usage),
];

const MEMORY_EVENTS: [Field<MemoryEvents>; 6] = [
    ("low", |m| &mut m.low),
    ("high", |m| &mut m.high),
    ("max", |m| &mut m.max),
    ("oom", |m| &mut m.oom),
    ("oom_kill", |m| &mut m.oom_kill),
    ("oom_group_kill", |m| &mut m.oom_group_kill),
];

const IO: [Field<IOEntry>; 4] = [
    ("rbytes", |m| &mut m.rbytes),
    ("wbytes", |m| &mut m.wbytes),
    ("rios", |m| &mut m.rios),
    ("wios", |m| &mut m.wios),
];

fn pids(read: Read<'_>) -> Option<PidsStat> {
    let current = read("pids.current").map(|text| number(&text))?;
    let limit = read("pids.max").map(|text| number(&text)).unwrap_or_default();
    Some(PidsStat { current, limit, ..PidsStat::default() })
}

fn cpu(read: Read<'_>) -> Option<CPUStat> {
    let mut stat = counters(&read("cpu.stat")?, &CPU);
    stat.psi = pressure(read("cpu.pressure"));
    Some(stat)
}

fn memory(read: Read<'_>) -> Option<MemoryStat> {
    let mut stat = counters(&read("memory.stat")?, &MEMORY);
    for (name, field) in MEMORY_FILES {
        *field(&mut stat) = read(name).map(|text| number(&text)).unwrap_or_default();
    }
    stat.psi = pressure(read("memory.pressure"));
    Some(stat)
}

/// io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io(read: Read<'_>) -> Option<IOStat> {
    let text = read("io.stat")?;
    let entry = |line: &str| {
        let (device, counts) = line.split_once(' ')?;
        let (major, minor) = device.split_once(':')?;
        let mut entry = IOEntry { major: number(major), minor: number(minor), ..IOEntry::default() };
        add(counts.split(' '), '=', &IO, &mut entry);
        Some(entry)
    };
    Some(IOStat {
        usage: text.lines().filter_map(entry).collect(),
        psi: pressure(read("io.pressure")),
        ..IOStat::default()
    })
}

/// hugetlb.2MB.current and its like.
fn huge_pages(read: Read<'_>, names: &[String]) -> Vec<HugeTlbStat> {
    let sizes = names.iter().filter_map(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".current"));
    let stat = |size: &str| {
        let file = |what: &str| read(&format!("hugetlb.{size}.{what}"));
        let count = |what: &str| file(what).map(|text| number(&text)).unwrap_or_default();
        let failcnt = file("events").and_then(|text| words(&text, "max")).unwrap_or_default();
        let (current, max, pagesize) = (count("current"), count("max"), size.to_owned());
        HugeTlbStat { current, max, pagesize, failcnt, ..HugeTlbStat::default() }
    };
    sizes.filter(|size| !size.ends_with(".rsvd")).map(stat).collect()
}

/// rdma.current and rdma.max: `mlx4_0 hca_handle=2 hca_object=2000`.
fn devices(text: &str) -> Vec<RdmaEntry> {
    let entry = |line: &str| {
        let mut words = line.split(' ');
        let mut entry = RdmaEntry { device: words.next().unwrap_or_default().to_owned(), ..RdmaEntry::default() };
        for (name, value) in words.filter_map(|word| word.split_once('=')) {
            // The message has 32 bits; none is as good as the most.
            let value = u32::try_from(number(value)).unwrap_or(u32::MAX);
            match name {
                "hca_handle" => entry.hca_handles = value,
                "hca_object" => entry.hca_objects = value,
                _ => {}
            }
        }
        entry
    };
    text.lines().map(entry).collect()
}

/// Pressure: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full …`.
fn pressure(text: Option<String>) -> MessageField<PSIStats> {
    let Some(text) = text else { return MessageField::none() };
    let mut stats = PSIStats::default();
    for line in text.lines() {
        let Some((kind, values)) = line.split_once(' ') else { continue };
        let mut data = PSIData::default();
        for (name, value) in values.split(' ').filter_map(|word| word.split_once('=')) {
            let average = || value.parse().unwrap_or_default();
            match name {
                "avg10" => data.avg10 = average(),
                "avg60" => data.avg60 = average(),
                "avg300" => data.avg300 = average(),
                "total" => data.total = number(value),
                _ => {}
            }
        }
        match kind {
            "some" => stats.some = MessageField::some(data),
            "full" => stats.full = MessageField::some(data),
            _ => {}
        }
    }
    MessageField::some(stats)
}

/// A number, or `max` for none.
fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or_default(),
    }
}

/// The number after a name, of lines that have both.
fn words(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(number)
}

/// Lines of a name and a number.
fn counters<M: Default>(text: &str, fields: &[Field<M>]) -> M {
    let mut message = M::default();
    add(text.lines(), ' ', fields, &mut message);
    message
}

fn add<'a, M>(pairs: impl Iterator<Item = &'a str>, between: char, fields: &[Field<M>], message: &mut M) {
    let numbers: BTreeMap<&str, u64> =
        pairs.filter_map(|pair| pair.split_once(between)).map(|(name, value)| (name, number(value))).collect();
    for (name, field) in fields {
        *field(message) += numbers.get(name).copied().unwrap_or_default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_files_become_fields() {
        let read = |name: &str| {
            let text = match name {
                "pids.current" => "3\n",
                "pids.max" | "memory.max" => "max\n",
                "cpu.stat" => "usage_usec 100\nuser_usec 60\nsystem_usec 40\nnr_bursts 2\n",
                "cpu.pressure" => "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.00 total=0\n",
                "memory.stat" => "anon 5\nslab_reclaimable 1\nslab_unreclaimable 2\nthp_collapse_alloc 4\n",
                "memory.current" => "4096\n",
                "memory.events" => "low 0\noom_kill 2\n",
                "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=5 dios=6\n",
                "hugetlb.2MB.current" => "2097152\n",
                "hugetlb.2MB.max" => "max\n",
                "hugetlb.2MB.events" => "max 7\n",
                "rdma.current" => "mlx4_0 hca_handle=2 hca_object=2000\n",
                "rdma.max" => "mlx4_0 hca_handle=max hca_object=max\n",
                _ => return None,
            };
            Some(text.to_owned())
        };
        let names = ["hugetlb.2MB.current", "hugetlb.2MB.rsvd.current", "hugetlb.2MB.max"].map(str::to_owned);
        let all = metrics(&read, &names);
        assert_eq!((all.pids.current, all.pids.limit), (3, u64::MAX));
        assert_eq!((all.cpu.usage_usec, all.cpu.nr_bursts), (100, 2));
        assert_eq!((all.cpu.psi.some.avg10, all.cpu.psi.some.total), (1.5, 9));
        assert!(all.cpu.psi.full.is_some() && all.memory.psi.is_none());
        assert_eq!((all.memory.anon, all.memory.slab, all.memory.thp_collapse_alloc), (5, 3, 4));
        assert_eq!((all.memory.slab_unreclaimable, all.memory.usage, all.memory.usage_limit), (2, 4096, u64::MAX));
        assert_eq!(all.memory_events.oom_kill, 2);
        let usage = &all.io.usage[0];
        assert_eq!((usage.major, usage.minor, usage.rbytes, usage.wios), (8, 0, 1, 4));
        assert_eq!(all.hugetlb.len(), 1);
        let huge = &all.hugetlb[0];
        assert_eq!((huge.current, huge.max, huge.failcnt, huge.pagesize.as_str()), (2 << 20, u64::MAX, 7, "2MB"));
        assert_eq!((all.rdma.current[0].hca_objects, all.rdma.limit[0].hca_handles), (2000, u32::MAX));
    }
}
