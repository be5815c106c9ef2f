"""``durable cancel``: stop a live run at its next task, mark a dead one."""

from __future__ import annotations

import json
import sys
from typing import Final

import click

from durable.cli.completing import runs_complete
from durable.cli.exits import NO_SUCH, NOT_COMPLETED, Stopped
from durable.cli.target import SCHEMA, flow_run, reading, split, writing
from durable.cli.terminal import note
from durable.clock import clock
from durable.journal.maintenance import cancel_flow_run
from durable.outcomes import CANCELLED_MESSAGE
from durable.ownership import Cancellation, RunLock
from durable.reader import JournalReader

_POLL_SECONDS: Final = 0.1


@click.command()
@click.argument("words", metavar="[DB] RUN", nargs=-1, shell_complete=runs_complete)
@click.option("--wait", is_flag=True, help="Return when the run has stopped.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; its shape is told below.")
def cancel(words: tuple[str, ...], *, wait: bool, as_json: bool) -> None:
    """Ask a live run to stop where it calls its next task; mark a dead one Cancelled.

    RUN is the beginning of a flow run's id, or "-" for the newest. What runs now goes on to its end and is kept. In the
    flow, FlowRunCancelled is raised: `finally` blocks run, the on_cancellation hooks are called. A cancelled run is not
    continued by itself; `durable resume` still can.

    \b
    Exit codes:
      0  asked, or marked; with --wait: it is cancelled (or was before)
      1  with --wait: it ended in another way
      3  no such run, or one that has ended already
    The shape of --json is documented in schema/cli/cancel.schema.json.
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    path, prefix = split(words, needs_run=True)
    with reading(path) as reader:
        run = flow_run(reader, prefix or "-")
    state = _cancel(reader, bytes.fromhex(run.id), wait=wait)
    if as_json:
        sys.stdout.write(json.dumps({"schema": SCHEMA, "run": run.id, "state": state}) + "\n")
    elif state == "Cancelling":
        note(f"{run.flow} {run.id[:7]} was asked to stop; it does where it calls its next task")
    else:
        note(f"{run.flow} {run.id[:7]} is {state}")
    if state not in ("Cancelling", "Cancelled"):
        raise Stopped(NOT_COMPLETED)


def _cancel(reader: JournalReader, key: bytes, *, wait: bool) -> str:
    """Cancel the run; the state it is in now, ``Cancelling`` for one that is still to notice."""
    journal = reader.path
    lock, request, asked = RunLock(journal, key), Cancellation(journal, key), False
    while not lock.acquire():
        if not asked:
            asked = request.ask()
        if asked and not wait:
            # The owner may have ended just before it could see the request: then the run is ours to mark.
            if not lock.acquire():
                return "Cancelling"
            break
        clock().sleep(_POLL_SECONDS)
    try:
        return _mark(reader, key, was_live=asked)
    finally:
        request.withdraw()
        lock.release()


def _mark(reader: JournalReader, key: bytes, *, was_live: bool) -> str:
    """Nobody executes the run, and its lock is ours."""
    journal = writing(reader)
    record = journal.find_flow_run(key)
    if record is None:
        raise Stopped(NO_SUCH, f"{reader.path}: the run is gone")
    kind = record.state
    if kind.type in ("COMPLETED", "FAILED", "CANCELLED"):
        if kind.type != "CANCELLED" and not was_live:
            again = "" if kind.type == "COMPLETED" else ". To begin a new one instead: DURABLE_RESUME=never"
            raise Stopped(NO_SUCH, f"{reader.path}: run {key.hex()[:7]} has ended already: {kind.name}{again}")
        return kind.name
    cancel_flow_run(journal, record, CANCELLED_MESSAGE)
    return "Cancelled"
