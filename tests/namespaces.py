"""Small file systems of a test's own, in a mount namespace of its own that dies with it."""

import ctypes
import os
import subprocess
from pathlib import Path

import pytest

from children import wait_status_of

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_SKIP = 77


def mount(folder, *, size, options=""):
    """Mounts an empty file system in memory over a folder."""
    settings = f"size={size},mode=0700{options}"
    subprocess.run(["mount", "-t", "tmpfs", "-o", settings, "tmpfs", folder], check=True)


def remount(folder, option):
    """Makes a mounted file system ``ro`` or ``rw``."""
    subprocess.run(["mount", "-o", f"remount,{option}", folder], check=True)


def in_own_mount_namespace(test):
    """Runs a test function in a child that may mount; skips it where that is not permitted."""
    status = wait_status_of(lambda: test() if _unshared() else _SKIP)
    code = os.waitstatus_to_exitcode(status)
    if code == _SKIP:
        pytest.skip("may not mount")
    assert code == 0, "failed in the child; its traceback is above"


def _unshared():
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    if libc.unshare(_CLONE_NEWNS) != 0:
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS) != 0:
            return False
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"0 {uid} 1"),
            ("gid_map", f"0 {gid} 1"),
        ):
            Path("/proc/self", name).write_text(text)
    return subprocess.run(["mount", "--make-rprivate", "/"], check=False).returncode == 0
