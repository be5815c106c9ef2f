"""``durable prune``: remove old runs."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final, NamedTuple

import click

from durable.cli import facts
from durable.cli.exits import BUSY, Stopped
from durable.cli.target import SCHEMA, is_over, reading, writing
from durable.cli.terminal import note
from durable.clock import clock
from durable.journal import Journal, close_journals
from durable.journal.pruning import free_bytes, remove_runs, vacuum
from durable.ownership import Cancellation, RunLock, live_runs
from durable.phrases import counted, moment, safe, size
from durable.reader import FlowRun, JournalReader
from durable.reader.opening import sizes
from durable.reader.prunable import has_memo, task_runs_of, without_needed
from durable.settings import journal_path

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_AGE: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_BATCH: Final = 20_000  # task runs removed in one transaction, unless one run alone has more
_WORTH_BYTES: Final = 1 << 20  # free space from which on giving it back is worth rewriting the file,
_WORTH_SHARE: Final = 0.2  # if it is also this much of the file


def _age(context: click.Context, parameter: click.Parameter, text: str | None) -> int | None:
    """An age in microseconds."""
    found = _AGE.fullmatch(text) if text is not None else None
    if text is not None and found is None:
        raise click.BadParameter(
            f"{text!r}: expected a number and a unit, such as 30d, 12h, 45m or 2w", context, parameter
        )
    return None if found is None else round(float(found[1]) * _UNITS[found[2]] * 1_000_000)


class _Doomed(NamedTuple):
    run: FlowRun
    tasks: int


@click.command()
@click.argument("journal", metavar="[DB]", required=False)
@click.option(
    "--older-than", "age", callback=_age, metavar="AGE", help="Runs whose last record is older: 30d, 12h, 2w."
)
@click.option("--keep-last", "keep", type=click.IntRange(0), metavar="N", help="Keep the newest N runs of each flow.")
@click.option("--dry-run", is_flag=True, help="Say what would be removed; remove nothing.")
@click.option("--force", is_flag=True, help="Runs that could still be resumed, too.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document; its shape is told below.")
def prune(journal: str | None, *, age: int | None, keep: int | None, dry_run: bool, force: bool, as_json: bool) -> None:
    """Remove old flow runs: whole finished ones, with their subflows, task runs and results. At least one of
    --older-than and --keep-last says which; with both, a run goes if both let it.

    A run that did not complete and was not cancelled could be resumed: it goes with --force only, and never while a
    process executes it. What a run that stays depends on stays: results and a generator's values that it took from a
    cache, the original of a fork. Apart from those, tasks with a memo policy (INPUTS and the like) run again once the
    run that computed their result is gone. Tasks called outside any flow stay.

    The file shrinks if enough of it became free and nothing runs at the moment; otherwise the space is used for what
    comes next.

    The shape of --json is documented in schema/cli/prune.schema.json.

    \b
    Exit codes:
      0  done, or nothing to do
      4  a live process executes a run that would go
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    if age is None and keep is None:
        raise click.UsageError("say which runs: --older-than 30d, --keep-last 5, or both")
    with reading(journal_path(journal)) as reader:
        doomed = _doomed(reader, _chosen(reader, age or 0, keep or 0, force=force))
        before = after = sizes(reader.path)
        if not dry_run and doomed:
            opened = writing(reader)
            with _locked(opened, doomed):
                _remove(opened, doomed)
                _shrink(opened)
                close_journals()
            after = sizes(reader.path)
    if as_json:
        _document(doomed, dry_run=dry_run, before=before, after=after)
        return
    for each in doomed if dry_run else ():
        ended = moment(each.run.ended or each.run.started, clock().now())
        told = f"{each.run.id[:7]}  {safe(each.run.flow)}  {each.run.state}  {ended}"
        sys.stdout.write(f"{told}  {counted(each.tasks, 'task run')}\n")
    total = f"{counted(len(doomed), 'run')}, {counted(sum(each.tasks for each in doomed), 'task run')}"
    if dry_run:
        note(f"would remove {total}")
    else:
        note(f"removed {total}; the journal is {size(after)} (was {size(before)})")


def _chosen(reader: JournalReader, age: int, keep: int, *, force: bool) -> list[FlowRun]:
    """The runs to remove, newest first."""
    now, seen, found = clock().now(), Counter[str](), list[FlowRun]()
    before: int | None = None
    while page := reader.flow_runs(100, before):
        for run in page:
            seen[run.function] += 1
            finished = is_over(run)
            old = now - (run.started if run.ended is None else run.ended) > age
            if seen[run.function] > keep and old and (finished or force):
                found.append(run)
        before = page[-1].row
    return without_needed(reader, found)


def _doomed(reader: JournalReader, runs: list[FlowRun]) -> list[_Doomed]:
    """With their sizes; without those whose memos a live run may be about to use."""
    if runs and live_runs(reader.path):
        kept = [run for run in runs if not has_memo(reader, run)]
        if len(kept) < len(runs):
            note(f"{counted(len(runs) - len(kept), 'run')} with cached results stay while something runs")
        runs = kept
    return [_Doomed(run, task_runs_of(reader, run)) for run in runs]


@contextmanager
def _locked(journal: Journal, doomed: list[_Doomed]) -> Iterator[None]:
    """Hold the locks of the runs that somebody could take up in the meantime: those that did not complete."""
    with ExitStack() as held:
        for run, _ in doomed:
            if run.completed and is_over(run):
                continue
            key = bytes.fromhex(run.id)
            lock = RunLock(journal.path, key)
            if not lock.acquire():
                raise Stopped(BUSY, f"{journal.path}: run {run.id[:7]} is being executed: nothing was removed")
            held.callback(lock.release)
            held.callback(Cancellation(journal.path, key).withdraw)
            record = journal.find_flow_run(key)
            if record is None or record.state.name != run.recorded:
                raise Stopped(BUSY, f"{journal.path}: run {run.id[:7]} has gone on meanwhile: nothing was removed")
        yield


def _remove(journal: Journal, doomed: list[_Doomed]) -> None:
    batch: list[int] = []
    count = 0
    for run, tasks in doomed:
        if batch and count + tasks > _BATCH:
            remove_runs(journal, batch)
            batch, count = [], 0
        batch.append(run.row)
        count += tasks
    remove_runs(journal, batch)


def _shrink(journal: Journal) -> None:
    free, whole = free_bytes(journal)
    if free < max(_WORTH_BYTES, whole * _WORTH_SHARE):
        return
    if live_runs(journal.path):
        note(f"{size(free)} became free; they are not given back while something runs, but used for what comes next")
    elif shutil.disk_usage(journal.path.parent).free < 3 * (whole - free):
        note(f"{size(free)} became free; to give them back needs more room on the disk than there is")
    else:
        vacuum(journal)


def _document(doomed: list[_Doomed], *, dry_run: bool, before: int, after: int) -> None:
    runs = [
        {
            "id": run.id,
            "flow": run.flow,
            "state": run.state,
            "ended": None if run.ended is None else facts.iso(run.ended),
            "task_runs": tasks,
        }
        for run, tasks in doomed
    ]
    found = {"schema": SCHEMA, "dry_run": dry_run, "runs": runs, "bytes_before": before, "bytes_after": after}
    sys.stdout.write(json.dumps(found) + "\n")
