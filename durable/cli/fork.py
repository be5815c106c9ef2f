"""``durable fork``: a new run that reuses what another one completed before one of its tasks."""

from __future__ import annotations

import json
import sys

import click

from durable.cli import facts
from durable.cli.completing import runs_complete
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.target import SCHEMA, flow_run, reading, split, writing
from durable.cli.terminal import note
from durable.journal.maintenance import fork_flow_run
from durable.phrases import counted
from durable.reader import FlowRun, JournalReader, TaskRun
from durable.reader.forking import reused_before, task_run_in


@click.command()
@click.argument("words", metavar="[DB] RUN", nargs=-1, shell_complete=runs_complete)
@click.option(
    "--from", "start", metavar="TASK", required=True, help="The first task run to run again: its id, or a task's name."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document; its shape is told below.")
def fork(words: tuple[str, ...], *, start: str, as_json: bool) -> None:
    """Make a new run that reuses what RUN completed before TASK, and runs the rest again. RUN stays as it is.

    RUN is the beginning of a flow run's id, or "-" for the newest. TASK is the beginning of a task run's id, or the
    name of a task: its first call in RUN. The new run's id is printed; `durable resume DB ID` runs it, and so does its
    script with DURABLE_RESUME=ID.

    The shape of --json is documented in schema/cli/fork.schema.json.
    """
    path, prefix = split(words, needs_run=True)
    with reading(path) as reader:
        run = flow_run(reader, prefix or "-")
        task = _task(reader, run, start)
        count = reused_before(reader, run, task)
        told = facts.call(reader, task)
    made = fork_flow_run(writing(reader), run.row, task.row).hex()
    if as_json:
        document = {"schema": SCHEMA, "run": made, "forked_from": run.id, "before": task.id, "reused": count}
        sys.stdout.write(json.dumps(document) + "\n")
        return
    sys.stdout.write(f"{made}\n")
    note(
        f"a fork of {run.flow} {run.id[:7]}: {counted(count, 'task run')} reused, {told} and the rest run again. "
        f"To run it: durable resume {path} {made[:7]}"
    )


def _task(reader: JournalReader, run: FlowRun, wanted: str) -> TaskRun:
    found = task_run_in(reader, run, wanted)
    if len(found) == 1:
        return found[0]
    if not found:
        raise Stopped(
            NO_SUCH, f"{reader.path}: run {run.id[:7]} has no task and no task run {wanted!r}. See `durable inspect`"
        )
    ids = ", ".join(each.id[: len(wanted) + 4] for each in found)
    raise Stopped(NO_SUCH, f"{reader.path}: several task runs have ids that begin with {wanted!r}: {ids}...")
