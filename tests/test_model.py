"""Random programs, edited between executions and cut off anywhere, do what the documents say: `model` predicts it.

For every process: how it ends, which bodies run and what attempt each is told to be; then, for every run in the
journal, all transitions with their reasons, values and errors, and what was yielded; and mostly what `durable why` says
of one of the runs. And what `durable cancel` and `durable fork` record.

``MODEL_SECONDS=900 pytest tests/test_model.py -s`` goes on for so long with new programs, and says how far it came.
"""

from __future__ import annotations

import copy
import json
import os
import shutil
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import model_programs as programs
import model_why
import pytest
from commands import documented, wrong
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from model import Model
from model_process import Seen, Server, command, root_id, seen
from model_records import Event, Name, is_reason, root_of, shown
from scripts import Script

SOAK = float(os.environ.get("MODEL_SECONDS", "0"))
counted = model_why.counted
_DOCUMENT = documented("why.schema.json")


class Journeys(RuleBasedStateMachine):
    """One program's life."""

    server: ClassVar[Server]
    root: ClassVar[Path]

    @initialize(program=programs.programs())
    def begin(self, program: programs.Program) -> None:
        self.program = program
        self.model = Model()
        self.model.now = 1_800_000_000.0
        self.epoch = 0
        self.folder = Path(tempfile.mkdtemp(dir=self.root))
        counted["programs"] += 1

    def teardown(self) -> None:
        if hasattr(self, "folder"):
            shutil.rmtree(self.folder)

    # Edits.

    @rule(data=st.data())
    def edit(self, data: Any) -> None:
        kind = data.draw(
            st.sampled_from(("steps", "steps", "argument", "rename", "source", "source", "fail", "options"))
        )
        counted["edits"] += 1
        if kind in ("steps", "argument"):
            self.edit_steps(data, kind)
            return
        index = data.draw(st.integers(0, programs.GENERATOR))
        task = self.program.tasks[index]
        if kind == "rename":
            task.name = task.name[0] if len(task.name) > 1 else task.name + "_2"
        elif kind == "source":
            setattr(task, data.draw(st.sampled_from(("version", "helper", "constant"))), data.draw(st.integers(0, 1)))
        elif kind == "fail":
            task.fail = data.draw(st.sampled_from((0, 0, 0, 1, 2, 3)))
        else:
            new = data.draw(programs.tasks(index))
            new.name, new.body, new.version, new.fail, new.yields = (
                task.name, task.body, task.version, task.fail, task.yields,
            )  # fmt: skip
            self.program.tasks[index] = new

    def edit_steps(self, data: Any, kind: str) -> None:
        body, steps = self.body(data)
        where = data.draw(st.integers(0, 3)) % (len(body) + 1)
        what = "argument" if kind == "argument" else data.draw(st.sampled_from(("insert", "remove", "reorder")))
        if what == "insert":
            body.insert(where, data.draw(steps))
        elif where == len(body):
            return
        elif what == "remove":
            del body[where]
        elif what == "reorder":
            body.append(body.pop(where))
        else:
            step = body[where]
            step = step.calls[0] if isinstance(step, programs.Group) else step
            step.x = data.draw(st.integers(1, 3))
            if isinstance(step, programs.Call):
                step.y = data.draw(st.sampled_from((0, 1)))

    def body(self, data: Any) -> tuple[list[Any], Any]:
        which = data.draw(st.sampled_from(("job", "job", "inner", 0, 1, 2)))
        if which == "job":
            return self.program.job, programs.steps(flow=True)
        if which == "inner":
            return self.program.inner, programs.steps(1)
        return self.program.tasks[which].body, programs.steps(which + 1)

    # A command.

    @precondition(lambda self: self.left_behind())
    @rule(data=st.data())
    def cancel(self, data: Any) -> None:
        number = data.draw(st.sampled_from(self.left_behind()))
        self.model.cancel(number)
        journal = self.folder / "runs.db"
        command(self.model.now, "cancel", journal, root_id(journal, number))
        counted["cancelled"] += 1
        self.check_journal(seen(journal))

    @precondition(lambda self: self.ended())
    @rule(data=st.data())
    def fork(self, data: Any) -> None:
        number = data.draw(st.sampled_from(self.ended()))
        journal = self.folder / "runs.db"
        before = seen(journal)
        tasks = [name for name in before if name[0] == "task" and root_of(name) == ("run", number)]
        start = data.draw(st.sampled_from(sorted(tasks, key=lambda name: before[name].row)))
        by_name = data.draw(st.booleans())
        if by_name:
            start = min((name for name in tasks if name[2] == start[2]), key=lambda name: before[name].row)
        made = self.model.fork(number, start, {name: before[name].row for name in tasks})
        word = start[2] if by_name else before[start].id
        told = json.loads(command(self.model.now, "fork", journal, before["run", number].id, "--from", word, "--json"))
        after = seen(journal)
        ids = [told["run"], told["forked_from"], told["before"]]
        _same("what it forked", ids, [after[made].id, before["run", number].id, before[start].id])
        _same("how many it reuses", told["reused"], self.model.reused(made))
        counted["forked"] += 1
        self.check_journal(after)

    def ended(self) -> list[int]:
        """Flow runs that have ended and called a task, by number."""
        called = {root_of(name) for name in self.model.runs if name[0] == "task"}
        roots = [self.model.runs[name] for name, _ in self.model.roots]
        return [n for n, run in enumerate(roots, 1) if run.state in ("Completed", "Failed") and run.name in called]

    def left_behind(self) -> list[int]:
        """Flow runs whose process has died, by number."""
        runs = [self.model.runs[name] for name, _ in self.model.roots]
        return [n for n, run in enumerate(runs, 1) if run.state in ("Running", "Retrying", "Crashed")]

    # A process.

    @rule(
        x=st.sampled_from((1, 1, 2)),
        cut=st.none() | st.integers(0, 200),
        how=st.sampled_from(("kill", "kill", "interrupt")),
        which=st.sampled_from(("auto", "fork") * 3 + ("never", "key", "key")),
        waited=st.sampled_from((10, 10, 10, 100, 13 * 3600)),
        why=st.sampled_from((None, 0, 0, 1, 2)),
    )
    def execute(self, x: int, cut: int | None, how: str, which: str, *, waited: int, why: int | None) -> None:
        self.epoch += 1
        self.model.now += waited
        model = self.model
        resume = "never" if which == "never" else "auto"
        if which == "fork":
            which = "fork" if model.waiting() else "auto"
        if which == "fork":
            name = model.waiting()[-1].name
            x = dict(model.roots)[name][0]
            resume = seen(self.folder / "runs.db")[name].id
        trial = copy.deepcopy(model)
        trial.execute(self.program, x, self.epoch, 0, how, which)
        at = 0 if cut is None or not trial.points else 1 + cut % trial.points
        if any(first < at <= last for first, last in trial.groups):
            how = "kill"  # an interruption of calls that run at once reaches some of them or all
        (self.folder / "job.py").write_text(programs.source_of(self.program))
        ended = self.server.run(
            self.folder,
            x=x,
            epoch=self.epoch,
            cut=at,
            how=how,
            now=model.now,
            key=f"key {x}" if which == "key" else None,
            environment={"DURABLE_RESUME": resume},
        )
        there = seen(self.folder / "runs.db")
        end, value = model.execute(self.program, x, self.epoch, at, how, which)
        try:
            _same("its end", (ended["end"], shown(ended.get("value"))), (end, shown(value)))
            _same("the points it passed", ended["points"], 0 if end == "killed" else model.points)
            self.check_log(ended["log"])
            self.check_journal(there)
            if why is not None:
                self.check_why(there, why)
        except AssertionError as error:
            text = programs.source_of(self.program)
            raise AssertionError(f"{error}\n\nprocess {self.epoch}, cut at {at} ({how}), of\n\n{text}") from None
        counted["processes"] += 1
        counted[end] += 1
        counted[f"called {which}"] += 1
        counted["executions"] += len(ended["log"])

    def check_log(self, log: list[tuple[str, int, int, int]]) -> None:
        """Which bodies ran, and what attempt each was told to be."""
        expected = self.model.log
        if self.model.doubtful:
            _same("bodies that had no reason to run", Counter(log) - Counter(expected), Counter())
        elif self.model.groups:
            _same("the bodies that ran", sorted(log), sorted(expected))
        else:
            _same("the bodies that ran, in order", log, expected)

    def check_why(self, there: dict[Name, Seen], number: int) -> None:
        """`durable why` of one of the runs, counted from the one that was executed last."""
        roots = sorted(self.model.roots, key=lambda root: -self.model.runs[root[0]].events[-1].order)
        name = roots[number % len(roots)][0]
        words = ("--json", "--all")[: 2 - self.epoch % 2]
        told = command(self.model.now, "why", self.folder / "runs.db", there[name].id, *words)
        document = json.loads(told)
        _same("what is wrong with its shape", wrong(document, _DOCUMENT), [])
        names = {run.id: name for name, run in there.items()}
        model_why.check(self.model, self.model.runs[name], document, names, everything="--all" in words)
        counted["why"] += 1

    def check_journal(self, there: dict[Name, Seen]) -> None:
        """Every run has the transitions it must have, and no other run is there."""
        if self.model.doubtful:
            self.model.settle({name: (len(run.events), len(run.yields)) for name, run in there.items()})
        _same("the runs", there.keys(), self.model.runs.keys())
        for name, run in self.model.runs.items():
            found = there[name]
            if len(found.events) != len(run.events) or not all(map(_agree, run.events, found.events)):
                _same(str(name), found.events, [(e.state, e.why, e.value) for e in run.events])
            _same(f"what {name} yielded", found.yields, run.yields)
            counted["states"] += len(run.events)


def _same(what: str, found: Any, expected: Any) -> None:
    if found != expected:
        raise AssertionError(f"{what}\nfound    {found}\nexpected {expected}")


def _agree(expected: Event, found: tuple[str, str | None, Any]) -> bool:
    state, message, value = found
    if state != expected.state:
        return False
    if state == "Completed":
        return value == (expected.value if expected.kept else None)
    if state == "Cached":
        return bool(value == expected.value)
    if state in ("Failed", "Retrying", "AwaitingRetry"):
        return shown(message) == shown(expected.why)
    if state == "NotReady":
        return message is not None and "ended " in message
    if state in ("Crashed", "Cancelled"):
        return True
    if isinstance(expected.why, str):
        counted[f"reason {expected.why.partition(':')[0]}"] += 1
    return is_reason(message, expected.why)


@pytest.fixture
def machine(tmp_path: Path) -> Any:
    folder = tmp_path / "kit"
    folder.mkdir()
    script = Script(folder)
    here = str(Path(__file__).parent)
    environment = script.environment()
    environment["PYTHONPATH"] = os.pathsep.join([here, environment["PYTHONPATH"]])
    server = Server(environment)

    class Machine(Journeys):
        pass

    Machine.server, Machine.root = server, tmp_path
    yield Machine
    server.close()


def test_what_runs_and_what_is_recorded_is_what_the_documents_say(machine: Any) -> None:
    quick = settings(
        max_examples=50,
        stateful_step_count=10,
        derandomize=True,
        database=None,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
    run_state_machine_as_test(machine, settings=quick)


@pytest.mark.skipif(not SOAK, reason="MODEL_SECONDS says for how long")
def test_soak(machine: Any) -> None:
    begun, rounds = time.monotonic(), 0
    while time.monotonic() - begun < SOAK:
        rounds += 1
        long = settings(
            max_examples=200,
            stateful_step_count=25,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        )
        run_state_machine_as_test(machine, settings=long)
        print(f"{time.monotonic() - begun:.0f} s, {rounds} rounds: {dict(counted)}", flush=True)
