//! What an ordinary user may do, as far as it needs no second user or systemd (integration/suites/rootless.sh has the
//! rest).

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::process::{Child, Command, Stdio};

use serde_json::json;

use crate::harness::{Bundle, Kind, finish};
use crate::pty::ConsoleSocket;

const USER: u32 = 54321;

/// The user was in another user namespace when rtc was executed, and may not look into the container's process.
#[test]
fn a_filter_reports_to_an_agent() {
    if Kind::under_test() != Kind::Rtc {
        return;
    }
    let bundle = Bundle::new(&["sh", "-c", "mkdir /tmp/x 2>&1; echo done"]);
    let path = bundle.file("agent");
    let bundle = bundle.with(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
        linux["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
    });
    fs::create_dir(bundle.root()).unwrap();
    chown(bundle.root(), Some(USER), Some(USER)).unwrap();
    let agent = ConsoleSocket::bind(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let running = by_user(&bundle);
    // Nobody answers: calls that are reported don't exist.
    drop(agent.receive());
    let said = finish(running).ok();
    assert!(said.contains("Function not implemented") && said.ends_with("done\n"), "{said}");
    let bundle = bundle.with(|config| {
        config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["sendmsg"]);
    });
    finish(by_user(&bundle)).fails(1, "cannot be used for the sendmsg syscall");
}

fn by_user(bundle: &Bundle) -> Child {
    let all = bundle.command("run", &[]);
    let mut user = Command::new("setpriv");
    user.args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"]);
    user.arg(all.get_program()).args(all.get_args());
    user.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}
