"""What running a script again would do with each recorded call, by the rules of `durable.recall` and `durable.resume`.

Rules:

1. A run that ended Completed or Cancelled is not continued: the script begins a new one, in which only memos are found.
2. Otherwise a completed call is replayed, unless its value was not kept, it was rolled back, or its policy asks for a
   source that is another one by now. What it called in its body is then not asked for.
3. A failure recorded after the newest failure of the flow is history, and raises again; an older one has a new chance.
4. Whatever else had begun runs again.

The policy NONE and ``on_interrupt="fail"`` are not recorded, so neither is told here.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from durable.reader import queries
from durable.reader.calls import Call, call, calls_in
from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun
from durable.reader.plain import plain_and_others, recurring
from durable.reader.standing import STARTS

REPLAY: Final = "replay"
RUN: Final = "run"
RAISE: Final = "raise"
PERHAPS: Final = "may run"
INSIDE: Final = "inside"

_REMEMBERED: Final = 1000
_DEEPEST: Final = 100
_CANCELLED: Final = ("COMPLETED", "CANCELLED")


class Facts(NamedTuple):
    """What a plan needs to know beyond the journal's rows.

    Attributes:
        memo: whether a call's result is found by other runs: its policy is a memo. None: that cannot be told.
        counts_source: whether its policy asks for the task's source.
        changed: what became of the source row a call was executed from: True: changed, None: that cannot be told.
        now: microseconds since the epoch.
    """

    memo: Callable[[Call], bool | None]
    counts_source: Callable[[Call], bool]
    changed: Callable[[int], bool | None]
    now: int


class Step(NamedTuple):
    """What is to happen to one call: `REPLAY`, `RUN`, `RAISE`, `PERHAPS`, or `INSIDE`: it is not asked for."""

    call: Call
    word: str
    reason: str


class Several(NamedTuple):
    """Calls of one task with the same step: that of the first, how many, the row of the last, how long they took."""

    step: Step
    number: int
    last: int
    took: int


class Divergence(NamedTuple):
    """Where a later execution first left the recorded order."""

    call: Call
    text: str


class Plan:
    """The plan for one flow run.

    Attributes:
        left: after `together`: how many calls were not looked at.
    """

    def __init__(self, reader: JournalReader, run: FlowRun, facts: Facts) -> None:
        self.reader = reader
        self.run = run
        self.continues = run.type not in _CANCELLED
        self.left = 0
        self._facts = facts
        self._marks: dict[int, int] = {}
        self._given: dict[int, bool] = {}  # flow run -> its end is given, so its calls are not asked for
        self._words: OrderedDict[int, str | None] = OrderedDict()

    def every(self) -> Iterator[Step]:
        """Each recorded call of the run and its subflows."""
        for member in self.reader.family(self.run.row):
            for found in calls_in(self.reader, member):
                yield self._step(found, 0) if self.continues else self._anew(found)

    def together(self, order: Order, most: int | None) -> Iterator[Step | Several]:
        """The same with plain calls counted together. `order` is shown them all.

        Args:
            most: how many calls, at most, are looked at one by one.
        """
        looked = 0
        without = recurring(self.reader.executions(self.run))
        family = self.reader.family(self.run.row)
        for number, member in enumerate(family):
            known: dict[tuple[int, int, bool], Step] = {}
            seen = 0
            for found in plain_and_others(self.reader, member, without=without):
                if isinstance(found, Call):
                    if most is not None and looked >= most:
                        self.left = sum(self.reader.rows(queries.COUNT_CALLS, row)[0][0] for row in family[number:])
                        self.left -= seen
                        return
                    looked += 1
                    seen += 1
                    order.see(found)
                    yield self._step(found, 0) if self.continues else self._anew(found)
                    continue
                kind = found.task, found.process, found.nested
                if kind not in known:
                    first = call(self.reader, found.first)
                    if first is None:
                        continue
                    known[kind] = self._step(first, 0) if self.continues else self._anew(first)
                seen += found.number
                order.see_plain(member, found.process)
                yield Several(known[kind], found.number, found.last, found.took)

    def _anew(self, found: Call) -> Step:
        if found.parent is not None:
            return Step(found, INSIDE, "if its caller runs")
        if found.cache_key is None or self.reader.state(found.state).type != "COMPLETED":
            return Step(found, RUN, "in the new run")
        memo = self._facts.memo(found)
        if memo is False:
            return Step(found, RUN, "in the new run")
        if found.expires is not None and found.expires <= self._facts.now:
            return Step(found, RUN, "in the new run: the cached result has expired")
        if memo is None:
            return Step(found, PERHAPS, "its key may be found again, if it is called so")
        return self._by_source(found, "cached, if it is called with these arguments")

    def _step(self, found: Call, depth: int) -> Step:
        return self._inside(found, depth) or self._own(found)

    def _inside(self, found: Call, depth: int) -> Step | None:
        """A call that nobody asks for, because its caller's result is given."""
        parent = found.parent if found.parent is not None and found.parent < found.row else None
        if parent is not None and depth < _DEEPEST and self._word(parent, depth + 1) in (REPLAY, RAISE, INSIDE):
            return Step(found, INSIDE, "its caller's result is given")
        if found.flow_run is not None and self._is_given(found.flow_run):
            return Step(found, INSIDE, "its subflow's result is given")
        return None

    def _word(self, row: int, depth: int) -> str | None:
        """What is to happen to a caller. Those are asked for again and again, so the newest are remembered."""
        if row not in self._words:
            found = call(self.reader, row)
            self._words[row] = None if found is None else self._step(found, depth).word
            if len(self._words) > _REMEMBERED:
                self._words.popitem(last=False)
        return self._words.get(row)

    def _own(self, found: Call) -> Step:
        state = self.reader.state(found.state)
        if state.name == "RolledBack":
            return Step(found, RUN, "rolled back")
        if state.type == "COMPLETED":
            if found.result is None:
                if self.reader.rows(queries.COUNT_YIELDS, found.row)[0][0]:
                    return Step(found, REPLAY, "what it yielded; it runs on if more is asked for")
                return Step(found, RUN, "not kept: persist_result=False")
            return self._by_source(found, "")
        if state.type == "FAILED":
            if (found.result or 0) > self._mark(found):
                return Step(found, RAISE, f"its failure is history: {found.message or state.name}")
            return Step(found, RUN, f"failed: {found.message or state.name}")
        if state.type == "CRASHED" and found.message:
            return Step(found, RUN, f"cut off: {found.message}")
        if found.state in STARTS or state.type in ("CRASHED", "RUNNING"):
            process = self.reader.process(found.process)
            return Step(found, RUN, f"cut off: process {process.pid} on {process.host} died while it ran")
        return Step(found, RUN, state.name)

    def _by_source(self, found: Call, why: str) -> Step:
        if found.cache_key is None or not self._facts.counts_source(found):
            return Step(found, REPLAY, why)
        changed = self._facts.changed(found.source)
        if changed:
            return Step(found, RUN, "source changed, which its policy counts")
        if changed is None:
            return Step(found, PERHAPS, "its policy counts its source, which cannot be compared from here")
        return Step(found, REPLAY, why)

    def _mark(self, found: Call) -> int:
        """Failures recorded up to this result have a new chance."""
        mark = self._flow_mark(found.flow_run)
        if found.parent is not None:
            rows = self.reader.rows(queries.TASK_STATES, found.parent, 10_000)
            mark = max([mark, *(row[5] for row in rows if row[5] is not None)])
        return mark

    def _flow_mark(self, flow_run: int | None) -> int:
        row, mark, seen = flow_run, 0, set[int]()
        while row is not None and row not in seen:
            seen.add(row)
            if row not in self._marks:
                ((self._marks[row],),) = self.reader.rows(queries.LAST_FAILURE, row)
            mark = max(mark, self._marks[row])
            row = self.reader.flow_run(row).parent_row
        return mark

    def _is_given(self, flow_run: int) -> bool:
        """Whether a subflow's recorded end is given, or that of a flow or task that called it."""
        if flow_run not in self._given:
            self._given[flow_run] = False  # in a damaged file a run may be its own ancestor
            run = self.reader.flow_run(flow_run)
            if run.row != self.run.row:
                caller = run.parent_task_row
                self._given[flow_run] = (
                    (run.type == "COMPLETED" and run.result_row is not None)
                    or (caller is not None and self._word(caller, 1) in (REPLAY, RAISE, INSIDE))
                    or (run.parent_row is not None and self._is_given(run.parent_row))
                )
        return self._given[flow_run]


class Order:
    """Where the newest execution first left the order that the earlier ones recorded, as far as it can be seen: a call
    that had begun and not completed, and was not made again though the execution went past it; or a call made with
    other arguments than before. What it replayed, or left out of what had completed, it recorded nothing of.
    """

    def __init__(self, reader: JournalReader, run: FlowRun) -> None:
        self._reader = reader
        self._run = run
        executions = reader.executions(run)
        self._number = len(executions)
        self._newest = executions[-1]
        self._past = run.completed
        self._left_out: Call | None = None
        self._found: Divergence | None = None

    def see(self, found: Call) -> None:
        """One call; those of the run itself come in the order they began."""
        if self._number < 2 or self._found is not None or found.parent is not None or found.flow_run != self._run.row:
            return
        if found.started >= self._newest.started:
            if found.reason and found.reason.startswith("inputs changed"):
                out = self._left_out
                self._found = _other(found, self._number) if out is None else _first(out, found, self._number)
            self._past = True
        elif (
            self._left_out is None
            and found.at < self._newest.started
            and self._reader.state(found.state).type != "COMPLETED"
        ):
            self._left_out = found

    def see_plain(self, flow_run: int, process: int) -> None:
        """Calls that a process made and completed in a flow run."""
        self._past = self._past or (flow_run == self._run.row and process == self._newest.process.row)

    def divergence(self) -> Divergence | None:
        """What was seen, when all calls were."""
        if self._found is not None or self._left_out is None or not self._past:
            return self._found
        return _first(self._left_out, None, self._number)


def _first(left_out: Call, new: Call | None, number: int) -> Divergence:
    went = "went on to other calls" if new is None else "made another call instead"
    return Divergence(left_out, f"it had begun and not completed; execution {number} did not make it again and {went}")


def _other(found: Call, number: int) -> Divergence:
    return Divergence(found, f"execution {number} made it, and the ones before had not: {found.reason}")
