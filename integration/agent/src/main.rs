//! The agent in the test VM: takes commands from the virtio serial port, runs them, sends back output and exit status.
//!
//! One thread waits on everything at once (port, the command's pipes, its end, its time-out), so the order is plain:
//! what the command wrote before it ended has been sent before its exit frame, even when a daemon it left behind
//! still holds the pipes.
//! It starts as a child of a PID 1 that reaps; it never returns while the VM lives.
#![forbid(unsafe_code)]

mod job;

use rtc_vm_agent::frame::{Frame, PORT_NAME};
use std::fs::{self, File, OpenOptions};
use std::io;

fn main() -> io::Result<()> {
    let mut port = open_port()?;
    Frame::Ready.write_to(&mut port)?;
    loop {
        // Input frames that arrive between commands belong to one that ended without reading them.
        if let Frame::Run(command) = Frame::read_from(&mut port)? {
            let exit = job::run(&command, &mut port)?;
            Frame::Exit(exit).write_to(&mut port)?;
        }
    }
}

/// Opens the port by its name in sysfs: there is no udev in the VM to make the links under `/dev/virtio-ports`.
fn open_port() -> io::Result<File> {
    for entry in fs::read_dir("/sys/class/virtio-ports")? {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim_end() == PORT_NAME {
            return OpenOptions::new()
                .read(true)
                .write(true)
                .open(std::path::Path::new("/dev").join(entry.file_name()));
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("no virtio port is named {PORT_NAME}")))
}
