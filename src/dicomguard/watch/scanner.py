"""The workers with the rules they have, proven to work before they are relied on."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Self

from dicomguard import selftest
from dicomguard.config import ScanConfig
from dicomguard.errors import DicomguardError
from dicomguard.model import Report, Verdict
from dicomguard.packs import PACK_FILES, Trust
from dicomguard.reports.escape import printable
from dicomguard.rules import RulePack
from dicomguard.settings import ScanSettings
from dicomguard.suppress import Suppressions, load_suppressions
from dicomguard.workers import ScanPool

_log = logging.getLogger(__name__)

_SELF_TEST_SECONDS = 60

_COPIES = "rules-"
"""How the names of the folders with copies of rules begin."""


class Scanner:
    """Worker processes with one set of rules.

    The rules are compiled in a process of their own, so that this one stays small, and the workers
    get a copy of the user's rule folders: what is edited there comes into force as a whole, or not
    at all, and a worker that is replaced has the rules of the others.

    Args:
        config: How to scan.
        state: Folder for the copy of the rules.

    Raises:
        DicomguardError: A rule does not compile, a suppression is wrong, or the self-test fails.
    """

    def __init__(self, config: ScanConfig, state: Path) -> None:
        self.config = config
        self.generation = 0
        """How often the workers were replaced."""
        self.workers = config.workers or min(8, os.cpu_count() or 1)
        folders = tuple(Path(folder) for folder in config.rules)
        trust = Trust(keys=config.rule_keys, required=config.signed_rules)
        self.rules_version = _version(folders, config.engine, trust)
        self.suppressions = Suppressions(
            entries=load_suppressions(Path(config.suppressions)) if config.suppressions else ()
        )
        for entry in self.suppressions.expired():
            _log.warning("no longer suppressed: %s", printable(str(entry)))
        self._copies = Path(tempfile.mkdtemp(prefix=_COPIES, dir=state))
        self._settings = ScanSettings(
            rule_folders=_copied(folders, self._copies),
            engine=config.engine,
            strict=config.strict,
            suppressions=self.suppressions,
            hash_clean=True,
            trust=trust,
        )
        self._pool = ScanPool(self._settings, self.workers)
        try:
            self._test(self._copies / "self-test")
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Stops the workers; what they have not finished gets no report."""
        self._pool.__exit__()
        shutil.rmtree(self._copies, ignore_errors=True)

    def submit(self, path: str) -> Future[Report]:
        """Scans a file; the future raises `PoolBrokenError` where there are no workers any more."""
        return self._pool.submit(path)

    def renew(self) -> None:
        """Replaces workers that do not answer; what they have in hand gets no report."""
        self.generation += 1
        old, self._pool = self._pool, ScanPool(self._settings, self.workers)
        # To stop what hangs can take a while.
        closer = ThreadPoolExecutor(1)
        closer.submit(old.__exit__)
        closer.shutdown(wait=False)

    def _test(self, path: Path) -> None:
        """Has a worker find the EICAR test file in a private element."""
        path.write_bytes(selftest.eicar())
        try:
            report = self.submit(os.fspath(path)).result(_SELF_TEST_SECONDS)
        except FutureTimeoutError as error:
            raise DicomguardError("the self-test failed: the workers do not answer") from error
        finally:
            path.unlink()
        found = {finding.kind.id for finding in report.findings}
        if report.verdict is not Verdict.MALICIOUS or "EMB-EICAR" not in found:
            reason = "; ".join(report.unexamined) or f"the verdict was {report.verdict}"
            raise DicomguardError(
                f"the self-test failed: the EICAR test file was not recognised ({reason}); "
                "nothing is watched by rules that do not fire"
            )


def remove_old_copies(state: Path) -> None:
    """Removes copies of rules that a daemon left which was killed; none may be running."""
    for path in state.glob(f"{_COPIES}*"):
        shutil.rmtree(path, ignore_errors=True)


def _version(folders: tuple[Path, ...], engine: str | None, trust: Trust) -> str:
    """The version of the rules, compiled in a process that ends and takes its memory along.

    Raises:
        DicomguardError: A rule does not compile.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([ScanPool.__module__])
    answer, sender = context.Pipe(duplex=False)
    process = context.Process(target=_compile, args=(sender, folders, engine, trust))
    process.start()
    sender.close()
    try:
        version = answer.recv()
    except EOFError as error:
        process.join()
        msg = f"the rules could not be compiled: that ended with {process.exitcode}"
        raise DicomguardError(msg) from error
    finally:
        answer.close()
    process.join()
    if isinstance(version, DicomguardError):
        raise version
    return str(version)


def _compile(
    sender: Connection, folders: tuple[Path, ...], engine: str | None, trust: Trust
) -> None:
    try:
        sender.send(RulePack(folders, engine, trust).version)
    except DicomguardError as error:
        sender.send(error)


def _copied(folders: tuple[Path, ...], target: Path) -> tuple[Path, ...]:
    """Copies of the rule files of each folder, with what vouches for them."""
    copies = []
    for number, folder in enumerate(folders):
        copies.append(target / str(number))
        for path in folder.rglob("*"):
            if path.name.endswith(PACK_FILES) and path.is_file():
                copy = copies[-1] / path.relative_to(folder)
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, copy)
    return tuple(copies)
