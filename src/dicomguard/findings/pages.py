"""The catalogue as text: one explanation for a terminal, all of it as Markdown pages."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from dicomguard.findings.catalogue import Explanation, explanations, families
from dicomguard.model import FindingKind

_HEAD = """\
# Findings

Every id that dicomguard reports, by family. `dicomguard explain ID` shows the same in a terminal.
Only `malware` and `exploit` findings can change a verdict ([how](../report-format.md)); the others
tell what a file is like. (This page and those it leads to are made by
`dicomguard findings --to docs/findings`.)
"""


def grade(kind: FindingKind) -> str:
    """Category, severity and confidence in a few words."""
    return f"{kind.category}, {kind.severity}, {kind.confidence}"


def sections(explanation: Explanation) -> Iterator[tuple[str, tuple[str, ...]]]:
    """An explanation as headings, each with its paragraphs; more than one make a list."""
    kinds, entry = explanation.kinds, explanation.entry
    if entry:
        yield "What it is", (entry.meaning,)
    yield "Why it matters", tuple(dict.fromkeys(kind.why for kind in kinds))
    if entry:
        if entry.grades:
            yield "How bad it is", (entry.grades,)
        yield "Example", (entry.example,)
        yield "Honest look-alikes", entry.look_alikes
        yield "What to do next", entry.next
        yield "Limits", (entry.limits,)
    references = [kind.reference for kind in kinds if kind.reference]
    references += [f"MITRE ATT&CK {kind.attack}" for kind in kinds if kind.attack]
    references += entry.references if entry else ()
    if references:
        yield "References", tuple(dict.fromkeys(references))


def titles(explanation: Explanation) -> str:
    """What the id stands for; all of it where that is several things."""
    return "; ".join(dict.fromkeys(kind.title for kind in explanation.kinds))


def pages() -> dict[str, str]:
    """File names and content of the Markdown pages.

    Raises:
        DicomguardError: The rules or the catalogue cannot be loaded.
    """
    known = explanations()
    made = {"index.md": _index(known.values())}
    for word, family in families().items():
        parts = [f"# {word}: {family.title}\n\n{family.about}\n"]
        parts += [_markdown(known[id_]) for id_ in sorted(family.findings)]
        made[f"{word.lower()}.md"] = "\n".join(parts)
    return made


def write_pages(folder: Path) -> list[Path]:
    """Write the pages to a folder, which is made if need be; answer their paths.

    Raises:
        DicomguardError: The rules or the catalogue cannot be loaded.
        OSError: The folder cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in pages().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths


def _index(known: Iterable[Explanation]) -> str:
    lines = [_HEAD, "| id | category | severity | confidence | what |", "|---|---|---|---|---|"]
    for each in known:
        kind = each.kind
        link = f"[{each.id}]({kind.family.lower()}.md#{each.id.lower()})"
        lines.append(
            f"| {link} | {kind.category} | {kind.severity} | {kind.confidence} | {titles(each)} |"
        )
    return "\n".join(lines) + "\n"


def _markdown(explanation: Explanation) -> str:
    lines = [f"## {explanation.id}", "", f"**{titles(explanation)}** ({grade(explanation.kind)})"]
    for heading, paragraphs in sections(explanation):
        if len(paragraphs) == 1:
            lines += ["", f"*{heading}.* {_escaped(paragraphs[0])}"]
        else:
            lines += ["", f"*{heading}.*", "", *(f"- {_escaped(each)}" for each in paragraphs)]
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    r"""Text whose angle brackets and stars are no markup, code in backticks left alone.

    >>> _escaped("<b> and `<b>`")
    '\\<b> and `<b>`'
    """
    parts = text.split("`")
    for index in range(0, len(parts), 2):
        parts[index] = parts[index].replace("<", r"\<").replace("*", r"\*").replace("_", r"\_")
    return "`".join(parts)
