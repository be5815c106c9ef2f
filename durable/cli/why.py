"""``durable why``: why each task run ran, or from where its result came."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

import click

from durable.cli import document, facts
from durable.cli.choosing import flow_run_of, needed, opened, tasks_of, title
from durable.cli.completing import words_complete
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.policy import memos
from durable.cli.terminal import Colour, Screen, clipped, note
from durable.phrases import counted, safe
from durable.reader import FlowRun, JournalReader
from durable.reader.calls import call
from durable.reader.explaining import AGAIN, CACHED, NOT_RUN, RAN, REPLAYED, Explainer, Several, Verdict, earlier_run

_ALIKE: Final = 4  # verdicts from which on equal ones are shown together, as in a tree
_GROUPS: Final = 1000
_COMPARED: Final = 20_000  # calls that are looked at one by one, unless all are asked for
_TOLD: Final = 1000  # runs of one task
_COLOURS: Final = {RAN: "running", AGAIN: "running", REPLAYED: "ok", CACHED: "cached", NOT_RUN: "quiet"}
_REASON: Final = 400
_ALL: Final = 1 << 62


_Line = tuple[int, Verdict, int, str]  # how many, the first, the row of the last, and the reason of that


class _Group:
    """Verdicts of one task that say the same."""

    __slots__ = ("count", "last", "members", "reason")

    def __init__(self) -> None:
        self.count = self.last = 0
        self.members: list[Verdict] = []
        self.reason = ""

    def add(self, found: Verdict | Several) -> None:
        verdict = found.verdict if isinstance(found, Several) else found
        if len(self.members) < _ALIKE:
            self.members.append(verdict)
        self.count += found.number if isinstance(found, Several) else 1
        self.last = found.last if isinstance(found, Several) else verdict.call.row
        self.reason = verdict.reasons[0]

    def shown(self) -> Iterator[_Line]:
        """Up to three by themselves, more together."""
        if self.count < _ALIKE:
            yield from map(_single, self.members)
        else:
            yield self.count, self.members[0], self.last, self.reason


def _single(one: Verdict) -> _Line:
    return 1, one, one.call.row, one.reasons[0]


@click.command(name="why")
@click.argument("words", metavar="[DB] RUN [TASK]", nargs=-1, shell_complete=words_complete)
@click.option("--with", "other", metavar="RUN", help="Compare with this run instead of the one before.")
@click.option("--all", "everything", is_flag=True, help="Each task run by itself.")
@click.option("--json", "as_json", is_flag=True, help="One JSON document: schema/cli/why.schema.json.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def why(words: tuple[str, ...], *, other: str | None, everything: bool, as_json: bool, colour: Colour) -> None:
    """Tell why each task run of a run ran, or from where its result came.

    DB is the journal's file; without it the one that is set (by DURABLE_JOURNAL, say), else runs.db. RUN is the
    beginning of a flow run's id, or "-" for the newest. TASK is the beginning of a task run's id, or the name of a
    task: then each of its runs is told by itself.

    \b
    What is said of a task run:
      ran          its body ran once, and why nothing recorded was used
      ran again    in a later execution of the run, and why
      replayed     completed in an earlier execution, and not run since
      cached       took the result of another task run, and of which
      did not run  never begun

    The recorded reason has the first word. Where none is recorded, the call is compared with the same call of the run
    before (the newest earlier run of the flow, or the one it was forked from), or with the call of the same task in the
    same position: its arguments, its source, its policy. Of long runs only the first 20,000 calls are matched by their
    position, unless --all is given. A resume writes nothing for what it replays, so "replayed"
    means kept and not run since, whether or not the script still made that call. Of long arguments, and of those of
    tasks with record_inputs=False, digests are recorded: that they differ can be told, and not in what.

    \b
    Exit codes:
      0  told
      2  wrong usage
      3  no such file or run, or the file is no journal
      4  another process keeps the journal locked
      5  the journal is damaged
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    journal, (name, *rest) = needed(words, ("RUN", "TASK"), 1)
    with opened(journal, whole="why") as reader:
        run = flow_run_of(reader, name)
        earlier = flow_run_of(reader, other) if other is not None else earlier_run(reader, run)
        screen = Screen(colour)
        explainer = Explainer(reader, run, earlier, lambda at: facts.when(at, tty=screen.tty), memos(reader))
        shown: Iterator[_Line]
        if rest:
            shown = map(_single, _chosen(reader, run, explainer, rest[0], everything=everything))
        else:
            shown = map(_single, explainer.every()) if everything else iter(_folded(explainer.together(_COMPARED)))
        if as_json:
            _document(reader, explainer, run, earlier, shown)
        else:
            _text(screen, reader, run, earlier, shown)
        if explainer.left:
            note(f"{counted(explainer.left, 'task run')} not looked at: --all looks at each")


def _chosen(
    reader: JournalReader, run: FlowRun, explainer: Explainer, word: str, *, everything: bool
) -> Iterator[Verdict]:
    """What is said of the task runs that a word means."""
    found = tasks_of(reader, run, word)
    if not found:
        raise Stopped(
            NO_SUCH, f"{reader.path}: in {title(run)} no task run or task is called {word!r}, and no id begins so"
        )
    if len(found) == 1:
        one = call(reader, found[0].row)
        return iter(() if one is None else (explainer.one(one, _ALL if everything else _COMPARED),))
    told = explainer.named(word, frozenset(one.row for one in found), _ALL if everything else _COMPARED)
    return told if everything else _first(told)


def _first(told: Iterator[Verdict]) -> Iterator[Verdict]:
    yield from islice(told, _TOLD)
    if next(told, None) is not None:
        note(f"the first {_TOLD} are told: --all tells each")


def _folded(verdicts: Iterable[Verdict | Several]) -> list[_Line]:
    """Equal verdicts of one task together, in the order the first of each began."""
    groups: dict[tuple[int, str, str], _Group] = {}
    for found in verdicts:
        one = found.verdict if isinstance(found, Several) else found
        key = (one.call.task, one.word, one.kind)
        if key not in groups and len(groups) >= _GROUPS:
            key = (one.call.task, one.word, "")
        groups.setdefault(key, _Group()).add(found)
    lines = [line for group in groups.values() for line in group.shown()]
    return sorted(lines, key=lambda line: line[1].call.row)


def _text(
    screen: Screen,
    reader: JournalReader,
    run: FlowRun,
    earlier: FlowRun | None,
    shown: Iterator[_Line],
) -> None:
    head = f"{screen.paint('title', title(run))}  {screen.paint(run.state, safe(run.state))}"
    against = f"compared with {title(earlier)}" if earlier is not None else f"the first run of {safe(run.flow)}"
    screen.line(f"{head}  {counted(run.executions, 'execution')}, {against}\n")
    hidden, nothing = False, True
    for count, first, last, reason_of_last in shown:
        nothing = False
        several = f"x{count}  " if count > 1 else ""
        told = facts.call(reader, reader.task_run(first.call.row), reader.task_run(last))
        word = screen.paint(_COLOURS[first.word], first.word.ljust(11))
        room = None if screen.width is None else max(screen.width - 24, 30)
        screen.line(f"  {word}  {clipped(several + told, room)}  {first.call.key.hex()[:7]}")
        for reason in first.reasons:
            screen.line(f"               {clipped(reason, _REASON)}")
        if count > 1 and reason_of_last != first.reasons[0]:
            screen.line(f"               .. {clipped(reason_of_last, _REASON)}")
        hidden = hidden or count > 1
    if nothing:
        screen.line("  It called no task.")
    if hidden:
        note("task runs of which the same is said are shown together: --all shows each")


def _document(
    reader: JournalReader, explainer: Explainer, run: FlowRun, earlier: FlowRun | None, shown: Iterator[_Line]
) -> None:
    head = {
        "schema": document.SCHEMA,
        "journal": str(reader.path),
        "run": document.flow_facts(run),
        "compared_with": None if earlier is None else document.flow_facts(earlier),
        **({"not_looked_at": explainer.left} if explainer.left else {}),
    }
    document.written(head, "entries", (_entry(reader, *line) for line in shown))


def _entry(reader: JournalReader, count: int, first: Verdict, last: int, _: str) -> dict[str, Any]:
    origin = None
    if first.origin is not None:
        row, flow_run = first.origin
        origin = {
            "task_run": None if row is None else reader.task_run(row).id,
            "flow_run": None if flow_run is None else reader.flow_run(flow_run).id,
        }
    entry: dict[str, Any] = {
        "verdict": first.word,
        "reasons": list(first.reasons),
        "count": count,
        "executions": list(first.executions),
        "origin": origin,
        "first": document.task_facts(reader, reader.task_run(first.call.row)),
    }
    if count > 1:
        entry["last"] = document.task_facts(reader, reader.task_run(last))
    return entry
