"""On what kind of file system a folder lies, and whether that can be trusted to tell of changes."""

from __future__ import annotations

import os
import re
from pathlib import Path

_MOUNTS = Path("/proc/self/mountinfo")

_REMOTE = re.compile(
    r"nfs\d?|cifs|smb3?|smbfs|ncpfs|9p|afs|coda|ceph|lustre|beegfs|gpfs|ocfs2|gfs2?|glusterfs"
    r"|virtiofs|vboxsf|vmhgfs|prl_fs|fuse(?:blk|\..*)?"
)
"""File systems that others can write to past this kernel, which then sends no events and grants
read leases although there is a writer. FUSE is one of them, whatever is behind it."""


def kind_of(folder: str) -> str | None:
    """The type of the file system of a folder, ``ext4``; None if it is not listed.

    Read from ``proc(5)`` mountinfo by device number, by which a btrfs subvolume is not listed.

    Raises:
        OSError: There is no such folder.
    """
    device = os.stat(folder).st_dev
    number = f"{os.major(device)}:{os.minor(device)}"
    kind = None
    for line in _MOUNTS.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
        mount, _, source = line.partition(" - ")
        if mount.split()[2] == number:
            kind = source.split()[0]
    return kind


def remote_kind(folder: str) -> str | None:
    """The type of the file system of a folder if changes to it can go unseen; None if local.

    A folder of which nothing is listed counts as local.

    Raises:
        OSError: There is no such folder.
    """
    kind = kind_of(folder)
    return kind if kind and _REMOTE.fullmatch(kind) else None
