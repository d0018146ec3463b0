//! `rtc update`: new resource limits for a container.

use std::fs;
use std::io::{self, Read};

use crate::session::Session;
use anyhow::{Context, Result, bail};
use rtc_runtime::spec;
use serde_json::{Map, Value, json};
use std::path::PathBuf;

use clap::Args;

const DESCRIPTION: &str = "   \
   --resources takes the specification's linux.resources object; '-' is stdin.
   Devices in it are left out: device rules can't be changed.";

/// The arguments of `update`.
#[derive(Args, Debug)]
#[command(about = "change the limits of a container", after_help = DESCRIPTION)]
pub(crate) struct Update {
    /// File with the new limits, or - for stdin; other flags are ignored then
    #[arg(long, short, value_name = "FILE")]
    pub(crate) resources: Option<PathBuf>,
    /// Weight of block I/O, 10 to 1000
    #[arg(long, value_name = "N")]
    pub(crate) blkio_weight: Option<u16>,
    /// Length of a CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_period: Option<u64>,
    /// CPU time allowed in a period, in microseconds; -1 for no limit
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_quota: Option<i64>,
    /// CPU time that may be saved up for a burst, in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_burst: Option<u64>,
    /// CPU shares, relative to other containers
    #[arg(long, value_name = "N")]
    pub(crate) cpu_share: Option<u64>,
    /// Length of a real-time CPU period in microseconds
    #[arg(long, value_name = "MICROSECONDS")]
    pub(crate) cpu_rt_period: Option<u64>,
    /// Real-time CPU time allowed in a period, in microseconds
    #[arg(long, value_name = "MICROSECONDS", allow_negative_numbers = true)]
    pub(crate) cpu_rt_runtime: Option<i64>,
    /// CPUs to use, as 0-3,7
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_cpus: Option<String>,
    /// Memory nodes to use
    #[arg(long, value_name = "LIST")]
    pub(crate) cpuset_mems: Option<String>,
    /// Run only when nothing else wants the CPU: 0 or 1
    #[arg(long, value_name = "0|1", allow_negative_numbers = true)]
    pub(crate) cpu_idle: Option<i64>,
    /// Memory limit in bytes, with k, m, g, t; -1 for none
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) memory: Option<String>,
    /// Memory below which nothing is reclaimed
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) memory_reservation: Option<String>,
    /// Limit of memory and swap together; -1 for none
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) memory_swap: Option<String>,
    /// Obsolete, ignored
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) kernel_memory: Option<String>,
    /// Obsolete, ignored
    #[arg(long, value_name = "BYTES", allow_negative_numbers = true)]
    pub(crate) kernel_memory_tcp: Option<String>,
    /// Most processes and threads; -1 for no limit
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub(crate) pids_limit: Option<i64>,
    /// Intel RDT: limits of the L3 cache, as L3:0=ff;1=ff
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) l3_cache_schema: Option<String>,
    /// Intel RDT: limits of memory bandwidth, as MB:0=50;1=50
    #[arg(long, value_name = "SCHEMA")]
    pub(crate) mem_bw_schema: Option<String>,
    /// The container
    #[arg(value_name = "container-id")]
    pub(crate) id: String,
}

impl Update {
    /// # Errors
    /// No such container, limits that make no sense, or a limit whose controller is missing.
    pub(crate) fn run(self, session: &Session) -> Result<u8> {
        let container = session.container(&self.id)?;
        let schemata: Vec<String> =
            [&self.l3_cache_schema, &self.mem_bw_schema].into_iter().flatten().cloned().collect();
        if !schemata.is_empty() {
            container.update_rdt(&schemata)?;
        }
        let resources = match &self.resources {
            Some(path) => {
                let bytes = if path.as_os_str() == "-" { stdin() } else { fs::read(path) };
                let name = path.display();
                let bytes = bytes.with_context(|| format!("read {name}"))?;
                spec::parse_resources(&bytes).with_context(|| format!("{name} is no linux.resources object"))?
            }
            None => serde_json::from_value(self.typed()?).context("flags")?,
        };
        container.update(&resources)?;
        Ok(0)
    }

    /// The limits that were typed, as the specification's object.
    fn typed(&self) -> Result<Value> {
        let bytes = |flag: &str, text: &Option<String>| {
            text.as_deref().map(bytes).transpose().with_context(|| format!("invalid value for {flag}"))
        };
        Ok(json!({
            "blockIO": section([("weight", self.blkio_weight.map(Value::from))]),
            "cpu": section([
                ("period", self.cpu_period.map(Value::from)),
                ("quota", self.cpu_quota.map(Value::from)),
                ("burst", self.cpu_burst.map(Value::from)),
                ("shares", self.cpu_share.map(Value::from)),
                ("realtimePeriod", self.cpu_rt_period.map(Value::from)),
                ("realtimeRuntime", self.cpu_rt_runtime.map(Value::from)),
                ("cpus", self.cpuset_cpus.clone().map(Value::from)),
                ("mems", self.cpuset_mems.clone().map(Value::from)),
                ("idle", self.cpu_idle.map(Value::from)),
            ]),
            "memory": section([
                ("limit", bytes("memory", &self.memory)?.map(Value::from)),
                ("reservation", bytes("memory-reservation", &self.memory_reservation)?.map(Value::from)),
                ("swap", bytes("memory-swap", &self.memory_swap)?.map(Value::from)),
            ]),
            "pids": section([("limit", self.pids_limit.map(Value::from))]),
        }))
    }
}

/// The object of the members that are there; null without any, which is the same as no object.
fn section<const N: usize>(members: [(&str, Option<Value>); N]) -> Value {
    let object: Map<_, _> = members.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?))).collect();
    if object.is_empty() { Value::Null } else { object.into() }
}

fn stdin() -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    io::stdin().read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A number of bytes, with a unit in powers of 1024 (`50M`, `1GiB`), or -1 for no limit.
fn bytes(text: &str) -> Result<i64> {
    if text == "-1" {
        return Ok(-1);
    }
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = unit.to_ascii_lowercase();
    let power = match unit.as_str() {
        "" | "b" => 0,
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 2,
        "g" | "gb" | "gib" => 3,
        "t" | "tb" | "tib" => 4,
        _ => bail!("{text:?} is not a number of bytes, with k, m, g or t"),
    };
    let number = number.parse::<i64>().ok().and_then(|n| n.checked_mul(1024_i64.pow(power)));
    number.with_context(|| format!("{text:?} is not a number of bytes that fits"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_with_units() {
        for (text, number) in
            [("-1", -1), ("0", 0), ("4096", 4096), ("50M", 52_428_800), ("1g", 1 << 30), ("2KiB", 2048), ("8b", 8)]
        {
            assert_eq!(bytes(text).ok(), Some(number), "{text}");
        }
        for bad in ["", "M", "-2", "1x", "1ib", "99999999t", "1 k"] {
            assert!(bytes(bad).is_err(), "{bad} was taken");
        }
    }
}
