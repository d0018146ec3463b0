//! Carrying out a plan of writes.

use oci_spec::runtime::{LinuxMemory, LinuxResources};
use rtc_sys::Errno;

use super::plan::plan;
use super::setting::{Missing, Setting, Value};
use crate::cgroup::Cgroup;
use crate::error::Context;
use crate::{Error, Kind, Result};

impl Cgroup {
    /// Sets the limits of a container: memory, pids, cpu, cpuset, blockIO, hugepageLimits, rdma, then `unified`, which
    /// overrides the typed ones. Device rules are not among them: see [`Cgroup::set_devices`].
    ///
    /// Also what `update` calls: a property that is absent (or zero, where zero means unset) keeps its value.
    ///
    /// # Errors
    /// A limit whose controller is missing names controller and property; `Kind::Invalid` for values that make no
    /// sense; with `memory.checkBeforeUpdate`, `rejecting memory limit` or `rejecting memory+swap limit`; all these
    /// before anything is written. Otherwise the write that the kernel refused.
    pub fn apply(&self, resources: &LinuxResources) -> Result<()> {
        let plan = plan(resources)?;
        self.check(&plan, resources)?;
        self.carry_out(&plan)
    }

    /// Whether all limits can be set, as far as that can be told before.
    pub(in crate::cgroup) fn check(&self, plan: &[Setting], resources: &LinuxResources) -> Result<()> {
        self.choose(plan)?;
        match resources.memory() {
            Some(memory) if memory.check_before_update() == Some(true) => self.check_usage(memory),
            _ => Ok(()),
        }
    }

    /// Writes the files.
    pub(in crate::cgroup) fn carry_out(&self, plan: &[Setting]) -> Result<()> {
        let mut late = Vec::new();
        for (setting, file, value) in self.choose(plan)? {
            match self.set(setting, file, value) {
                Err(e) if setting.may_be_early && e.sys().is_some_and(|e| e.errno() == Errno::EINVAL) => {
                    late.push((setting, file, value));
                }
                other => other?,
            }
        }
        late.into_iter().try_for_each(|(setting, file, value)| self.set(setting, file, value))
    }

    /// Picks, of each setting, the file that exists here.
    fn choose<'a>(&self, plan: &'a [Setting]) -> Result<Vec<(&'a Setting, &'a str, &'a Value)>> {
        let mut chosen = Vec::with_capacity(plan.len());
        for setting in plan {
            match setting.files.iter().find(|(file, _)| self.has(file)) {
                Some((file, value)) => chosen.push((setting, file.as_str(), value)),
                None if setting.missing == Missing::Ignore => {}
                None => return Err(self.missing(setting)),
            }
        }
        Ok(chosen)
    }

    fn set(&self, setting: &Setting, file: &str, value: &Value) -> Result<()> {
        self.write(file, &self.text(file, value)?).context(|| setting.property.clone())
    }

    /// What to write, with the half of a pair that stays as it is.
    fn text(&self, file: &str, value: &Value) -> Result<String> {
        Ok(match value {
            Value::Text(text) => text.clone(),
            Value::Period(period) => {
                let current = self.read(file)?;
                format!("{} {period}", current.split_ascii_whitespace().next().unwrap_or("max"))
            }
            Value::SwapOf(total) => {
                let limit = self.read("memory.max")?;
                let limit: Option<i64> = limit.trim().parse().ok();
                super::memory::swap_value(limit, *total)?
            }
        })
    }

    /// Completes the pairs of a plan with what is set now.
    pub(in crate::cgroup) fn complete(&self, plan: &mut [Setting]) -> Result<()> {
        for (file, value) in plan.iter_mut().flat_map(|setting| &mut setting.files) {
            let mut text = self.text(file, value)?;
            if file == "cpu.max" && text.split_ascii_whitespace().count() == 1 {
                // The period stays as it is, which systemd sees to only while there is a quota.
                let current = self.read_optional(file)?.unwrap_or_default();
                text.extend(current.split_ascii_whitespace().nth(1).map(|period| format!(" {period}")));
            }
            *value = Value::Text(text);
        }
        Ok(())
    }

    /// The error of a limit that can't be set here.
    fn missing(&self, setting: &Setting) -> Error {
        let (property, controller) = (&setting.property, &setting.controller);
        let here = self.read("cgroup.controllers").unwrap_or_default();
        let (message, hint) = if here.split_ascii_whitespace().any(|c| c == controller) {
            let files: Vec<&str> = setting.files.iter().map(|(file, _)| file.as_str()).collect();
            let message = format!("{property}: controller {controller} has no {} on this kernel", files.join(" or "));
            (message, "leave the limit out".to_owned())
        } else {
            let here = if here.trim().is_empty() { "none" } else { here.trim() };
            let message = format!("{property}: controller {controller} is not available in {}", self.noun());
            let hint = format!(
                "controllers there: {here}; one that a cgroup version 1 mount holds, or that a parent with processes \
                 of its own doesn't hand down, can't be used"
            );
            (message, hint)
        };
        Error::new(Kind::Invalid, message).with_hint(hint)
    }

    /// `memory.checkBeforeUpdate`: refuses limits below what is used now.
    fn check_usage(&self, memory: &LinuxMemory) -> Result<()> {
        let number = |file: &str| -> Result<i64> {
            let text = self.read_optional(file)?;
            Ok(text.and_then(|text| text.trim().parse().ok()).unwrap_or(0))
        };
        let used = number("memory.current")?;
        let refuse = |what: &str, limit: i64, used: i64| {
            Err(Error::new(Kind::Invalid, format!("rejecting {what} limit {limit}: {used} bytes are in use")))
        };
        if let Some(limit) = memory.limit().filter(|limit| *limit > 0 && used > *limit) {
            return refuse("memory", limit, used);
        }
        let both = used.saturating_add(number("memory.swap.current")?);
        if let Some(limit) = memory.swap().filter(|limit| *limit > 0 && both > *limit) {
            return refuse("memory+swap", limit, both);
        }
        Ok(())
    }
}
