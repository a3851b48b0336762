"""Small file systems of a test's own, in a mount namespace of its own that dies with it."""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from children import wait_status_of

_libc = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY, _MS_REMOUNT = 0x1, 0x20
_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_SKIP = 77


def mount(folder, *, size, options=""):
    """Mounts an empty file system in memory over a folder."""
    settings = f"size={size},mode=0700{options}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", settings, "tmpfs", folder], check=True)


def remount(folder, option):
    """Makes a mounted file system ``ro`` or ``rw``, all else as it was (``mount(2)``)."""
    flags = _MS_REMOUNT | (_MS_RDONLY if option == "ro" else 0)
    if _libc.mount(None, os.fsencode(folder), None, flags, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def in_own_mount_namespace(test):
    """Runs a test function in a child that may mount; skips it where that is not permitted."""
    status = wait_status_of(lambda: test() if _unshared() else _SKIP)
    code = os.waitstatus_to_exitcode(status)
    if code == _SKIP:
        pytest.skip("may not mount")
    assert code == 0, "failed in the child; its traceback is above"


def _unshared():
    uid, gid = os.getuid(), os.getgid()
    if _libc.unshare(_CLONE_NEWNS) != 0:
        if _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
            return False
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text)
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode == 0
