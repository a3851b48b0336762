"""Which files a run looks at: every regular file below a folder, whatever its name."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class Candidate(NamedTuple):
    """Something found on the way.

    Attributes:
        path: As given, or below a folder that was given.
        named: Whether the user named it, rather than a folder above it.
        skipped: Why it is not opened (``symbolic link``, ``FIFO``); empty for a file to scan.
        problem: Why it could not be looked at at all; empty if it could.
        size: Bytes of a file to scan.
        changed: When its content or its inode last changed, in nanoseconds.
    """

    path: str
    named: bool = False
    skipped: str = ""
    problem: str = ""
    size: int = 0
    changed: tuple[int, int] = (0, 0)


_SPECIAL = (
    (stat.S_ISLNK, "symbolic link"),
    (stat.S_ISFIFO, "FIFO"),
    (stat.S_ISSOCK, "socket"),
    (stat.S_ISBLK, "device"),
    (stat.S_ISCHR, "device"),
)


def discover(paths: Iterable[str]) -> Iterator[Candidate]:
    """Files under the paths, in order of name.

    Symbolic links are not followed, except to a folder that was named itself.
    """
    for path in paths:
        try:
            if os.path.isdir(path):
                yield from _folder(path)
            else:
                yield _classify(path, os.lstat(path), named=True)
        except OSError as error:
            yield Candidate(path, named=True, problem=error.strerror or str(error))


def _classify(path: str, info: os.stat_result, *, named: bool) -> Candidate:
    if not stat.S_ISREG(info.st_mode):
        for is_kind, name in _SPECIAL:
            if is_kind(info.st_mode):
                return Candidate(path, named, skipped=name)
    changed = info.st_mtime_ns, info.st_ctime_ns
    return Candidate(path, named, size=info.st_size, changed=changed)


def _folder(top: str) -> Iterator[Candidate]:
    pending = [top]
    while pending:
        folder = pending.pop()
        try:
            with os.scandir(folder) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            yield Candidate(folder, problem=error.strerror or str(error))
            continue
        below = []
        for entry in listed:
            try:
                info = entry.stat(follow_symlinks=False)
            except OSError as error:
                yield Candidate(entry.path, problem=error.strerror or str(error))
                continue
            if stat.S_ISDIR(info.st_mode):
                below.append(entry.path)
            else:
                yield _classify(entry.path, info, named=False)
        pending += reversed(below)
