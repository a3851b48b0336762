"""The manual page, made from the commands: ``dicomguard man``."""

from __future__ import annotations

import inspect
from collections.abc import Iterator

import click

from dicomguard.version import VERSION

_HEAD = """\
.TH DICOMGUARD 1 "" "dicomguard {version}" "User Commands"
.SH NAME
dicomguard \\- find malicious payloads in DICOM files
.SH SYNOPSIS
.B dicomguard
.RI [ options ]
.I command
.RI [ arguments ]
"""


def manual(root: click.Group) -> str:
    """The page of section 1 for a command with all its commands, in troff's man macros."""
    context = click.Context(root, info_name="dicomguard", **root.context_settings)
    lines = [_HEAD.format(version=VERSION), ".SH DESCRIPTION", *_text(root)]
    lines += [".SH OPTIONS", *_options(root, context), ".SH COMMANDS"]
    lines += _commands(root, context)
    return "\n".join(lines) + "\n"


def _commands(group: click.Group, context: click.Context) -> Iterator[str]:
    for name in sorted(group.commands):
        command = group.commands[name]
        inner = click.Context(command, info_name=name, parent=context)
        if isinstance(command, click.Group):
            yield from _commands(command, inner)
            continue
        usage = " ".join(command.collect_usage_pieces(inner))
        yield f".SS {_escaped(f'{inner.command_path} {usage}')}"
        yield from _text(command)
        yield from _options(command, inner)


def _text(command: click.Command) -> Iterator[str]:
    """A help text; paragraphs that begin with click's mark for it keep their lines."""
    for paragraph in inspect.cleandoc(command.help or "").split("\n\n"):
        yield ".PP"
        if paragraph.startswith("\b\n"):
            yield ".nf"
            yield from map(_escaped, paragraph.removeprefix("\b\n").splitlines())
            yield ".fi"
        else:
            yield _escaped(" ".join(paragraph.split()))


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None:
            yield ".TP"
            yield f"\\fB{_escaped(record[0])}\\fR"
            yield _escaped(" ".join(record[1].split()))


def _escaped(text: str) -> str:
    """Text as troff shows it: no control line, no escape, hyphens that can be copied."""
    escaped = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
