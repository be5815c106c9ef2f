"""The command ``durable``. Data goes to stdout, the rest to stderr. Exit codes: `durable.cli.exits`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from io import TextIOWrapper
from typing import Final, NoReturn, cast

import click

from durable.cli.exits import INTERRUPTED, told
from durable.cli.terminal import note
from durable.version import __version__

# Command -> its module, which has it under the same name. One is loaded when it is asked for.
_COMMANDS: Final = {
    "backup": "durable.cli.backup",
    "cancel": "durable.cli.cancel",
    "check": "durable.cli.check",
    "completion": "durable.cli.completion",
    "config": "durable.cli.config",
    "diff": "durable.cli.diff",
    "export": "durable.cli.export",
    "fork": "durable.cli.fork",
    "inspect": "durable.cli.inspect",
    "plan": "durable.cli.plan",
    "prune": "durable.cli.prune",
    "report": "durable.cli.report",
    "result": "durable.cli.result",
    "resume": "durable.cli.resume",
    "run": "durable.cli.run",
    "tail": "durable.cli.tail",
    "watch": "durable.cli.watch",
    "why": "durable.cli.why",
}
_COMPLETE: Final = "_DURABLE_COMPLETE"  # how a shell asks for completions: click's convention


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - see above
        module = _COMMANDS.get(cmd_name)
        return None if module is None else cast("click.Command", getattr(import_module(module), cmd_name))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 what --exit-code asks for, 2 wrong usage, 3 no such file or run, 4 locked, 5 damaged",
)
@click.version_option(__version__, prog_name="durable")
def cli() -> None:
    """Look at journals: what ran, what failed, what a re-run would do."""


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name in a journal may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")
    if _COMPLETE in os.environ:
        from durable.cli.completing import completed  # a command that is run does without

        sys.exit(completed(cli, _COMPLETE, os.environ[_COMPLETE]))
    try:
        with told(note):
            # Not click's own way out: it ends a broken pipe with 1, which means something here.
            code = _without_click(args)
    except click.exceptions.Exit as leaving:  # --help and --version
        code = leaving.exit_code
    except click.Abort:
        code = INTERRUPTED
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    sys.exit(code)


def _without_click(args: Sequence[str] | None) -> int:
    context = cli.make_context("durable", list(sys.argv[1:] if args is None else args))
    with context:
        cli.invoke(context)
    return 0
