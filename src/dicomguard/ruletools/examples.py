"""The examples of a pack: what its rules must find, and what they must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from dicomguard import selftest
from dicomguard.errors import DicomguardError
from dicomguard.packs import MANIFEST, Example, Pack
from dicomguard.rules import RulePack, namespace_of
from dicomguard.scan import scan_bytes
from dicomguard.settings import ScanSettings

_INSIDE: dict[str, Callable[[bytes], bytes]] = {
    "file": bytes,
    "private": selftest.in_private_element,
    "text": selftest.in_text,
}
_LARGEST = 256 << 20


class Outcome(NamedTuple):
    """What became of one example.

    Attributes:
        example: Its name.
        problems: What was not as it must be, in words; empty if all was.
    """

    example: str
    problems: tuple[str, ...]


def run(folder: Path, settings: ScanSettings) -> Iterator[Outcome]:
    """Scan every example of a pack as a file, with all rules that are loaded.

    Args:
        folder: The pack; one of ``settings.rule_folders``.
        settings: As for a scan.

    Raises:
        DicomguardError: The pack has no examples, or one cannot be read or names no rule.
    """
    pack = settings.pack
    (own,) = (each for each in pack.packs if each.folder == folder)
    if own.manifest is None or not own.manifest.tests:
        raise DicomguardError(f"{folder / MANIFEST}: there are no [[tests]]")
    names = _names(pack, own)
    for example in own.manifest.tests:
        for name in (*example.must_fire, *example.must_not_fire):
            if name not in names:
                raise DicomguardError(f"{folder / MANIFEST}: {example.name}: no rule {name}")
        content = _INSIDE[example.inside](_content(folder, example))
        report = scan_bytes(content, example.file or "", settings)
        fired = {finding.rule for finding in report.findings} & names
        wanted = set(example.must_fire)
        unwanted = fired & set(example.must_not_fire) if example.must_not_fire else fired - wanted
        problems = [f"{name} did not fire" for name in sorted(wanted - fired)]
        problems += [f"{name} fired" for name in sorted(unwanted)]
        problems += [f"not examined: {reason}" for reason in report.unexamined]
        yield Outcome(example.name, tuple(problems))


def untested(folder: Path, settings: ScanSettings) -> list[str]:
    """The rules of a pack that no example wants to fire."""
    pack = settings.pack
    (own,) = (each for each in pack.packs if each.folder == folder)
    tests = own.manifest.tests if own.manifest else ()
    tested = {name for example in tests for name in example.must_fire}
    return sorted(_names(pack, own) - tested)


def _names(pack: RulePack, own: Pack) -> set[str]:
    namespaces = {namespace_of(path) for path in own.sources}
    return {rule.name.name for rule in pack.rules.values() if rule.name.namespace in namespaces}


def _content(folder: Path, example: Example) -> bytes:
    where = f"{folder / MANIFEST}: {example.name}"
    given = [each for each in (example.file, example.hex, example.text) if each is not None]
    if len(given) != 1:
        raise DicomguardError(f"{where}: name one of file, hex and text")
    if example.text is not None:
        return example.text.encode()
    try:
        if example.hex is not None:
            return bytes.fromhex(example.hex)
        assert example.file is not None
        path = (folder / example.file).resolve()
        if not path.is_relative_to(folder.resolve()):
            raise DicomguardError(f"{where}: {example.file} is not in the pack")
        with path.open("rb") as source:
            content = source.read(_LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DicomguardError(f"{where}: {reason}") from error
    if len(content) > _LARGEST:
        raise DicomguardError(f"{where}: {example.file} is larger than {_LARGEST} bytes")
    return content
