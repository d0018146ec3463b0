//! Timers: placeholder until the real module lands.
use crate::error::Result;
use crate::program::Program;
use crate::tracee::Results;

/// Timers.
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Timers {}
/// Questions.
pub struct Questions {}
impl Questions {
    /// Ask.
    pub fn ask(_: &mut Program, _: &str) -> Result<Self> {
        Ok(Self {})
    }
    /// Answers.
    pub fn answers(&self, _: &Results) -> Result<Timers> {
        Ok(Timers {})
    }
}

/// Restore.
pub fn restore(_: &mut crate::tracee::Stopped, _: crate::tracee::Zone, _: &Timers) -> Result<()> {
    Ok(())
}
