"""Everything that is wrong with the rules of a folder, where loading stops at the first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from dicomguard.engine import compile_warnings
from dicomguard.errors import DicomguardError
from dicomguard.packs import Trust, read_pack
from dicomguard.rules import compiled_rules, namespace_of


def lint(folder: Path, engine: str, trust: Trust) -> Iterator[str]:
    """A line for each problem of a pack.

    Raises:
        DicomguardError: The pack cannot be read, or its files are not those of its manifest.
    """
    for path, source in read_pack(folder, trust).sources.items():
        namespace = namespace_of(path)
        try:
            compiled_rules(engine, {namespace: source})
        except DicomguardError as error:
            yield str(error)
        else:
            for warning in compile_warnings(engine, source):
                yield f"{namespace}: {warning}"
