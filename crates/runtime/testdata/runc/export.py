#!/usr/bin/env python3
"""Writes the filter that runc loads for a profile: export.py PROFILE.json...

Runs a container of busybox under each profile and asks the kernel for what its process has.
Writes PROFILE.bpf beside each profile. Needs root, runc, and a cgroup hierarchy that runc likes.
"""

import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile

PTRACE_SECCOMP_GET_FILTER = 0x420C
PTRACE_SEIZE = 0x4206
PTRACE_INTERRUPT = 0x4207

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.restype = ctypes.c_long
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def ptrace(request, pid, address, data):
    result = libc.ptrace(request, pid, address, data)
    if result < 0:
        sys.exit(f"ptrace({request:#x}, {pid}): {os.strerror(ctypes.get_errno())}")
    return result


def filter_of(pid):
    """The one filter of a process, as bytes."""
    ptrace(PTRACE_SEIZE, pid, None, None)
    ptrace(PTRACE_INTERRUPT, pid, None, None)
    os.waitpid(pid, 0x40000000)  # __WALL
    count = ptrace(PTRACE_SECCOMP_GET_FILTER, pid, None, None)
    program = ctypes.create_string_buffer(8 * count)
    ptrace(PTRACE_SECCOMP_GET_FILTER, pid, None, program)
    return program.raw


def export(profile, path, folder):
    bundle = os.path.join(folder, "bundle")
    os.makedirs(os.path.join(bundle, "rootfs/bin"))
    shutil.copy(shutil.which("busybox"), os.path.join(bundle, "rootfs/bin/busybox"))
    subprocess.run(["runc", "spec", "--bundle", bundle], check=True)
    file = os.path.join(bundle, "config.json")
    with open(file) as source:
        config = json.load(source)
    config["process"].update(terminal=False, args=["/bin/busybox", "sleep", "1000"])
    config["linux"]["seccomp"] = profile
    with open(file, "w") as target:
        json.dump(config, target)
    name = f"seccomp-export-{os.getpid()}"
    runc = ["runc", "--root", os.path.join(folder, "state")]
    pid_file = os.path.join(folder, "pid")
    run = [*runc, "run", "--detach", "--bundle", bundle, "--pid-file", pid_file, name]
    null = subprocess.DEVNULL
    subprocess.run(run, check=True, stdin=null, stdout=null)
    try:
        with open(pid_file) as source:
            program = filter_of(int(source.read()))
    finally:
        subprocess.run([*runc, "delete", "--force", name], check=True)
    with open(path, "wb") as target:
        target.write(program)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        with open(file) as source, tempfile.TemporaryDirectory() as folder:
            export(json.load(source), file.removesuffix(".json") + ".bpf", folder)
