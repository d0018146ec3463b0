#!/usr/bin/env python3
"""Writes the program that libseccomp makes of a profile: export.py PROFILE.json...

Calls libseccomp.so.2 as runc does. Writes PROFILE.bpf beside each profile.
"""

import ctypes
import json
import os
import sys

ACTIONS = {
    "KILL": 0,
    "KILL_THREAD": 0,
    "KILL_PROCESS": 0x80000000,
    "TRAP": 0x30000,
    "ERRNO": 0x50000,
    "NOTIFY": 0x7FC00000,
    "TRACE": 0x7FF00000,
    "LOG": 0x7FFC0000,
    "ALLOW": 0x7FFF0000,
}
OPERATORS = ["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"]
OPTIMIZE = 8  # SCMP_FLTATR_CTL_OPTIMIZE
NO_SUCH_CALL = -1  # __NR_SCMP_ERROR


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp"""

    _fields_ = [
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("a", ctypes.c_uint64),
        ("b", ctypes.c_uint64),
    ]


def library():
    lib = ctypes.CDLL("libseccomp.so.2")
    context = ctypes.c_void_p
    lib.seccomp_init.restype = context
    lib.seccomp_init.argtypes = [ctypes.c_uint32]
    lib.seccomp_release.argtypes = [context]
    lib.seccomp_attr_set.argtypes = [context, ctypes.c_int, ctypes.c_uint32]
    lib.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    lib.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_arch_add.argtypes = [context, ctypes.c_uint32]
    lib.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    lib.seccomp_rule_add_array.argtypes = [
        context,
        ctypes.c_uint32,
        ctypes.c_int,
        ctypes.c_uint,
        ctypes.POINTER(Comparison),
    ]
    lib.seccomp_export_bpf.argtypes = [context, ctypes.c_int]
    return lib


def action(name, errno):
    name = name.removeprefix("SCMP_ACT_")
    data = (1 if errno is None else errno) if name in ("ERRNO", "TRACE") else 0
    return ACTIONS[name] | data


def comparison(arg):
    op = 1 + OPERATORS.index(arg["op"].removeprefix("SCMP_CMP_"))
    return Comparison(arg["index"], op, arg["value"], arg.get("valueTwo", 0))


def export(lib, profile, path):
    default = action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = lib.seccomp_init(default)
    for arch in profile.get("architectures", []):
        name = arch.removeprefix("SCMP_ARCH_").lower().encode()
        lib.seccomp_arch_add(context, lib.seccomp_arch_resolve_name(name))
    if len(profile["syscalls"]) > 8:
        lib.seccomp_attr_set(context, OPTIMIZE, 2)
    for entry in profile["syscalls"]:
        verdict = action(entry["action"], entry.get("errnoRet"))
        if verdict == default:
            continue
        args = entry.get("args") or []
        rules = [[comparison(arg) for arg in args]]
        if len({arg["index"] for arg in args}) < len(args):
            rules = [[comparison(arg)] for arg in args]
        for name in entry["names"]:
            number = lib.seccomp_syscall_resolve_name(name.encode())
            if number == NO_SUCH_CALL:
                continue
            for rule in rules:
                array = (Comparison * max(1, len(rule)))(*rule)
                result = lib.seccomp_rule_add_array(context, verdict, number, len(rule), array)
                if result != 0:
                    sys.exit(f"{path}: {name}: {result}")
    fd = os.open(path, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644)
    if lib.seccomp_export_bpf(context, fd) != 0:
        sys.exit(f"{path}: seccomp_export_bpf failed")
    os.close(fd)
    lib.seccomp_release(context)


if __name__ == "__main__":
    for file in sys.argv[1:]:
        with open(file) as source:
            export(library(), json.load(source), file.removesuffix(".json") + ".bpf")
