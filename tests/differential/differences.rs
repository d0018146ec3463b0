//! Where runc and crun are known to do something else, and why.

use crate::case::{Case, Peer};

/// Case, runtime, reason.
const DIFFERENCES: &[(&str, Peer, &str)] = &[
    ("environment", Peer::Runc, "puts the last of equal names at the end"),
    ("no capabilities", Peer::Runc, "leaves the sets as they are where the configuration has none"),
    ("memory policy", Peer::Runc, "1.3 doesn't know it"),
    ("unknown memory policy", Peer::Runc, "1.3 doesn't know it"),
    ("unknown flag of a memory policy", Peer::Runc, "1.3 doesn't know it"),
    ("nodes that are none", Peer::Runc, "1.3 doesn't know it"),
    ("nodes for the default policy", Peer::Runc, "1.3 doesn't know it"),
    ("another major version", Peer::Runc, "takes any version"),
    ("another major version", Peer::Crun, "takes any version"),
    ("bind by type alone", Peer::Runc, "wants the option bind beside the type"),
    ("bind by type alone", Peer::Crun, "wants the option bind beside the type"),
    ("delegated cgroup", Peer::Runc, "crun's annotation"),
    ("links that are copied", Peer::Runc, "crun's option"),
    ("masked paths", Peer::Runc, "masks a path twice that is named twice"),
    ("masked paths", Peer::Crun, "masks a path twice that is named twice"),
    (
        "paths hidden without a mount namespace",
        Peer::Runc,
        "refuses to hide anything, as its mounts could be the host's",
    ),
    ("relative working directory", Peer::Crun, "takes it; the specification wants it absolute"),
    ("exec takes the configuration's process", Peer::Crun, "exec without the limits of the configuration"),
    ("nice value out of range", Peer::Crun, "leaves it to the kernel, which clamps it"),
    ("variable without a name", Peer::Crun, "takes it"),
    ("seccomp notify to nobody", Peer::Crun, "runs without a listener"),
    ("later options win", Peer::Crun, "keeps what an earlier one has set"),
    ("recursive attributes", Peer::Crun, "can't clear and set at once"),
    ("bind keeps flags, and clears them when told", Peer::Crun, "doesn't keep the source's flags"),
    ("idmapped bind", Peer::Crun, "doesn't see earlier mounts at the source"),
    ("mappings of a tmpfs", Peer::Crun, "leaves them out"),
    ("destination through a dangling link", Peer::Crun, "doesn't make what a link leads to"),
    ("mount inside proc", Peer::Crun, "mounts over parts of procfs"),
    ("mount inside proc through a link", Peer::Crun, "mounts over parts of procfs"),
    ("mount over proc", Peer::Crun, "mounts over procfs"),
    ("propagation nobody knows", Peer::Crun, "leaves it out"),
    ("propagation of a mount", Peer::Crun, "shows it otherwise after the change of root"),
    ("offsets of an unknown clock", Peer::Crun, "leaves it out"),
    ("options after the id", Peer::Crun, "takes none"),
    ("ps as json", Peer::Crun, "has exit status 253"),
    ("exec fails with 255", Peer::Crun, "has exit status 1"),
    ("resume of a running container", Peer::Crun, "succeeds"),
    ("a root of states that isn't there", Peer::Crun, "makes it"),
    ("create hooks see the state", Peer::Runc, "says creating; by the specification they come after that"),
    ("hook with a relative path", Peer::Crun, "looks for it along PATH"),
    ("hook with no time", Peer::Crun, "takes it for no limit"),
    (
        "capability without its prefix",
        Peer::Runc,
        "ignores it; the types of oci-spec read both, and it is no one else's name",
    ),
    (
        "capability without its prefix",
        Peer::Crun,
        "ignores it; the types of oci-spec read both, and it is no one else's name",
    ),
    ("flag of a personality", Peer::Runc, "leaves it out; the specification has no flag"),
    ("flag of a personality", Peer::Crun, "leaves it out; the specification has no flag"),
    ("capabilities that can't be granted", Peer::Runc, "fails; the specification wants a warning"),
    ("capabilities that can't be granted", Peer::Crun, "fails; the specification wants a warning"),
    ("namespace by an empty path", Peer::Crun, "opens the path"),
    ("descriptors that aren't open", Peer::Crun, "passes fewer on"),
    ("device without a path", Peer::Runc, "makes none"),
    ("nothing for Linux", Peer::Crun, "wants the property, which is optional"),
    ("version that is none", Peer::Runc, "takes any version"),
    ("version that is none", Peer::Crun, "takes any version"),
    ("root by a link", Peer::Runc, "wants the directory itself"),
    ("access to a device that nobody knows", Peer::Runc, "leaves it out"),
    ("access to a device that nobody knows", Peer::Crun, "leaves it out"),
    ("relative path to mask", Peer::Runc, "takes it; the specification wants it absolute"),
    ("relative path to mask", Peer::Crun, "takes it; the specification wants it absolute"),
    ("a created container that is paused", Peer::Crun, "starts it"),
    ("an option with an empty value", Peer::Crun, "takes no empty --cwd"),
    ("device in place of another file", Peer::Runc, "leaves the file; the specification wants an error"),
    ("device in place of another file", Peer::Crun, "leaves the file; the specification wants an error"),
    ("bind without a source", Peer::Runc, "takes it for the bundle"),
    ("another device of the host", Peer::Runc, "binds whatever the host has there"),
    ("another device of the host", Peer::Crun, "binds whatever the host has there"),
    ("access times named twice", Peer::Runc, "strictatime wins wherever it stands"),
    ("access times named twice", Peer::Crun, "strictatime wins wherever it stands"),
    ("cgroup with a recursive attribute", Peer::Runc, "leaves it out"),
    ("cgroup inside proc", Peer::Crun, "mounts over parts of procfs"),
    ("file with a slash at its end", Peer::Crun, "makes nothing there"),
    ("modes of mountpoints", Peer::Crun, "makes files with mode 700 and places of tmpfs with 1755"),
    ("copy for no tmpfs", Peer::Crun, "refuses it"),
    ("create hooks run in the root file system", Peer::Crun, "runs them in the bundle"),
    ("a private root with a shared mount", Peer::Crun, "leaves the mount private"),
    ("booleans with a value", Peer::Crun, "has no values of booleans"),
    ("a signal without a name", Peer::Crun, "wants one"),
    ("listener without a report", Peer::Crun, "connects to it all the same"),
    ("rules that overlap", Peer::Runc, "libseccomp tries values before ranges"),
    ("rules that overlap", Peer::Crun, "libseccomp tries values before ranges"),
];

/// Why a runtime does something else in a case.
pub(crate) fn of(peer: Peer, case: &str) -> Option<&'static str> {
    DIFFERENCES.iter().find(|(name, differing, _)| *name == case && *differing == peer).map(|(.., reason)| *reason)
}

/// Names that no case has.
pub(crate) fn of_no_case(cases: &[Case]) -> Vec<&'static str> {
    let unknown = |name: &&str| !cases.iter().any(|case| case.name == *name);
    DIFFERENCES.iter().map(|(name, ..)| *name).filter(unknown).collect()
}
