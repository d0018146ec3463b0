//! Conditions on arguments, compiled by seccompiler.

use std::collections::BTreeMap;

use oci_spec::runtime::{LinuxSeccompArg, LinuxSeccompOperator as Operator};
use rtc_sys::seccomp::Insn;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule, TargetArch,
};

use super::abi::Abi;
use crate::{Error, Kind, Result};

/// A comparison of one argument of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Condition {
    /// 0 to 5.
    pub(super) index: u8,
    operator: SeccompCmpOp,
    value: u64,
}

impl Condition {
    /// Reads a condition of config.json.
    ///
    /// # Errors
    /// There is no argument with this index.
    pub(super) fn parse(arg: &LinuxSeccompArg) -> Result<Self> {
        let index = u8::try_from(arg.index()).ok().filter(|index| *index < 6);
        let Some(index) = index else {
            return Err(Error::new(Kind::Invalid, format!("seccomp: a call has no argument {}", arg.index())));
        };
        let operator = match arg.op() {
            Operator::ScmpCmpNe => SeccompCmpOp::Ne,
            Operator::ScmpCmpLt => SeccompCmpOp::Lt,
            Operator::ScmpCmpLe => SeccompCmpOp::Le,
            Operator::ScmpCmpEq => SeccompCmpOp::Eq,
            Operator::ScmpCmpGe => SeccompCmpOp::Ge,
            Operator::ScmpCmpGt => SeccompCmpOp::Gt,
            // `value` is the mask, `valueTwo` what must be left.
            Operator::ScmpCmpMaskedEq => {
                let operator = SeccompCmpOp::MaskedEq(arg.value());
                return Ok(Self { index, operator, value: arg.value_two().unwrap_or(0) });
            }
        };
        Ok(Self { index, operator, value: arg.value() })
    }

    /// The first argument equals `value`.
    pub(super) fn first_is(value: u64) -> Self {
        Self { index: 0, operator: SeccompCmpOp::Eq, value }
    }
}

/// Instructions that return `verdict` where all conditions hold, and run on behind their end where not.
pub(super) fn compile(conditions: &[Condition], abi: Abi, verdict: u32) -> Result<Vec<Insn>> {
    let program = whole(conditions, abi).map_err(|e| Error::wrap(Kind::Invalid, e).context("seccomp arguments"))?;
    // seccompiler makes a filter of its own around the rule: 3 instructions for the architecture, 2 for the number,
    // 2 to enter the rule; then conditions, and the rule's verdict; then the other verdict twice.
    let rule = program.get(7..program.len().saturating_sub(2)).unwrap_or_default();
    let mut rule: Vec<Insn> = rule.iter().map(|i| Insn { code: i.code, jt: i.jt, jf: i.jf, k: i.k }).collect();
    if let Some(last) = rule.last_mut() {
        last.k = verdict;
    }
    Ok(rule)
}

fn whole(conditions: &[Condition], abi: Abi) -> std::result::Result<BpfProgram, seccompiler::BackendError> {
    let length = || if abi.is_64_bit() { SeccompCmpArgLen::Qword } else { SeccompCmpArgLen::Dword };
    let conditions: std::result::Result<Vec<_>, _> =
        conditions.iter().map(|c| SeccompCondition::new(c.index, length(), c.operator.clone(), c.value)).collect();
    let rules = BTreeMap::from([(0, vec![SeccompRule::new(conditions?)?])]);
    // Number, actions and architecture are cut off or replaced by the caller.
    SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, TargetArch::x86_64)?.try_into()
}
