"""A generator's call in the model: rule 7 of `model`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from model_kit import mix
from model_programs import GENERATOR, Task
from model_records import CLOSED, CUT_OFF, IN_FLIGHT, OVER, Boomed, Cut, Event, Frame, Name, Run

if TYPE_CHECKING:
    from model import Model


class Stream:
    """One call of the generator task, as its consumer sees it."""

    def __init__(self, model: Model, frame: Frame, task: Task, run: Run | None, name: Name, x: int) -> None:
        self.model, self.frame, self.task, self.run, self.name, self.x = model, frame, task, run, name, x
        self.live: Iterator[int] | None = None
        self.over = self.closed = False

    def __iter__(self) -> Iterator[int]:
        model, frame, task = self.model, self.frame, self.task
        run, name, x, served = self.run, self.name, self.x, 0
        why: Any = None
        end: Event | None = None
        if run is None:
            found = model.elsewhere(frame, name, task, GENERATOR, x, 0)
            run, why = (model.reuses(name, found), None) if isinstance(found, Run) else (None, found)
        if run is not None:
            last = run.events[-1]
            is_history = last.state == "Failed" and last.order > frame.mark
            if is_history or (last.state in OVER and last.kept):
                end = last
            elif last.state == "Completed":
                why = CLOSED
            elif last.state == "Failed":
                why = f"previous failed: {last.value.text}"
            else:
                why = "interrupted" if last.state == "Crashed" else CUT_OFF
        self.why = why
        spent, _ = model.spent(frame, run)
        recorded = [] if run is None else run.yields if run.state != "Cached" else model.runs[run.origin].yields
        for value in list(recorded):
            served += 1
            yield value
        if end is not None:
            self.over = True
            if end.state == "Failed":
                raise end.value
            return
        run = self.run = run or model.new(frame, name)
        model.begins(run, why)
        run.parts, run.counts = model.source(task, GENERATOR)
        self.live = iter(())
        while True:
            attempt = run.attempts
            model.log.append((task.name, x, 0, attempt))
            try:
                model.point()
                for i in range(task.yields):
                    model.point()
                    value = mix(task.name, task.version, task.helper, task.constant, x, 0, i)
                    if i < len(run.yields) and run.yields[i] != value:
                        raise Boomed("GeneratorDiverged", "")
                    if i < served:
                        continue
                    served += 1
                    if i >= len(run.yields):
                        run.yields.append(value)
                    yield value
                model.finish(task, x, attempt)
                if task.yields < len(run.yields):
                    raise Boomed("GeneratorDiverged", "")
            except Boomed as error:
                self.over = True
                if not model.retries(run, task, spent, error):
                    raise
                self.over = False
                spent += 1
                continue
            except Cut:
                self.over = True
                model.interrupted(run)
                raise
            self.over = True
            model.completes(frame, run, task, GENERATOR, x, 0, None)
            return

    def close(self) -> None:
        """The consumer wants no more."""
        run, model = self.run, self.model
        if self.over or run is None:
            return
        if self.live is None and run.state in IN_FLIGHT:
            model.begins(run, self.why)
        if self.live is not None or run.state == "Running":
            model.enters(run, "Completed", None, kept=False)
