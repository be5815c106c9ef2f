"""``durable plan``: what running a script again would replay, and what it would execute."""

from __future__ import annotations

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple

import click

from durable.cli import document, facts
from durable.cli.choosing import LATEST, flow_run_of, opened, split, title
from durable.cli.completing import runs_complete
from durable.cli.exits import NO_SUCH, NOT_COMPLETED, Stopped
from durable.cli.policy import policy_of
from durable.cli.terminal import Colour, Screen, clipped, note
from durable.clock import clock
from durable.phrases import counted, duration, safe
from durable.policies import CachePolicy
from durable.reader import FlowRun, JournalReader, queries
from durable.reader.calls import Call, Source, source_of
from durable.reader.planning import (
    INSIDE,
    PERHAPS,
    RAISE,
    REPLAY,
    RUN,
    Divergence,
    Facts,
    Order,
    Plan,
    Several,
    Step,
)
from durable.sourcefile import CHANGED, GONE, SAME, UNKNOWN, Compared, Files

_WORDS: Final = (RUN, PERHAPS, RAISE, REPLAY, INSIDE)
_COLOURS: Final = {REPLAY: "ok", RUN: "running", PERHAPS: "running", RAISE: "failed", INSIDE: "quiet"}
_TOTALS: Final = {RUN: "to run", PERHAPS: "may run", RAISE: "to raise", REPLAY: "to replay", INSIDE: "not asked for"}
_REASON: Final = 200
_GROUPS: Final = 1000
_LOOKED_AT: Final = 50_000  # calls that are looked at one by one, unless all are asked for


class _Group:
    """Steps of one task that are the same; `last` is the row of the last call."""

    __slots__ = ("count", "first", "last", "took")

    def __init__(self, step: Step) -> None:
        self.count = self.took = 0
        self.first = step
        self.last = step.call.row

    def add(self, several: Several) -> None:
        self.count += several.number
        self.took += several.took
        self.last = several.last


class _Changed(NamedTuple):
    """One version of a task that has completed runs in this run, compared with its file."""

    source: Source
    runs: int
    parts: list[Compared]
    counts: bool  # whether a policy counts it


@click.command(name="plan")
@click.argument("words", metavar="[DB or SCRIPT.py] [RUN]", nargs=-1, shell_complete=runs_complete)
@click.option("--all", "everything", is_flag=True, help="Each call by itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: schema/cli/plan.schema.json.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything would run.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def plan(words: tuple[str, ...], *, everything: bool, as_json: bool, exit_code: bool, colour: Colour) -> None:
    """Tell what running a script again would replay and what it would execute. Nothing is executed or imported.

    DB is the journal's file; without it the one that is set (by DURABLE_JOURNAL, say), else runs.db. With SCRIPT.py it
    is that one too, and the newest run of a flow of that script is meant unless RUN says otherwise. RUN is the
    beginning of a flow run's id, or "-" for the newest.

    \b
    What would happen to a call:
      run      executed again: it was cut off, had failed, was not kept
      may run  cannot be told from here
      raise    its recorded failure is history and raises again
      replay   its recorded result is given
      inside   not asked for: what called it is replayed

    The script's file is parsed, not run, and compared with what was recorded of each task's source. A completed task is
    replayed though its source changed, unless its policy counts the source (DEFAULT + TASK_SOURCE). Of long runs 50,000
    calls are looked at one by one, beside those that simply completed, unless --all or --exit-code asks for all.

    \b
    What cannot be known without running it:
      - which calls the script will make: those told are the ones that
        it made; new ones run
      - whether the parameters will be the same: others are another run
      - cache_policy=NONE and on_interrupt="fail", which are not
        recorded: such tasks run again, or refuse to
      - lambdas, computed constants, functions made by others: "unknown"
      - what an execution replayed: it is recorded only what it ran, so
        of its order only departures are seen

    \b
    Exit codes:
      0  told
      1  with --exit-code: something would run
      2  wrong usage
      3  no such file or run, or the file is no journal
      4  another process keeps the journal locked
      5  the journal is damaged
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    script = Path(words[0]) if words and words[0].endswith(".py") else None
    journal, rest = (None, list(words[1:])) if script is not None else split(words, ("RUN",))
    if script is not None and not script.is_file():
        raise Stopped(NO_SUCH, f"{script}: there is no such file")
    with opened(journal, whole="plan") as reader:
        run = _run(reader, script, rest[0] if rest else None)
        files = _files(run, script)
        found = _Planned(reader, run, files)
        groups, sources, left = found.folded(None if everything or exit_code else _LOOKED_AT)
        shown: Iterable[tuple[int, Step, int]] = (
            ((1, step, step.call.row) for step in found.plan.every())
            if everything
            else [(group.count, group.first, group.last) for group in groups]
        )
        if as_json:
            _document(reader, found, groups, sources, left, shown)
        else:
            _text(Screen(colour), reader, found, groups, sources, left, shown)
    if exit_code and any(group.first.word in (RUN, PERHAPS) for group in groups):
        raise Stopped(NOT_COMPLETED)


def _run(reader: JournalReader, script: Path | None, name: str | None) -> FlowRun:
    if name is not None or script is None:
        return flow_run_of(reader, name or LATEST)
    rows = reader.rows(queries.NEWEST_RUN_OF, f"{_module(script)}:")
    if not rows:
        raise Stopped(NO_SUCH, f"{reader.path}: no flow of {script} was run yet. See `durable inspect`")
    return reader.flow_run(rows[0][0])


def _module(script: Path) -> str:
    return script.resolve().parent.name if script.stem == "__main__" else script.stem


def _files(run: FlowRun, script: Path | None) -> Files | None:
    """Where the sources lie: the script that is named, or the one that the run's process was started with."""
    folder = Path(run.process.folder)
    if script is not None:
        return Files(script.resolve(), [folder])
    try:
        words = json.loads(run.process.command)
        started = folder / str(words[0])
    except (ValueError, LookupError, TypeError, RecursionError):
        return None
    return Files(started, [folder]) if "\0" not in str(started) else None


class _Planned:
    """A plan, with what the files say."""

    def __init__(self, reader: JournalReader, run: FlowRun, files: Files | None) -> None:
        self.reader = reader
        self.run = run
        self.files = files
        self._sources: dict[int, Source] = {}
        self._compared: dict[int, list[Compared]] = {}
        self.plan = Plan(reader, run, Facts(self._memo, self._counts_source, self._changed, clock().now()))

    def folded(self, most: int | None) -> tuple[list[_Group], list[_Changed], Divergence | None]:
        """The steps, equal ones of one task together, what runs first; the sources of what completed; and where the
        order was left.
        """
        groups: dict[tuple[int, str, str], _Group] = {}
        versions: dict[int, tuple[int, bool]] = {}
        order = Order(self.reader, self.run)
        for found in self.plan.together(order, most):
            several = found if isinstance(found, Several) else Several(found, 1, found.call.row, found.call.took)
            step = several.step
            key = (step.call.task, step.word, step.reason.partition(":")[0])
            if key not in groups and len(groups) >= _GROUPS:
                key = (step.call.task, step.word, "")
            if key not in groups:
                groups[key] = _Group(step)
            groups[key].add(several)
            if self.reader.state(step.call.state).type == "COMPLETED":
                runs, counts = versions.get(step.call.source, (0, False))
                counts = counts or (step.call.cache_key is not None and self._counts_source(step.call))
                versions[step.call.source] = (runs + several.number, counts)
        ordered = sorted(groups.values(), key=lambda group: (_WORDS.index(group.first.word), group.first.call.row))
        sources = [
            _Changed(self._source(row), runs, self._parts(row), counts) for row, (runs, counts) in versions.items()
        ]
        return ordered, sources, order.divergence()

    def _source(self, row: int) -> Source:
        return self._sources.get(row) or self._sources.setdefault(row, source_of(self.reader, row))

    def _parts(self, row: int) -> list[Compared]:
        if row not in self._compared:
            parts = self._source(row).parts
            self._compared[row] = (
                self.files.compare(parts) if self.files is not None else [Compared(name, UNKNOWN) for name in parts]
            )
        return self._compared[row]

    def _changed(self, row: int) -> bool | None:
        verdicts = {part.verdict for part in self._parts(row)}
        if verdicts & {CHANGED, GONE}:
            return True
        return False if verdicts == {SAME} else None

    def _policy(self, found: Call) -> CachePolicy | None:
        return policy_of(self.reader, found.cache_key, self._source(found.source), found.inputs, found.flow_run)

    def _memo(self, found: Call) -> bool | None:
        policy = self._policy(found)
        return None if policy is None else policy.is_memo and "run_id" not in policy.components

    def _counts_source(self, found: Call) -> bool:
        policy = self._policy(found)
        return policy is not None and policy.needs_source


def _how(run: FlowRun) -> str:
    if run.completed:
        return "it completed: the script begins a new run (with its idempotency key, its result is given)"
    if run.type == "CANCELLED":
        return "it was cancelled: the script begins a new run"
    if run.ended is None:
        return "it is running, as far as can be told: this is what would happen if it died now"
    if clock().now() - run.ended > facts.RESUME_WITHIN and run.idempotency_key is None:
        return f"the script continues it with DURABLE_RESUME={run.id[:7]}: it ended more than 12 hours ago"
    return "the script continues it, if it is called with the same parameters"


def _text(
    screen: Screen,
    reader: JournalReader,
    found: _Planned,
    groups: list[_Group],
    sources: list[_Changed],
    left: Divergence | None,
    shown: Iterable[tuple[int, Step, int]],
) -> None:
    run = found.run
    screen.line(f"{screen.paint('title', title(run))}  {screen.paint(run.state, safe(run.state))}")
    screen.line(f"  {_how(run)}\n")
    totals = _totals(groups)
    for count, first, last in shown:
        several = f"x{count}  " if count > 1 else ""
        told = facts.call(reader, reader.task_run(first.call.row), reader.task_run(last))
        word = screen.paint(_COLOURS[first.word], first.word.ljust(8))
        line = f"  {word}  {clipped(several + told, 60).ljust(48)}  {first.call.key.hex()[:7]}"
        screen.line(f"{line}  {clipped(first.reason, _REASON)}".rstrip())
    if not groups:
        screen.line("  It called no task.")
    saved = sum(group.took for group in groups if group.first.word == REPLAY)
    if groups:
        told = ", ".join(f"{number} {_TOTALS[word]}" for word, number in totals.items())
        screen.line(f"\n{told}" + (f"; {duration(saved)} of work saved" if found.plan.continues else ""))
    _source_text(screen, found, sources)
    if left is not None:
        told = facts.call(reader, reader.task_run(left.call.row))
        screen.line(f"\nOrder: first divergence at {told} {left.call.key.hex()[:7]}: {safe(left.text)}")
    if any(count > 1 for count in (group.count for group in groups)):
        note("calls with the same prospects are shown together: --all shows each")
    if found.plan.left:
        note(f"{counted(found.plan.left, 'call')} not looked at: --all looks at each")


def _totals(groups: list[_Group]) -> dict[str, int]:
    totals = {word: sum(group.count for group in groups if group.first.word == word) for word in _WORDS}
    return {word: number for word, number in totals.items() if number}


def _source_text(screen: Screen, found: _Planned, sources: list[_Changed]) -> None:
    if not sources:
        return
    where = safe(str(found.files.script)) if found.files is not None else "its script is not known"
    screen.line(f"\nSource: {where}, compared without running it")
    same = 0
    for one in sources:
        by_verdict = {
            verdict: [safe(part.name.partition(":")[2] or part.name) for part in one.parts if part.verdict == verdict]
            for verdict in (CHANGED, GONE, UNKNOWN)
        }
        told = [f"{verdict}: {', '.join(names[:10])}" for verdict, names in by_verdict.items() if names]
        if not told:
            same += one.runs
            continue
        changed = by_verdict[CHANGED] or by_verdict[GONE]
        runs = counted(one.runs, "completed run")
        if found.plan.continues and changed and not one.counts:
            verb = "is" if one.runs == 1 else "are"
            told.append(f"{runs} {verb} replayed all the same (its policy does not count its source)")
        else:
            told.append(runs)
        screen.line(f"  {clipped(one.source.name, 40)}  {'; '.join(told)}")
    if same:
        screen.line(f"  the same for {counted(same, 'completed run')}")


def _document(
    reader: JournalReader,
    found: _Planned,
    groups: list[_Group],
    sources: list[_Changed],
    left: Divergence | None,
    shown: Iterable[tuple[int, Step, int]],
) -> None:
    head = {
        "schema": document.SCHEMA,
        "journal": str(reader.path),
        "run": document.flow_facts(found.run),
        "continues": found.plan.continues,
        "how": _how(found.run),
        "totals": {word.replace(" ", "_"): 0 for word in _WORDS}
        | {word.replace(" ", "_"): number for word, number in _totals(groups).items()},
        "seconds_saved": sum(group.took for group in groups if group.first.word == REPLAY) / 1e6,
        "script": None if found.files is None else str(found.files.script),
        "sources": [
            {
                "task": one.source.name,
                "function": one.source.function,
                "completed": one.runs,
                "counted": one.counts,
                "parts": {part.name: part.verdict for part in one.parts},
            }
            for one in sources
        ],
        **({"not_looked_at": found.plan.left} if found.plan.left else {}),
        "divergence": None
        if left is None
        else {"task": document.task_facts(reader, reader.task_run(left.call.row)), "text": left.text},
    }
    document.written(head, "entries", map(partial(_entry, reader), shown))


def _entry(reader: JournalReader, line: tuple[int, Step, int]) -> dict[str, Any]:
    count, first, last = line
    entry: dict[str, Any] = {
        "step": first.word,
        "reason": first.reason or None,
        "count": count,
        "first": document.task_facts(reader, reader.task_run(first.call.row)),
    }
    if count > 1:
        entry["last"] = document.task_facts(reader, reader.task_run(last))
    return entry
