"""The command ``durable``. Data goes to stdout, the rest to stderr. Exit codes: `durable.cli.exits`."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import NoReturn

import click

from durable.cli.completing import VARIABLE, completed
from durable.cli.completion import completion
from durable.cli.diff import diff
from durable.cli.exits import INTERRUPTED, told
from durable.cli.inspect import inspect
from durable.cli.plan import plan
from durable.cli.result import result
from durable.cli.terminal import note
from durable.cli.why import why
from durable.version import __version__


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 fine, 1 what --exit-code asks for, 2 wrong usage, 3 no such file or run, 4 locked, 5 damaged",
)
@click.version_option(__version__, prog_name="durable")
def cli() -> None:
    """Look at journals: what ran, what failed, what a re-run would do."""


cli.add_command(completion)
cli.add_command(diff)
cli.add_command(inspect)
cli.add_command(plan)
cli.add_command(result)
cli.add_command(why)


def main(args: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            # A name in a journal may hold what the terminal's encoding does not.
            stream.reconfigure(errors="backslashreplace")
    if VARIABLE in os.environ:
        sys.exit(completed(cli, os.environ[VARIABLE]))
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
