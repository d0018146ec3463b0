//! `linux.resources` as a list of writes to cgroup2 files. Pure: the machine isn't looked at.

use std::collections::HashMap;

use oci_spec::runtime::{LinuxHugepageLimit, LinuxNetwork, LinuxPids, LinuxRdma, LinuxResources};

use super::setting::{Missing, Setting, Value, invalid, limit};
use crate::Result;

/// All writes for the given resources, in the order to make them.
pub(in crate::cgroup) fn plan(resources: &LinuxResources) -> Result<Vec<Setting>> {
    let mut plan = Vec::new();
    if let Some(memory) = resources.memory() {
        super::memory::plan(memory, &mut plan)?;
    }
    if let Some(pids) = resources.pids() {
        plan.push(pids_limit(pids));
    }
    if let Some(cpu) = resources.cpu() {
        super::cpu::plan(cpu, &mut plan)?;
    }
    if let Some(block) = resources.block_io() {
        super::block::plan(block, &mut plan)?;
    }
    for limit in resources.hugepage_limits().iter().flatten() {
        hugepages(limit, &mut plan)?;
    }
    if let Some(rdma) = resources.rdma() {
        rdma_limits(rdma, &mut plan)?;
    }
    if let Some(network) = resources.network() {
        refuse_network(network)?;
    }
    // Last, so that it overrides.
    if let Some(files) = resources.unified() {
        unified(files, &mut plan)?;
    }
    drop_weight_of_idle(&mut plan);
    Ok(plan)
}

/// The kernel refuses a weight to an idle cgroup, and systemd has one property for both.
fn drop_weight_of_idle(plan: &mut Vec<Setting>) {
    let has = |plan: &[Setting], file: &str, value: Option<&str>| {
        plan.iter()
            .flat_map(|setting| &setting.files)
            .any(|(name, wanted)| name == file && value.is_none_or(|value| *wanted == Value::Text(value.to_owned())))
    };
    if has(plan, "cpu.idle", Some("1")) && has(plan, "cpu.weight", None) {
        log::warn!("unable to apply both cpu.idle and a weight (cpu.shares, cpu.weight): the weight is left out");
        plan.retain(|setting| setting.files.iter().all(|(file, _)| file != "cpu.weight"));
    }
}

fn pids_limit(pids: &LinuxPids) -> Setting {
    // 0 would forbid even the container's init; runc makes it 1.
    let value = if pids.limit() == 0 { 1 } else { pids.limit() };
    Setting::new("pids.limit", "pids.max", limit(value))
}

fn hugepages(huge: &LinuxHugepageLimit, plan: &mut Vec<Setting>) -> Result<()> {
    let size = huge.page_size();
    let digits = size.trim_end_matches("KB").trim_end_matches("MB").trim_end_matches("GB");
    if digits.is_empty() || digits.len() + 2 != size.len() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return invalid(format!("hugepageLimits.pageSize {size:?} is not a number with KB, MB or GB"));
    }
    let property = format!("hugepageLimits.{size}");
    let value = limit(huge.limit());
    plan.push(Setting::new(&property, &format!("hugetlb.{size}.max"), value.clone()));
    // Reservations count separately since 5.7; without this file a process could reserve more than it may use.
    plan.push(Setting::new(&property, &format!("hugetlb.{size}.rsvd.max"), value).ignore_missing());
    Ok(())
}

fn rdma_limits(rdma: &HashMap<String, LinuxRdma>, plan: &mut Vec<Setting>) -> Result<()> {
    let mut devices: Vec<_> = rdma.iter().collect();
    devices.sort_unstable_by_key(|(name, _)| *name);
    for (name, limits) in devices {
        if name.is_empty() || name.contains(char::is_whitespace) {
            return invalid(format!("rdma: {name:?} is not the name of a device"));
        }
        let mut line = name.clone();
        for (key, limit) in [("hca_handle", limits.hca_handles()), ("hca_object", limits.hca_objects())] {
            if let Some(limit) = limit {
                line += &format!(" {key}={limit}");
            }
        }
        if line.len() > name.len() {
            plan.push(Setting::new(&format!("rdma.{name}"), "rdma.max", line));
        }
    }
    Ok(())
}

fn refuse_network(network: &LinuxNetwork) -> Result<()> {
    if network.class_id().is_some_and(|id| id != 0) {
        return invalid("network.classID needs the net_cls controller of cgroup version 1");
    }
    if network.priorities().as_ref().is_some_and(|list| !list.is_empty()) {
        return invalid("network.priorities needs the net_prio controller of cgroup version 1");
    }
    Ok(())
}

fn unified(files: &HashMap<String, String>, plan: &mut Vec<Setting>) -> Result<()> {
    let mut files: Vec<_> = files.iter().collect();
    files.sort_unstable();
    for (file, value) in files {
        let valid = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if !file.contains('.') || file.starts_with('.') || !file.bytes().all(valid) {
            return invalid(format!("unified: {file:?} is not the name of a cgroup file"));
        }
        let property = format!("unified.{file}");
        // One line a write: the kernel takes only the first of several (io.max and the like).
        let mut lines = value.lines().filter(|line| !line.trim().is_empty()).peekable();
        if lines.peek().is_none() {
            // An empty write does nothing; a newline sets the file to nothing (cpuset.cpus).
            plan.push(Setting::of(&property, file, Value::Text("\n".to_owned()), Missing::Refuse));
        }
        plan.extend(lines.map(|line| Setting::of(&property, file, Value::Text(line.to_owned()), Missing::Refuse)));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The plan as text, a line for each setting.
    fn listing(json: serde_json::Value) -> String {
        let resources: LinuxResources = serde_json::from_value(json).unwrap();
        match plan(&resources) {
            Err(error) => format!("error: {error}"),
            Ok(plan) => plan.iter().map(line).collect(),
        }
    }

    fn line(setting: &Setting) -> String {
        let files: Vec<String> = setting.files.iter().map(|(file, value)| format!("{file}={}", text(value))).collect();
        let optional = if setting.missing == Missing::Ignore { " (optional)" } else { "" };
        let early = if setting.may_be_early { " (twice)" } else { "" };
        format!("{}: {}{optional}{early}\n", setting.property, files.join(" or "))
    }

    fn text(value: &Value) -> String {
        match value {
            Value::Text(text) => text.escape_debug().to_string(),
            other => format!("{other:?}"),
        }
    }

    macro_rules! plans {
        ($($json:tt => $golden:expr),* $(,)?) => {
            $(assert_eq!(listing(serde_json::json!($json)), $golden, "{}", stringify!($json));)*
        };
    }

    #[test]
    fn memory() {
        plans! {
            {"memory": {"limit": 1000, "swap": 3000, "reservation": 500}} =>
                "memory.limit: memory.max=1000\nmemory.swap: memory.swap.max=2000\n\
                 memory.reservation: memory.low=500\n",
            {"memory": {"limit": 1000, "swap": 1000}} =>
                "memory.limit: memory.max=1000\nmemory.swap: memory.swap.max=0 (optional)\n",
            {"memory": {"limit": -1}} =>
                "memory.limit: memory.max=max (optional)\nmemory.limit: memory.swap.max=max (optional)\n",
            {"memory": {"limit": 1000, "swap": -1}} =>
                "memory.limit: memory.max=1000\nmemory.swap: memory.swap.max=max (optional)\n",
            {"memory": {"swap": 3000}} => "memory.swap: memory.swap.max=SwapOf(3000)\n",
            {"memory": {"limit": 0, "swap": 0, "reservation": 0}} => "",
            {"memory": {"limit": 1000, "swap": 500}} =>
                "error: memory.swap 500 is memory and swap together: it can't be below the memory limit 1000",
            {"memory": {"limit": -1, "swap": 500}} =>
                "memory.limit: memory.max=max (optional)\nmemory.swap: memory.swap.max=500\n",
            {"memory": {"limit": -2}} => "error: memory.limit -2 is neither a number of bytes nor -1",
        }
    }

    #[test]
    fn pids_and_hugepages() {
        plans! {
            {"pids": {"limit": 0}} => "pids.limit: pids.max=1\n",
            {"pids": {"limit": -1}} => "pids.limit: pids.max=max (optional)\n",
            {"pids": {"limit": 77}} => "pids.limit: pids.max=77\n",
            {"hugepageLimits": [{"pageSize": "2MB", "limit": 4194304}]} =>
                "hugepageLimits.2MB: hugetlb.2MB.max=4194304\n\
                 hugepageLimits.2MB: hugetlb.2MB.rsvd.max=4194304 (optional)\n",
            {"hugepageLimits": [{"pageSize": "../2MB", "limit": 1}]} =>
                "error: hugepageLimits.pageSize \"../2MB\" is not a number with KB, MB or GB",
        }
    }

    #[test]
    fn cpu() {
        plans! {
            {"cpu": {"shares": 1024}} => "cpu.shares: cpu.weight=100\n",
            {"cpu": {"shares": 0}} => "",
            {"cpu": {"period": 20000}} => "cpu.period: cpu.max=Period(20000)\n",
            {"cpu": {"quota": 5000}} => "cpu.quota: cpu.max=5000\n",
            {"cpu": {"quota": -1}} => "cpu.quota: cpu.max=max (optional)\n",
            {"cpu": {"quota": 5000, "period": 20000, "burst": 100}} =>
                "cpu.burst: cpu.max.burst=100 (twice)\ncpu.quota: cpu.max=5000 20000\n",
            {"cpu": {"quota": -1, "period": 20000}} => "cpu.quota: cpu.max=max 20000\n",
            {"cpu": {"idle": 3}} => "error: cpu.idle 3 is neither 0 nor 1",
            {"cpu": {"quota": 999}} => "error: cpu.quota 999 is below 1000 microseconds",
            {"cpu": {"period": 999}} => "error: cpu.period 999 is not between 1000 and 1000000 microseconds",
            {"cpu": {"idle": 1, "shares": 512}} => "cpu.idle: cpu.idle=1\n",
            {"cpu": {"idle": 0, "shares": 1024}} => "cpu.idle: cpu.idle=0\ncpu.shares: cpu.weight=100\n",
            {"cpu": {"cpus": "0-1", "mems": "0"}} => "cpu.cpus: cpuset.cpus=0-1\ncpu.mems: cpuset.mems=0\n",
            {"cpu": {"realtimeRuntime": 1}} =>
                "error: cpu.realtimeRuntime and realtimePeriod need cgroup version 1",
        }
    }

    #[test]
    fn block_io() {
        plans! {
            {"blockIO": {"weight": 750}} => "blockIO.weight: io.bfq.weight=750 or io.weight=default 7475\n",
            {"blockIO": {"weight": 10, "weightDevice": [{"major": 8, "minor": 0, "weight": 500}]}} =>
                "blockIO.weight: io.bfq.weight=10 or io.weight=default 1\n\
                 blockIO.weightDevice: io.bfq.weight=8:0 500 or io.weight=8:0 4950\n",
            {"blockIO": {"throttleReadBpsDevice": [{"major": 8, "minor": 16, "rate": 600}],
                         "throttleWriteIOPSDevice": [{"major": 8, "minor": 16, "rate": 0}]}} =>
                "blockIO.throttleReadBpsDevice: io.max=8:16 rbps=600\n\
                 blockIO.throttleWriteIOPSDevice: io.max=8:16 wiops=max\n",
            {"blockIO": {}} => "",
            {"blockIO": {"weight": 5}} => "error: blockIO.weight 5 is not between 10 and 1000",
        }
    }

    #[test]
    fn rdma_network_and_unified() {
        plans! {
            {"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 4}, "mlx4_0": {}}} =>
                "rdma.mlx5_1: rdma.max=mlx5_1 hca_handle=3 hca_object=4\n",
            {"network": {"classID": 7}} =>
                "error: network.classID needs the net_cls controller of cgroup version 1",
            {"network": {"classID": 0, "priorities": []}} => "",
            {"pids": {"limit": 5}, "unified": {"pids.max": "7", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cpuset.cpus": ""}} =>
                "pids.limit: pids.max=5\nunified.cpuset.cpus: cpuset.cpus=\\n\nunified.io.max: io.max=8:0 rbps=1\n\
                 unified.io.max: io.max=8:16 rbps=2\nunified.pids.max: pids.max=7\n",
            {"unified": {"../x.y": "1"}} => "error: unified: \"../x.y\" is not the name of a cgroup file",
            {"unified": {"memory": "1"}} => "error: unified: \"memory\" is not the name of a cgroup file",
        }
    }
}
