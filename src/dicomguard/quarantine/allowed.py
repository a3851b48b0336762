"""What the daemon lets pass although it was found: bytes that somebody restored, for some days.

Without it a file restored into a watched folder would be back in the quarantine a moment later. The
list is what the audit trail says of restores, so an allowance cannot be without its line.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime

from dicomguard.quarantine.folder import Folder
from dicomguard.quarantine.trail import TRAIL_NAME, Action, Entry, lines_of

_MARK = b'"restore'
"""In every line that matters here; reading the others as JSON would take longer."""


class AllowList:
    """The allowances of a vault; each look reads only what was added to the trail since the last.

    Args:
        root: The vault; it need not have a trail yet.
    """

    def __init__(self, root: Folder) -> None:
        self._root = root
        self._forget()

    def _forget(self) -> None:
        self._file: tuple[int, int] | None = None
        self._read = 0
        self._until: dict[str, datetime] = {}

    def allows(self, sha256: str) -> bool:
        """Whether these bytes may pass now; not, where the trail cannot be read."""
        try:
            self._follow()
        except OSError:
            self._forget()
        until = self._until.get(sha256)
        return until is not None and datetime.now(UTC) < until

    def _follow(self) -> None:
        with self._root.open_to_read(TRAIL_NAME) as source:
            info = os.fstat(source.fileno())
            file = (info.st_dev, info.st_ino)
            if file != self._file or info.st_size < self._read:
                self._forget()
                self._file = file
            source.seek(self._read)
            for line in lines_of(source):
                self._read += len(line)
                if _MARK in line:
                    self._take_in(line)

    def _take_in(self, line: bytes) -> None:
        try:
            entry = Entry.from_line(line)
        except ValueError:
            return
        if entry.action is Action.RESTORE and entry.allowed_until:
            self._until[entry.sha256] = datetime.fromisoformat(entry.allowed_until)
        elif entry.action is Action.RESTORE_UNDONE:
            self._until.pop(entry.sha256, None)
