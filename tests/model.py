"""What the documents say a journal must hold and a re-run must do, in plain dicts: the model that argues with durable.

It interprets a program (`model_programs`) as the README and docs/ describe it and knows nothing of durable's code.
Rules, by their number in the README's "What is promised" where they have one:

1. A call is identified by where it is made, of which task, with which arguments, and how many equal calls came before
   (7, "Limits"). A policy ``- "y"`` leaves ``y`` out.
2. A start is recorded before the body runs, its end before the caller goes on (1, 2). So whatever is cut off leaves
   exactly the transitions before the cut.
3. A completed call gives its value and is not executed again (3), except under NONE, with persist_result=False, or
   where a policy with TASK_SOURCE finds other source (6). Then it has all its retries.
4. One that was in flight runs again; ``on_interrupt="fail"`` refuses instead (3). Failed attempts on record count
   against its retries, the one that was cut off does not.
5. After a crash a recorded failure raises again. After a failure of the flow, or a retry of the body the call is made
   in, it runs again, with all its retries (5).
6. A memo is looked up where the call has no record of its own: the newest completed, unexpired result under its key.
7. A generator's recorded values are served first. It is started again only for more, and must agree with the record.
8. A call of a flow continues the newest run with the same parameters that did not complete and is young enough.
9. Whatever runs although something was recorded says why.
10. A call that is given a future is another than one that is given its value, and its value counts besides; what it
   waits for is no part of what it is. It is made when that is there, and not if that failed.
11. With an idempotency key a call of a flow is that key's run, of any age: its result if it completed. Without one it
   is no key's.
12. A run that was cancelled is not continued; a key's says so.

What is not on record is looked for elsewhere: `model_memos`, `model_forks`. What `durable why` says: `model_why`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from model_forks import Forks
from model_kit import mix
from model_programs import CHAINS, GENERATOR, Call, Group, Loop, Program, Step, Sub, Task, parts_of
from model_records import (
    CUT_OFF,
    NOTHING,
    OVER,
    RETRIED,
    YOUNG,
    Boomed,
    Cut,
    Frame,
    Name,
    Run,
    different,
)
from model_streams import Stream


class Model(Forks):
    """The journal as it must be after each process."""

    # A process.

    def execute(self, program: Program, x: int, epoch: int, cut: int, how: str, which: str) -> tuple[str, Any]:
        """One run of the script: ``("value" | "error" | "interrupted" | "killed", value or text)``."""
        self.program, self.epoch, self.cut, self.how = program, epoch, cut, how
        self.log, self.points, self.groups, self.doubtful = [], 0, [], {}
        self.at_once, self.earlier = None, {}
        try:
            return "value", self._root(x, which)
        except Boomed as error:
            return "error", error.text
        except Cut:
            return ("interrupted" if how == "interrupt" else "killed"), None

    def _root(self, x: int, which: str) -> Any:
        """A call of the flow: "auto", "never" resumed, by "key", or with a fork's id: rules 8 and 11."""
        given = (x, which == "key")
        known = [self.runs[name] for name, called in self.roots if called == given]
        if which == "key" and known and known[0].state == "Completed":
            return known[0].events[-1].value
        if which == "key" and known and known[0].state == "Cancelled":
            raise Boomed("NothingToResume", "")
        known = [run for run in known if run.state not in ("Completed", "Cancelled", "Pending")]
        young = [run for run in known if which == "key" or self.now - self.last[run.name] <= YOUNG]
        if which == "fork":
            run = self.waiting()[-1]
            spent, frame = 0, Frame(run.name, run.name, x, 0, resumed=False)
            self.begins(run, None)
        elif young and which != "never":
            run = young[-1]
            spent = sum(e.order > self._mark(run, "Failed") for e in run.failures)
            frame = Frame(run.name, run.name, x, self._mark(run), resumed=True)
            self.begins(run, None)
        else:
            run = Run(("run", len(self.roots) + 1), ("run", len(self.roots) + 1))
            self.roots.append((run.name, given))
            self.runs[run.name] = run
            spent, frame = 0, Frame(run.name, run.name, x, 0, resumed=False)
            self.begins(run, None)
        while True:
            self._forget(run, frame)
            try:
                out = self._body(frame, self.program.job, x)
            except Boomed as error:
                if spent < self.program.flow_retries and error.kind in RETRIED:
                    spent += 1
                    self.enters(run, "Retrying", error.text, error)
                    frame = Frame(run.name, run.name, x, self.order, resumed=True)
                    continue
                self.enters(run, "Failed", error.text, error)
                raise
            except Cut:
                self.interrupted(run)
                raise
            self.enters(run, "Completed", None, out)
            return out

    def cancel(self, number: int) -> None:
        """`durable cancel` of a run whose process has died: rule 12."""
        run = self.runs["run", number]
        if run.state != "Crashed":
            self.enters(run, "Crashed", None)
        self.enters(run, "Cancelled", None)

    # A call.

    def _call(self, frame: Frame, index: int, x: int, y: int, upstream: Name | None = None) -> Any:
        task = self.program.tasks[index]
        run, name = self._find(frame, task, x, y, upstream)
        if run is None:
            found = self.elsewhere(frame, name, task, index, x, y)
            if isinstance(found, Run):
                return self.reuses(name, found).events[-1].value
            return self._run(frame, index, name, None, x, y, found)
        known, why = self._known(frame, task, index, run)
        return known if why is None else self._run(frame, index, name, run, x, y, None if why is NOTHING else why)

    def _find(self, frame: Frame, task: Task, x: Any, y: int, upstream: Name | None = None) -> tuple[Run | None, Name]:
        """A call is made. One that is given a future counts among those that are given the same."""
        given = task.counted(x, y)
        base = ("task", frame.name, task.name, given if upstream is None else (*given[1:], upstream))
        frame.equal[base] += 1
        name = ("task", frame.name, task.name, given, frame.equal[base])
        name = name if upstream is None else (*name, upstream)
        self.unasked.get(frame.flow, {}).pop(name, None)
        return self.runs.get(name), name

    def _known(self, frame: Frame, task: Task, index: int, run: Run) -> tuple[Any, Any]:
        """What is recorded: a value to give; or why the body runs. Raises a failure that is history."""
        last = run.events[-1]
        if last.state in OVER:
            if task.policy == "NONE":
                return None, "never reused: its cache policy is NONE"
            if not last.kept:
                return None, "not kept: persist_result=False"
            now = parts_of(self.program, index)
            if "TASK_SOURCE" in task.components and run.parts != now:
                return None, different(run.parts, now)
            return last.value, None
        if last.state == "Failed":
            if last.order > frame.mark:
                raise last.value
            return None, f"previous failed: {last.value.text}"
        if last.state == "NotReady":
            return None, NOTHING
        if last.state != "AwaitingRetry" and task.on_interrupt == "fail":
            raise Boomed("TaskInterrupted", "")
        return None, "interrupted" if last.state == "Crashed" else CUT_OFF

    def _run(self, frame: Frame, index: int, name: Name, run: Run | None, x: int, y: int, why: Any) -> Any:
        task = self.program.tasks[index]
        spent, mark = self.spent(frame, run)
        again = run is not None
        run = run or self.new(frame, name)
        self.begins(run, why)
        run.parts, run.counts = self.source(task, index)
        while True:
            attempt = run.attempts
            inside = Frame(name, frame.flow, frame.x, mark, resumed=again)
            self.log.append((task.name, x, y, attempt))
            try:
                self.point()
                out = self._body(inside, task.body, x)
                self.finish(task, x, attempt)
            except Boomed as error:
                if not self.retries(run, task, spent, error):
                    raise
                spent, mark, again = spent + 1, run.failures[-1].order, True
                continue
            except Cut:
                self.interrupted(run)
                raise
            value = mix(task.name, task.version, task.helper, task.constant, x, y, self.epoch, attempt, out)
            self.completes(frame, run, task, index, x, y, value)
            return value

    def spent(self, frame: Frame, run: Run | None) -> tuple[int, int]:
        """Retries that are spent, and up to where failures in the body have a new chance."""
        if run is None:
            return 0, frame.mark
        since = max(frame.mark, max((e.order for e in run.events if e.state in OVER), default=0))
        counted = [e.order for e in run.failures if e.order > since]
        return len(counted), max([frame.mark, *(e.order for e in run.failures)])

    def finish(self, task: Task, x: int, attempt: int) -> None:
        self.point()
        if attempt % (task.fail + 1):
            raise Boomed("Boom", f"{task.name} {x} {self.epoch} {attempt}")

    def retries(self, run: Run, task: Task, spent: int, error: Boomed) -> bool:
        """The body has failed: whether it is tried again. Records either."""
        if spent >= task.retries or error.kind not in RETRIED:
            self.enters(run, "Failed", error.text, error)
            return False
        self.enters(run, "AwaitingRetry" if task.delay else "Retrying", error.text, error)
        if task.delay:
            self.now += task.delay
            self.point()  # between two attempts nothing of the task is cut off, so nothing more is recorded of it
            self.enters(run, "Retrying", None)
        return True

    def completes(self, frame: Frame, run: Run, task: Task, index: int, x: int, y: int, value: Any) -> None:
        run.key = self._key(frame, task, x, y, parts_of(self.program, index))
        run.expires = None if task.expires is None else self.now + task.expires
        self.enters(run, "Completed", None, value, kept=task.persist)

    # What else may have changed.

    def _forget(self, run: Run, frame: Frame) -> None:
        """A flow run's body begins: what was recorded of it before has not been asked for yet."""
        there = [r for r in self.runs.values() if r.flow == run.name and r.name[0] == "task"] if frame.resumed else []
        self.unasked[run.name] = {r.name: r for r in there}
        self.recorded[run.name] = there

    # A body.

    def _body(self, frame: Frame, steps: list[Step], x: int) -> list[Any]:
        out, last = [], x
        for step in steps:
            self.point()
            if isinstance(step, Loop):
                for last in self._loop(frame, step):
                    out.append(last)
                continue
            if isinstance(step, Group) and self.program.at_once(step):
                for got in self._group(frame, step, last):
                    last = self._caught(lambda got=got: _given(got), catch=step.catch)
                    out.append(last)
                continue
            for made in step.calls if isinstance(step, Group) else [step]:
                last = self._caught(lambda made=made, last=last: self._step(frame, made, last), catch=step.catch)
                out.append(last)
        return out

    def _step(self, frame: Frame, step: Call | Sub, last: Any) -> Any:
        if isinstance(step, Sub):
            return self._subflow(frame, step.x)
        return self._call(frame, step.task, last if step.x is None else step.x, step.y)

    def _caught(self, give: Callable[[], Any], *, catch: bool) -> Any:
        try:
            return give()
        except Boomed as error:
            if catch and error.kind == "Boom":
                return mix(error.message)
            raise

    def _group(self, frame: Frame, group: Group, last: Any) -> list[Any]:
        """Calls at once. One after the other here: their order is nobody's promise, and nothing depends on it."""
        outermost = self.at_once is None
        before, cut = self.points, self.cut
        if outermost:
            self.at_once, self.cut = {}, 0
        got = []
        if group.mode in CHAINS:
            got.append(self._chain(frame, group, last))
        for call in group.calls if not got else ():
            index = group.calls[0].task if group.mode == "map" else call.task
            try:
                got.append(self._call(frame, index, last if call.x is None else call.x, call.y))
            except Boomed as error:
                got.append(error)
        if outermost:
            doubtful, self.at_once, self.cut = self.at_once, None, cut
            self.groups.append((before, self.points))
            if before < cut <= self.points:
                self.doubtful = doubtful or {}
                raise Cut
        return got

    def _chain(self, frame: Frame, group: Group, last: Any) -> Any:
        """Two calls, the second of which waits for the first: rule 10."""
        first, second = group.calls
        x, task = last if first.x is None else first.x, self.program.tasks[first.task]
        base = ("task", frame.name, task.name, task.counted(x, first.y))
        upstream = (*base, frame.equal[base] + 1) if "argument" in group.mode else None
        failed, value = False, None
        try:
            value = self._call(frame, first.task, x, first.y)
        except Boomed:
            failed = True
        given = value if upstream else last if second.x is None else second.x
        if failed:
            task = self.program.tasks[second.task]
            run, name = self._find(frame, task, "?" if upstream else given, second.y, upstream)
            if run is None:
                run = self.new(frame, name)
                self.enters(run, "Pending", None)
                self.enters(run, "NotReady", None)
            return Boomed("UnfinishedRun", "")
        try:
            return self._call(frame, second.task, given, second.y, upstream)
        except Boomed as error:
            return error

    def _subflow(self, frame: Frame, x: int) -> Any:
        base = ("flow", frame.name, "inner", (x,))
        frame.equal[base] += 1
        name = (*base, frame.equal[base])
        run = self.runs.get(name)
        inside = Frame(name, name, x, frame.mark, resumed=run is not None)
        reused, _ = self.forked(frame, name) if run is None else (None, None)
        if reused is not None:
            return self.reuses(name, reused).events[-1].value
        if run is None:
            run = self.runs[name] = Run(name, name)
        elif run.state in OVER:
            return run.events[-1].value
        elif run.state == "Failed" and run.events[-1].order > frame.mark:
            raise run.events[-1].value
        else:
            inside.mark = max(frame.mark, self._mark(run))
        self.begins(run, None)
        self._forget(run, inside)
        try:
            out = mix(self._body(inside, self.program.inner, x))
        except Boomed as error:
            self.enters(run, "Failed", error.text, error)
            raise
        except Cut:
            self.interrupted(run)
            raise
        self.enters(run, "Completed", None, out)
        return out

    # Generators.

    def _loop(self, frame: Frame, loop: Loop) -> Iterator[Any]:
        """What a body appends in a loop over the generator."""
        task = self.program.tasks[GENERATOR]
        run, name = self._find(frame, task, loop.x, 0)
        stream = Stream(self, frame, task, run, name, loop.x)
        took = 0
        try:
            for value in stream:
                self.point()
                yield value
                if loop.inner is not None:
                    yield self._step(frame, loop.inner, value)
                took += 1
                if took == loop.take:
                    break
        except Cut:
            if self.how == "interrupt":
                stream.close()
            raise
        except Boomed:
            stream.close()
            raise
        stream.close()

    def point(self) -> None:
        self.points += 1
        if self.points == self.cut:
            raise Cut


def _given(got: Any) -> Any:
    if isinstance(got, Boomed):
        raise got
    return got
