//! Seccomp: the filter that config.json asks for, compiled, loaded, and announced to an agent.
//!
//! [`compile`] makes a [`Filter`] once, in the process that reads config.json: it fails early, and after `rlimits` or a
//! fork nothing is allocated any more. [`Filter::load`] then is one system call.
//!
//! The decisions are those that runc with libseccomp makes of the same profile:
//!
//! - A rule equal to the default action is skipped, and so is a name that no table here has.
//! - A call with a rule without `args` gets the action of the first such rule, whatever other rules say.
//! - Of several rules with `args`, each is tried; all conditions of one must hold, except that conditions on the same
//!   argument are alternatives. Of those that hold the first wins. (Which one libseccomp takes, where their actions
//!   differ, depends on its tree: of values and ranges it tries the values first, of two masks the later one.)
//! - Two rules for a call with the same `args` and other actions are refused.
//! - A number above the highest that the profile names fails with ENOSYS, so that programs fall back from calls that are
//!   younger than the profile; not with a permissive default action.
//! - The machine's own architecture counts as listed; calls of others are killed.
//!
//! The conditions on arguments are compiled by seccompiler; the rest (several actions and architectures in one program,
//! a binary search over the numbers) is made here.
//!
//! Left out: PR_SET_NO_NEW_PRIVS, which the caller sets or not as `process.noNewPrivileges` says (without it, loading
//! needs CAP_SYS_ADMIN). `SECCOMP_FILTER_FLAG_TSYNC` is accepted and ignored: a container's init has one thread.

mod abi;
mod action;
mod arguments;
mod filter;
pub mod notify;
mod profile;
mod program;
mod raw;
mod syscalls;
#[cfg(test)]
mod tests;

pub use filter::{Filter, Notify, compile};
pub(crate) use syscalls::is_known;
