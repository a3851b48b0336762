"""``dicomguard.toml``: every setting by name, type, default and meaning.

The types here are the one place where a setting is declared: the file is checked against them, the
options of ``dicomguard watch``, the JSON Schema in ``docs/`` and the table in
``docs/configuration.md`` are made from them. What a flag says goes before the environment
(``DICOMGUARD_WATCH_SETTLE``), that before the file, and that before the default.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import msgspec
from msgspec import Meta, Struct, inspect

from dicomguard.errors import DicomguardError

DEFAULT_PATH = Path("/etc/dicomguard/dicomguard.toml")
"""Read if no other file is named. Never the working folder's: that may be a hostile one."""

_LARGEST = 1 << 20
"""Bytes of a configuration file; nobody writes one by hand that is larger."""

Seconds = Annotated[float, Meta(ge=0.1)]


class ScanConfig(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """How files are examined, by ``check`` and by ``watch``."""

    rules: Annotated[
        tuple[str, ...],
        Meta(description="Folders of YARA rules to use beside the shipped ones."),
    ] = ()
    engine: Annotated[
        Literal["yara", "yara-x"] | None,
        Meta(description="YARA engine; the first that is installed if not given."),
    ] = None
    strict: Annotated[bool, Meta(description="One medium finding is enough to be suspicious.")] = (
        False
    )
    workers: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Worker processes; one a core, up to eight, if not given."),
    ] = None
    suppressions: Annotated[
        str | None,
        Meta(description="TOML file of findings that were looked at and do not count."),
    ] = None
    rule_keys: Annotated[
        tuple[str, ...],
        Meta(
            description="Ed25519 public keys in Base64: whoever signed a pack of rules must have "
            "one of them."
        ),
    ] = ()
    signed_rules: Annotated[
        bool, Meta(description="Refuse packs of rules that are not signed.")
    ] = False


class CheckConfig(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What ``dicomguard check`` prints."""

    format: Annotated[
        Literal["text", "json", "jsonl", "sarif", "csv", "html"],
        Meta(description="Text and HTML for people, the others for programs."),
    ] = "text"
    show_values: Annotated[
        bool, Meta(description="Show text values, which may be patient data.")
    ] = False


class WatchConfig(
    Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What ``dicomguard watch`` guards, and how."""

    ingest: Annotated[
        str | None, Meta(description="The folder to watch, with everything below it.")
    ] = None
    quarantine: Annotated[
        str | None,
        Meta(description="Folder for what must not stay; made if it does not exist."),
    ] = None
    deliver: Annotated[
        str | None,
        Meta(
            description="Move clean files here, relative paths kept; they stay where they are if "
            "not given."
        ),
    ] = None
    state: Annotated[
        str | None,
        Meta(description="Folder for the journal; in the quarantine folder if not given."),
    ] = None
    settle: Annotated[
        Seconds,
        Meta(
            description="Seconds. A file is taken when it was unchanged for so long and nobody "
            "has it open for writing."
        ),
    ] = 1.0
    reconcile: Annotated[
        Seconds,
        Meta(description="Seconds between scans of the folder, which find what no event told of."),
    ] = 30.0
    poll: Annotated[
        bool,
        Meta(
            description="Do without events: find files by the scan alone. Network and FUSE file "
            "systems are recognised, and always done so."
        ),
    ] = False
    unfinished: Annotated[
        tuple[str, ...],
        Meta(
            description="Patterns of names that files and folders have while they are uploaded; "
            "what is in them waits until it is renamed."
        ),
    ] = (".*", "*.part", "*.partial", "*.filepart", "*.tmp", "*.crdownload")
    largest: Annotated[
        Annotated[float, Meta(ge=0.001)],
        Meta(
            description="GiB. Larger files are not opened: they stay where they are, and that is "
            "said. Without a limit one file, even one that is a hole and nothing else, could keep "
            "the quarantine busy for hours."
        ),
    ] = 16.0
    on_incomplete: Annotated[
        Literal["quarantine", "keep", "deliver"],
        Meta(
            description="What becomes of a file that could not be examined; deliver warns, and "
            "treats it like a clean one."
        ),
    ] = "quarantine"
    hold_study: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(
            description="Seconds for which clean files of a study go to the quarantine too after "
            "something was found in one of its files; 0 for not at all."
        ),
    ] = 0.0
    on_quarantine: Annotated[
        tuple[str, ...],
        Meta(
            description="Command to run for each quarantined file when that is safe: program and "
            "arguments, no shell. It gets the record as JSON on standard input.",
            extra={"command": True},
        ),
    ] = ()
    on_quarantine_timeout: Annotated[
        Seconds, Meta(description="Seconds after which that command is killed.")
    ] = 30.0
    log: Annotated[
        Literal["auto", "text", "json"],
        Meta(
            description="Lines on standard error for people, or JSON with ECS field names; auto: "
            "text on a terminal, else JSON."
        ),
    ] = "auto"
    log_paths: Annotated[
        bool | None,
        Meta(
            description="Show the paths of files, which may hold patient names; else a hash "
            "stands for each. If not given, lines for people show them, and JSON does not."
        ),
    ] = None
    syslog: Annotated[
        str | None,
        Meta(
            description="Send what is not routine (quarantined files, troubles) as CEF to syslog: "
            "the path of a socket such as /dev/log, or HOST:PORT for UDP. Paths of files are in "
            "it if log_paths is true."
        ),
    ] = None
    metrics: Annotated[
        str | None,
        Meta(
            description="Serve /metrics (Prometheus) and /health at PORT of the loopback address, "
            "or at HOST:PORT."
        ),
    ] = None
    journal_days: Annotated[
        Annotated[float, Meta(ge=0)],
        Meta(description="Days for which the journal remembers files that were acted upon."),
    ] = 30.0


class Config(Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """All of ``dicomguard.toml``."""

    scan: ScanConfig = ScanConfig()
    check: CheckConfig = CheckConfig()
    watch: WatchConfig = WatchConfig()


class Setting(NamedTuple):
    """One field of a section, as the command line and the documentation need it.

    Attributes:
        name: In the file; with hyphens for underscores the name of the option.
        meaning: For people.
        type: ``bool``, ``int``, ``float`` or ``str``; of each value where there are many.
        many: Whether it is a list.
        command: Whether it is a program with its arguments.
        choices: What is allowed; empty where anything is.
        minimum: The least number that is allowed; None where any is.
        default: What holds if nothing is said; None where that is nothing.
    """

    name: str
    meaning: str
    type: type[bool | int | float | str]
    many: bool
    command: bool
    choices: tuple[str, ...]
    minimum: float | None
    default: Any


def settings(section: type[Struct]) -> list[Setting]:
    """The fields of a section."""
    kind = inspect.type_info(section)
    assert isinstance(kind, inspect.StructType)
    return [_setting(field) for field in kind.fields]


def sections() -> dict[str, type[Struct]]:
    """The tables of the file by name."""
    return {field.name: field.type for field in msgspec.structs.fields(Config)}


def find(named: Path | None) -> Path | None:
    """The configuration file: the one that was named, else `DEFAULT_PATH` if there is one."""
    if named is not None:
        return named
    return DEFAULT_PATH if DEFAULT_PATH.exists() else None


def load(path: Path) -> Config:
    """Reads a configuration file.

    Raises:
        DicomguardError: It cannot be read, is no TOML, or says something that is not known here
            or of another type; the message names the place, and what may have been meant.
    """
    import tomllib  # noqa: PLC0415 - where there is no file, nothing reads one

    try:
        with path.open("rb") as source:
            text = source.read(_LARGEST + 1)
        if len(text) > _LARGEST:
            raise ValueError(f"it is larger than {_LARGEST} bytes")  # noqa: TRY301 - one message
        values = tomllib.loads(text.decode("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DicomguardError(f"cannot read {path}: {reason}") from error
    lines = list(unknown(values, list(sections())))
    for name, section in sections().items():
        if isinstance(values.get(name), dict):
            known = [setting.name for setting in settings(section)]
            lines += [f"{name}.{line}" for line in unknown(values[name], known)]
    if lines:
        raise DicomguardError("\n".join(f"{path}: {line}" for line in lines))
    return checked(values, Config, where=str(path))


def unknown(keys: Iterable[str], known: Collection[str]) -> Iterator[str]:
    """One line for each key that is not known, with the one that may have been meant."""
    for key in keys:
        if key not in known:
            import difflib  # noqa: PLC0415 - seldom needed

            close = difflib.get_close_matches(key, known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
            yield f"{key} is unknown; {meant}"


_Section = TypeVar("_Section", bound=Struct)


def checked(values: Mapping[str, Any], kind: type[_Section], *, where: str) -> _Section:
    """Values as the type of their section.

    Args:
        values: By field name.
        kind: The section.
        where: What the message calls the source of the values.

    Raises:
        DicomguardError: A value is of another type, out of range or none of the choices.
    """
    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        told, _, place = str(error).partition(" - at ")
        place = place.strip("`").removeprefix("$").removeprefix(".")
        raise DicomguardError(f"{where}: {place}: {told}{_choices(place)}") from error


def schema() -> str:
    """The JSON Schema of the file, as text."""
    import json  # noqa: PLC0415 - seldom needed

    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "dicomguard.toml"}
    return json.dumps(head | msgspec.json.schema(Config), indent=2) + "\n"


def _setting(field: inspect.Field) -> Setting:
    kind = field.type
    extra: dict[str, Any] = {}
    while isinstance(kind, inspect.Metadata | inspect.UnionType):
        if isinstance(kind, inspect.Metadata):
            extra |= (kind.extra_json_schema or {}) | (kind.extra or {})
            kind = kind.type
        else:
            (kind,) = (each for each in kind.types if not isinstance(each, inspect.NoneType))
    many = isinstance(kind, inspect.VarTupleType)
    if isinstance(kind, inspect.VarTupleType):
        kind = kind.item_type
    types = {inspect.BoolType: bool, inspect.IntType: int, inspect.FloatType: float}
    return Setting(
        name=field.name,
        meaning=extra.get("description", ""),
        type=types.get(type(kind), str),
        many=many,
        command=extra.get("command", False),
        choices=tuple(map(str, kind.values)) if isinstance(kind, inspect.LiteralType) else (),
        minimum=kind.ge if isinstance(kind, inspect.IntType | inspect.FloatType) else None,
        default=None if field.default is msgspec.NODEFAULT else field.default,
    )


def _choices(place: str) -> str:
    """What a setting may be, for a message; empty where anything of its type is."""
    section, _, name = place.rpartition(".")
    for kind in [sections()[section]] if section in sections() else sections().values():
        for setting in settings(kind):
            if setting.name == name and setting.choices:
                return f"; choose from {', '.join(setting.choices)}"
    return ""
