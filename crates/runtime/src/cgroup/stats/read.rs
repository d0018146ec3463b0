//! Reading the statistics files of a cgroup.

use std::collections::BTreeMap;

use rtc_sys::CallExt;
use rustix::fs::Dir;

use super::parse::{io, keyed, number, psi, ranges};
use super::{Blkio, Cpu, CpuUsage, Cpuset, Hugetlb, Memory, MemoryEntry, Pids, Psi, Stats, Throttling};
use crate::Result;
use crate::cgroup::Cgroup;
use crate::error::Context;

impl Cgroup {
    /// Reads what is used now. Controllers that are missing leave their part empty.
    ///
    /// # Errors
    /// A file exists but can't be read.
    pub fn stats(&self) -> Result<Stats> {
        Ok(Stats {
            cpu: self.cpu()?,
            cpuset: self.cpuset()?,
            memory: self.memory()?,
            pids: self.pids()?,
            blkio: self.blkio()?,
            hugetlb: self.hugetlb()?,
        })
    }

    fn cpu(&self) -> Result<Cpu> {
        let text = self.read_optional("cpu.stat")?.unwrap_or_default();
        let stat = keyed(&text);
        // The file counts in microseconds.
        let nanoseconds = |key: &str| stat.get(key).copied().unwrap_or(0).saturating_mul(1000);
        let count = |key: &str| stat.get(key).copied().unwrap_or(0);
        Ok(Cpu {
            usage: CpuUsage {
                total: nanoseconds("usage_usec"),
                kernel: nanoseconds("system_usec"),
                user: nanoseconds("user_usec"),
            },
            throttling: Throttling {
                periods: count("nr_periods"),
                throttled_periods: count("nr_throttled"),
                throttled_time: nanoseconds("throttled_usec"),
            },
            psi: self.psi("cpu.pressure")?,
        })
    }

    fn cpuset(&self) -> Result<Cpuset> {
        let list = |file: &str| -> Result<Vec<u32>> {
            Ok(self.read_optional(file)?.map(|text| ranges(&text)).unwrap_or_default())
        };
        Ok(Cpuset { cpus: list("cpuset.cpus.effective")?, mems: list("cpuset.mems.effective")? })
    }

    fn memory(&self) -> Result<Memory> {
        let text = self.read_optional("memory.stat")?.unwrap_or_default();
        let stat = keyed(&text);
        let usage = self.memory_entry("memory")?;
        // Version 1 counted both together; who reads this format expects that.
        let swap = match (&usage, self.memory_entry("memory.swap")?) {
            (Some(memory), Some(swap)) => Some(MemoryEntry {
                limit: memory.limit.saturating_add(swap.limit),
                usage: memory.usage.saturating_add(swap.usage),
                max: 0,
                failcnt: swap.failcnt,
            }),
            (_, swap) => swap,
        };
        let raw: BTreeMap<String, u64> = stat.iter().map(|(key, value)| ((*key).to_owned(), *value)).collect();
        let cache = stat.get("file").copied().unwrap_or(0);
        Ok(Memory { cache, usage, swap, raw, psi: self.psi("memory.pressure")? })
    }

    fn memory_entry(&self, prefix: &str) -> Result<Option<MemoryEntry>> {
        let file = |name: &str| -> Result<Option<String>> { self.read_optional(&format!("{prefix}.{name}")) };
        let Some(usage) = file("current")? else { return Ok(None) };
        Ok(Some(MemoryEntry {
            limit: number(&file("max")?.unwrap_or_default()),
            usage: number(&usage),
            max: number(&file("peak")?.unwrap_or_default()),
            failcnt: keyed(&file("events")?.unwrap_or_default()).get("max").copied().unwrap_or(0),
        }))
    }

    fn pids(&self) -> Result<Pids> {
        let limit = number(&self.read_optional("pids.max")?.unwrap_or_default());
        Ok(Pids {
            current: number(&self.read_optional("pids.current")?.unwrap_or_default()),
            limit: if limit == u64::MAX { 0 } else { limit },
        })
    }

    fn blkio(&self) -> Result<Blkio> {
        let (service_bytes, serviced) = io(&self.read_optional("io.stat")?.unwrap_or_default());
        Ok(Blkio { service_bytes, serviced, psi: self.psi("io.pressure")? })
    }

    fn hugetlb(&self) -> Result<BTreeMap<String, Hugetlb>> {
        let mut sizes = BTreeMap::new();
        let files = Dir::read_from(&self.dir).call("getdents64", "cgroup").context(|| self.noun())?;
        for file in files {
            let file = file.call("getdents64", "cgroup").context(|| self.noun())?;
            let name = file.file_name().to_string_lossy();
            let Some(size) = name.strip_prefix("hugetlb.").and_then(|rest| rest.strip_suffix(".current")) else {
                continue;
            };
            // hugetlb.2MB.current, but not hugetlb.2MB.rsvd.current.
            if size.contains('.') {
                continue;
            }
            let usage = number(&self.read_optional(&name)?.unwrap_or_default());
            let events = self.read_optional(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
            let failcnt = keyed(&events).get("max").copied().unwrap_or(0);
            sizes.insert(size.to_owned(), Hugetlb { usage, failcnt });
        }
        Ok(sizes)
    }

    fn psi(&self, file: &str) -> Result<Option<Psi>> {
        Ok(self.read_optional(file)?.and_then(|text| psi(&text)))
    }
}
