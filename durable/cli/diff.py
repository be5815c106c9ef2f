"""``durable diff``: in which tasks two runs differ."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain
from typing import Any, Final

import click

from durable.cli import document, facts
from durable.cli.choosing import flow_run_of, needed, opened, title
from durable.cli.completing import runs_complete
from durable.cli.exits import NOT_COMPLETED, Stopped
from durable.cli.terminal import Colour, Screen, clipped, note
from durable.phrases import counted, duration, safe
from durable.reader import FlowRun, JournalReader, queries
from durable.reader.calls import by_digest_only, differences, preview
from durable.reader.diffing import INPUTS, KINDS, ONLY_NEW, ONLY_OLD, RESULT, SOURCE, STATE, TIME, Change, Differ, Tally

_VALUE: Final = 60
_COMPARED: Final = 20_000  # calls of each run that are compared, unless all are asked for
_HEADINGS: Final = ("TASK", "OLD", "NEW", "ALIKE", *(kind.upper() for kind in KINDS), "TOOK")


@click.command(name="diff")
@click.argument("words", metavar="[DB] OLD NEW", nargs=-1, shell_complete=runs_complete)
@click.option("--limit", type=click.IntRange(0), default=50, show_default=True, help="How many differing calls.")
@click.option("--all", "everything", is_flag=True, help="Every differing call, of all calls.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: schema/cli/diff.schema.json.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the runs differ in more than time.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def diff(
    words: tuple[str, ...], *, limit: int, everything: bool, as_json: bool, exit_code: bool, colour: Colour
) -> None:
    """Tell in which task runs two runs differ: a summary, then one call after the other.

    DB is the journal's file; without it the one that is set (by DURABLE_JOURNAL, say), else runs.db. OLD and NEW are
    the beginnings of flow runs' ids; "-" is the newest.

    Calls are matched by what they are: the same task, arguments and place. The rest is matched by position, the n-th of
    a task with the n-th, and differs in its inputs. Of long runs the first 20,000 calls are compared, unless --all or
    --exit-code asks for all. Nothing is unpickled and no code of yours is imported.

    \b
    What two calls may differ in:
      inputs    arguments; of long ones digests are recorded, no values
      result    by the recorded bytes; equal plain values count as equal
      source    the task's function, or what it refers to
      state     one completed and the other did not, say
      time      twice as long, and a tenth of a second at least
      only old, only new  there is no such call in the other run

    \b
    Exit codes:
      0  told
      1  with --exit-code: the runs differ
      2  wrong usage
      3  no such file or run, or the file is no journal
      4  another process keeps the journal locked
      5  the journal is damaged
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    journal, (first, second) = needed(words, ("OLD", "NEW"), 2)
    with opened(journal, whole="diff") as reader:
        old, new = flow_run_of(reader, first), flow_run_of(reader, second)
        differ = Differ(reader, old.row, new.row, None if everything or exit_code else _COMPARED)
        tallies: dict[bytes, Tally] = {}
        kept: list[Change] = []
        total = 0
        for change in differ.every():
            key, name, _ = reader.task(change.call.task)
            tallies.setdefault(key, Tally(name)).add(change)
            total += bool(change.kinds)
            if change.kinds and len(kept) < limit:
                kept.append(change)
        # A second pass: what is not kept need not be held.
        changes: Iterable[Change] = (one for one in differ.every() if one.kinds) if everything else kept
        if as_json:
            _document(reader, differ, old, new, tallies.values(), changes)
        else:
            _text(Screen(colour), reader, differ, old, new, [*tallies.values()], changes)
        if not everything and total > limit:
            note(f"{counted(total - limit, 'differing call')} not shown: --limit N or --all")
        if any(differ.left):
            left = counted(max(differ.left), "call")
            note(f"only the first {_COMPARED} calls of each run were compared, {left} not: --all compares all")
        differs = any(tally.kinds[kind] for tally in tallies.values() for kind in KINDS if kind != TIME)
    if exit_code and differs:
        raise Stopped(NOT_COMPLETED)


def _text(
    screen: Screen,
    reader: JournalReader,
    differ: Differ,
    old: FlowRun,
    new: FlowRun,
    tallies: list[Tally],
    changes: Iterable[Change],
) -> None:
    for mark, run in (("-", old), ("+", new)):
        state = screen.paint(run.state, safe(run.state))
        began = facts.when(run.started, tty=screen.tty)
        screen.line(f"{mark} {screen.paint('title', title(run))}  {state}  {began}, took {duration(run.took)}")
    for one in _parameters(reader, old, new) or ():
        screen.line(f"  parameter {safe(str(one))}")
    if not tallies:
        screen.line("\nNeither called a task.")
        return
    screen.line()
    cells = [_HEADINGS, *(_cells(tally) for tally in tallies)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(_HEADINGS))]
    for number, line in enumerate(cells):
        shown = "  ".join(
            cell.ljust(width) if i in (0, len(_HEADINGS) - 1) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        screen.line(f"  {screen.paint('quiet', shown.rstrip()) if number == 0 else shown.rstrip()}")
    changes = iter(changes)
    first = next(changes, None)
    if first is None:
        return
    screen.line()
    for change in chain((first,), changes):
        _line(screen, reader, differ, change)


def _cells(tally: Tally) -> tuple[str, ...]:
    numbers = (tally.old, tally.new, tally.alike, *(tally.kinds[kind] for kind in KINDS))
    took = f"{duration(tally.old_took)} -> {duration(tally.new_took)}"
    return (clipped(tally.name, 32), *(str(number) if number else "." for number in numbers), took)


def _line(screen: Screen, reader: JournalReader, differ: Differ, change: Change) -> None:
    old, new = change.pair.old, change.pair.new
    ids = " ".join(one.key.hex()[:7] for one in (old, new) if one is not None)
    mark = {ONLY_OLD: "-", ONLY_NEW: "+"}.get(change.kinds[0], "~")
    screen.line(f"{mark} {facts.call(reader, reader.task_run(change.call.row))}  {ids}")
    for kind in change.kinds:
        told = _told(reader, differ, change, kind)
        if told:
            screen.line(f"    {screen.paint('quiet', kind.ljust(7))} {told}")


def _told(reader: JournalReader, differ: Differ, change: Change, kind: str) -> str:
    old, new = change.pair.old, change.pair.new
    if old is None or new is None:
        return ""
    if kind == INPUTS:
        found = differ.inputs(change.pair)
        if found is None:
            return "differ; only their digest is recorded" if by_digest_only(new.inputs) else "differ"
        return ", ".join(safe(str(one)) for one in found)
    if kind == RESULT:
        left, right = (preview(reader, one.result, _VALUE) or "none" for one in (old, new))
        return f"{left} -> {right}" + (" (only the recorded bytes tell them apart)" if left == right else "")
    if kind == SOURCE:
        return ", ".join(map(safe, differ.source(change.pair)))
    if kind == STATE:
        return f"{safe(reader.state(old.state).name)} -> {safe(reader.state(new.state).name)}"
    return f"{duration(old.took)} -> {duration(new.took)}"


def _parameters(reader: JournalReader, old: FlowRun, new: FlowRun) -> list[Any] | None:
    return differences(*(reader.rows(queries.PARAMETERS, run.row)[0][0] for run in (old, new)))


def _document(
    reader: JournalReader,
    differ: Differ,
    old: FlowRun,
    new: FlowRun,
    tallies: Iterable[Tally],
    changes: Iterable[Change],
) -> None:
    parameters = _parameters(reader, old, new)
    head = {
        "schema": document.SCHEMA,
        "journal": str(reader.path),
        "old": document.flow_facts(old),
        "new": document.flow_facts(new),
        "parameters": None if parameters is None else [one._asdict() for one in parameters],
        **({"not_compared": dict(zip(("old", "new"), differ.left, strict=True))} if any(differ.left) else {}),
        "tasks": [
            {
                "task": tally.name,
                "old": tally.old,
                "new": tally.new,
                "alike": tally.alike,
                **{kind.replace(" ", "_"): tally.kinds[kind] for kind in KINDS},
                "seconds": {"old": tally.old_took / 1e6, "new": tally.new_took / 1e6},
            }
            for tally in tallies
        ],
    }
    document.written(head, "entries", (_entry(reader, differ, one) for one in changes))


def _entry(reader: JournalReader, differ: Differ, change: Change) -> dict[str, Any]:
    old, new = change.pair.old, change.pair.new
    inputs = differ.inputs(change.pair)
    return {
        "differs_in": [kind.replace(" ", "_") for kind in change.kinds],
        "matched_by": "identity" if change.pair.same else None if old is None or new is None else "position",
        "inputs": None if inputs is None else [one._asdict() for one in inputs],
        "source": differ.source(change.pair),
        "results": {
            name: None if one is None or one.result is None else preview(reader, one.result, _VALUE)
            for name, one in (("old", old), ("new", new))
        },
        "old": None if old is None else document.task_facts(reader, reader.task_run(old.row)),
        "new": None if new is None else document.task_facts(reader, reader.task_run(new.row)),
    }
