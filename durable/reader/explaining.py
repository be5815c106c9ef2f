"""Why each task run of a flow run ran, or from where its result came.

What was recorded has the first word (`task_run.reason`, the message of a Running transition). Then comes what the
transitions tell: a process that died, a failure, a value that was not kept. Last, for what ran for the first time and
says nothing, the same call of an earlier run of the flow: its arguments, its source, its policy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from durable.phrases import duration
from durable.reader import queries
from durable.reader.calls import (
    Call,
    by_digest_only,
    call,
    calls_in,
    calls_of_task,
    changed_parts,
    differences,
    source_of,
)
from durable.reader.comparing import Comparison, Side, members
from durable.reader.forking import Line
from durable.reader.history import Transition, transitions
from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun
from durable.reader.plain import plain_and_others, recurring
from durable.reader.standing import STARTS

RAN: Final = "ran"
AGAIN: Final = "ran again"
REPLAYED: Final = "replayed"
CACHED: Final = "cached"
NOT_RUN: Final = "did not run"

_RUNNING: Final = 5
_SAID: Final = ("cut off", "interrupted")  # how the engine begins the reason of a run that a process left behind

When = Callable[[int], str]
Memo = Callable[[Call], frozenset[str] | None]


class Origin(NamedTuple):
    """Where a result came from: row of the task run that computed it, and in which flow run."""

    task_run: int | None
    flow_run: int | None


class Verdict(NamedTuple):
    """What is said of one task run.

    Attributes:
        word: `RAN`, `AGAIN`, `REPLAYED`, `CACHED` or `NOT_RUN`.
        reasons: sentences, the deciding one first.
        kind: what verdicts that are counted together have in common.
        origin: of what was cached.
        executions: in which executions of the flow run its body began, counted from 1.
    """

    call: Call
    word: str
    reasons: tuple[str, ...]
    kind: str
    origin: Origin | None = None
    executions: tuple[int, ...] = ()


class Several(NamedTuple):
    """Task runs of one task of which the same is said: what is said of the first, how many, the row of the last."""

    verdict: Verdict
    number: int
    last: int


class Explainer:
    """Explains the task runs of one flow run.

    Attributes:
        left: after `together`: how many task runs were not looked at.

    Args:
        earlier: the run of the same flow that it is compared with; None: there is none.
        when: tells a moment.
        memo: what the policy counts that a completed call has its cache key from, as far as it is known; None: it
            reuses no result of another run.
    """

    def __init__(self, reader: JournalReader, run: FlowRun, earlier: FlowRun | None, when: When, memo: Memo) -> None:
        self.reader = reader
        self.run = run
        self.earlier = earlier
        self.left = 0
        self._line = Line(reader, run.row)
        self._when = when
        self._memo = memo
        self._begun: dict[int, list[tuple[int, int]]] = {}  # by flow run: process and time of each execution
        self._sources: dict[tuple[int, int], list[str]] = {}

    def every(self) -> Iterator[Verdict]:
        """Each task run of the flow run and its subflows, roughly in the order they began."""
        if self.earlier is None:
            for member in self.reader.family(self.run.row):
                for found in calls_in(self.reader, member):
                    yield self.verdict(found, None, same=False)
            return
        yield from self._compared(Comparison(self.reader, self.earlier.row, self.run.row))

    def together(self, most: int) -> Iterator[Verdict | Several]:
        """The same with plain calls counted together. The first `most` are compared with the earlier run's; of the
        others as many are looked at one by one.
        """
        self.left = -1
        seen = 0
        for one in self._together(most):
            seen += one.number if isinstance(one, Several) else 1
            yield one
        if self.left:
            family = self.reader.family(self.run.row)
            self.left = max(0, sum(self.reader.rows(queries.COUNT_CALLS, row)[0][0] for row in family) - seen)

    def named(self, word: str, rows: frozenset[int], most: int) -> Iterator[Verdict]:
        """What is said of the runs of the task called so, and of some others; the first `most` calls of all are
        compared with the earlier run's.
        """
        if self.earlier is None:
            for member in self.reader.family(self.run.row):
                for found in calls_of_task(self.reader, member, 0, word, rows):
                    yield self.verdict(found, None, same=False)
            return
        comparison = Comparison(self.reader, self.earlier.row, self.run.row, most)
        for one in self._compared(comparison):
            if one.call.row in rows or self.reader.task(one.call.task)[1] == word:
                yield one
        for rest in comparison.rest:
            if rest.new is not None:
                side = Side(self.reader, rest.old, rest.new) if rest.old is not None else None
                for found in calls_of_task(self.reader, rest.new, rest.new_after, word, rows):
                    yield self._beyond(found, side)

    def one(self, found: Call, most: int) -> Verdict:
        """What is said of one task run; it is looked for among the first `most` calls, if the earlier run has no equal
        one.
        """
        if self.earlier is None or found.reason or not found.executed:
            return self.verdict(found, None, same=False)
        for old, new in members(self.reader, self.earlier.row, self.run.row):
            if new == found.flow_run:
                equal = Side(self.reader, old, new).equal(found) if old is not None and new is not None else None
                if equal is not None:
                    return self.verdict(found, equal, same=True)
                break
        comparison = Comparison(self.reader, self.earlier.row, self.run.row, most)
        for old_call, new_call, same in comparison.pairs():
            if new_call is not None and new_call.row == found.row:
                return self.verdict(found, old_call, same=same)
        return self.verdict(found, None, same=False, compared=False)

    def _compared(self, comparison: Comparison) -> Iterator[Verdict]:
        for old, new, same in comparison.pairs():
            if new is not None:
                yield self.verdict(new, old, same=same)

    def _together(self, most: int) -> Iterator[Verdict | Several]:
        looked = 0
        parts: list[tuple[int, int, Side | None, bool]] = []
        if self.earlier is None:
            parts = [(member, 0, None, True) for member in self.reader.family(self.run.row)]
        else:
            comparison = Comparison(self.reader, self.earlier.row, self.run.row, most)
            yield from self._compared(comparison)
            for rest in comparison.rest:
                if rest.new is not None:
                    side = Side(self.reader, rest.old, rest.new) if rest.old is not None else None
                    waiting = (call(self.reader, row) for row in rest.new_waiting)
                    yield from (self._beyond(found, side) for found in waiting if found is not None)
                    parts.append((rest.new, rest.new_after, side, side is None))
        for member, after, side, compared in parts:
            known: dict[tuple[int, int], Verdict] = {}
            without = recurring(self.reader.executions(self.reader.flow_run(member)))
            for found in plain_and_others(self.reader, member, after, nested=True, without=without):
                if isinstance(found, Call):
                    if looked >= most:
                        return
                    looked += 1
                    yield self._beyond(found, side)
                    continue
                kind = found.task, found.process
                if kind not in known:
                    first = call(self.reader, found.first)
                    if first is None:
                        continue
                    known[kind] = self.verdict(first, None, same=False, compared=compared)
                yield Several(known[kind], found.number, found.last)
        self.left = 0

    def _beyond(self, found: Call, side: Side | None) -> Verdict:
        """What is said of a task run that was not compared by its position; None: there is nothing to compare with."""
        if side is None:
            return self.verdict(found, None, same=False)
        old = side.equal(found)
        return self.verdict(found, old, same=old is not None, compared=old is not None)

    def verdict(self, found: Call, old: Call | None, *, same: bool, compared: bool = True) -> Verdict:
        """What is said of one task run; `old` is its match in the earlier run, `same` that it is the same call.
        `compared` says whether one was looked for.
        """
        if not found.executed:
            return self._not_executed(found)
        history = [Transition(0, found.first_state, found.started, found.first_process, None, None, None, None)]
        if found.seq == 1:
            history.append(
                Transition(1, found.state, found.at, found.process, found.message, found.result, None, found.size)
            )
        elif found.seq:
            history += transitions(self.reader, found.row)
        starts = [i for i, one in enumerate(history) if one.state in STARTS]
        executions = tuple(dict.fromkeys(self._execution(found, history[i]) for i in starts))
        again = [i for i in starts[1:] if history[i].state == _RUNNING]
        reasons: list[str] = []
        if again:
            reasons.append(self._again(history, again[-1]))
        total = len(self._executions(found))
        ended = self.reader.state(found.state)
        if ended.type == "COMPLETED" and ended.name != "RolledBack" and executions and executions[-1] < total:
            owner = self._owner(history[starts[-1]].process)
            told = f"recorded by execution {executions[-1]} ({owner}), not run since"
            return Verdict(found, REPLAYED, (told, *reasons), REPLAYED, None, executions)
        if again:
            return Verdict(found, AGAIN, tuple(reasons), reasons[0].partition(":")[0], None, executions)
        recorded = found.reason or (history[starts[0]].message if starts else None)
        reasons = [recorded] if recorded else self._first(found, old, same=same, compared=compared)
        if found.seq > 1 and len(starts) > 1:
            reasons.append(f"{len(starts)} attempts")
        kind = reasons[0].partition(":")[0] if not reasons[0].startswith("source changed") else reasons[0]
        return Verdict(found, RAN, tuple(reasons), kind, None, executions)

    def _not_executed(self, found: Call) -> Verdict:
        state = self.reader.state(found.state)
        if state.name != "Cached":
            told = f"{state.name}: {found.message}" if found.message else f"{state.name}, and not begun"
            return Verdict(found, NOT_RUN, (told,), state.name)
        origin = self.origin(found)
        if origin.task_run is None:
            return Verdict(found, CACHED, ("which task run computed the result is not recorded",), CACHED, origin)
        computed = call(self.reader, origin.task_run)
        where = f"task run {computed.key.hex()[:7]}" if computed is not None else "a task run that is gone"
        run = self.reader.flow_run(origin.flow_run) if origin.flow_run is not None else None
        of = f" of {run.flow} {run.id[:7]}" if run is not None else " outside any flow"
        at = f", computed {self._when(computed.at)}" if computed is not None else ""
        return Verdict(found, CACHED, (f"from {where}{of}{at}",), f"{CACHED}{origin.flow_run}", origin)

    def origin(self, found: Call) -> Origin:
        """Whose result a cached task run has."""
        rows = self.reader.rows(queries.RESULT_OWNER, found.result) if found.result is not None else []
        row = rows[0][0] if rows else None
        if row is None and found.result is not None:  # only results that have a cache key say whose they are
            row = self._line.origin(found)
        computed = call(self.reader, row) if row is not None else None
        return Origin(row, computed.flow_run if computed is not None else None)

    def _again(self, history: list[Transition], at: int) -> str:
        """Why a body that had begun before began again."""
        before = history[at - 1]
        said = history[at].message
        state = self.reader.state(before.state)
        last = next((one for one in reversed(history[:at]) if one.state in STARTS), before)
        if state.type in ("CRASHED", "RUNNING", "SCHEDULED") and (said is None or said.startswith(_SAID)):
            if before.process != last.process or state.type != "CRASHED":
                return f"cut off: {self._owner(last.process)} died while it ran"
            return f"interrupted: {self._owner(last.process)} said: {before.message or state.name}"
        if said:
            return said
        if state.type == "FAILED":
            return f"previous failed: {before.message or state.name}"
        if state.name == "RolledBack":
            return "rolled back"
        if state.type == "COMPLETED" and before.result is None:
            return "not kept: no result was recorded, as with persist_result=False or cache_policy=NONE"
        return f"after {state.name}: the reason is not recorded"

    def _first(self, found: Call, old: Call | None, *, same: bool, compared: bool) -> list[str]:
        """Why a call ran for the first time of which nothing is recorded."""
        if self.earlier is None:
            return [f"it had never run: there is no earlier run of {self.run.flow}"]
        name = f"run {self.earlier.id[:7]}"
        if not compared:
            return [f"not compared with {name}: calls so late in a run are with --all"]
        if old is None:
            return [f"new: {name} made no such call"]
        return self._same_call(found, old, name) if same else self._other_arguments(found, old, name)

    def _other_arguments(self, found: Call, old: Call, name: str) -> list[str]:
        changed = differences(old.inputs, found.inputs)
        if changed:
            return [f"inputs changed: {', '.join(map(str, changed))} (since {name})"]
        if changed is None and by_digest_only(found.inputs):
            told = "not changed" if old.inputs == found.inputs else "changed"
            return [f"inputs {told} since {name}: only their digest is recorded (record_inputs=False)"]
        return [f"called in another place than in {name}, with the same arguments"]

    def _same_call(self, found: Call, old: Call, name: str) -> list[str]:
        source = self._source_change(old, found)
        state = self.reader.state(old.state)
        if state.type != "COMPLETED":
            return [f"the same call in {name} had not completed: {state.name}"]
        if old.result is None:
            return [f"the same call in {name} kept no result"]
        since = [f"source changed since: {source}"] if source else []
        theirs, mine = self._memo(old), self._memo(found)
        unknown = found.result is None or self.reader.state(found.state).type != "COMPLETED"
        if (mine is None and not unknown) or theirs is None:
            told = (
                f"its policy reuses no result of another run (cache_policy=INPUTS: also that of {name})"
                if mine is None and not unknown
                else f"the policy in {name} kept the result to that run (cache_policy=INPUTS: also for others)"
            )
            return [f"a new run: {told}", *since, f"it took {duration(old.took)} there"]
        if mine is None:
            return [
                f"the result in {name} was not used: under which key this call looked for one is not recorded",
                *since,
            ]
        if old.cache_key == found.cache_key:
            if old.expires is not None and old.expires <= found.started:
                return [f"expired: {self._when(old.expires)}, in {name}"]
            return [f"the result in {name} was there: refresh_cache, or it could not be used"]
        if source and "task_source" in mine:
            return [f"source changed: {source} (since {name})"]
        told = "its policy counts the run, the flow's parameters or a key of its own"
        return [f"another cache key than in {name}: {told}", *since]

    def _source_change(self, old: Call, new: Call) -> str:
        """The functions and constants that differ between the sources of two calls."""
        if old.source == new.source:
            return ""
        if (old.source, new.source) not in self._sources:
            left, right = source_of(self.reader, old.source), source_of(self.reader, new.source)
            self._sources[old.source, new.source] = changed_parts(left, right) if left.digest != right.digest else []
        return ", ".join(self._sources[old.source, new.source])

    def _executions(self, found: Call) -> list[tuple[int, int]]:
        row = found.flow_run or self.run.row
        if row not in self._begun:
            run = self.reader.flow_run(row)
            self._begun[row] = [(one.process.row, one.started) for one in self.reader.executions(run)]
        return self._begun[row]

    def _execution(self, found: Call, start: Transition) -> int:
        """In which execution of its flow run an attempt began."""
        begun = self._executions(found)
        mine = [n for n, (process, at) in enumerate(begun, 1) if process == start.process and at <= start.at]
        return mine[-1] if mine else next((n for n, (p, _) in enumerate(begun, 1) if p == start.process), 1)

    def _owner(self, row: int) -> str:
        process = self.reader.process(row)
        return f"process {process.pid} on {process.host}"


def earlier_run(reader: JournalReader, run: FlowRun) -> FlowRun | None:
    """The run a flow run is compared with: the one it was forked from, or the newest earlier one of the same flow."""
    ((_, flow, _, _, _, forked, _),) = reader.rows(queries.FLOW_RUN_EXTRAS, run.row)
    if forked is not None:
        return reader.flow_run(forked)
    found = reader.rows(queries.EARLIER_RUN, run.row, flow)
    return reader.flow_run(found[0][0]) if found else None
