//! The options of a mount in config.json, parsed into what the kernel's mount calls take.

use rtc_sys::mount::{attr, propagation};

/// The options of one mount.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// Attributes of the mount itself.
    pub(crate) attrs: Attrs,
    /// Attributes of the mount and all mounts below it (`rro` and the like).
    pub(crate) recursive: Attrs,
    /// Options of the file system itself that mount(2) passes as flags: `sync`, `dirsync`, `lazytime`, `mand`, in order.
    pub(crate) superblock: Vec<&'static str>,
    /// `bind` or `rbind`.
    pub(crate) bind: Option<Bind>,
    /// Propagation changes in order: the type and whether it reaches the mounts below.
    pub(crate) propagation: Vec<(u64, bool)>,
    /// `idmap`, `ridmap`: the mapping is of the mount alone, or of those below too.
    pub(crate) idmap: Option<Idmap>,
    /// `idmap=`, `ridmap=`: the mapping itself, as crun writes it.
    pub(crate) idmap_text: Option<String>,
    /// `src-nofollow`: a symlink is mounted as such.
    pub(crate) source_nofollow: bool,
    /// `dest-nofollow`: a symlink is mounted over.
    pub(crate) destination_nofollow: bool,
    /// `copy-symlink`: a symlink is made again in place of being mounted.
    pub(crate) copy_symlink: bool,
    /// `tmpcopyup`: a tmpfs begins with a copy of what it covers.
    pub(crate) copy_up: bool,
    /// All else: data for the file system.
    pub(crate) data: Vec<String>,
}

/// Whether a bind mount takes along the mounts below its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bind {
    One,
    Recursive,
}

/// How far an id mapping reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Idmap {
    One,
    Recursive,
}

/// Attributes to set and to clear (`MOUNT_ATTR_*`), as mount_setattr(2) takes them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attrs {
    pub(crate) set: u64,
    pub(crate) clear: u64,
}

impl Attrs {
    /// Later options win over earlier ones.
    fn apply(&mut self, change: Change) {
        match change {
            Change::Set(bits) => {
                self.set |= bits;
                self.clear &= !bits;
            }
            Change::Clear(bits) => {
                self.set &= !bits;
                self.clear |= bits;
            }
            // The kernel keeps one value in these bits: it wants all of them cleared to set any.
            Change::Atime(value) => {
                self.set = (self.set & !attr::ATIME) | value;
                self.clear |= attr::ATIME;
            }
        }
    }

    /// Takes a policy of access times back that an earlier option has set.
    fn forget_atime(&mut self, value: u64) {
        if self.clear & attr::ATIME == attr::ATIME && self.set & attr::ATIME == value {
            self.set &= !attr::ATIME;
            self.clear &= !attr::ATIME;
        }
    }

    /// Whether there is anything to change.
    pub(crate) fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

#[derive(Clone, Copy)]
enum Change {
    Set(u64),
    Clear(u64),
    Atime(u64),
}

/// The options that are attributes of a mount; each has a recursive form with an `r` in front.
const ATTRIBUTES: &[(&str, Change)] = &[
    ("ro", Change::Set(attr::RDONLY)),
    ("rw", Change::Clear(attr::RDONLY)),
    ("nosuid", Change::Set(attr::NOSUID)),
    ("suid", Change::Clear(attr::NOSUID)),
    ("nodev", Change::Set(attr::NODEV)),
    ("dev", Change::Clear(attr::NODEV)),
    ("noexec", Change::Set(attr::NOEXEC)),
    ("exec", Change::Clear(attr::NOEXEC)),
    ("nosymfollow", Change::Set(attr::NOSYMFOLLOW)),
    ("symfollow", Change::Clear(attr::NOSYMFOLLOW)),
    ("nodiratime", Change::Set(attr::NODIRATIME)),
    ("diratime", Change::Clear(attr::NODIRATIME)),
    ("relatime", Change::Atime(attr::RELATIME)),
    ("noatime", Change::Atime(attr::NOATIME)),
    ("strictatime", Change::Atime(attr::STRICTATIME)),
];

/// Recursive forms that have no plain counterpart above: undoing an access time policy falls back to relatime.
const RECURSIVE_ONLY: &[(&str, Change)] = &[
    ("ratime", Change::Atime(attr::RELATIME)),
    ("rnorelatime", Change::Atime(attr::RELATIME)),
    ("rnostrictatime", Change::Atime(attr::RELATIME)),
];

const PROPAGATION: &[(&str, u64)] = &[
    ("private", propagation::PRIVATE),
    ("shared", propagation::SHARED),
    ("slave", propagation::SLAVE),
    ("unbindable", propagation::UNBINDABLE),
];

/// Options that mean a state the kernel is in anyway, unless an earlier one has said otherwise, or that mount(8) keeps to
/// itself.
const NO_EFFECT: &[&str] = &[
    "defaults",
    "async",
    "atime",
    "norelatime",
    "nostrictatime",
    "loud",
    "silent",
    "nomand",
    "nolazytime",
    "noiversion",
    "iversion",
    "remount",
    "auto",
    "noauto",
    "user",
    "nouser",
    "_netdev",
    // crun takes these, and mount_setattr(2) has no attribute for them.
    "rsync",
    "rasync",
    "rdirsync",
    "rmand",
    "rnomand",
];

/// Flags of mount(2) that are options of the file system in the newer calls.
const SUPERBLOCK: &[&str] = &["sync", "dirsync", "lazytime", "mand"];

impl MountOptions {
    /// Parses the options of a mount. What isn't known is data for the file system, as in mount(8).
    pub(crate) fn parse(options: &[String]) -> Self {
        let mut parsed = Self::default();
        // Podman writes empty ones (--systemd=always), which mount(2) skips too.
        for option in options.iter().filter(|option| !option.is_empty()) {
            parsed.add(option);
        }
        parsed
    }

    fn add(&mut self, option: &str) {
        if let Some(change) = find(ATTRIBUTES, option) {
            self.attrs.apply(change);
        } else if let Some(change) = find(RECURSIVE_ONLY, option) {
            self.recursive.apply(change);
        } else if let Some(change) = option.strip_prefix('r').and_then(|plain| find(ATTRIBUTES, plain)) {
            self.recursive.apply(change);
        } else if let Some((kind, recursive)) = propagation_type(option) {
            self.propagation.push((kind, recursive));
        } else if let Some(name) = SUPERBLOCK.iter().find(|name| **name == option) {
            self.superblock.push(name);
        } else if NO_EFFECT.contains(&option) {
            self.undo(option);
        } else {
            match option {
                "bind" => self.bind = self.bind.or(Some(Bind::One)),
                "rbind" => self.bind = Some(Bind::Recursive),
                "idmap" => self.idmap = Some(Idmap::One),
                "ridmap" => self.idmap = Some(Idmap::Recursive),
                "tmpcopyup" => self.copy_up = true,
                "src-nofollow" => self.source_nofollow = true,
                "dest-nofollow" => self.destination_nofollow = true,
                "copy-symlink" => self.copy_symlink = true,
                other => self.add_data(other),
            }
        }
    }
}

impl MountOptions {
    /// Takes back what an earlier option has set and this one denies.
    fn undo(&mut self, option: &str) {
        let set = match option {
            "atime" => return self.attrs.forget_atime(attr::NOATIME),
            "nostrictatime" => return self.attrs.forget_atime(attr::STRICTATIME),
            "async" => "sync",
            "nolazytime" => "lazytime",
            "nomand" => "mand",
            _ => return,
        };
        self.superblock.retain(|name| *name != set);
    }

    fn add_data(&mut self, option: &str) {
        let (idmap, text) = match option.split_once('=') {
            Some(("idmap", text)) => (Idmap::One, text),
            Some(("ridmap", text)) => (Idmap::Recursive, text),
            // One string may hold several, as they all came in one for mount(2). File systems that let a comma be quoted
            // have their own way to do so.
            _ if option.contains(['"', '\\']) => return self.data.push(option.to_owned()),
            _ => return self.data.extend(option.split(',').filter(|part| !part.is_empty()).map(str::to_owned)),
        };
        self.idmap = Some(idmap);
        self.idmap_text = Some(text.to_owned());
    }
}

fn find(table: &[(&str, Change)], option: &str) -> Option<Change> {
    table.iter().find(|(name, _)| *name == option).map(|(_, change)| *change)
}

/// A propagation option: its type, and whether it is the recursive form.
pub(crate) fn propagation_type(option: &str) -> Option<(u64, bool)> {
    let find = |name: &str| PROPAGATION.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind);
    match find(option) {
        Some(kind) => Some((kind, false)),
        None => option.strip_prefix('r').and_then(find).map(|kind| (kind, true)),
    }
}

/// The options that `features` lists as known: all of the tables above.
#[must_use]
pub fn known_mount_options() -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (name, _) in ATTRIBUTES {
        names.push((*name).to_owned());
        names.push(format!("r{name}"));
    }
    names.extend(RECURSIVE_ONLY.iter().map(|(name, _)| (*name).to_owned()));
    for (name, _) in PROPAGATION {
        names.push((*name).to_owned());
        names.push(format!("r{name}"));
    }
    let further = ["bind", "rbind", "idmap", "ridmap", "tmpcopyup", "copy-symlink", "dest-nofollow", "src-nofollow"];
    names.extend(NO_EFFECT.iter().chain(SUPERBLOCK).chain(&further).map(|name| (*name).to_owned()));
    names.sort();
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> MountOptions {
        MountOptions::parse(&text.split(',').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn the_last_of_opposite_options_wins() {
        assert_eq!(parse("ro,rw").attrs, Attrs { set: 0, clear: attr::RDONLY });
        assert_eq!(parse("rw,ro").attrs, Attrs { set: attr::RDONLY, clear: 0 });
        assert_eq!(parse("sync,dirsync,lazytime,mand,async,nolazytime,nomand").superblock, ["dirsync"]);
        assert_eq!(parse("async,sync").superblock, ["sync"]);
    }

    #[test]
    fn access_time_is_one_value() {
        assert_eq!(parse("noatime,strictatime").attrs, Attrs { set: attr::STRICTATIME, clear: attr::ATIME });
        assert_eq!(parse("relatime").attrs, Attrs { set: 0, clear: attr::ATIME });
        assert!(parse("bind,atime").attrs.is_empty());
        assert!(parse("noatime,atime").attrs.is_empty());
        assert!(parse("strictatime,nostrictatime").attrs.is_empty());
        assert_eq!(parse("strictatime,atime").attrs, parse("strictatime").attrs);
    }

    #[test]
    fn recursive_forms_are_kept_apart() {
        let options = parse("rbind,rro,rslave,private,nosuid");
        assert_eq!(options.bind, Some(Bind::Recursive));
        assert_eq!(options.recursive.set, attr::RDONLY);
        assert_eq!(options.attrs.set, attr::NOSUID);
        assert_eq!(options.propagation, [(propagation::SLAVE, true), (propagation::PRIVATE, false)]);
    }

    #[test]
    fn the_rest_is_data() {
        let options = parse("mode=755,,size=65536k,tmpcopyup,sync,defaults");
        assert_eq!(options.data, ["mode=755", "size=65536k"]);
        assert_eq!(options.superblock, ["sync"]);
        assert!(options.copy_up);
    }
}
