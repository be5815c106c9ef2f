"""The results that the model finds again by their key: rule 6 of `model`."""

from __future__ import annotations

from typing import Any

from model_programs import Program, Task, parts_of
from model_records import AnyOf, Frame, Journal, Run, different, nearest


class Memos(Journal):
    """What is recorded, and what of it is a memo of a program's."""

    program: Program

    def _key(self, frame: Frame, task: Task, x: int, y: int, parts: dict[str, Any]) -> Any:
        if not task.memo:
            return None
        facts = {
            "INPUTS": task.counted(x, y),
            "TASK_SOURCE": parts,
            "RUN_ID": frame.flow,
            "FLOW_PARAMETERS": frame.x,
        }
        return (task.name, *((kind, facts[kind]) for kind in sorted(task.components)))

    def source(self, task: Task, index: int) -> tuple[dict[str, Any], frozenset[str]]:
        """What a run counts by that begins now: its source, and the components of a memo policy."""
        return parts_of(self.program, index), task.components if task.memo else frozenset()

    def memo(self, frame: Frame, task: Task, index: int, x: int, y: int) -> Any:
        """The run whose result it is, or why there is none."""
        now = parts_of(self.program, index)
        found = self._computed(self._key(frame, task, x, y, now))
        if found:
            newest = max(found, key=lambda run: run.events[-1].order)
            if newest.expires is not None and newest.expires <= self.now:
                return "expired"
            return newest
        if "TASK_SOURCE" in task.components:
            others = [r.parts for r in self.runs.values() if r.name[0] == "task" and r.name[2] == task.name]
            told = [p for p in others if p != now and p and self._computed(self._key(frame, task, x, y, p))]
            if told:
                return AnyOf([different(parts, now) for parts in told])
        if "INPUTS" not in task.components:
            return None
        elsewhere = [r for r in self.runs.values() if r.name[0] == "task" and r.flow != frame.flow]
        others = [r for r in elsewhere if r.name[2] == task.name]
        # What other runs were called with is asked for once a run and task, perhaps before its subflows began.
        first = self.earlier.setdefault((frame.flow, task.name), others)
        told = [nearest(task.counted(x, y), known) for known in (others, first)]
        return told[0] if told[0] == told[1] else AnyOf([one for known in told for one in known or [None]])

    def _computed(self, key: Any) -> list[Run]:
        return [run for run in self.runs.values() if run.key == key and run.state == "Completed" and key is not None]
