"""``dicomguard completions`` and ``dicomguard man``: comfort for shells."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from dicomguard.cli.manpage import manual
from dicomguard.errors import DicomguardError

_SHELLS = ("bash", "zsh", "fish")


@click.command("completions")
@click.argument("shell", type=click.Choice(_SHELLS))
@click.pass_context
def completions_command(context: click.Context, shell: str) -> None:
    """Print what a shell needs to complete commands, options and choices.

    \b
    Examples
      dicomguard completions bash > dicomguard.bash
      dicomguard completions zsh > _dicomguard
      dicomguard completions fish > dicomguard.fish
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    kind = get_completion_class(shell)
    assert kind is not None
    made = kind(context.find_root().command, {}, "dicomguard", "_DICOMGUARD_COMPLETE")
    try:
        click.echo(made.source())
    except RuntimeError as error:  # bash that is too old
        raise DicomguardError(str(error)) from error


@click.command("man")
@click.pass_context
def man_command(context: click.Context) -> None:
    """Print the manual page.

    \b
    Examples
      dicomguard man > dicomguard.1
    """  # noqa: D301 - click's mark for "do not wrap" is the control character itself
    root = context.find_root().command
    assert isinstance(root, click.Group)
    click.echo(manual(root), nl=False)
