//! Containers without a mount namespace of their own: their mounts are the runtime's, and go with them.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Bundle, Kind, Outcome, differs};

const OTHERS: &[(Kind, &str)] =
    &[(Kind::Runc, "leaves its mounts on the host"), (Kind::Crun, "leaves its mounts on the host")];

fn bundle(args: &[&str]) -> Bundle {
    Bundle::new(args).with(|config| {
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "mount");
    })
}

fn mounts(process: &str) -> String {
    fs::read_to_string(format!("/proc/{process}/mountinfo")).unwrap()
}

/// The lines of this process's mount table that name the bundle, or its state.
fn of_bundle(bundle: &Bundle) -> Vec<String> {
    let folder = bundle.file("");
    mounts("self").lines().filter(|line| line.contains(folder.to_str().unwrap())).map(str::to_owned).collect()
}

#[test]
fn a_whole_life() {
    differs(OTHERS, || {
        let bundle = bundle(&["sleep", "1000"]).with(|config| {
            config["linux"]["maskedPaths"] = json!(["/proc/keys", "/proc/irq"]);
            config["linux"]["readonlyPaths"] = json!(["/proc/sys"]);
            config["root"]["readonly"] = json!(true);
        });
        bundle.call("create", &[]).ok();
        let anchor = bundle.root().join(&bundle.id).join("rootfs");
        let made = of_bundle(&bundle);
        let at = |line: &String| line.split(' ').nth(4).unwrap().to_owned();
        assert!(made.len() > 5, "{made:?}");
        assert!(made.iter().all(|line| at(line).starts_with(anchor.to_str().unwrap())), "{made:?}");
        // Private all of them: no tag of propagation in front of the dash.
        assert!(made.iter().all(|line| line.split(" - ").next().unwrap().split(' ').nth(6).is_none()), "{made:?}");
        let pid = bundle.state()["pid"].to_string();
        // rtc waits there from a file that nothing can write to, as in every container.
        let exe = format!("/proc/{pid}/exe");
        assert_eq!(fs::read_link(&exe).unwrap().to_str(), Some("/"));
        assert!(rustix::fs::statvfs(&exe).unwrap().f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY));
        bundle.call("start", &[]).ok();
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap();
        assert_eq!(namespace(&pid), namespace("self"));
        assert_eq!(bundle.exec(&[], &["ls", "/"]).ok(), "bin\ndev\netc\nproc\nsys\ntmp\n");
        let tried =
            bundle.exec(&[], &["sh", "-c", "cat /proc/keys; ls /proc/irq; touch /x; echo 1 > /proc/sys/kernel/panic"]);
        assert_eq!(tried.stdout, "");
        assert_eq!(tried.stderr.matches("Read-only file system").count(), 2, "{tried:?}");
        assert!(fs::read_dir("/proc/irq").unwrap().count() > 0, "the host's own stays as it is");
        bundle
            .call("checkpoint", &["--image-path", "x"])
            .fails(1, "without a mount namespace of its own can't be saved");
        Outcome::of(bundle.command("kill", &[]).arg("KILL")).ok();
        bundle.stopped();
        bundle.call("delete", &[]).ok();
        assert_eq!(of_bundle(&bundle), [""; 0]);
        bundle.assert_gone();
    });
}

#[test]
fn a_run_in_the_foreground_and_one_that_fails_leave_no_mount() {
    differs(OTHERS, || {
        let bundle = bundle(&["readlink", "/proc/self/ns/mnt"]);
        let own = fs::read_link("/proc/self/ns/mnt").unwrap();
        assert_eq!(bundle.call("run", &[]).ok().trim(), own.to_str().unwrap());
        assert_eq!(of_bundle(&bundle), [""; 0]);
        let failing = bundle.with(|config| {
            config["mounts"].as_array_mut().unwrap().push(json!({ "destination": "/x", "type": "nosuchfs" }));
        });
        failing.call("run", &[]).fails(1, "nosuchfs");
        assert_eq!(of_bundle(&failing), [""; 0]);
        failing.assert_gone();
        let user = failing.with(|config| {
            config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
            config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 10 }]);
            config["linux"]["gidMappings"] = config["linux"]["uidMappings"].clone();
        });
        user.call("run", &[]).fails(1, "a user namespace without a mount namespace can't mount anything");
    });
}

/// Where all mounts are shared, as systemd makes them, another mount namespace sees nothing of the container's, nor does
/// the directory of the host that is bound into it.
const SHARED: &str = r#"
folder=$1 state=$2 id=$3; shift 3
mkdir -p "$folder/data/below" "$folder/data/other"
mkfifo "$folder/ready"
unshare -m --propagation unchanged sh -c 'echo > "$1/ready"; exec sleep 1000' sh "$folder" &
other=$!
trap 'kill $other' EXIT
read -r line < "$folder/ready"
seen() { grep -c "$state/$id/rootfs/" "/proc/$other/mountinfo" || true; }
"$@" run -d --bundle "$folder/bundle" "$id" < /dev/null > /dev/null 2>&1
echo "elsewhere $(seen)"
echo "in the data $(grep -c "$folder/data/" /proc/self/mountinfo || true)"
ls -A "$folder/data/below"
mount -t tmpfs tmpfs "$folder/data/other"
echo "from the host $("$@" exec "$id" grep -c ' /data/other ' /proc/self/mountinfo)"
umount "$folder/data/other"
"$@" delete --force "$id"
echo "left $(grep -c "$state/$id" /proc/self/mountinfo "/proc/$other/mountinfo" | cut -d: -f2 | tr '\n' ' ')"
"#;

#[test]
fn nothing_propagates() {
    differs(OTHERS, || {
        let bundle = bundle(&["sleep", "1000"]);
        let data = bundle.file("data");
        let bundle = bundle.with(|config| {
            let mounts = config["mounts"].as_array_mut().unwrap();
            mounts.push(json!({ "destination": "/data", "type": "bind", "source": data, "options": ["rbind"] }));
            mounts.push(json!({ "destination": "/data/below", "type": "tmpfs", "source": "tmpfs" }));
            config["linux"]["maskedPaths"] = json!(["/data/below"]);
        });
        let mut command = Command::new("unshare");
        command.args(["-m", "--propagation", "shared", "sh", "-ec", SHARED, "sh"]);
        command.arg(bundle.file("")).arg(bundle.root()).arg(&bundle.id);
        let runtime = bundle.runtime();
        command.arg(runtime.get_program()).args(runtime.get_args());
        let said = Outcome::of(&mut command);
        assert_eq!(said.stdout, "elsewhere 0\nin the data 0\nfrom the host 1\nleft 0 0 \n", "{said:?}");
    });
}

#[test]
fn mounts_come_and_go_while_it_runs() {
    differs(&[(Kind::Runc, "has no such command"), (Kind::Crun, "mounts on the host")], || {
        let bundle = bundle(&["sleep", "1000"]).running();
        let list: Value = json!([{ "destination": "/hot", "type": "tmpfs", "source": "tmpfs" }]);
        fs::write(bundle.file("list"), list.to_string()).unwrap();
        let hot =
            |action: &str| Outcome::of(bundle.runtime().args(["mounts", action, &bundle.id]).arg(bundle.file("list")));
        let shown = || bundle.exec(&[], &["grep", "-c", " /hot ", "/proc/self/mountinfo"]).stdout;
        hot("add").ok();
        assert_eq!(shown(), "1\n");
        assert!(!fs::exists("/hot").unwrap());
        hot("remove").ok();
        assert_eq!(shown(), "0\n");
    });
}
