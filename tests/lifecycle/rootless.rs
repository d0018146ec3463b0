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
    let bundle = of_a_user(bundle).with(|config| {
        config["linux"]["seccomp"] = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": path, "syscalls": [
            { "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }] });
    });
    let agent = ConsoleSocket::bind(&path);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
    let running = by_user(&bundle, "run", &[]);
    // Nobody answers: calls that are reported don't exist.
    drop(agent.receive());
    let said = finish(running).ok();
    assert!(said.contains("Function not implemented") && said.ends_with("done\n"), "{said}");
    // The first process may be looked into, and needs no call to pass the listener on; one that enters may not.
    let bundle = bundle.with(|config| {
        config["linux"]["seccomp"]["syscalls"][0]["names"] = json!(["sendmsg"]);
        config["process"]["args"] = json!(["sleep", "1000"]);
    });
    let made = fs::File::create(bundle.file("made")).unwrap();
    assert!(user_command(&bundle, "create", &[]).stdout(made).status().unwrap().success());
    finish(by_user(&bundle, "exec", &["true"])).fails(255, "cannot be used for the sendmsg syscall");
    bundle.call("delete", &["--force"]).ok();
}

/// The process that waits for `start` can be joined, and shows the container nothing of the user's environment.
#[test]
fn exec_into_a_created_container() {
    if Kind::under_test() != Kind::Rtc {
        return;
    }
    let bundle = of_a_user(Bundle::new(&["sleep", "1000"]));
    let made = fs::File::create(bundle.file("made")).unwrap();
    let mut create = user_command(&bundle, "create", &[]);
    let created =
        create.env("A_SECRET", "of-the-user").stdout(made.try_clone().unwrap()).stderr(made).status().unwrap();
    assert!(created.success(), "{}", fs::read_to_string(bundle.file("made")).unwrap());
    let script = "echo $$; grep -c of-the-user /proc/1/environ";
    let said = finish(by_user(&bundle, "exec", &["sh", "-c", script]));
    assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (1, "2\n0\n", ""));
    assert_eq!(bundle.status(), "created");
    finish(by_user(&bundle, "start", &[])).ok();
    finish(by_user(&bundle, "exec", &["true"])).ok();
    bundle.call("delete", &["--force"]).ok();
}

/// With a user namespace of the user's one id, and state that is the user's.
fn of_a_user(bundle: Bundle) -> Bundle {
    let bundle = bundle.with(|config| {
        let linux = &mut config["linux"];
        linux["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
        let map = json!([{ "containerID": 0, "hostID": USER, "size": 1 }]);
        linux["uidMappings"] = map.clone();
        linux["gidMappings"] = map;
    });
    fs::create_dir(bundle.root()).unwrap();
    chown(bundle.root(), Some(USER), Some(USER)).unwrap();
    bundle
}

fn by_user(bundle: &Bundle, command: &str, args: &[&str]) -> Child {
    let mut command = user_command(bundle, command, args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn user_command(bundle: &Bundle, command: &str, args: &[&str]) -> Command {
    let mut all = bundle.command(command, &[]);
    all.args(args);
    let mut user = Command::new("setpriv");
    user.args(["--reuid", &USER.to_string(), "--regid", &USER.to_string(), "--clear-groups"]);
    user.arg(all.get_program()).args(all.get_args()).stdin(Stdio::null());
    user
}
