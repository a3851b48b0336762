"""The beginning of a rule: one that works, with examples that prove it."""

from __future__ import annotations

import re
from pathlib import Path

from dicomguard.errors import DicomguardError
from dicomguard.packs import MANIFEST
from dicomguard.version import VERSION

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,126}")

_RULE = """\
// What this rule is about, and where what it looks for was seen.

rule {name}
{{
    meta:
        id         = "OWN-{id}"
        title      = "What was found, in a few words"
        category   = "malware"
        severity   = "medium"
        confidence = "strong"
        where      = "private"
        why        = "Why it matters, and what to do about it."
        reference  = ""
    strings:
        $marker = "replace me by what only {name} has"
    condition:
        $marker
}}
"""

_HEAD = """\
name = "{folder}"
version = "0.1"
licence = "Apache-2.0"
dicomguard = "{version}"
"""

_TESTS = """
[[tests]]
name = "{name} fires"
inside = "private"
text = "before replace me by what only {name} has after"
must_fire = ["{name}"]

[[tests]]
name = "{name} leaves honest text alone"
inside = "private"
text = "Gradient echo, 3 mm"
must_not_fire = ["{name}"]
"""


def write(name: str, folder: Path) -> list[Path]:
    """Write a rule of that name with its examples into a pack, which is begun if there is none.

    Returns:
        What was written or added to.

    Raises:
        DicomguardError: It is no name for a rule, there is one of that name, or it cannot be
            written.
    """
    if not _NAME.fullmatch(name):
        raise DicomguardError(
            f"{name!r} is no name for a rule: letters, digits and underscores, no digit first"
        )
    rule, manifest = folder / f"{name}.yar", folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with rule.open("x", encoding="utf-8") as stream:
            stream.write(_RULE.format(name=name, id=name.upper().replace("_", "-")))
        if not manifest.exists():
            label = folder.resolve().name.replace("\\", "_").replace('"', "_") or "rules"
            manifest.write_text(_HEAD.format(folder=label, version=VERSION), encoding="utf-8")
        with manifest.open("a", encoding="utf-8") as stream:
            stream.write(_TESTS.format(name=name))
    except OSError as error:
        raise DicomguardError(f"cannot write {rule}: {error.strerror}") from error
    return [rule, manifest]
