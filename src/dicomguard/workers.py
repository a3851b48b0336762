"""Supervised worker processes: hostile bytes are parsed where a crash costs one file."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import resource
import signal
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from typing import Self

from pebble import ProcessExpired, ProcessPool

from dicomguard.errors import DicomguardError
from dicomguard.incomplete import unexamined_report
from dicomguard.model import Report
from dicomguard.scan import ScanSettings, scan_file

SECONDS_PER_FILE = 300
"""Wall time after which a worker is killed."""

MEMORY_PER_WORKER = 2 << 30
"""Bytes of private memory a worker may use; mapped files do not count."""


class PoolBrokenError(DicomguardError):
    """There are no workers any more: no file is to blame, and the pool must be made anew."""


class ScanPool:
    """Worker processes that scan files.

    A worker that dies, hangs or runs out of memory costs the file in its hand an ``incomplete``
    verdict with the reason, and is replaced.

    Args:
        settings: Rules and limits, the same for every file.
        workers: Number of processes, at least 1.
    """

    def __init__(self, settings: ScanSettings, workers: int) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__])
        self._pool = ProcessPool(
            max_workers=workers, initializer=_start, initargs=(settings,), context=context
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop the workers; what they have not finished gets no report."""
        self._pool.stop()  # type: ignore[no-untyped-call]
        self._pool.join()

    def submit(self, path: str) -> Future[Report]:
        """Scan a file in a worker. The future gets a report, or raises `PoolBrokenError`."""
        answer: Future[Report] = Future()

        def settle(done: Future[Report]) -> None:
            try:
                answer.set_result(_outcome(path, done))
            except PoolBrokenError as error:
                answer.set_exception(error)

        try:
            work = self._pool.schedule(_scan, args=[path], timeout=SECONDS_PER_FILE)
        except RuntimeError as error:
            answer.set_exception(PoolBrokenError(f"no file can be given to a worker: {error}"))
        else:
            work.add_done_callback(settle)
        return answer


def _outcome(path: str, done: Future[Report]) -> Report:
    try:
        return done.result()
    except BrokenProcessPool as error:
        raise PoolBrokenError(f"the workers are gone: {error!r}") from error
    except TimeoutError:
        return unexamined_report(path, f"the scan took longer than {SECONDS_PER_FILE} s")
    except ProcessExpired as death:
        return unexamined_report(path, f"the worker died ({_cause(death.exitcode)})")
    except MemoryError:
        return unexamined_report(path, f"the scan needed more than {MEMORY_PER_WORKER >> 20} MiB")
    except Exception as error:  # noqa: BLE001 - a defect here must not call a file clean
        return unexamined_report(path, f"the scanner failed: {type(error).__name__}: {error}")


def _cause(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        return signal.Signals(-exitcode).name
    return f"exit code {exitcode}"


_settings: ScanSettings


def _start(settings: ScanSettings) -> None:
    """Set a new worker's limits and load its rules."""
    global _settings  # noqa: PLW0603 - a worker process has one setting for its life
    _settings = settings
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the main process decides what Ctrl-C means
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # a rule's console.log is no part of the report
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY_PER_WORKER, MEMORY_PER_WORKER))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _ = settings.pack
    _return_memory()


def _return_memory() -> None:
    """Gives back what compiling the rules took, which glibc would keep for the worker's life."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:  # other C libraries have none
        trim(0)


def _scan(path: str) -> Report:
    return scan_file(path, _settings)
