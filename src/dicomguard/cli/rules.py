"""``dicomguard rules``: for people who write rules, and who want to know what theirs are."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from dicomguard.cli.options import engine_option, rule_key_option, rules_option
from dicomguard.engine import default_engine
from dicomguard.errors import DicomguardError
from dicomguard.packs import MANIFEST, Pack, Trust, listing
from dicomguard.reports.escape import printable
from dicomguard.reports.summary import ExitCode
from dicomguard.rules import Rule, RulePack, namespace_of, shipped_rules
from dicomguard.ruletools import examples, lint, skeleton
from dicomguard.settings import ScanSettings

_folder = click.argument("folder", type=click.Path(path_type=Path, file_okay=False))


@click.group("rules")
def rules_group() -> None:
    """List, test, measure and write rules.

    \b
    Examples
      dicomguard rules new acme_updater --to acme
      dicomguard rules test acme
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself


@rules_group.command("list")
@rules_option
@rule_key_option
@engine_option
def list_command(
    rule_folders: tuple[Path, ...], rule_keys: tuple[str, ...], engine: str | None
) -> None:
    """List packs, whether they are signed, and their rules.

    \b
    Examples
      dicomguard rules list
      dicomguard rules list --rules acme
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    pack = RulePack(rule_folders, engine, Trust(keys=rule_keys))
    for each in pack.packs:
        own = _rules_of(pack, each)
        standing = "shipped" if each.folder == shipped_rules() else each.standing
        _say(f"{_title(each)}: {len(own)} rules, {standing}")
        width = max((len(rule.name.name) for rule in own), default=0)
        for rule in own:
            kind = rule.kind
            _say(
                f"  {rule.name.name:<{width}}  {kind.id:<16}  {kind.severity!s:<8}  "
                f"{rule.where:<8}  {kind.title}"
            )


@rules_group.command("show")
@click.argument("name")
@rules_option
@engine_option
def show_command(name: str, rule_folders: tuple[Path, ...], engine: str | None) -> None:
    """Show what a rule declares, and where it stands.

    \b
    Examples
      dicomguard rules show pe
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    pack = RulePack(rule_folders, engine)
    found = [rule for rule in pack.rules.values() if rule.name.name == name]
    if not found:
        raise click.BadParameter(f"there is no rule {name}; `dicomguard rules list` lists all")
    for rule in found:
        kind = rule.kind
        shown = {
            "rule": rule.name.name,
            "file": rule.name.namespace,
            "looks at": rule.where,
            "confirmed by": rule.validator.__name__ if rule.validator else "",
            "honest in": rule.not_in or "",
            "id": kind.id if rule.polyglot is None else f"{kind.id}, {rule.polyglot.id}",
            "title": kind.title,
            "grade": f"{kind.category}, {kind.severity}, {kind.confidence}",
            "why": kind.why,
            "reference": ", ".join(filter(None, (kind.reference, kind.attack))),
        }
        for label, value in shown.items():
            if value:
                _say(f"{label:>12}  {value}")


@rules_group.command("lint")
@_folder
@rule_key_option
@engine_option
def lint_command(folder: Path, rule_keys: tuple[str, ...], engine: str | None) -> None:
    """Say everything that is wrong with the rules of a folder, and what the engine warns of.

    Exits with 1 if there is something.

    \b
    Examples
      dicomguard rules lint acme
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    problems = list(lint.lint(folder, engine or default_engine(), Trust(keys=rule_keys)))
    for problem in problems:
        _say(problem)
    if problems:
        sys.exit(ExitCode.FOUND)
    RulePack((folder,), engine, Trust(keys=rule_keys))  # together with the others, too
    _say("nothing to complain about")


@rules_group.command("test")
@_folder
@engine_option
def test_command(folder: Path, engine: str | None) -> None:
    """Run the examples of a pack: its rules must fire where pack.toml says so, and not elsewhere.

    Exits with 1 if one does otherwise.

    \b
    Examples
      dicomguard rules test acme
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    settings = ScanSettings(rule_folders=(folder,), engine=engine)
    failed = 0
    for outcome in examples.run(folder, settings):
        failed += bool(outcome.problems)
        _say(f"{'FAILED' if outcome.problems else 'passed'}  {outcome.example}")
        for problem in outcome.problems:
            _say(f"        {problem}")
    for name in examples.untested(folder, settings):
        _say(f"note    no example wants {name} to fire")
    sys.exit(ExitCode.FOUND if failed else ExitCode.CLEAN)


@rules_group.command("bench")
@click.argument("files", nargs=-1, type=click.Path(path_type=Path, dir_okay=False))
@rules_option
@engine_option
def bench_command(
    files: tuple[Path, ...], rule_folders: tuple[Path, ...], engine: str | None
) -> None:
    """Measure what each rule takes of the time of all, slowest first.

    With FILES, over those; else over two files of 4 MiB that are made for it. With --rules, the
    rules of those folders, else the shipped ones. What validators take is not in it. Exits with 1
    if a rule takes more than 5 %.

    \b
    Examples
      dicomguard rules bench
      dicomguard rules bench --rules acme IM0001
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    from dicomguard.ruletools import bench  # noqa: PLC0415 - takes a parser along

    pack = RulePack(rule_folders, engine)
    timed = pack.packs[1:] or pack.packs
    contents = [path.read_bytes() for path in files] or bench.samples()
    timings = bench.bench(pack, timed, contents)
    over = 0
    for timing in timings:
        is_over = timing.share > bench.BUDGET or bool(timing.problem)
        over += is_over
        _say(
            f"{'!' if is_over else ' '} {timing.share:6.1%} {timing.seconds * 1000:8.2f} ms  "
            f"{timing.rule}  {timing.path.name}  {timing.problem}".rstrip()
        )
    if over:
        _say(f"{over} over the budget of {bench.BUDGET:.0%} of the time of all rules")
    sys.exit(ExitCode.FOUND if over else ExitCode.CLEAN)


@rules_group.command("new")
@click.argument("name")
@click.option(
    "--to",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("rules"),
    show_default=True,
    metavar="DIR",
    help="The pack; begun if it does not exist.",
)
def new_command(name: str, folder: Path) -> None:
    """Write the beginning of a rule, with examples that it passes.

    \b
    Examples
      dicomguard rules new acme_updater --to acme
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    for path in skeleton.write(name, folder):
        _say(f"written: {path}")


@rules_group.command("hash")
@_folder
def hash_command(folder: Path) -> None:
    """Print the [files] table of a pack.toml: the SHA-256 of every rule file.

    \b
    Examples
      dicomguard rules hash acme >> acme/pack.toml
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    files = listing(folder)
    if not files:
        raise DicomguardError(f"{folder} holds no rules")
    click.echo("\n[files]")
    for name, sha256 in files.items():
        if not name.isascii() or not name.isprintable() or set(name) & {'"', "\\"}:
            raise DicomguardError(f"give {printable(name)} a plain ASCII name")
        click.echo(f'"{name}" = "{sha256}"')


def _title(pack: Pack) -> str:
    manifest = pack.manifest
    if manifest is None:
        return f"{pack.folder} (no {MANIFEST})"
    return f"{manifest.name} {manifest.version} ({manifest.licence}) in {pack.folder}"


def _rules_of(pack: RulePack, part: Pack) -> list[Rule]:
    shipped = part.folder == shipped_rules()
    names = {path.name if shipped else namespace_of(path) for path in part.sources}
    return [rule for rule in pack.rules.values() if rule.name.namespace in names]


def _say(line: str) -> None:
    click.echo(printable(line))
