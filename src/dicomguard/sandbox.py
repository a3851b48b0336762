"""What a process that reads hostile bytes gives up: the network, writing, other programs.

Landlock (Linux 5.13) and seccomp (through libseccomp, where it is installed) are the kernel's own.
Each is used where it is there; what is missing is said by `abilities`, and limits on memory and
time hold anyhow.
"""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import signal
from contextlib import suppress
from functools import cache

from msgspec import Struct

_NO_NEW_PRIVILEGES = 38
_DIE_WITH_PARENT = 1


class Abilities(Struct, frozen=True):
    """What this system has to confine a process.

    Attributes:
        landlock: Version of the kernel's Landlock interface; 0 where there is none.
        seccomp: Whether system calls can be filtered.
    """

    landlock: int
    seccomp: bool


@cache
def abilities() -> Abilities:
    """What this system has; a process that is confined is not asked."""
    return Abilities(landlock=_landlock_version(), seccomp=_filter_library() is not None)


def confine(memory: int) -> None:
    """Take from this process, for good, what reading files does not need.

    Afterwards it can open files for reading and use what it has open; it cannot open sockets, write
    to files, make or remove names, start programs or processes, or signal others.

    Args:
        memory: Bytes of private memory that it may have; mapped files do not count.
    """
    c_library = _c_library()
    c_library.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    c_library.prctl(_DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
    for limit, value in (
        (resource.RLIMIT_DATA, memory),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        resource.setrlimit(limit, (value, value))
    _restrict_files()
    _filter_calls()


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


# ---------------------------------------------------------------------- Landlock

_CREATE_RULESET, _RESTRICT_SELF = 444, 446
_ASK_VERSION = 1
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_FOLDER = 1, 1 << 1, 1 << 2, 1 << 3
_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
"""Rights to files by version: how many bits there are from that one on."""
_TCP = 0b11
_SCOPES = 0b11
"""Abstract sockets, and signals, of processes outside."""


class _Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr`` of ``linux/landlock.h``."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def _landlock_version() -> int:
    version: int = _c_library().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _ASK_VERSION)
    return max(0, version)


def _restrict_files() -> None:
    """Refuse everything that Landlock knows of, except reading."""
    version = abilities().landlock
    if not version:
        return
    bits = max(count for since, count in _RIGHTS if version >= since)
    ruleset = _Ruleset(((1 << bits) - 1) & ~(_READ_FILE | _READ_FOLDER))
    size = ctypes.sizeof(ctypes.c_uint64)
    if version >= 4:
        ruleset.handled_access_net, size = _TCP, 2 * size
    if version >= 6:
        ruleset.scoped, size = _SCOPES, ctypes.sizeof(_Ruleset)
    library = _c_library()
    descriptor = library.syscall(
        _CREATE_RULESET, ctypes.byref(ruleset), ctypes.c_size_t(size), ctypes.c_uint(0)
    )
    if descriptor >= 0:
        library.syscall(_RESTRICT_SELF, ctypes.c_int(descriptor), ctypes.c_uint(0))
        os.close(descriptor)


# ---------------------------------------------------------------------- seccomp

_ALLOW = 0x7FFF0000
_FAIL_WITH = 0x00050000
_UNKNOWN = -1
_MASKED_EQUAL, _EQUAL = 7, 4
_THREAD = 0x00010000
"""``CLONE_THREAD``: YARA-X keeps its time in a thread."""

_ALLOWED = (
    "read", "readv", "pread64", "write", "writev", "sendto", "sendmsg", "recvfrom", "recvmsg",
    "close", "close_range", "fstat", "stat", "lstat", "newfstatat", "statx", "lseek", "readlink",
    "readlinkat", "access", "faccessat", "faccessat2", "getcwd", "getdents64", "fcntl", "ioctl",
    "dup", "poll", "ppoll", "select", "pselect6", "epoll_wait", "epoll_pwait", "fadvise64",
    "mmap", "munmap", "mremap", "mprotect", "madvise", "brk", "mincore", "membarrier",
    "futex", "futex_waitv", "set_robust_list", "get_robust_list", "rseq", "sched_yield",
    "sched_getaffinity", "rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack",
    "restart_syscall", "exit", "exit_group", "getpid", "gettid", "getppid", "getuid", "geteuid",
    "getgid", "getegid", "getrandom", "clock_gettime", "clock_getres", "clock_nanosleep",
    "nanosleep", "gettimeofday", "time", "getrusage", "times", "sysinfo", "uname", "prlimit64",
    "getrlimit", "setrlimit", "set_tid_address", "arch_prctl",
)  # fmt: skip
"""What scanning uses, and what C libraries and Python may come to use instead."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC


class _Condition(ctypes.Structure):
    """``struct scmp_arg_cmp`` of ``seccomp.h``."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("first", ctypes.c_uint64),
        ("second", ctypes.c_uint64),
    )


@cache
def _filter_library() -> ctypes.CDLL | None:
    try:
        library = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return None
    library.seccomp_init.restype = ctypes.c_void_p
    return library


def _filter_calls() -> None:
    """Let only those system calls pass that scanning uses; others fail with ``EPERM``."""
    library = _filter_library()
    if library is None:
        return
    made = library.seccomp_init(_FAIL_WITH | errno.EPERM)
    if not made:
        return
    filter_ = ctypes.c_void_p(made)

    def rule(action: int, call: str, *conditions: _Condition) -> None:
        number = library.seccomp_syscall_resolve_name(call.encode())
        if number != _UNKNOWN:
            array = (_Condition * len(conditions))(*conditions)
            library.seccomp_rule_add_array(
                filter_, ctypes.c_uint32(action), number, len(conditions), array
            )

    for call in _ALLOWED:
        rule(_ALLOW, call)
    rule(_ALLOW, "open", _Condition(1, _MASKED_EQUAL, _WRITING, 0))
    rule(_ALLOW, "openat", _Condition(2, _MASKED_EQUAL, _WRITING, 0))
    rule(_ALLOW, "clone", _Condition(0, _MASKED_EQUAL, _THREAD, _THREAD))
    rule(_FAIL_WITH | errno.ENOSYS, "clone3")  # its flags cannot be seen; libraries use clone then
    for call in ("kill", "tgkill"):
        rule(_ALLOW, call, _Condition(0, _EQUAL, os.getpid(), 0))
    with suppress(AttributeError):
        library.seccomp_load(filter_)
    library.seccomp_release(filter_)
