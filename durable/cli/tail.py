"""``durable tail``: transitions, one line each."""

from __future__ import annotations

import sys
from typing import Final

import click

from durable.cli import events
from durable.cli.target import reading
from durable.cli.terminal import Colour, Screen
from durable.clock import clock
from durable.reader import JournalReader
from durable.reader.following import Follower, Signature, Transition
from durable.settings import journal_path

POLL_SECONDS: Final = 0.2


@click.command()
@click.argument("journal", metavar="[DB]", required=False)
@click.option("--follow", "-f", is_flag=True, help="Go on with those to come, until Ctrl-C.")
@click.option("--lines", "-n", type=click.IntRange(0), default=10, show_default=True, help="How many of the past.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object each; its shape is told below.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def tail(journal: str | None, *, follow: bool, lines: int, as_json: bool, colour: Colour) -> None:
    """Show the newest transitions of flow runs and task runs, and with -f those to come.

    A job that is followed is not slowed down: nothing is held open between two looks, and nothing is looked at while
    the file does not change.

    The shape of --json is documented in schema/cli/tail.schema.json.
    """
    path = journal_path(journal)
    screen, follower = Screen(colour), Follower()
    with reading(path) as reader:
        signature = Signature(reader.path)
        signature.changed()
        _tell(screen, reader, follower.begin(reader, lines), as_json=as_json)
    changed = True
    while follow:
        told = True
        if changed or follower.behind:
            with reading(path) as reader:
                found = follower.poll(reader, changed=changed)
                _tell(screen, reader, found or [], as_json=as_json)
            told = found is not None
        clock().sleep(POLL_SECONDS)
        changed = signature.changed() or not told


def _tell(screen: Screen, reader: JournalReader, found: list[Transition], *, as_json: bool) -> None:
    for each in found:
        run = events.of(reader, each)
        screen.line(events.document(reader, each, run) if as_json else events.line(screen, reader, each, run))
    sys.stdout.flush()
