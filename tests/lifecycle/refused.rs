//! What a checkpoint refuses, each tried on the real thing: the line names process, reason and remedy, nothing is
//! touched, and without the thing the container can be saved.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::harness::{Bundle, Kind, differs, until};
use serde_json::json;

fn with_rtc(body: impl FnOnce()) {
    differs(&[(Kind::Runc, "needs criu"), (Kind::Crun, "Debian builds it without criu")], body);
}

/// A shell with the capability to make namespaces, which executes `script` and says when it has.
fn privileged(script: &str) -> Bundle {
    let script = format!("{script}\n while :; do usleep 10000; done");
    let bundle = Bundle::new(&["busybox", "sh", "-c", &script]).with(|config| {
        let some = json!(["CAP_KILL", "CAP_SYS_ADMIN"]);
        config["process"]["capabilities"] = json!({ "bounding": some, "effective": some, "permitted": some });
        config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "network" }));
    });
    let bundle = bundle.running();
    until(&bundle.dir().join("rootfs/tmp/ready"), |text| text.ends_with('\n'));
    bundle
}

/// `checkpoint --check` says each of `words` in one line, `checkpoint` fails with it and leaves no image.
#[track_caller]
fn refused(bundle: &Bundle, words: &[&str]) {
    let check = bundle.call("checkpoint", &["--check"]);
    assert_eq!((check.status, check.stderr.as_str()), (1, ""));
    let line = check.stdout.lines().find(|line| words.iter().all(|word| line.contains(word)));
    let line = line.unwrap_or_else(|| panic!("no line with all of {words:?}: {}", check.stdout));
    bundle.call("checkpoint", &[]).fails(1, line);
    assert_eq!(bundle.status(), "running");
    assert!(!bundle.file("checkpoint/manifest.json").exists());
}

#[track_caller]
fn saved_and_back(bundle: &Bundle) {
    bundle.call("checkpoint", &[]).ok();
    bundle.assert_gone();
    bundle.call("restore", &["-d"]).ok();
    assert_eq!(bundle.status(), "running");
}

/// A process in a namespace of its own inside the container; then it is ended.
#[track_caller]
fn in_a_namespace(flags: &str, kind: &str) {
    with_rtc(|| {
        let bundle = privileged(&format!(
            "busybox mkfifo /tmp/end; \
             busybox unshare {flags} busybox sh -c 'echo in > /tmp/ready; read line < /tmp/end' & \
             wait; busybox rm /tmp/end; echo > /tmp/over"
        ));
        refused(&bundle, &["pid ", &format!("its {kind} namespace"), "unshare"]);
        fs::write(bundle.dir().join("rootfs/tmp/end"), "\n").unwrap();
        until(&bundle.dir().join("rootfs/tmp/over"), |text| text.ends_with('\n'));
        saved_and_back(&bundle);
    });
}

#[test]
fn a_mount_namespace_inside() {
    in_a_namespace("-m", "mnt");
}

#[test]
fn a_network_namespace_inside() {
    in_a_namespace("-n", "net");
}

#[test]
fn a_pid_namespace_inside() {
    in_a_namespace("-p -f", "pid");
}

#[test]
fn an_ipc_namespace_inside() {
    in_a_namespace("-i", "ipc");
}

#[test]
fn a_host_name_of_its_own() {
    in_a_namespace("-u", "uts");
}

/// The smallest static program that x86 Linux runs: an ELF header, one segment, and code that writes a line feed to
/// /tmp/small and then waits for ever.
fn program_of_32_bits() -> Vec<u8> {
    const BASE: u32 = 0x0804_8000;
    const HEADERS: u32 = 52 + 32;
    const DATA: u32 = BASE + HEADERS;
    let data = b"/tmp/small\0\n";
    let newline = DATA + data.len() as u32 - 1;
    let mut code = Vec::new();
    let mut set = |opcode: u8, value: u32| {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    };
    // creat(path, 0644): number in eax, arguments in ebx, ecx, edx
    set(0xb8, 8);
    set(0xbb, DATA);
    set(0xb9, 0o644);
    // int 0x80; mov ebx, eax
    code.extend([0xcd, 0x80, 0x89, 0xc3]);
    let mut set = |opcode: u8, value: u32| {
        code.push(opcode);
        code.extend(value.to_le_bytes());
    };
    // write(fd, newline, 1)
    set(0xb8, 4);
    set(0xb9, newline);
    set(0xba, 1);
    // int 0x80; again: mov eax, 29 (pause); int 0x80; jmp again
    code.extend([0xcd, 0x80, 0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7]);
    let length = HEADERS + (data.len() + code.len()) as u32;
    let entry = DATA + data.len() as u32;
    let halves = |values: &[u16]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
    [
        b"\x7fELF\x01\x01\x01\0\0\0\0\0\0\0\0\0".to_vec(),
        // ET_EXEC, EM_386, EV_CURRENT; entry, program headers, section headers, flags
        halves(&[2, 3]),
        words(&[1, entry, 52, 0, 0]),
        halves(&[52, 32, 1, 0, 0, 0]),
        // PT_LOAD, readable and executable
        words(&[1, 0, BASE, BASE, length, length, 5, 0x1000]),
        data.to_vec(),
        code,
    ]
    .concat()
}

#[test]
fn a_program_of_32_bits() {
    with_rtc(|| {
        let script = "/small & while [ -e /tmp/stay ]; do usleep 10000; done; \
                      kill $!; wait; echo > /tmp/over; while :; do usleep 10000; done";
        let bundle = Bundle::new(&["busybox", "sh", "-c", script]).with_file("tmp/stay", "", 0o644);
        let root = bundle.dir().join("rootfs");
        fs::write(root.join("small"), program_of_32_bits()).unwrap();
        fs::set_permissions(root.join("small"), Permissions::from_mode(0o755)).unwrap();
        // Without CONFIG_IA32_EMULATION there is nothing to refuse.
        match Command::new(root.join("small")).spawn() {
            Ok(mut child) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Err(e) => return eprintln!("this kernel runs no programs of 32 bits: {e}"),
        }
        let bundle = bundle.running();
        until(&root.join("tmp/small"), |text| text == "\n");
        refused(&bundle, &["pid ", "32-bit", "64-bit build"]);
        fs::remove_file(root.join("tmp/stay")).unwrap();
        until(&root.join("tmp/over"), |text| text.ends_with('\n'));
        saved_and_back(&bundle);
    });
}

/// A task that forks is stopped all the same, whatever it was about to do.
#[test]
fn nothing_of_a_container_that_forks_all_the_time() {
    with_rtc(|| {
        let bundle = Bundle::new(&["sh", "-c", "while :; do /bin/true; echo > /tmp/round; done"]).running();
        until(&bundle.dir().join("rootfs/tmp/round"), |text| text == "\n");
        for _ in 0..40 {
            let check = bundle.call("checkpoint", &["--check"]);
            assert_eq!((check.status, check.stdout.as_str(), check.stderr.as_str()), (0, "", ""));
        }
    });
}

/// At restore the container couldn't make it, and nothing of the host's may come from an image.
#[test]
fn a_mount_of_a_hook() {
    let bundle = Bundle::new(&["sleep", "1000"]);
    let place = bundle.dir().join("rootfs/tmp");
    let bundle = bundle.with(|config| {
        let script = format!("busybox mount -t tmpfs of-a-hook {}", place.display());
        let hook = json!({ "path": "/usr/bin/busybox", "args": ["sh", "-c", script] });
        config["hooks"] = json!({ "createContainer": [hook] });
    });
    with_rtc(|| {
        let bundle = bundle.running();
        refused(
            &bundle,
            &["mount on /tmp (tmpfs)", "a hook or somebody outside has made it", "let config.json mount it"],
        );
    });
}
