"""What programs use besides `scan_file` and `scan_bytes`: data sets, and many files at once."""

from __future__ import annotations

import asyncio
import io
import os
from collections.abc import AsyncIterator, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from dicomguard.batch import Batch
from dicomguard.discover import discover
from dicomguard.incomplete import unexamined_report
from dicomguard.model import Report
from dicomguard.scan import scan_bytes
from dicomguard.settings import ScanSettings

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LARGEST_DATASET = 1 << 30
"""Bytes of a data set, written, that are examined if nothing else is said."""

_MOST_WORKERS = 8


class _TooLargeError(Exception):
    """More was written than is wanted."""


class _Bounded(io.BytesIO):
    """Memory that takes only so many bytes."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    def write(self, data: object, /) -> int:
        """Write, if it is not too much.

        Raises:
            _TooLargeError: It is.
        """
        assert isinstance(data, bytes | bytearray | memoryview)
        if self.tell() + len(data) > self._most:
            raise _TooLargeError
        return super().write(data)


def scan_dataset(
    dataset: Dataset,
    name: str = "",
    settings: ScanSettings | None = None,
    *,
    most_bytes: int = LARGEST_DATASET,
) -> Report:
    """Examine a data set that a program holds, as pydicom would write it.

    What pydicom has not kept of a file is not looked at: bytes after the data set, the first of
    two elements with one tag. Scan files as files where you can.

    Args:
        dataset: With its preamble and File Meta Information, where it has them; without a Transfer
            Syntax UID it is written in Explicit VR Little Endian. It is not changed.
        name: What the report calls it.
        settings: Rules and limits; the shipped rules if None.
        most_bytes: The largest that is examined, in bytes as written; about twice as much memory is
            needed.

    Returns:
        The report, its offsets in bytes from the start of what would be written; ``incomplete``
        with the reason where the data set cannot be written or is too large.

    Raises:
        DicomguardError: The rules cannot be loaded.

    >>> from pydicom.dataset import Dataset
    >>> dataset = Dataset()
    >>> dataset.PatientComments = "nothing to see here"
    >>> str(scan_dataset(dataset).verdict)
    'clean'
    """
    from pydicom.filewriter import dcmwrite  # noqa: PLC0415 - slow to load

    written = _Bounded(most_bytes)
    meta = getattr(dataset, "file_meta", None)
    plain = meta is None or "TransferSyntaxUID" not in meta
    encoding = {"implicit_vr": False, "little_endian": True} if plain else {}
    try:
        dcmwrite(written, dataset, **encoding)
    except _TooLargeError:
        return unexamined_report(name, f"the data set is larger than {most_bytes} bytes")
    except Exception as error:  # noqa: BLE001 - whatever it is, the data set was not examined
        # Its text may quote the patient's values.
        kind = type(error).__name__
        return unexamined_report(name, f"pydicom cannot write the data set: {kind}")
    return scan_bytes(written.getvalue(), name, settings)


class FileScan:
    """Reports of many files, to be iterated over with ``for`` or ``async for``, once.

    Workers run only while somebody iterates: leave the loop, and they stop.
    """

    def __init__(self, paths: tuple[str, ...], settings: ScanSettings, workers: int) -> None:
        self._paths = paths
        self._settings = settings
        self._workers = workers

    def __iter__(self) -> Iterator[Report]:
        with Batch(self._settings, self._workers) as batch:
            for _, report in batch.reports(discover(self._paths)):
                yield report

    async def __aiter__(self) -> AsyncIterator[Report]:
        reports = iter(self)
        loop = asyncio.get_running_loop()
        # One thread: the workers are talked to by whoever started them.
        with ThreadPoolExecutor(1, thread_name_prefix="dicomguard") as thread:
            try:
                while (
                    report := await loop.run_in_executor(thread, next, reports, None)
                ) is not None:
                    yield report
            finally:
                await loop.run_in_executor(thread, _close, reports)


def _close(reports: Iterator[Report]) -> None:
    reports.close()  # type: ignore[attr-defined]


def scan_files(
    paths: Iterable[str | os.PathLike[str]],
    settings: ScanSettings | None = None,
    *,
    workers: int | None = None,
) -> FileScan:
    """Examine files, and folders with all that is below them, in worker processes.

    Args:
        paths: Files and folders. Symbolic links, FIFOs and devices are not opened, and have no
            report.
        settings: Rules and limits; the shipped rules if None.
        workers: Number of processes; one a core, up to eight, if None.

    Returns:
        What can be iterated over: one report a file, as files are done. A file that kills its
        worker, takes too long or cannot be read has an ``incomplete`` one.

    Raises:
        DicomguardError: While iterating: the rules cannot be loaded, or there are no workers any
            more.

    >>> for report in scan_files(["study"], workers=1):
    ...     print(report.path, report.verdict)
    study/IM0001 clean

    Nothing else waits meanwhile in an event loop:

    >>> import asyncio
    >>> async def verdicts():
    ...     return [str(report.verdict) async for report in scan_files(["study"], workers=1)]
    >>> asyncio.run(verdicts())
    ['clean']
    """
    return FileScan(
        tuple(os.fspath(path) for path in paths),
        settings or ScanSettings(),
        workers or min(_MOST_WORKERS, os.cpu_count() or 1),
    )
