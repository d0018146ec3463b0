//! What a container uses, as io.containerd.cgroups.v2.Metrics (containerd/cgroups, cgroup2/stats).
//!
//! Left out: network interfaces, which the CRI plugin counts itself.

use std::collections::BTreeMap;

use crate::cgroup::Watched;
use crate::wire::Message;

/// The name of the message's type.
pub(crate) const TYPE: &str = "io.containerd.cgroups.v2.Metrics";

/// Reads the control files of a cgroup. What a missing controller would count is left out.
pub(crate) fn read(cgroup: &Watched) -> Message {
    metrics(&|name| cgroup.read(name), &cgroup.names("hugetlb."))
}

fn metrics(read: &dyn Fn(&str) -> Option<String>, hugetlb: &[String]) -> Message {
    let number = |name: &str| read(name).map(|text| limit(&text)).unwrap_or_default();
    let mut message = Message::new();
    if read("pids.current").is_some() {
        let max = read("pids.max").filter(|text| text.trim() != "max").map(|text| limit(&text)).unwrap_or_default();
        message = message.message(1, Message::new().number(1, number("pids.current")).number(2, max));
    }
    if let Some(text) = read("cpu.stat") {
        message = message.message(2, with_pressure(counters(&text, &CPU, Message::new()), 7, read("cpu.pressure")));
    }
    if let Some(text) = read("memory.stat") {
        let mut memory = counters(&text, &MEMORY, Message::new());
        // slab and the refaults have been split up since the message was made.
        memory = sums(&text, memory);
        for (field, name) in MEMORY_FILES {
            memory = memory.number(field, number(name));
        }
        message = message.message(4, with_pressure(memory, 38, read("memory.pressure")));
    }
    if let (Some(current), Some(max)) = (read("rdma.current"), read("rdma.max")) {
        let rdma = rdma(&current, 1, Message::new());
        message = message.message(5, self::rdma(&max, 2, rdma));
    }
    if let Some(text) = read("io.stat") {
        message = message.message(6, with_pressure(devices(&text), 2, read("io.pressure")));
    }
    for size in hugetlb.iter().filter_map(|name| name.strip_prefix("hugetlb.")?.strip_suffix(".current")) {
        if size.ends_with(".rsvd") {
            continue;
        }
        let file = |what: &str| format!("hugetlb.{size}.{what}");
        let failures = read(&file("events")).and_then(|text| numbers(&text).remove("max")).unwrap_or_default();
        let entry = Message::new().number(1, number(&file("current"))).number(2, number(&file("max")));
        message = message.message(7, entry.text(3, size).number(4, failures));
    }
    if let Some(text) = read("memory.events") {
        message = message.message(8, counters(&text, &MEMORY_EVENTS, Message::new()));
    }
    message
}

type Fields = [(u32, &'static str)];

const CPU: [(u32, &str); 8] = [
    (1, "usage_usec"),
    (2, "user_usec"),
    (3, "system_usec"),
    (4, "nr_periods"),
    (5, "nr_throttled"),
    (6, "throttled_usec"),
    (8, "nr_bursts"),
    (9, "burst_usec"),
];

const MEMORY: [(u32, &str); 27] = [
    (1, "anon"),
    (2, "file"),
    (3, "kernel_stack"),
    (5, "sock"),
    (6, "shmem"),
    (7, "file_mapped"),
    (8, "file_dirty"),
    (9, "file_writeback"),
    (10, "anon_thp"),
    (11, "inactive_anon"),
    (12, "active_anon"),
    (13, "inactive_file"),
    (14, "active_file"),
    (15, "unevictable"),
    (16, "slab_reclaimable"),
    (17, "slab_unreclaimable"),
    (18, "pgfault"),
    (19, "pgmajfault"),
    (22, "workingset_nodereclaim"),
    (23, "pgrefill"),
    (24, "pgscan"),
    (25, "pgsteal"),
    (26, "pgactivate"),
    (27, "pgdeactivate"),
    (28, "pglazyfree"),
    (29, "pglazyfreed"),
    (30, "thp_fault_alloc"),
];

/// Fields that are the sum of several lines of memory.stat.
const MEMORY_SUMS: [(u32, &[&str]); 4] = [
    (4, &["slab_reclaimable", "slab_unreclaimable"]),
    (20, &["workingset_refault_anon", "workingset_refault_file"]),
    (21, &["workingset_activate_anon", "workingset_activate_file"]),
    (31, &["thp_collapse_alloc"]),
];

const MEMORY_FILES: [(u32, &str); 6] = [
    (32, "memory.current"),
    (33, "memory.max"),
    (34, "memory.swap.current"),
    (35, "memory.swap.max"),
    (36, "memory.peak"),
    (37, "memory.swap.peak"),
];

const MEMORY_EVENTS: [(u32, &str); 6] =
    [(1, "low"), (2, "high"), (3, "max"), (4, "oom"), (5, "oom_kill"), (6, "oom_group_kill")];

/// A number, or `max` for none.
fn limit(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        number => number.parse().unwrap_or_default(),
    }
}

/// Lines of a name and a number.
fn numbers(text: &str) -> BTreeMap<&str, u64> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(name, number)| (name, limit(number))).collect()
}

fn counters(text: &str, fields: &Fields, message: Message) -> Message {
    let numbers = numbers(text);
    fields
        .iter()
        .fold(message, |message, (field, name)| message.number(*field, numbers.get(name).copied().unwrap_or_default()))
}

fn sums(text: &str, message: Message) -> Message {
    let numbers = numbers(text);
    MEMORY_SUMS.iter().fold(message, |message, (field, names)| {
        message.number(*field, names.iter().filter_map(|name| numbers.get(name)).sum())
    })
}

/// io.stat: `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn devices(text: &str) -> Message {
    text.lines().fold(Message::new(), |message, line| {
        let mut words = line.split(' ');
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { return message };
        let counts: BTreeMap<&str, u64> =
            words.filter_map(|word| word.split_once('=')).map(|(name, number)| (name, limit(number))).collect();
        let entry = Message::new().number(1, limit(major)).number(2, limit(minor));
        let fields = [(3, "rbytes"), (4, "wbytes"), (5, "rios"), (6, "wios")];
        let count = |name: &str| counts.get(name).copied().unwrap_or_default();
        message.message(1, fields.iter().fold(entry, |entry, (field, name)| entry.number(*field, count(name))))
    })
}

/// rdma.current and rdma.max: `mlx4_0 hca_handle=2 hca_object=2000`.
fn rdma(text: &str, field: u32, message: Message) -> Message {
    text.lines().fold(message, |message, line| {
        let mut words = line.split(' ');
        let mut entry = Message::new().text(1, words.next().unwrap_or_default());
        for (name, number) in words.filter_map(|word| word.split_once('=')) {
            // The message has 32 bits; none is as good as the most.
            let number = limit(number).min(u32::MAX.into());
            entry = match name {
                "hca_handle" => entry.number(2, number),
                "hca_object" => entry.number(3, number),
                _ => entry,
            };
        }
        message.message(field, entry)
    })
}

/// Pressure: `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and `full …`.
fn with_pressure(message: Message, field: u32, text: Option<String>) -> Message {
    let Some(text) = text else { return message };
    let mut pressure = Message::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let kind = match words.next() {
            Some("some") => 1,
            Some("full") => 2,
            _ => continue,
        };
        let mut data = Message::new();
        for (name, number) in words.filter_map(|word| word.split_once('=')) {
            let average = || number.parse().unwrap_or_default();
            data = match name {
                "avg10" => data.double(1, average()),
                "avg60" => data.double(2, average()),
                "avg300" => data.double(3, average()),
                "total" => data.number(4, limit(number)),
                _ => data,
            };
        }
        pressure = pressure.message(kind, data);
    }
    message.message(field, pressure)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Record;

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
        let bytes = metrics(&read, &names).into_bytes();
        let all = Record::parse(&bytes).unwrap();
        let part = |field| Record::parse(all.bytes(field)).unwrap();
        assert_eq!((part(1).number(1), part(1).number(2)), (3, 0));
        assert_eq!((part(2).number(1), part(2).number(8)), (100, 2));
        let cpu = part(2);
        let some = Record::parse(Record::parse(cpu.bytes(7)).unwrap().bytes(1)).unwrap().number(4);
        assert_eq!(some, 9);
        assert_eq!((part(4).number(1), part(4).number(4), part(4).number(31)), (5, 3, 4));
        assert_eq!((part(4).number(32), part(4).number(33)), (4096, u64::MAX));
        assert_eq!(part(8).number(5), 2);
        assert_eq!(Record::parse(part(6).bytes(1)).unwrap().number(6), 4);
        assert_eq!(all.each(7).count(), 1);
        assert_eq!((part(7).number(1), part(7).number(4), part(7).text(3).unwrap()), (2 << 20, 7, "2MB".into()));
        assert_eq!(Record::parse(part(5).bytes(2)).unwrap().number(2), u64::from(u32::MAX));
    }
}
