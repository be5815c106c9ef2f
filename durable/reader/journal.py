"""One journal, opened to be read: its health, its runs, one run, one task run. See `durable.reader.opening`."""

from __future__ import annotations

import os
from typing import Any, Final, NamedTuple

from durable.clock import clock
from durable.phrases import safe
from durable.reader import sql
from durable.reader.connection import Connection
from durable.reader.counting import counted
from durable.reader.failures import arguments_of, failure_of
from durable.reader.model import Alive, Counts, Execution, Failure, FlowRun, Health, Process, TaskRun
from durable.reader.opening import Damaged, sizes
from durable.reader.standing import KNOWN, STARTS, Standing, StateName
from durable.spoken import digits_of

_CHECKED_BYTES: Final = 16 << 20  # a structural check costs about 1 ms for each MB
_FAILURE_BYTES: Final = 4 << 20
_EXCEPTION: Final = 3  # result.format
_NEWEST: Final = (1 << 63) - 1
_HEX: Final = frozenset("0123456789abcdef")


def _nobody_knows(run: bytes, host: str, pid: int) -> bool | None:
    del run, host, pid
    return None


def _range(prefix: str) -> tuple[bytes, bytes]:
    """The lowest and the highest id that begin with some hex digits."""
    return bytes.fromhex(prefix.ljust(32, "0")), bytes.fromhex(prefix.ljust(32, "f"))


class _Stretch(NamedTuple):
    """One execution of a flow run, as recorded."""

    begun: int
    process: int
    ended: int | None
    state: int
    result: int | None
    message: str | None


class JournalReader(Connection):
    """The read model. Every method may raise the errors of `open_for_reading`.

    Args:
        path: the journal file.
        alive: tells whether a run's process lives; without it, a run that has no recorded end stays ``Running?``.

    Attributes: as of a `Connection`.
    """

    def __init__(self, path: str | os.PathLike[str], alive: Alive = _nobody_knows) -> None:
        super().__init__(path)
        self._alive = alive
        self._flows: dict[int, tuple[str, str]] = {}
        self._tasks: dict[int, tuple[bytes, str, str]] = {}
        self._processes: dict[int, Process] = {}
        self._standings: dict[int, Standing] = {}
        self._states: dict[int, StateName] = {}

    def state(self, code: int) -> StateName:
        """A state by its number, as the file explains it: a newer journal may have states unknown here."""
        if not self._states:
            self._states = KNOWN | {code: StateName(safe(a), safe(b)) for code, a, b in self.rows(sql.STATES)}
        found = self._states.get(code)
        if found is None:
            raise Damaged(str(self.path), f"it is damaged: there is no state {code!r}")
        return found

    def process(self, row: int) -> Process:
        """One process lifetime."""
        if row not in self._processes:
            self._processes[row] = Process(*self._one(sql.PROCESS, row))
        return self._processes[row]

    def task(self, row: int) -> tuple[bytes, str, str]:
        """``(key, name, function)`` of one version of a task."""
        if row not in self._tasks:
            _, key, name, function = self._one(sql.TASK, row)
            self._tasks[row] = key, name, function
        return self._tasks[row]

    def _one(self, text: str, row: int) -> Any:
        if not (found := self.rows(text, row)):
            raise Damaged(str(self.path), f"it is damaged: row {row!r} is missing where another refers to it")
        return found[0]

    # The whole file.

    def health(self) -> Health:
        """What can be said of the file at once. Small files are checked whole, long ones by what is read of them."""
        size = sizes(self.path)
        checked = size <= _CHECKED_BYTES
        problem: str | None = None
        if checked:
            ((verdict,),) = self.rows("PRAGMA quick_check(1)")
            problem = None if verdict == "ok" else str(verdict).strip()
        numbers = (0, 0, 0)
        if self.complete:
            queries = (sql.COUNT_ROOT_RUNS, sql.COUNT_UNFINISHED, sql.COUNT_OUTSIDE)
            numbers = tuple(self.rows(text)[0][0] for text in queries)
        return Health(size, self.version, checked, problem, *numbers)

    # Flow runs.

    def flow_runs(self, limit: int, before: int | None = None) -> list[FlowRun]:
        """The newest flow runs that are nobody's subflow, newest first; `before` is the row of the last one seen."""
        return [self._flow_run(row) for row in self.rows(sql.ROOT_RUNS, _NEWEST if before is None else before, limit)]

    def flow_run(self, row: int) -> FlowRun:
        """One flow run."""
        return self._flow_run(self._one(sql.FLOW_RUN, row))

    def subflows(self, row: int) -> list[FlowRun]:
        """The flow runs called in a flow run, in the order they began."""
        return [self._flow_run(found) for found in self.rows(sql.SUBFLOWS, row, row)]

    def family(self, row: int) -> list[int]:
        """Rows of a flow run and of its subflows, at any depth; parents first."""
        return [found for (found,) in self.rows(sql.FAMILY, row)]

    def find(self, asked: str, limit: int = 6) -> list[FlowRun | TaskRun]:
        """Runs whose id begins with `asked` (hex digits): the flow runs if there are any, otherwise task runs. If there
        are none, the flow runs that are called so.
        """
        if 0 < len(asked) <= 32 and _HEX.issuperset(asked.lower()):
            flows = self._flow_runs_by_id(sql.FLOW_RUNS_BY_KEY, asked, limit)
            tasks = [] if flows else self.rows(sql.TASK_RUNS_BY_KEY, *_range(asked), limit)
            if flows or tasks:
                return [*flows, *map(self._task_run, tasks)]
        digits = digits_of(asked)
        spoken = self._flow_runs_by_id(sql.FLOW_RUNS_SPOKEN, digits, limit) if digits is not None else []
        return [*spoken, *map(self._flow_run, self.rows(sql.FLOW_RUNS_NAMED, asked, limit))]

    def _flow_runs_by_id(self, text: str, prefix: str, limit: int) -> list[FlowRun]:
        return [self._flow_run(row) for row in self.rows(text, *_range(prefix), limit)]

    def latest(self) -> FlowRun | TaskRun | None:
        """The newest flow run; in a journal without any, the newest task run."""
        found = self.flow_runs(1)
        if found:
            return found[0]
        return next((self._task_run(row) for row in self.rows(sql.LATEST_OUTSIDE)), None)

    def parameters(self, run: FlowRun) -> dict[str, Any] | None:
        """What a flow run was called with, as inert values; None if that is not recorded."""
        return arguments_of(self._one(sql.PARAMETERS, run.row)[0])

    def executions(self, run: FlowRun) -> list[Execution]:
        """The processes that executed a flow run, one after the other."""
        *earlier, newest = self._stretches(self._one(sql.FLOW_RUN, run.row))
        return [
            *(
                Execution(self.process(s.process), self.state(s.state).name, s.begun, s.ended, s.message)
                for s in earlier
            ),
            Execution(self.process(newest.process), run.state, newest.begun, run.ended, newest.message),
        ]

    def counts(self, run: FlowRun | None, most: int | None = None) -> Counts:
        """The task runs of a flow run and its subflows by where they stand; None: those outside any flow. With `most`,
        of a longer run the newest.
        """
        standing = Standing(False, -1) if run is None else self.standing(run.row)
        found = counted(self.rows, None if run is None else run.row, standing.process, most)
        total, completed, cached, failed, crashed, undone, mine, others, cut_off, open_, more = found
        if run is None:
            mine, others = others, 0
        elif standing.live is False:
            others, mine, cut_off = others + mine, 0, max(cut_off or 0, open_ or 0)
        other = max(0, total - completed - cached - failed - crashed - undone - mine - others)
        return Counts(total, completed, cached, failed, crashed, others, mine, undone, other, more, cut_off or None)

    def standing(self, row: int) -> Standing:
        """Who may be executing a flow run. Its root decides, for the lock is the root's."""
        if row not in self._standings:
            seen = {row}
            root = self._one(sql.FLOW_RUN, row)
            while root[8] is not None and root[8] not in seen:
                seen.add(root[8])
                root = self._one(sql.FLOW_RUN, root[8])
            if root[0] not in self._standings:
                self._standings[root[0]] = self._standing_of_root(root)
            self._standings[row] = self._standings[root[0]]
        return self._standings[row]

    def _standing_of_root(self, root: Any) -> Standing:
        newest = self._stretches(root)[-1]
        if newest.ended is not None:
            return Standing(False, newest.process)
        owner = self.process(newest.process)
        return Standing(self._alive(root[1], owner.host, owner.pid), newest.process)

    # Task runs.

    def task_run(self, row: int) -> TaskRun:
        """One task run."""
        return self._task_run(self._one(sql.TASK_RUN, row))

    def task_runs(self, flow_run: int | None, limit: int, after: int = 0) -> list[TaskRun]:
        """The next task runs called in a flow run's body (None: outside any flow) after row `after`, as they began."""
        return [self._task_run(row) for row in self.rows(sql.TASK_RUNS_OF, flow_run, after, limit)]

    def arguments(self, run: TaskRun | FlowRun) -> dict[str, Any] | None:
        """What a run was called with, as inert values; None if that is not recorded."""
        return arguments_of(run.inputs) if isinstance(run, TaskRun) else self.parameters(run)

    def failure(self, run: TaskRun | FlowRun) -> Failure | None:
        """The exception a run's newest state points to, or None."""
        if run.result_row is None:
            return None
        for format_, length, payload in self.rows(sql.RESULT, run.result_row, _FAILURE_BYTES):
            if format_ == _EXCEPTION:
                if length > _FAILURE_BYTES:
                    return Failure("?", f"an exception of {length} bytes", "")
                return failure_of(payload)
        return None

    # Rows to tuples.

    def _flow_run(self, row: Any) -> FlowRun:
        id_, key, flow, name, _, started, _, idempotency_key, parent, parent_task = row
        if flow not in self._flows:  # or only since they were last read
            self._flows = {found[0]: (found[1], found[2]) for found in self.rows(sql.FLOWS)}
        if flow not in self._flows:
            raise Damaged(str(self.path), f"it is damaged: there is no flow {flow!r}")
        stretches = self._stretches(row)
        live: bool | None = None
        if stretches[-1].ended is None:
            live = self.standing(id_).live
            if live is False:
                # It may have ended, and given its lock up, between the two questions: the record has the word.
                stretches = self._stretches(row)
        newest = stretches[-1]
        shown = state = self.state(newest.state)
        ended = newest.ended
        if state.type == "PENDING":  # a fork that nobody has begun: there is no process to have died
            live = False
        elif not state.ended:
            if live is False:
                shown, ended = StateName("Crashed", "CRASHED"), self._last_record(id_, _NEWEST)
            elif live is None:
                shown = StateName(f"{state.name}?", state.type)
        now = clock().now()
        took = sum(max(0, stretch.ended - stretch.begun) for stretch in stretches[:-1] if stretch.ended is not None)
        return FlowRun(
            row=id_,
            id=key.hex(),
            flow=self._flows[flow][0],
            function=self._flows[flow][1],
            name=name,
            status=self.standing(id_).status(state, newest.process),
            state=shown.name,
            type=shown.type,
            recorded=state.name,
            died=live is False and not state.ended and state.type != "PENDING",
            live=live,
            started=started,
            ended=ended,
            took=took + max(0, (now if ended is None else ended) - newest.begun),
            executions=len(stretches),
            process=self.process(newest.process),
            message=newest.message,
            result_row=newest.result,
            idempotency_key=idempotency_key,
            parent_row=parent,
            parent_task_row=parent_task,
        )

    def _stretches(self, row: Any) -> list[_Stretch]:
        """A flow run's executions as recorded; the last one has no end if none is recorded."""
        id_, code, at, process = row[0], row[4], row[5], row[6]
        found = [_Stretch(at, process, None if not self.state(code).ended else at, code, None, None)]
        for code, at, process, result, message in self.rows(sql.FLOW_STATES, id_):
            newest = found[-1]
            if newest.ended is not None and code in STARTS:
                found.append(_Stretch(at, process, None, code, result, message))
                continue
            ended: int | None = None
            if self.state(code).ended:
                # Written by a later process: nobody was there when the execution ended.
                ended = at if process == newest.process else self._last_record(id_, at)
            found[-1] = _Stretch(newest.begun, newest.process, ended, code, result, message)
        return found

    def _last_record(self, row: int, before: int) -> int:
        return int(self.rows(sql.LAST_RECORD, row, before)[0][0])

    def _task_run(self, row: Any) -> TaskRun:
        id_, key, task, name, code, at, process, occurrence, inputs, flow_run, parent = row[:11]
        later_code, later_at, later_process, message, result, size, began, starts = row[11:]
        attempts = (code in STARTS) + starts
        ended: int | None = None
        if later_code is not None:
            code, process = later_code, later_process
        state = self.state(code)
        if later_code is not None and state.ended:
            ended = later_at
        if flow_run is not None:
            standing = self.standing(flow_run)
        elif state.ended:
            standing = Standing(False, process)
        else:
            owner = self.process(process)
            standing = Standing(self._alive(key, owner.host, owner.pid), process)
        _, task_name, function = self.task(task)
        return TaskRun(
            row=id_,
            id=key.hex(),
            task=task_name,
            function=function,
            name=name,
            status=standing.status(state, process),
            state=state.name,
            started=at,
            began=at if began is None else began,
            ended=ended,
            attempts=attempts,
            occurrence=occurrence,
            inputs=inputs,
            message=message,
            result_row=result,
            result_bytes=size,
            flow_run_row=flow_run,
            parent_row=parent,
            process_row=process,
        )
