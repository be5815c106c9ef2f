"""Forked runs in the model (docs/cli-operate.md, "durable fork").

1. A fork is a run of its own, which is begun only when it is asked for by its id. Then it is like any other.
2. A call that has no record of its own there takes the result of the same call of the original, if that completed, is
   kept, and had begun before TASK; but not if TASK was called in it, its policy is NONE, or it is counted by source
   that has changed. It is Cached, and from the run that computed the result. A generator that the original had taken
   so itself, and not by a memo, is executed again.
3. A subflow is reused as a whole if it and all that was called in it began before TASK.
4. The original stays as it is.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from model_memos import Memos
from model_programs import GENERATOR, Task, parts_of
from model_records import OVER, AnyOf, Frame, Name, Run, different, moved, nearest, root_of


class Fork(NamedTuple):
    """Of a run that was forked: from which, what had begun before TASK, and in what TASK was called."""

    original: Name
    before: frozenset[Name]
    around: frozenset[Name]


class Forks(Memos):
    """What a fork's calls find in its original."""

    def fork(self, number: int, start: Name, rows: dict[Name, int]) -> Name:
        """`durable fork` of a run from one of its task runs. `rows`: in which order task runs began."""
        original = self.roots[number - 1]
        run = Run(("run", len(self.roots) + 1), ("run", len(self.roots) + 1))
        self.runs[run.name] = run
        self.roots.append((run.name, (original[1][0], False)))
        family = [name for name in self.runs if name != original[0] and root_of(name) == original[0]]
        first = {name: self.runs[name].events[0].order for name in family}
        before = {name for name in family if name[0] == "task" and rows[name] < rows[start]}
        for name in family:
            within = [rows[other] for other in family if other[0] == "task" and name in _callers(other)]
            if name[0] == "flow" and first[name] < first[start] and all(row < rows[start] for row in within):
                before.add(name)
        self.forks[run.name] = Fork(original[0], frozenset(before), frozenset(_callers(start)))
        self.enters(run, "Pending", None)
        return run.name

    def reused(self, name: Name) -> int:
        """How many task runs of its original a fork does not run again, if no policy has it otherwise."""
        runs = [self.runs[before] for before in self.forks[name].before - self.forks[name].around]
        return sum(run.name[0] == "task" and run.state in OVER and run.events[-1].kept for run in runs)

    def waiting(self) -> list[Run]:
        """Forks that are not begun."""
        return [self.runs[name] for name in self.forks if self.runs[name].state == "Pending"]

    def forked(
        self, frame: Frame, name: Name, task: Task | None = None, index: int = 0
    ) -> tuple[Run | None, str | None]:
        """The run whose result a call takes that has no record of its own; or why it runs, if that is said."""
        root = root_of(name)
        if root not in self.forks:
            return None, None
        fork = self.forks[root]
        found = self.runs.get(moved(name, root, fork.original))
        if found is None or found.name not in fork.before or found.name in fork.around or found.state not in OVER:
            return None, None
        if not found.events[-1].kept or (task is not None and task.policy == "NONE"):
            return None, None
        if task is not None and index == GENERATOR and found.state == "Cached" and not found.counts:
            return None, None
        if task is not None and "TASK_SOURCE" in task.components:
            now = parts_of(self.program, index)
            if found.parts != now:
                return None, different(found.parts, now)
        return found, None

    def elsewhere(self, frame: Frame, name: Name, task: Task, index: int, x: int, y: int) -> Any:
        """The run whose result a call takes that is not on record, or why it runs."""
        reused, changed = self.forked(frame, name, task, index)
        if reused is not None:
            return reused
        if not task.memo:
            return changed or self.changed(frame, task, x, y)
        found = self.memo(frame, task, index, x, y)
        if changed is None or isinstance(found, Run):
            return found
        told = found if isinstance(found, AnyOf) else [found]
        return AnyOf([changed, *(why for why in told if why is not None)])  # which has the word is told nowhere

    def changed(self, frame: Frame, task: Task, x: int, y: int) -> Any:
        """Why a call runs that is not on record: a similar one is. In a fork's new bodies it may be said, or not."""
        fork = root_of(frame.name) in self.forks
        if not frame.resumed and not fork:
            return None
        # Of calls at once, which have been asked for by now is anybody's guess.
        doubtful = self.at_once is not None or fork
        others = self.recorded[frame.flow] if doubtful else self.unasked[frame.flow].values()
        those = [run for run in others if run.name[2] == task.name]
        if not doubtful:
            return nearest(task.counted(x, y), those)
        told = nearest(task.counted(x, y), those, among=0)
        return told if told is None else AnyOf([*told, None])

    def reuses(self, name: Name, of: Run) -> Run:
        """A call takes another run's result."""
        run = self.runs[name] = Run(name, name if name[0] == "flow" else root_flow(name))
        run.parts, run.counts, run.origin = of.parts, of.counts, of.origin or of.name
        run.key, run.expires = of.key, of.expires
        self.enters(run, "Pending", None)
        self.enters(run, "Cached", None, of.events[-1].value)
        return run


def root_flow(name: Name) -> Name:
    """The flow run that a task run belongs to."""
    while name[0] == "task":
        name = name[1]
    return name


def _callers(name: Name) -> list[Name]:
    """What a call was made in, at any depth."""
    found = []
    while name[0] != "run":
        name = name[1]
        found.append(name)
    return found
