//! bpf(2), as far as device programs of cgroups need it: load, attach, detach, query.
//!
//! Memory of programs is charged to the memory cgroup since 5.11, so RLIMIT_MEMLOCK isn't touched; on older kernels a
//! low limit shows as EPERM.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use crate::{Errno, Error, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_PROG_ATTACH: libc::c_long = 8;
const BPF_PROG_DETACH: libc::c_long = 9;
const BPF_PROG_GET_FD_BY_ID: libc::c_long = 13;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_PROG_QUERY: libc::c_long = 16;
const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;
const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// One instruction of an eBPF program (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Operation, operand kind and class.
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub registers: u8,
    /// Jump distance, counted from the next instruction, or memory offset.
    pub offset: i16,
    /// Immediate operand.
    pub immediate: i32,
}

/// The part of `union bpf_attr` that BPF_PROG_LOAD reads.
#[derive(Default)]
#[repr(C)]
struct LoadAttr {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// The part that BPF_PROG_ATTACH and BPF_PROG_DETACH read.
#[derive(Default)]
#[repr(C)]
struct AttachAttr {
    target_fd: u32,
    attach_bpf_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_bpf_fd: u32,
}

/// The part that BPF_PROG_QUERY reads and writes.
#[derive(Default)]
#[repr(C)]
struct QueryAttr {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    padding: u32,
}

/// The part that BPF_PROG_GET_FD_BY_ID reads.
#[derive(Default)]
#[repr(C)]
struct IdAttr {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// The part that BPF_OBJ_GET_INFO_BY_FD reads.
#[derive(Default)]
#[repr(C)]
struct InfoAttr {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The beginning of `struct bpf_prog_info` (linux/bpf.h), up to the name.
#[derive(Default)]
#[repr(C)]
struct ProgInfo {
    before_name: [u64; 8],
    name: [u8; 16],
}

/// Kinds of `attr` that may be handed to bpf(2): plain old data of the kernel's layout.
///
/// # Safety
/// The type is the beginning of the `union bpf_attr` of the commands it is passed with, and the addresses in it are 0 or
/// those of live memory of the size that the counts beside them say.
unsafe trait Attr {}

// SAFETY: repr(C), the field order of linux/bpf.h; its only user below fills addresses from slices that it holds.
unsafe impl Attr for LoadAttr {}
// SAFETY: as above; it has no addresses.
unsafe impl Attr for AttachAttr {}
// SAFETY: as above; its only user below gives the address and length of one live vector.
unsafe impl Attr for QueryAttr {}
// SAFETY: as above; it has no addresses.
unsafe impl Attr for IdAttr {}
// SAFETY: as above; its only user below gives the address and size of one live structure.
unsafe impl Attr for InfoAttr {}

fn bpf<A: Attr>(command: libc::c_long, attr: &mut A) -> libc::c_long {
    // SAFETY: by the contract of `Attr` the kernel reads and writes memory that is alive and large enough.
    unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<A>()) }
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    // A descriptor is never negative.
    fd.as_raw_fd() as u32
}

/// Loads a program of type BPF_PROG_TYPE_CGROUP_DEVICE (4.15) and returns its descriptor, close-on-exec.
///
/// The name shows in tools that list programs; at most 15 letters, digits, `_` and `.`.
///
/// # Errors
/// EPERM without CAP_BPF or CAP_SYS_ADMIN, or with a low RLIMIT_MEMLOCK before 5.11; EINVAL or EACCES for a program
/// that the verifier refuses; E2BIG for one that is too long.
pub fn load_cgroup_device(program: &[Insn], name: &str) -> Result<OwnedFd> {
    let mut prog_name = [0; 16];
    for (to, from) in prog_name[..15].iter_mut().zip(name.bytes()) {
        *to = from;
    }
    let mut attr = LoadAttr {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).unwrap_or(u32::MAX),
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        prog_name,
        expected_attach_type: ATTACH_CGROUP_DEVICE,
        ..LoadAttr::default()
    };
    // EAGAIN: a signal interrupted the verifier.
    for _ in 0..5 {
        let fd = bpf(BPF_PROG_LOAD, &mut attr);
        if fd >= 0 {
            return Ok(own(fd));
        }
        if Errno::last() != Errno::EAGAIN {
            break;
        }
    }
    Err(Error::last("bpf", format_args!("PROG_LOAD, CGROUP_DEVICE, {} instructions", program.len())))
}

/// Attaches a device program to a cgroup, beside those that are there (BPF_F_ALLOW_MULTI), or in one step in the place
/// of `replaced` (BPF_F_REPLACE, 5.6).
///
/// An access must be allowed by all programs of a cgroup and its ancestors.
///
/// # Errors
/// EPERM when a program further up forbids others; ENOENT when `replaced` isn't attached.
pub fn attach_cgroup_device(cgroup: impl AsFd, program: impl AsFd, replaced: Option<BorrowedFd<'_>>) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup.as_fd()),
        attach_bpf_fd: raw(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: if replaced.is_some() { F_ALLOW_MULTI | F_REPLACE } else { F_ALLOW_MULTI },
        replace_bpf_fd: replaced.map_or(0, raw),
    };
    let replacing = if replaced.is_some() { "|REPLACE" } else { "" };
    match bpf(BPF_PROG_ATTACH, &mut attr) {
        0.. => Ok(()),
        _ => Err(Error::last("bpf", format_args!("PROG_ATTACH, CGROUP_DEVICE, ALLOW_MULTI{replacing}"))),
    }
}

/// Takes a device program off a cgroup.
///
/// # Errors
/// ENOENT when it isn't attached.
pub fn detach_cgroup_device(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attr = AttachAttr {
        target_fd: raw(cgroup.as_fd()),
        attach_bpf_fd: raw(program.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        ..AttachAttr::default()
    };
    match bpf(BPF_PROG_DETACH, &mut attr) {
        0.. => Ok(()),
        _ => Err(Error::last("bpf", "PROG_DETACH, CGROUP_DEVICE")),
    }
}

/// The device programs with this name that are attached to a cgroup itself, oldest first.
///
/// # Errors
/// EPERM without CAP_BPF or CAP_SYS_ADMIN. A program that goes meanwhile is left out.
pub fn cgroup_device_programs(cgroup: impl AsFd, name: &str) -> Result<Vec<OwnedFd>> {
    // The kernel allows 64 programs for each cgroup and kind (BPF_CGROUP_MAX_PROGS).
    let mut ids = vec![0u32; 64];
    let mut attr = QueryAttr {
        target_fd: raw(cgroup.as_fd()),
        attach_type: ATTACH_CGROUP_DEVICE,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: 64,
        ..QueryAttr::default()
    };
    if bpf(BPF_PROG_QUERY, &mut attr) < 0 {
        return Err(Error::last("bpf", "PROG_QUERY, CGROUP_DEVICE"));
    }
    let mut programs = Vec::new();
    for id in ids.into_iter().take(attr.prog_cnt as usize) {
        let mut attr = IdAttr { id, ..IdAttr::default() };
        match bpf(BPF_PROG_GET_FD_BY_ID, &mut attr) {
            fd @ 0.. => {
                let program = own(fd);
                if program_name(&program)? == name.as_bytes() {
                    programs.push(program);
                }
            }
            _ if Errno::last() == Errno::ENOENT => {}
            _ => return Err(Error::last("bpf", format_args!("PROG_GET_FD_BY_ID, {id}"))),
        }
    }
    Ok(programs)
}

/// The name that a program was loaded with (4.15).
fn program_name(program: &OwnedFd) -> Result<Vec<u8>> {
    let mut info = ProgInfo::default();
    let mut attr =
        InfoAttr { bpf_fd: raw(program.as_fd()), info_len: size_of::<ProgInfo>() as u32, info: (&raw mut info) as u64 };
    if bpf(BPF_OBJ_GET_INFO_BY_FD, &mut attr) < 0 {
        return Err(Error::last("bpf", "OBJ_GET_INFO_BY_FD"));
    }
    Ok(info.name.into_iter().take_while(|byte| *byte != 0).collect())
}

fn own(fd: libc::c_long) -> OwnedFd {
    // SAFETY: the kernel has just returned this descriptor to us, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

const _: () = assert!(size_of::<Insn>() == 8 && size_of::<LoadAttr>() == 72 && size_of::<AttachAttr>() == 20);
