"""What `durable why --json` must say of the model's runs, from docs/cli.md, the command's help and its schema.

1. One entry for each task run of the flow run and its subflows: with --all each by itself, else alike ones together.
2. "replayed": completed in an earlier execution, and not run since. "ran again": begun anew, and why. "cached": from
   the result of which task run. "did not run": never begun. "ran": the others.
3. A recorded reason has the first word.
4. Where none is recorded, what ran is compared with the same call of the run before; if there is none, with another
   call of the task: which of them is told by position, which the model does not follow. What is said must be true.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import Counter
from typing import Any

from model import Model
from model_records import CUT_OFF, NOTHING, OVER, AnyOf, Name, Run, is_reason, moved, root_of

STARTS = ("Running", "Retrying")
counted: Counter[str] = Counter()


def check(model: Model, root: Run, document: dict[str, Any], names: dict[str, Name], *, everything: bool) -> None:
    """Compare a document with the model.

    Args:
        names: of every run in the journal, by id.
        everything: it was asked for with --all.
    """
    said, earlier = _Said(model, root, names), _before(model, root)
    compared = document["compared_with"] and names[document["compared_with"]["id"]]
    assert compared == (earlier and earlier.name), f"compared with {compared}, and not {earlier and earlier.name}"
    mine = {name: run for name, run in model.runs.items() if name[0] == "task" and root_of(name) == root.name}
    entries = document["entries"]
    if not everything:
        found: Counter[Any] = Counter()
        for entry in entries:
            found[entry["first"]["task"], entry["verdict"]] += entry["count"]
        expected = Counter((run.name[2], said.word(run)) for run in mine.values())
        assert found == expected, f"verdicts {found}, expected {expected}"
    else:
        assert Counter(names[entry["first"]["id"]] for entry in entries) == Counter(list(mine)), (
            "not each task run once"
        )
    for entry in entries:
        told = said.wrong(mine[names[entry["first"]["id"]]], entry, earlier)
        assert not told, f"why {names[entry['first']['id']]}: {told}\nfound    {entry}"
        counted[f"why {entry['verdict']}"] += 1


def _before(model: Model, root: Run) -> Run | None:
    """What it was forked from, or the newest earlier run of the flow."""
    if root.name in model.forks:
        return model.runs[model.forks[root.name].original]
    return model.runs.get(("run", root.name[1] - 1))


class _Said:
    def __init__(self, model: Model, root: Run, names: dict[str, Name]) -> None:
        self.model, self.root, self.names = model, root, names

    def executions(self, run: Run) -> list[int]:
        """In which executions of its flow run a body began."""
        taken_up = self._taken_up(run)
        return sorted({bisect_right(taken_up, event.order) for event in run.events if event.state in STARTS})

    def _taken_up(self, run: Run) -> list[int]:
        """When the executions of a task run's flow run began."""
        return [event.order for event in self.model.runs[run.flow].events if event.state == "Running"]

    def word(self, run: Run) -> str:
        executions = self.executions(run)
        if not executions:
            return "cached" if run.state == "Cached" else "did not run"
        if run.state in OVER and executions[-1] < len(self._taken_up(run)):
            return "replayed"
        return "ran" if self._again(run) is None else "ran again"

    def _again(self, run: Run) -> Any:
        """Why a body that had begun before began again; None: it did not."""
        begun = [event for event in run.events if event.state in STARTS]
        again = [event.why for event in begun[1:] if event.state == "Running"]
        return again[-1] or NOTHING if again else None

    def wrong(self, run: Run, entry: dict[str, Any], earlier: Run | None) -> str:
        """What is wrong with an entry; nothing: "" is given."""
        word, executions, reason = self.word(run), self.executions(run), entry["reasons"][0]
        if (entry["verdict"], entry["executions"]) != (word, executions):
            return f"expected {word} in {executions}"
        if word == "replayed":
            return "" if reason.startswith(f"recorded by execution {executions[-1]} (process ") else "another execution"
        if word == "cached":
            found = self.names.get(entry["origin"]["task_run"]), self.names.get(entry["origin"]["flow_run"])
            if found == (None, None) and self.root.name in self.model.forks and not run.counts:
                # What a call counts by that is given a future is not recorded, so the original's is not found.
                return "" if _given_futures(run.name) else "no origin"
            expected = run.origin, self.model.runs[run.origin].flow
            return "" if found == expected else f"expected {expected}"
        if word == "did not run":
            return "" if reason.startswith("NotReady") else "expected that it was not ready"
        if word == "ran again":
            why = self._again(run)
            return "" if _is_again(reason, why) else f"expected {why}"
        whys = [event.why for event in run.events if event.state == "Running"][0]
        for why in whys if isinstance(whys, AnyOf) else [whys]:
            if is_reason(reason, why) if why is not None else self._is_comparison(run, reason, earlier):
                return ""
        return f"expected {whys}"

    def _is_comparison(self, run: Run, reason: str, earlier: Run | None) -> bool:
        if earlier is None:
            return reason == "it had never run: there is no earlier run of job"
        old = self.model.runs.get(moved(run.name, self.root.name, earlier.name))
        if old is not None and not _given_futures(run.name):
            counted["why the same call"] += 1
            return self._is_of_same(run, reason, old)
        # A call in another place may be the same if its caller is in the same position.
        same = [
            other for other in self._others(run, earlier) if run.name[1][0] != "run" and other.name[2:] == run.name[2:]
        ]
        return self._is_other(run, reason, earlier) or any(self._is_of_same(run, reason, other) for other in same)

    def _is_of_same(self, run: Run, reason: str, old: Run) -> bool:
        """What is said where the run before made the same call."""
        if old.state not in OVER:
            return reason.endswith(f" had not completed: {old.state}")
        if not old.events[-1].kept:
            return reason.endswith(" kept no result")
        if reason.startswith("a new run: "):
            return not run.counts if " its policy reuses no result of another run" in reason else not old.counts
        if reason.startswith("expired: "):
            return old.expires is not None and old.key == run.key
        if reason.startswith("source changed: "):
            return old.parts != run.parts and "TASK_SOURCE" in run.counts
        if reason.startswith("another cache key than in "):
            return run.state in OVER and old.key != run.key
        later = old.events[-1].order > run.events[0].order
        if " was not used: " in reason:
            return run.state not in OVER or not run.events[-1].kept
        return " was there: " in reason and later

    def _others(self, run: Run, earlier: Run) -> list[Run]:
        """The task runs of the same task in the run before."""
        tasks = [other for other in self.model.runs.values() if other.name[0] == "task"]
        return [other for other in tasks if other.name[2] == run.name[2] and root_of(other.name) == earlier.name]

    def _is_other(self, run: Run, reason: str, earlier: Run) -> bool:
        """What is said where the run before made no such call: another of the task's is told of, or none."""
        others = [other.name for other in self._others(run, earlier)]
        if reason.startswith("new: "):
            return True
        if reason.startswith("called in another place than in "):
            return any(_alike(name[3], run.name[3]) for name in others)
        changed = re.fullmatch(r"inputs changed: (.*) \(since run \w+\)", reason)
        pairs = dict(re.findall(r"(\w): (.+?) -> ", changed[1])) if changed else {}
        return changed is not None and any(_told(name[3], pairs) for name in others)


def _is_again(reason: str, why: Any) -> bool:
    if why is NOTHING:
        return False
    if why == CUT_OFF:
        return reason.startswith("cut off: process ")
    if why == "interrupted":
        return reason.startswith("interrupted: process ")
    return is_reason(reason, why)


def _given_futures(name: Name) -> bool:
    """Whether a call or one it was made in was given a future: it counts by its own run."""
    return name[0] != "run" and (len(name) > 5 or _given_futures(name[1]))


def _alike(before: tuple[Any, ...], now: tuple[Any, ...]) -> bool:
    return all("?" in (b, n) or b == n for b, n in zip(before, now, strict=False))


def _told(before: tuple[Any, ...], pairs: dict[str, str]) -> bool:
    """Whether a call had these arguments."""
    had = {"y": "(no such argument)", **dict(zip("xy", before, strict=False))}
    return all("?" in (had.get(name), text) or str(had.get(name)) == text for name, text in pairs.items())
