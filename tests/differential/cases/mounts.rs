//! `mounts`, devices, masked and read-only paths, the root file system.

use crate::case::{Case, prints, refused};

const MOUNT: &str = "/mounts/-";

pub(super) fn all() -> Vec<Case> {
    [tmpfs(), later_options(), binds(), recursive_binds(), places(), paths(), devices(), refused_devices()]
        .into_iter()
        .flatten()
        .collect()
}

fn tmpfs() -> Vec<Case> {
    let tmpfs =
        |options: &str| format!(r#"{{"destination":"/m","type":"tmpfs","source":"tmpfs","options":[{options}]}}"#);
    vec![
        prints(
            "tmpfs takes the mode of what it covers",
            &[(MOUNT, &tmpfs(""))],
            "stat -c %a /m; grep -c ' /m .*mode=710' /proc/mounts",
            "710\n1\n",
        )
        .prepared("mkdir -m 710 m"),
        prints(
            "tmpfs with a mode",
            &[(MOUNT, &tmpfs(r#""mode=1500""#))],
            "stat -c %a /m; umount /m 2>/dev/null; true",
            "1500\n",
        )
        .prepared("mkdir -m 710 m"),
        prints(
            "tmpfs on a new directory",
            &[(MOUNT, &tmpfs(""))],
            "stat -c %a /m; grep ' /m ' /proc/mounts | grep -c mode= || true",
            "1777\n0\n",
        ),
        prints(
            "tmpfs read-only with a copy",
            &[(MOUNT, &tmpfs(r#""tmpcopyup","ro""#))],
            "cat /m/d/f; stat -c %a /m/d/f; touch /m/x 2>/dev/null || echo ro",
            "copied\n640\nro\n",
        )
        .prepared("mkdir -p m/d; echo copied > m/d/f; chmod 640 m/d/f"),
        prints(
            "tmpfs with a copy and a mode",
            &[(MOUNT, &tmpfs(r#""tmpcopyup","mode=700""#))],
            "stat -c '%a %u:%g' /m /m/f",
            "700 0:0\n644 5:6\n",
        )
        .prepared("mkdir -m 711 m; touch m/f; chown 5:6 m m/f"),
        prints(
            "options of a tmpfs in one string",
            &[(MOUNT, &tmpfs(r#""mode=750,uid=5,gid=6""#))],
            "stat -c '%a %u:%g' /m",
            "750 5:6\n",
        ),
        prints(
            "tmpfs flags",
            &[(MOUNT, &tmpfs(r#""nosuid","nodev","noexec","noatime","size=4k""#))],
            "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6",
            "rw,nosuid,nodev,noexec,noatime\n",
        ),
        refused("tmpfs with an option nobody knows", &[(MOUNT, &tmpfs(r#""bogus=1""#))], "mount /m: "),
        refused(
            "unknown file system",
            &[(MOUNT, r#"{"destination":"/m","type":"nosuchfs","source":"x"}"#)],
            "fsopen(nosuchfs) = ENODEV",
        ),
    ]
}

fn later_options() -> Vec<Case> {
    let options =
        r#""sync","async","lazytime","nolazytime","noatime","atime","ro","rw","noexec","exec","suid","nosuid""#;
    let mount = format!(r#"{{"destination":"/m","type":"tmpfs","source":"tmpfs","options":[{options}]}}"#);
    let flags = "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6,8-";
    vec![prints("later options win", &[(MOUNT, &mount)], flags, "rw,nosuid,relatime tmpfs tmpfs rw\n")]
}

const BELOW: &str = r#"{"destination":"/a","type":"tmpfs","source":"tmpfs"}"#;
const DEEPER: &str = r#"{"destination":"/a/b","type":"tmpfs","source":"tmpfs","options":["nosuid"]}"#;
const TOUCH: &str = "for d in /m /m/b; do touch $d/x 2>/dev/null && echo rw || echo ro; done";

fn bind(source: &str, options: &str) -> String {
    format!(r#"{{"destination":"/m","type":"bind","source":"{source}","options":[{options}]}}"#)
}

fn binds() -> Vec<Case> {
    vec![
        prints(
            "bind read-only",
            &[(MOUNT, &bind("DIR", r#""bind","ro""#))],
            "test -f /m/config.json && touch /m/x 2>/dev/null || echo ro",
            "ro\n",
        ),
        prints(
            "bind of a file",
            &[(MOUNT, &bind("DIR/config.json", r#""bind""#))],
            "test -s /m && echo file",
            "file\n",
        ),
        prints(
            "bind with a relative source",
            &[(MOUNT, &bind("config.json", r#""bind""#))],
            "test -s /m && echo file",
            "file\n",
        ),
        prints("bind by type alone", &[(MOUNT, &bind("DIR", ""))], "test -f /m/config.json && echo there", "there\n"),
        prints(
            "bind sees earlier mounts",
            &[(MOUNT, BELOW), (MOUNT, &bind("ROOT/a", r#""bind""#))],
            "touch /a/f; ls /m",
            "f\n",
        ),
        prints(
            "recursive norelatime",
            &[(MOUNT, BELOW), (MOUNT, &bind("ROOT/a", r#""rbind","rnorelatime""#))],
            "grep ' /m ' /proc/self/mountinfo | cut -d' ' -f6",
            "rw,relatime\n",
        ),
        refused("bind of what is missing", &[(MOUNT, &bind("DIR/missing", r#""bind""#))], "missing, CLONE) = ENOENT"),
        refused(
            "mount without a type",
            &[(MOUNT, r#"{"destination":"/m","source":"x"}"#)],
            "the mount has no type and is no bind mount",
        ),
        refused(
            "mappings of a tmpfs",
            &[(
                MOUNT,
                r#"{"destination":"/m","type":"tmpfs","uidMappings":[{"containerID":0,"hostID":1,"size":1}],
            "gidMappings":[{"containerID":0,"hostID":1,"size":1}]}"#,
            )],
            "only a bind mount can have id mappings",
        ),
    ]
}

fn recursive_binds() -> Vec<Case> {
    vec![
        prints(
            "bind leaves out what is below",
            &[(MOUNT, BELOW), (MOUNT, DEEPER), (MOUNT, &bind("ROOT/a", r#""bind""#))],
            "mountpoint -q /m/b && echo there || echo not",
            "not\n",
        ),
        prints(
            "rbind takes along what is below",
            &[(MOUNT, BELOW), (MOUNT, DEEPER), (MOUNT, &bind("ROOT/a", r#""rbind","ro""#))],
            TOUCH,
            "ro\nrw\n",
        ),
        prints(
            "rro reaches what is below",
            &[(MOUNT, BELOW), (MOUNT, DEEPER), (MOUNT, &bind("ROOT/a", r#""rbind","rro""#))],
            TOUCH,
            "ro\nro\n",
        ),
        prints(
            "recursive attributes",
            &[
                (MOUNT, BELOW),
                (MOUNT, DEEPER),
                (
                    MOUNT,
                    &bind("ROOT/a", r#""rbind","rnoexec","rnodev","rsuid","rnoatime","rnodiratime","rnosymfollow""#),
                ),
            ],
            "grep ' /m/b ' /proc/self/mountinfo | cut -d' ' -f6",
            "rw,nodev,noexec,noatime,nodiratime,nosymfollow\n",
        ),
        prints(
            "bind keeps flags, and clears them when told",
            &[
                (MOUNT, DEEPER.replace("/a/b", "/a").as_str()),
                (MOUNT, &bind("ROOT/a", r#""bind""#)),
                (MOUNT, r#"{"destination":"/n","type":"bind","source":"ROOT/a","options":["bind","suid"]}"#),
            ],
            "grep -E ' /(m|n) ' /proc/self/mountinfo | cut -d' ' -f5,6",
            "/m rw,nosuid,relatime\n/n rw,relatime\n",
        ),
        prints(
            "idmapped bind",
            &[
                (MOUNT, BELOW),
                (
                    MOUNT,
                    r#"{"destination":"/m","type":"bind","source":"ROOT/a","options":["bind","idmap"],
                "uidMappings":[{"containerID":0,"hostID":1000,"size":10}],"gidMappings":[{"containerID":0,"hostID":2000,"size":10}]}"#,
                ),
            ],
            "touch /a/f; stat -c '%u %g' /a/f /m/f",
            "0 0\n1000 2000\n",
        ),
    ]
}

fn places() -> Vec<Case> {
    let at = |destination: &str| format!(r#"{{"destination":"{destination}","type":"tmpfs","source":"here"}}"#);
    let shown = "grep ^here /proc/mounts | cut -d' ' -f2";
    vec![
        prints("destination through a link", &[(MOUNT, &at("/link/x"))], shown, "/real/x\n")
            .prepared("mkdir real; ln -s /real link"),
        prints("destination through a dangling link", &[(MOUNT, &at("/link/x"))], shown, "/not/yet/x\n")
            .prepared("ln -s /not/yet link"),
        prints("destination with dots", &[(MOUNT, &at("/tmp/../../x"))], shown, "/x\n"),
        prints("relative destination", &[(MOUNT, &at("x/y"))], shown, "/x/y\n"),
        refused("proc is a link", &[], "must be mounted on ordinary directory").prepared("rmdir proc; ln -s tmp proc"),
        refused(
            "sys is a link",
            &[(MOUNT, r#"{"destination":"/sys","type":"sysfs","source":"sysfs"}"#)],
            "must be mounted on ordinary directory",
        )
        .prepared("rmdir sys; ln -s tmp sys"),
        refused(
            "mount inside proc",
            &[(MOUNT, &at("/proc/self/attr"))],
            "cannot be mounted because it is inside /proc",
        ),
        refused(
            "mount inside proc through a link",
            &[(MOUNT, &at("/link/attr"))],
            "cannot be mounted because it is inside /proc",
        )
        .prepared("ln -s proc/self link"),
        refused("mount over proc", &[(MOUNT, &at("/proc"))], "cannot be mounted because it is not of type proc"),
        prints(
            "file in proc that tells of the machine",
            &[(MOUNT, r#"{"destination":"/proc/uptime","type":"bind","source":"ROOT/mine","options":["bind"]}"#)],
            "cat /proc/uptime",
            "mine\n",
        )
        .prepared("echo mine > mine"),
        prints(
            "links that are copied",
            &[(
                MOUNT,
                r#"{"destination":"/copy","type":"bind","source":"DIR/rootfs/link","options":["bind","copy-symlink"]}"#,
            )],
            "readlink /copy",
            "target\n",
        )
        .prepared("ln -s target link"),
    ]
}

fn paths() -> Vec<Case> {
    vec![
        prints("masked paths", &[("/linux/maskedPaths", r#"["/secret","/d1","/d2","/none","/d1"]"#)],
            "cat /secret; ls /d1 /d2; touch /d1/x 2>&1; test $(stat -c %d /d1) = $(stat -c %d /d2) && echo one; grep -c ' /d1 ' /proc/mounts",
            "/d1:\n\n/d2:\ntouch: /d1/x: Read-only file system\none\n1\n").prepared("echo s > secret; mkdir d1 d2; touch d1/f d2/f"),
        prints("read-only paths", &[("/linux/readonlyPaths", r#"["/d","/none"]"#)], "touch /d/x 2>&1; touch /e && echo rw", "touch: /d/x: Read-only file system\nrw\n")
            .prepared("mkdir d"),
        refused("relative path to mask", &[("/linux/maskedPaths", r#"["tmp"]"#)], "maskedPaths entry \"tmp\" is not absolute"),
        prints("root among the read-only paths", &[("/linux/readonlyPaths", r#"["/"]"#)], "touch /x 2>&1; touch /dev/x && echo rw", "touch: /x: Read-only file system\nrw\n"),
        prints("read-only root", &[("/root/readonly", "true")], "touch /x 2>&1; touch /dev/x && echo rw", "touch: /x: Read-only file system\nrw\n"),
        prints("root with shared propagation", &[("/linux/rootfsPropagation", r#""shared""#)], "grep ' / ' /proc/self/mountinfo | head -1 | grep -c shared:", "1\n"),
        prints("private root", &[("/linux/rootfsPropagation", r#""private""#)], "grep ' / ' /proc/self/mountinfo | grep -cE 'shared:|master:' || true", "0\n"),
        prints("unbindable root", &[("/linux/rootfsPropagation", r#""unbindable""#)], "grep ' / ' /proc/self/mountinfo | grep -c unbindable", "1\n"),
        refused("propagation nobody knows", &[("/linux/rootfsPropagation", r#""sideways""#)], "rootfsPropagation \"sideways\""),
        prints("propagation of a mount", &[(MOUNT, r#"{"destination":"/m","type":"tmpfs","source":"t","options":["shared"]}"#)],
            "grep ' /m ' /proc/self/mountinfo | grep -c shared:", "1\n"),
        prints("nothing of the host is mounted", &[], "cut -d' ' -f5 /proc/self/mountinfo | sort", "/\n/dev\n/dev/pts\n/proc\n"),
    ]
}

fn devices() -> Vec<Case> {
    vec![
        prints(
            "default devices",
            &[],
            "for d in null zero full random urandom tty; do stat -c '%n %F %t:%T %a %u' /dev/$d; done",
            "/dev/null character special file 1:3 666 0\n/dev/zero character special file 1:5 666 0\n/dev/full character special file 1:7 666 0\n\
             /dev/random character special file 1:8 666 0\n/dev/urandom character special file 1:9 666 0\n/dev/tty character special file 5:0 666 0\n",
        ),
        prints(
            "default links",
            &[],
            "for l in fd stdin stdout stderr ptmx; do readlink /dev/$l; done",
            "/proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n",
        ),
        prints(
            "devices of the configuration",
            &[(
                "/linux/devices",
                r#"[{"path":"/dev/mine","type":"c","major":1,"minor":3,"fileMode":416,"uid":5,"gid":6},
            {"path":"/dev/sub/pipe","type":"p","fileMode":384},{"path":"/dev/tty","type":"c","major":5,"minor":0}]"#,
            )],
            "stat -c '%F %t:%T %a %u:%g' /dev/mine; stat -c '%F %a' /dev/sub/pipe",
            "character special file 1:3 640 5:6\nfifo 600\n",
        ),
        prints(
            "console as a device",
            &[("/linux/devices", r#"[{"path":"/dev/console","type":"c","major":5,"minor":1,"fileMode":384}]"#)],
            "stat -c '%F %t:%T %a' /dev/console",
            "character special file 5:1 600\n",
        ),
        prints(
            "device rules",
            &[
                (
                    "/linux/resources/devices",
                    r#"[{"allow":false,"access":"rwm"},{"allow":true,"type":"c","major":1,"minor":5,"access":"r"}]"#,
                ),
                ("/linux/devices", r#"[{"path":"/dev/kmsg","type":"c","major":1,"minor":11}]"#),
            ],
            "head -c1 /dev/kmsg 2>&1; head -c4 /dev/zero | wc -c; echo x > /dev/null && echo null",
            "head: /dev/kmsg: Operation not permitted\n4\nnull\n",
        ),
    ]
}

fn refused_devices() -> Vec<Case> {
    vec![
        refused(
            "device in place of another file",
            &[("/linux/devices", r#"[{"path":"/etc/passwd","type":"c","major":1,"minor":3}]"#)],
            "device /etc/passwd: another file is there",
        ),
        refused(
            "device without a path",
            &[("/linux/devices", r#"[{"type":"c","major":1,"minor":3}]"#)],
            "linux.devices: an entry has no path",
        ),
        refused(
            "device without numbers",
            &[("/linux/devices", r#"[{"path":"/dev/mine","type":"c","major":-1,"minor":3}]"#)],
            "no device has the numbers -1:3",
        ),
    ]
}
