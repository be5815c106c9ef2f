"""``durable completion``: the script that teaches a shell the commands, options, runs and tasks."""

from __future__ import annotations

from typing import Literal

import click

from durable.cli.completing import completed
from durable.cli.exits import Stopped


@click.command(name="completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: Literal["bash", "zsh", "fish"]) -> None:
    """Print the completion script of a shell.

    It completes commands, options and files, and the ids of the runs and task runs of the journal on the line: of the
    newest 50 flow runs, and the newest 200 task runs of the one that is named.

    \b
      bash  eval "$(durable completion bash)"      in ~/.bashrc
      zsh   eval "$(durable completion zsh)"       in ~/.zshrc, after compinit
      fish  durable completion fish > ~/.config/fish/completions/durable.fish

    \b
    Exit codes:
      0  printed
      1  this bash is too old: 4.4 is the first that can
      2  wrong usage
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    code = completed(context.find_root().command, "_DURABLE_COMPLETE", f"{shell}_source")
    if code:
        raise Stopped(code)
