//! Talking to systemd's manager (org.freedesktop.systemd1(5)).

use std::path::Path;

use super::properties::Property;
use crate::cgroup::Hierarchy;
use crate::dbus::{Call, Connection, Fault, Value};
use crate::error::Context;
use crate::{Error, Kind, Result};

const NAME: &str = "org.freedesktop.systemd1";
const PATH: &str = "/org/freedesktop/systemd1";
const INTERFACE: &str = "org.freedesktop.systemd1.Manager";
/// A unit of this name is there, in whatever state.
const EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
/// None is.
const NO_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";

/// systemd, the system's or the user's.
#[derive(Debug)]
pub(in crate::cgroup) struct Manager {
    connection: Connection,
}

impl Manager {
    /// Connects by the bus, or where there is none by systemd's own socket.
    ///
    /// # Errors
    /// Neither is there, with a hint.
    pub(in crate::cgroup) fn connect(user: bool) -> Result<Self> {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let (address, own) = if user {
            let runtime = variable("XDG_RUNTIME_DIR")
                .unwrap_or_else(|| format!("/run/user/{}", rustix::process::getuid().as_raw()));
            let address = variable("DBUS_SESSION_BUS_ADDRESS").unwrap_or_else(|| format!("unix:path={runtime}/bus"));
            (address, format!("unix:path={runtime}/systemd/private"))
        } else {
            let address = variable("DBUS_SYSTEM_BUS_ADDRESS");
            let address = address.unwrap_or_else(|| "unix:path=/run/dbus/system_bus_socket".to_owned());
            (address, "unix:path=/run/systemd/private".to_owned())
        };
        let connection = Connection::bus(&address).or_else(|error| {
            log::debug!("no message bus: {error}");
            // The first error names what a user can put right.
            Connection::peer(&own).map_err(|_| error)
        });
        let connection = connection.map_err(|e| {
            let whose = if user { "user's systemd" } else { "systemd" };
            e.context(format!("{whose} can't be asked for a scope"))
                .with_hint("leave out --systemd-cgroup (or use --cgroup-manager cgroupfs) where systemd isn't running")
        })?;
        Ok(Self { connection })
    }

    /// Makes a transient scope and waits until it stands, with its processes in it.
    ///
    /// # Errors
    /// systemd's own: a property that it doesn't know, a unit of this name that runs.
    pub(in crate::cgroup) fn start(&mut self, unit: &str, properties: Vec<Property>) -> Result<()> {
        self.watch(unit)?;
        let body = vec![Value::text(unit), Value::text("fail"), list(properties), none_beside()];
        let mut answer = self.call("StartTransientUnit", body.clone())?;
        if answer.as_ref().is_err_and(|fault| fault.name == EXISTS) {
            // One that has failed keeps its name until it is reset, and one without processes that a killed call left
            // until it is stopped; one that runs is another's.
            self.reset(unit)?;
            self.stop_empty(unit)?;
            answer = self.call("StartTransientUnit", body)?;
        }
        let job = answer.map_err(|fault| refused(&fault)).context(|| format!("make {unit}"))?;
        self.wait(&job, unit).context(|| format!("make {unit}"))
    }

    /// Changes properties until the next boot.
    ///
    /// # Errors
    /// systemd's own.
    pub(in crate::cgroup) fn set(&mut self, unit: &str, properties: Vec<Property>) -> Result<()> {
        let body = vec![Value::text(unit), Value::Bool(true), list(properties)];
        self.call("SetUnitProperties", body)?.map(drop).map_err(|fault| refused(&fault)).context(|| unit.to_owned())?;
        // It answers before it writes the files, which it does before it looks at the next call.
        let interface = "org.freedesktop.DBus.Peer";
        let ping = Call { destination: NAME, path: PATH, interface, member: "Ping", body: Vec::new() };
        self.connection.call(ping).map(drop)
    }

    /// Stops a unit and waits until it is gone; one that isn't there is no error.
    ///
    /// # Errors
    /// systemd's own.
    pub(in crate::cgroup) fn stop(&mut self, unit: &str) -> Result<()> {
        self.watch(unit)?;
        match self.call("StopUnit", vec![Value::text(unit), Value::text("replace")])? {
            Ok(job) => self.wait(&job, unit).context(|| format!("stop {unit}"))?,
            Err(fault) if fault.name == NO_UNIT => return Ok(()),
            Err(fault) => return Err(refused(&fault)).context(|| format!("stop {unit}")),
        }
        self.reset(unit)
    }

    /// Stops a unit of ours in which no process lives: systemd keeps a scope whose only process ended while it was being
    /// made, and a slice that was made by request.
    ///
    /// # Errors
    /// systemd's own.
    pub(in crate::cgroup) fn stop_empty(&mut self, unit: &str) -> Result<()> {
        let object = match self.call("GetUnit", vec![Value::text(unit)])? {
            Ok(object) => object,
            Err(_) => return Ok(()),
        };
        let Some(path) = object.first().and_then(Value::as_text).map(str::to_owned) else { return Ok(()) };
        // A slice that wasn't made by a call like ours is the administrator's.
        let transient = unit.ends_with(".scope") || self.get(&path, "Unit", "Transient")? == Some(Value::Bool(true));
        let group = self.control_group_of(unit, &path)?;
        // Without a cgroup it is on its way out or in.
        if group.is_empty() || !transient {
            return Ok(());
        }
        match Hierarchy::find()?.open_path(Path::new(&group))? {
            Some(cgroup) if cgroup.is_populated()? => Ok(()),
            _ => self.stop(unit),
        }
    }

    /// Where a unit's cgroup is in the hierarchy.
    ///
    /// # Errors
    /// systemd's own; the unit has no cgroup.
    pub(in crate::cgroup) fn control_group(&mut self, unit: &str) -> Result<String> {
        let object = self.call("GetUnit", vec![Value::text(unit)])?;
        let object = object.map_err(|fault| refused(&fault)).context(|| unit.to_owned())?;
        let path = object.first().and_then(Value::as_text).unwrap_or_default().to_owned();
        match self.control_group_of(unit, &path)? {
            group if group.is_empty() => Err(Error::new(Kind::System, format!("{unit} has no cgroup"))),
            group => Ok(group),
        }
    }

    fn control_group_of(&mut self, unit: &str, path: &str) -> Result<String> {
        let kind = if unit.ends_with(".slice") { "Slice" } else { "Scope" };
        let group = self.get(path, kind, "ControlGroup")?;
        Ok(group.as_ref().and_then(Value::as_text).unwrap_or_default().to_owned())
    }

    /// A property of a unit, by its object and the kind of unit.
    fn get(&mut self, path: &str, kind: &str, name: &str) -> Result<Option<Value>> {
        let get = Call {
            destination: NAME,
            path,
            interface: "org.freedesktop.DBus.Properties",
            member: "Get",
            body: vec![Value::text(format!("{NAME}.{kind}")), Value::text(name)],
        };
        match self.connection.call(get)? {
            Ok(values) => Ok(values.into_iter().next().map(|value| match value {
                Value::Variant(value) => *value,
                other => other,
            })),
            Err(fault) => Err(refused(&fault)).context(|| path.to_owned()),
        }
    }

    /// Moves a process into a unit's cgroup, or one below it, which begins with a slash.
    ///
    /// # Errors
    /// systemd's own: it moves a user's processes only if they are the caller's.
    pub(in crate::cgroup) fn attach(&mut self, unit: &str, below: &str, pid: u32) -> Result<()> {
        let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid)]);
        let body = vec![Value::text(unit), Value::text(below), pids];
        self.call("AttachProcessesToUnit", body)?.map(drop).map_err(|fault| refused(&fault)).context(|| unit.to_owned())
    }

    /// Forgets that a unit has failed; one that hasn't, or isn't there, is no error.
    fn reset(&mut self, unit: &str) -> Result<()> {
        if let Err(fault) = self.call("ResetFailedUnit", vec![Value::text(unit)])? {
            log::debug!("reset {unit}: {}", fault.text);
        }
        Ok(())
    }

    fn watch(&mut self, unit: &str) -> Result<()> {
        self.connection.subscribe(&format!(
            "type='signal',sender='{NAME}',path='{PATH}',interface='{INTERFACE}',member='JobRemoved',arg2='{unit}'"
        ))
    }

    /// Waits for the end of the job that a reply names.
    fn wait(&mut self, reply: &[Value], unit: &str) -> Result<()> {
        let Some(job) = reply.first().and_then(Value::as_text) else {
            return Err(Error::new(Kind::System, "systemd named no job"));
        };
        loop {
            let signal = self.connection.signal()?;
            let [_, path, _, result] = signal.body.as_slice() else { continue };
            if signal.member != "JobRemoved" || path.as_text() != Some(job) {
                continue;
            }
            return match result.as_text() {
                Some("done" | "skipped") => Ok(()),
                other => {
                    let message = format!("systemd says {:?}", other.unwrap_or_default());
                    Err(Error::new(Kind::System, message).with_hint(format!("systemctl status {unit} may say more")))
                }
            };
        }
    }

    fn call(&mut self, member: &str, body: Vec<Value>) -> Result<std::result::Result<Vec<Value>, Fault>> {
        self.connection.call(Call { destination: NAME, path: PATH, interface: INTERFACE, member, body })
    }
}

fn list(properties: Vec<Property>) -> Value {
    let pair = |(name, value)| Value::Struct(vec![Value::Text(name), Value::Variant(Box::new(value))]);
    Value::Array("(sv)".to_owned(), properties.into_iter().map(pair).collect())
}

/// No units are made along with it.
fn none_beside() -> Value {
    Value::Array("(sa(sv))".to_owned(), Vec::new())
}

fn refused(fault: &Fault) -> Error {
    Error::new(Kind::System, format!("systemd: {}", if fault.text.is_empty() { &fault.name } else { &fault.text }))
}
