"""The task runs that a page shows one by one, and the tree of calls, as JSON for its script.

Positions are those of `durable.cli.page.axis`, durations microseconds. A task run is a dict with the members
``id``, ``task``, ``call``, ``status``, ``at`` (ISO 8601), ``began`` (microseconds after the run began), ``took``,
``tries``, ``lane``, ``bars`` (positions of its attempts), and, where there is something to say, ``name``, ``message``,
``error`` (with ``traceback``), ``history``, ``reason``, ``version``, ``yielded``, ``waited``, ``bytes``, ``upstream``,
``parent``. A node of the tree has ``depth``, ``status``, ``calls`` and either ``run`` (a place in the list of task
runs) or ``call``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, Final

from durable.cli import facts
from durable.cli.page.gather import BAD, Profile
from durable.cli.page.room import Room
from durable.reader import FlowRun, JournalReader, Node, TaskRun, collapsed, every, sql
from durable.reader.alike import ALIKE
from durable.reader.spans import Span
from durable.reader.spread import Spread

_NODES: Final = 6000
_DEPTH: Final = 60
_TRACEBACKS: Final = 60
_TRACEBACK: Final = 6000  # characters
_UPSTREAM: Final = 12
_HISTORY: Final = 24
_ENTRY: Final = 80  # bytes of one of these, without its text
_NEEDS_HISTORY: Final = frozenset({*BAD, "cancelled", "waiting", "retrying"})


class Details:
    """Makes both lists; the tree refers to the task runs by their place.

    Attributes:
        runs: the task runs.
        nodes: the tree, parents first.
        cut: how many nodes at least were left out.
    """

    def __init__(self, profile: Profile, room: Room) -> None:
        self._profile = profile
        self._reader: JournalReader = profile.reader
        self._room = room
        self._tracebacks = _TRACEBACKS
        self._spans = profile.chosen
        self._places: dict[int, int] = {}
        self.runs: list[dict[str, Any]] = []
        self.nodes: list[dict[str, Any]] = []
        self.cut = False
        # Failures first: they are what the room is for.
        for row, span in sorted(self._spans.items(), key=lambda item: item[1].status not in BAD):
            self._places[row] = len(self.runs)
            self.runs.append(self._run(self._reader.task_run(row), span))
        for found in self.runs:
            for each in found.get("upstream", ()):
                each["run"] = self._places.get(each.pop("row"))
            parent = found.pop("parent_row", None)
            if parent in self._places:
                found["parent"] = self._places[parent]
        walk = every if profile.whole else collapsed
        self._tree(walk(self._reader, profile.run))

    def _run(self, run: TaskRun, span: Span) -> dict[str, Any]:
        line, axis = self._room.line, self._profile.axis
        took = span.last[1] - span.last[0] if span.last is not None else None
        found: dict[str, Any] = {
            "id": run.id,
            "task": line(run.task, 80),
            "call": line(facts.call(self._reader, run), 240),
            "status": run.status,
            "at": facts.iso(span.started),
            "began": span.started - self._profile.stretches.spans[0][0],
            "took": took,
            "tries": span.tries,
            "lane": line(self._profile.lane_of(span), 60),
            "bars": [[round(axis.at(begin)), round(axis.at(end))] for begin, end in span.attempts],
            "parent_row": span.parent,
        }
        if run.name:
            found["name"] = line(run.name, 80)
        if run.message and run.status not in ("ok", "cached"):
            found["message"] = line(run.message, 300)
        if span.waited:
            found["waited"] = span.waited
        if run.result_bytes is not None and run.status in ("ok", "cached"):
            found["bytes"] = run.result_bytes
        if span.tries > 1 or run.status in _NEEDS_HISTORY:
            found["history"] = self._history(run)
        if run.status in ("failed", "timed out"):
            self._error(run, found)
        if self._reader.version > 1:
            self._newer_facts(run, found)
        return found

    def _history(self, run: TaskRun) -> list[dict[str, Any]]:
        return [
            {"state": self._room.line(self._reader.state(state).name, 40), "at": facts.iso(at)}
            | ({"message": self._room.line(message, 200)} if message else {})
            for state, at, message in self._reader.rows(sql.HISTORY, run.row, _HISTORY)
            if self._room.takes(_ENTRY)
        ]

    def _error(self, run: TaskRun, found: dict[str, Any]) -> None:
        if self._tracebacks <= 0:
            return
        failure = self._reader.failure(run)
        if failure is not None:
            self._tracebacks -= 1
            found["error"] = self._room.line(f"{failure.type_name}: {failure.message}", 300)
            found["traceback"] = self._room.lines(failure.traceback, _TRACEBACK)

    def _newer_facts(self, run: TaskRun, found: dict[str, Any]) -> None:
        for reason, version, worker, yielded in self._reader.rows(sql.REASON, run.row):
            for name, value in (("reason", reason), ("version", version), ("worker", worker)):
                if value:
                    found[name] = self._room.line(value, 200)
            if yielded:
                found["yielded"] = yielded
        upstream = [
            {"row": row, "id": key.hex(), "argument": self._room.line(argument, 60)}
            for row, key, argument in self._reader.rows(sql.UPSTREAM, run.row, _UPSTREAM)
            if self._room.takes(_ENTRY)
        ]
        if upstream:
            found["upstream"] = upstream

    # The tree.

    def _tree(self, nodes: Iterator[Node]) -> None:
        known: list[Node] = []
        try:
            known.extend(islice(nodes, _NODES + 1))
        except RecursionError:  # calls nested as deeply as only a file made by hand has them
            self.cut = True
        self.cut = self.cut or len(known) > _NODES
        self._siblings(known[:_NODES], 0)

    def _siblings(self, nodes: list[Node], depth: int) -> None:
        """Write what one call made, in order; four or more equal calls as one node with each of them below it."""
        families = list(_families(nodes))
        alike: dict[object, list[list[Node]]] = {}
        for family in families:
            alike.setdefault(_kind(family[0]), []).append(family)
        for family in families:
            same = alike[_kind(family[0])]
            if len(same) < ALIKE:
                self._family(family, depth)
            elif same[0] is family:
                self.nodes.append(self._group([each[0] for each in same], depth))
                for each in same:
                    self._family(each, depth + 1)

    def _family(self, family: list[Node], depth: int) -> None:
        first, *below = family
        self.nodes.append(self._node(first, depth))
        if depth < _DEPTH:
            self._siblings(below, depth + 1)
        elif below:
            self.cut = True

    def _node(self, node: Node, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {"depth": depth, "status": node.status, "calls": node.calls}
        place = self._places.get(node.first.row) if isinstance(node.first, TaskRun) else None
        if node.calls == 1 and place is not None:
            return {**found, "run": place}
        found["call"] = self._room.line(facts.call(self._reader, node.first, node.last), 240)
        if node.calls > 1:
            found["retried"] = node.retried
            if node.times is not None:
                found["times"] = list(node.times)
        else:
            found["id"] = node.first.id
            found["took"] = node.first.took
            if node.first.message and node.status not in ("ok", "cached"):
                found["message"] = self._room.line(node.first.message, 300)
        return found

    def _group(self, nodes: list[Node], depth: int) -> dict[str, Any]:
        spread = Spread()
        for node in nodes:
            took = _took(node)
            if took is not None:
                spread.add(took)
        times = spread.times()
        return {
            "depth": depth,
            "status": nodes[0].status,
            "calls": len(nodes),
            "call": self._room.line(facts.call(self._reader, nodes[0].first, nodes[-1].first), 240),
            "retried": sum(node.retried for node in nodes),
        } | ({"times": list(times)} if times is not None else {})


def _families(nodes: Iterable[Node]) -> Iterator[list[Node]]:
    """Each of the topmost nodes with all that are below it."""
    family: list[Node] = []
    for node in nodes:
        if family and node.depth <= family[0].depth:
            yield family
            family = []
        family.append(node)
    if family:
        yield family


def _kind(node: Node) -> object:
    first = node.first
    if node.calls > 1:
        return id(node)  # counted together already
    return (
        isinstance(first, FlowRun),
        first.function,
        first.flow if isinstance(first, FlowRun) else first.task,
        node.status,
    )


def _took(node: Node) -> int | None:
    first = node.first
    return first.took if isinstance(first, TaskRun) or first.ended is not None else None
