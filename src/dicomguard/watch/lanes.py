"""Threads that do what takes long, so that a large copy holds up nothing but its own kind."""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

from dicomguard.errors import DicomguardError
from dicomguard.watch.backoff import Pause
from dicomguard.watch.troubles import Troubles

_Job = TypeVar("_Job")

MOST_WAITING = 200
"""Jobs a lane holds; the daemon takes no more files while one holds as many."""

_SUSPICIOUS_FAILURES = 3
"""Jobs in a row that fail before it is thought to be the target's fault."""

_TARGET_FAILS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EROFS,
    errno.EIO,
    errno.ENODEV,
    errno.ENXIO,
    errno.ESTALE,
    errno.ENOTCONN,
    errno.EHOSTDOWN,
    errno.ETIMEDOUT,
    errno.ENOMEM,
    errno.EMFILE,
    errno.ENFILE,
}
"""What a disk says that is full, read-only, broken or gone: no file can be blamed for it."""


class Lane(Generic[_Job]):
    """Does one thing with one file after the other, in threads of its own.

    Everything but `act` and `reopen` happens in the thread that calls the methods.

    When the target fails (a full disk, a share that is gone) the lane pauses and keeps its jobs,
    tries again at growing intervals, and goes on by itself when that works. When only one file
    fails that is the caller's to deal with.

    Args:
        name: What the lane does, for troubles and threads.
        act: Does it; raises `OSError` or `DicomguardError` where it cannot.
        post: Calls something in the caller's thread, from any thread.
        done: Called with a job and what `act` answered or raised.
        troubles: Told when the target fails.
        reopen: Called before a target that failed is tried again; may raise the same.
        threads: How many jobs are done at a time.
    """

    def __init__(
        self,
        name: str,
        act: Callable[[_Job], object],
        *,
        post: Callable[[Callable[[], None]], None],
        done: Callable[[_Job, object], None],
        troubles: Troubles,
        reopen: Callable[[], None],
        threads: int = 1,
    ) -> None:
        self.name = name
        self._act = act
        self._post = post
        self._done = done
        self._troubles = troubles
        self._reopen = reopen
        self._threads = threads
        self._waiting: deque[_Job] = deque()
        self._running = 0
        self._failures = 0
        self._pause = Pause()
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def __len__(self) -> int:
        return len(self._waiting) + self._running

    @property
    def is_full(self) -> bool:
        """Whether no more jobs should be put into it now."""
        return len(self) >= MOST_WAITING

    def put(self, job: _Job) -> None:
        """Adds a job, last in the queue."""
        self._waiting.append(job)

    def seconds_to_next(self) -> float | None:
        """Until `start` has something to do, at least 0; None if that takes an event."""
        if not self._waiting or self._running >= self._most_running:
            return None
        return self._pause.seconds_left

    def start(self) -> None:
        """Starts as many jobs as there are threads for."""
        while self.seconds_to_next() == 0.0:
            self._running += 1
            self._executor.submit(self._run, self._waiting.popleft(), anew=bool(self._pause))

    def close(self) -> list[_Job]:
        """Waits for the jobs that are being done; answers those that were not begun."""
        self._executor.shutdown()
        return list(self._waiting)

    @property
    def _most_running(self) -> int:
        return 1 if self._pause else self._threads

    def _run(self, job: _Job, *, anew: bool) -> None:
        result: object
        try:
            if anew:
                self._reopen()
            result = self._act(job)
        except Exception as error:  # noqa: BLE001 - it is the result, whatever it is
            result = error
        self._post(lambda: self._finished(job, result))

    def _finished(self, job: _Job, result: object) -> None:
        self._running -= 1
        if not isinstance(result, OSError | DicomguardError):
            self._failures = 0
            self._pause.end()
            self._troubles.clear(self.name)
            self._done(job, result)
            return
        self._failures += 1
        if _is_of_target(result) or self._failures >= _SUSPICIOUS_FAILURES:
            # Last in the queue, in case it was the file's fault after all.
            self._waiting.append(job)
            self._pause.lengthen()
            self._troubles.note(self.name, _reason(result))
        else:
            self._done(job, result)


def _is_of_target(error: OSError | DicomguardError) -> bool:
    return isinstance(error, DicomguardError) or error.errno in _TARGET_FAILS


def _reason(error: OSError | DicomguardError) -> str:
    return str(error) if isinstance(error, DicomguardError) else error.strerror or str(error)
