//! systemd as the manager of cgroups: a transient scope for each container, asked for over D-Bus.
//!
//! systemd owns the upper part of the tree, and a machine that it runs expects to be asked
//! (systemd's "Control Group APIs and Delegation"). The scope is delegated: below it rtc and the container do as they
//! like, by the same files as without systemd; the limits are told to systemd too, so that it shows them and doesn't
//! undo them.
//!
//! `unit` turns `slice:prefix:name` into names and paths, `properties` limits and annotations into properties; both are
//! pure. `manager` talks.
//!
//! A container may have a slice of its own (a `cgroupsPath` whose name ends in `.slice`): the limits are the slice's, and
//! its processes live in a scope in it, for systemd's slices hold none.
//!
//! Left out: systemd before 245.

mod devices;
mod manager;
mod properties;
mod unit;

pub(super) use manager::Manager;
pub(super) use properties::{Property, base, common, from_annotations, limits};
pub use unit::Scope;

pub(super) use devices::rules as device_rules;
