"""Takes rights away from a process for good: rights to open files, to connect, and to start programs.

A child that parses documents of strangers confines itself before it imports its first library, so that no thread of it
ever runs with more rights. On Linux it uses Landlock (files, TCP, the memory of other processes), seccomp (sockets,
programs) and `no_new_privs`, through the C library, which is loaded anyway. On other systems no right is taken, and
`Confined` says so.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import stat
import struct
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

__all__ = [
    "ALL_BUT_SPYING",
    "Confined",
    "Rights",
    "confine",
    "hide_from_children",
    "landlock_version",
]

PR_SET_DUMPABLE: Final = 4  # linux/prctl.h
PR_SET_SECCOMP: Final = 22
PR_SET_NO_NEW_PRIVS: Final = 38
SECCOMP_MODE_FILTER: Final = 2

# linux/landlock.h; the numbers of the system calls are the same on every architecture.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
CREATE_RULESET_VERSION: Final = 1
RULE_PATH_BENEATH: Final = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1 << 0, 1 << 1, 1 << 2, 1 << 3
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG = 1 << 4, 1 << 5, 1 << 7, 1 << 8
TRUNCATE: Final = 1 << 14
ALL_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}  # bits of each version; from 5 on there are 16
ON_A_FILE: Final = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
READING: Final = READ_FILE | READ_DIR | EXECUTE
WRITING: Final = WRITE_FILE | READ_FILE | READ_DIR | REMOVE_DIR | REMOVE_FILE | MAKE_DIR | MAKE_REG | TRUNCATE
BIND_AND_CONNECT_TCP: Final = 0b11  # from version 4 on
ABSTRACT_SOCKETS, SIGNALS = 1 << 0, 1 << 1  # from version 6 on; the sockets and processes outside are out of reach

# Folders with libraries, and files that libraries read: for the loader, the clock, the processor, fonts.
SYSTEM: Final = (
    "/usr", "/lib", "/lib32", "/lib64", "/nix/store", "/gnu/store", "/etc/ld.so.cache", "/etc/localtime", "/etc/fonts",
    "/etc/mime.types", "/dev/null", "/dev/zero", "/dev/urandom", "/dev/random", "/proc/cpuinfo", "/proc/meminfo",
    "/proc/self", "/proc/sys/vm/overcommit_memory", "/sys/devices/system/cpu",
)  # fmt: skip

SOCKETS: Final = {"x86_64": (41, 53, 425), "aarch64": (198, 199, 425)}  # socket, socketpair, io_uring_setup
PROGRAMS: Final = {"x86_64": (59, 322), "aarch64": (221, 281)}  # execve, execveat
# ptrace, process_vm_readv, process_vm_writev, pidfd_getfd; bpf, userfaultfd, perf_event_open; add_key, request_key,
# keyctl; mount, umount2, unshare, setns. No code that reads a document needs one of these calls.
NEVER: Final = {
    "x86_64": (101, 310, 311, 438, 321, 323, 298, 248, 249, 250, 165, 166, 272, 308),
    "aarch64": (117, 270, 271, 438, 280, 282, 241, 217, 218, 219, 40, 39, 97, 268),
}
AUDIT_ARCH: Final = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
CAPABILITY_VERSION: Final = 0x20080522  # linux/capability.h
# Root's rights to look into other processes. On Linux 6.14 CAP_PERFMON reads their environment, in spite of Landlock.
SPYING: Final = 1 << 19 | 1 << 21 | 1 << 38  # CAP_SYS_PTRACE, CAP_SYS_ADMIN, CAP_PERFMON
X32_BIT: Final = 0x40000000  # x86_64 has each system call twice; the numbers of the second set begin here


@dataclass(frozen=True, slots=True)
class Rights:
    """The rights that a process keeps."""

    read: tuple[str, ...] | None = None
    """Files and folders that it may read, beside its libraries. None: it may read and write all files."""
    write: tuple[str, ...] = ()
    """Folders in which it may write, if `read` is not None."""
    tcp: bool = False
    sockets: bool = False
    """Whether it may make sockets, those for UDP and for programs on this machine included."""
    programs: bool = False
    """Whether it may start programs."""
    signals: bool = False
    """Whether it may send signals to processes that it did not start."""

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Rights:
        """The rights that `to_json` wrote."""
        return cls(**json.loads(text))


ALL_BUT_SPYING: Final = Rights(tcp=True, sockets=True, programs=True, signals=True)
"""The rights of an engine of the operator's own: all except to look into the server's process."""


@dataclass(frozen=True, slots=True)
class Confined:
    """The bounds that are in force in a process."""

    landlock: int = 0
    """The version of Landlock in force; 0: none, so that files and TCP are open to the process."""
    seccomp: bool = False
    """Whether seccomp keeps sockets, programs and the memory of other processes from it."""

    def __str__(self) -> str:
        parts = [f"Landlock {self.landlock}"] if self.landlock else []
        parts += ["seccomp"] if self.seccomp else []
        return " and ".join(parts) or "nothing: this system has neither Landlock nor seccomp"


def _library_folders() -> tuple[str, ...]:
    """The folders that Python and its libraries read: the interpreter's, the import path, the system's."""
    own = [sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix, *sys.path]
    return tuple(dict.fromkeys(os.path.realpath(each) for each in [*own, *SYSTEM] if each and os.path.exists(each)))


def confine(rights: Rights) -> Confined:
    """Keep these rights and give up all others, in this thread and in all threads and processes that it starts.

    Call it while there is one thread. Bounds that the system does not have are left out, without an error.
    """
    if sys.platform != "linux":
        return Confined()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        return Confined()
    _drop_capabilities(libc, SPYING if rights.read is None else -1)
    return Confined(_restrict(libc, rights), _filter_calls(libc, rights))


def hide_from_children() -> None:
    """Close this process's memory and environment to other processes of the same user, on a system without Landlock.

    From then on debuggers and core dumps need root, so it is not done where Landlock closes them.
    """
    if sys.platform == "linux" and not landlock_version():
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def landlock_version() -> int:
    """The version of Landlock that this kernel offers; 0: none."""
    if sys.platform != "linux":
        return 0
    return max(0, _call(ctypes.CDLL(None, use_errno=True), CREATE_RULESET, None, 0, CREATE_RULESET_VERSION))


def _call(libc: Any, number: int, *arguments: Any) -> int:
    libc.syscall.restype = ctypes.c_long
    return int(libc.syscall(*(ctypes.c_long(each) if isinstance(each, int) else each for each in (number, *arguments))))


def _restrict(libc: Any, rights: Rights) -> int:
    """Put Landlock in force. Returns its version.

    Even with hardly any rule, Landlock keeps this process from the memory and the environment of every process outside,
    above all of the server.
    """
    version = landlock_version()
    if not version:
        return 0
    handled = (1 << ALL_FILE_RIGHTS.get(version, 16)) - 1 if rights.read is not None else 1 << 11  # block devices
    attributes = [handled]
    if version >= 4:
        attributes.append(0 if rights.tcp else BIND_AND_CONNECT_TCP)
    if version >= 6:
        attributes.append((0 if rights.sockets else ABSTRACT_SOCKETS) | (0 if rights.signals else SIGNALS))
    packed = struct.pack(f"={len(attributes)}Q", *attributes)
    rules = _call(libc, CREATE_RULESET, ctypes.c_char_p(packed), len(packed), 0)
    if rules < 0:
        return 0
    try:
        if rights.read is not None:
            _allow(libc, rules, (*_library_folders(), *rights.read), READING & handled)
            _allow(libc, rules, ("/dev/null", *rights.write), (WRITING | READING) & handled)
        return version if _call(libc, RESTRICT_SELF, rules, 0) == 0 else 0
    finally:
        os.close(rules)


def _allow(libc: Any, rules: int, paths: Sequence[str], access: int) -> None:
    for path in paths:
        with contextlib.suppress(OSError):  # a path that does not exist needs no rule
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
            try:
                is_folder = stat.S_ISDIR(os.fstat(descriptor).st_mode)
                packed = struct.pack("=Qi", access if is_folder else access & ON_A_FILE, descriptor)
                if _call(libc, ADD_RULE, rules, RULE_PATH_BENEATH, ctypes.c_char_p(packed), 0):
                    raise OSError(ctypes.get_errno(), "landlock_add_rule")
            finally:
                os.close(descriptor)


def _drop_capabilities(libc: Any, dropped: int) -> None:
    """Give up these capabilities, a bit each: where the server runs as root, its children would have them all."""
    header = ctypes.create_string_buffer(struct.pack("=Ii", CAPABILITY_VERSION, 0), 8)
    data = ctypes.create_string_buffer(24)  # effective, permitted, inheritable: the lower 32 bits, then the upper
    if libc.capget(header, data):
        return
    words = struct.unpack("=6I", data.raw)
    remaining = [word & ~(dropped >> 32 * (place // 3)) & 0xFFFFFFFF for place, word in enumerate(words)]
    libc.capset(header, ctypes.create_string_buffer(struct.pack("=6I", *remaining), 24))


def _filter_calls(libc: Any, rights: Rights) -> bool:
    """Put seccomp in force. Returns whether that worked. Refused calls give EPERM."""
    machine = os.uname().machine
    if machine not in AUDIT_ARCH or sys.maxsize < 1 << 32:
        return False
    refused = [
        *NEVER[machine],
        *(() if rights.sockets else SOCKETS[machine]),
        *(() if rights.programs else PROGRAMS[machine]),
    ]
    program = _bpf(AUDIT_ARCH[machine], refused, first_twin=X32_BIT if machine == "x86_64" else None)
    instructions = ctypes.create_string_buffer(program, len(program))
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(instructions))
    return int(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.c_char_p(header), 0, 0)) == 0


def _bpf(architecture: int, refused: Sequence[int], first_twin: int | None) -> bytes:
    """The filter in the kernel's form: eight bytes for each instruction (code, two jumps, a number)."""
    load, if_equal, if_least, end = 0x20, 0x15, 0x35, 0x06  # linux/bpf_common.h
    allow, refuse = 0x7FFF0000, 0x00050000 | errno.EPERM
    tests = [(if_least, first_twin)] if first_twin is not None else []
    tests += [(if_equal, number) for number in refused]
    steps = [(load, 0, 0, 4), (if_equal, 0, len(tests) + 2, architecture), (load, 0, 0, 0)]
    steps += [(code, len(tests) - place, 0, number) for place, (code, number) in enumerate(tests)]
    steps += [(end, 0, 0, allow), (end, 0, 0, refuse)]
    return b"".join(struct.pack("=HBBI", *step) for step in steps)
