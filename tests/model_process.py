"""Runs the scripts of the model, each in a process of its own that may be killed, and reads what the journal has then.

Run as a script it is the parent of those processes: it has imported durable once, and forks for each job on its input.
"""

from __future__ import annotations

import asyncio
import importlib.util
import io
import json
import os
import select
import sqlite3
import subprocess
import sys
import traceback
from contextlib import closing, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

PATIENCE = 120.0  # seconds until a process that hangs is given up


class Server:
    """The parent of the processes."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**environment, "DURABLE_DURABILITY": "process", "PYTHONDONTWRITEBYTECODE": "1"},
        )

    def run(self, folder: Path, **job: Any) -> dict[str, Any]:
        """Run ``job.py`` of a folder: how it ended, what it logged, how many points it passed."""
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None and stdout is not None
        stdin.write(json.dumps({"folder": str(folder), **job}) + "\n")
        if not select.select([stdout], [], [], PATIENCE)[0]:
            raise AssertionError(f"it hangs: {(folder / 'stderr').read_text()}")
        status = int(stdout.readline())
        log = (folder / "log").read_text().splitlines()
        ended: dict[str, Any] = {"end": "killed", "points": 0}
        if status == 0:
            ended = json.loads((folder / "ended").read_text())
        elif status != -9:
            raise AssertionError(f"exit status {status}: {(folder / 'stderr').read_text()}")
        return {**ended, "log": [(name, int(x), int(y), int(n)) for name, x, y, n in map(str.split, log)]}

    def close(self) -> None:
        """Stop it."""
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(PATIENCE)


@dataclass
class Seen:
    """A run as the journal has it: its id, its transitions ``(state, message, value)``, and the values it yielded."""

    id: str
    row: int
    events: list[tuple[str, str | None, Any]]
    yields: list[Any] = field(default_factory=list)


def command(now: float, *words: Any) -> str:
    """What a command of `durable` prints that is run at this time, in this process."""
    from scripts import FakeClock

    from durable import close_journals
    from durable.cli import main
    from durable.clock import use_clock

    clock = FakeClock()
    clock.seconds = now
    with use_clock(clock), redirect_stdout(io.StringIO()) as printed, redirect_stderr(io.StringIO()):
        try:
            main([str(word) for word in words])
        except SystemExit as leaving:
            assert not leaving.code, f"durable {words}: {leaving.code}"
        finally:
            close_journals()
    return printed.getvalue()


def root_id(journal: Path, number: int) -> str:
    """The id of the `number`th run of the flow that is called by nobody."""
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        rows = db.execute(
            "SELECT hex(key) FROM flow_run WHERE parent_flow_run_id IS NULL AND parent_task_run_id IS NULL ORDER BY id"
        ).fetchall()
    return str(rows[number - 1][0]).lower()


_decode = msgspec.msgpack.decode


def seen(journal: Path) -> dict[tuple[Any, ...], Seen]:
    """Every flow run and task run of a journal, under what identifies it: where it was called, of what, with what."""
    if not journal.exists():
        return {}
    with closing(sqlite3.connect(f"{journal.as_uri()}?mode=ro", uri=True)) as db:
        flows = _runs(db, "flow")
        tasks = _runs(db, "task")
        names: dict[tuple[str, int], tuple[Any, ...]] = {}
        found: dict[tuple[Any, ...], Seen] = {}
        waiting = [("flow", row) for row in flows] + [("task", row) for row in tasks]
        equal: dict[tuple[Any, ...], int] = {}
        roots = 0
        while waiting:  # callers are named before what they called
            later = []
            for kind, row in waiting:
                run = (flows if kind == "flow" else tasks)[row]
                caller = ("task", run["parent"]) if run["parent"] else ("flow", run["flow"]) if run["flow"] else None
                if caller is not None and caller not in names:
                    later.append((kind, row))
                    continue
                if caller is None:
                    roots += 1
                    name: tuple[Any, ...] = ("run", roots)
                elif kind == "flow":
                    base = ("flow", names[caller], run["name"], run["inputs"])
                    equal[base] = equal.get(base, 0) + 1
                    name = (*base, equal[base])
                else:
                    name = ("task", names[caller], run["name"], run["inputs"], run["occurrence"])
                    if not run["upstream"] <= {row for kind, row in names if kind == "task"}:
                        later.append((kind, row))
                        continue
                    name += tuple(names["task", row] for row in sorted(run["upstream"]))
                names[kind, row] = name
                found[name] = Seen(run["id"], row, run["events"], run["yields"])
            assert len(later) < len(waiting)
            waiting = later
    return found


def _runs(db: sqlite3.Connection, kind: str) -> dict[int, dict[str, Any]]:
    if kind == "flow":
        text = (
            "SELECT r.id, r.parent_task_run_id, r.parent_flow_run_id, f.name, r.parameters, 1, k.name, NULL, hex(r.key)"
            " FROM flow_run AS r JOIN flow AS f ON f.id = r.flow_id JOIN state_kind AS k ON k.code = r.state ORDER BY 1"
        )
    else:
        text = (
            "SELECT r.id, r.parent_id, r.flow_run_id, f.name, r.inputs, r.occurrence, k.name, r.reason, hex(r.key) "
            "FROM task_run AS r JOIN task AS f ON f.id = r.task_id JOIN state_kind AS k ON k.code = r.state ORDER BY 1"
        )
    runs = {
        row: {
            "id": str(key).lower(),
            "parent": parent,
            "flow": flow,
            "name": name,
            "inputs": tuple("?" if isinstance(x, msgspec.msgpack.Ext) else x for x in _decode(inputs).values()),
            "occurrence": occurrence,
            "events": [(state, reason, None)],
            "yields": [],
            "upstream": set(),
        }
        for row, parent, flow, name, inputs, occurrence, state, reason, key in db.execute(text)
    }
    for row, state, message, format_, payload in db.execute(
        f"SELECT s.{kind}_run_id, k.name, s.message, o.format, o.payload FROM {kind}_run_state AS s "
        "JOIN state_kind AS k ON k.code = s.state LEFT JOIN result AS o ON o.id = s.result_id ORDER BY 1, s.seq"
    ):
        runs[row]["events"].append((state, message, _decode(payload) if format_ == 1 else None))
    if kind == "task":
        for row, payload in db.execute(
            "SELECT y.task_run_id, o.payload FROM task_run_yield AS y JOIN result AS o ON o.id = y.result_id "
            "ORDER BY 1, y.number"
        ):
            runs[row]["yields"].append(_decode(payload))
        for row, upstream in db.execute(
            "SELECT task_run_id, upstream_id FROM task_run_dependency WHERE argument <> 'wait_for'"
        ):
            if not runs[upstream]["name"].startswith("g"):  # what a generator yields is a value, not a future
                runs[row]["upstream"].add(upstream)
    return runs


def _serve() -> None:
    import model_kit  # noqa: F401 - imported once, for all
    import scripts  # noqa: F401

    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            _work(json.loads(line))
        _, status = os.waitpid(child, 0)
        loaded = Path(json.loads(line)["folder"], "loaded")
        if loaded.exists():  # what the next ones need not load again
            for name in loaded.read_text().split():
                importlib.import_module(name)
            loaded.unlink()
        print(os.waitstatus_to_exitcode(status), flush=True)


def _work(job: dict[str, Any]) -> None:
    """In the forked child: run the job and leave without a word to the parent's buffers."""
    code = 1
    try:
        os.chdir(job["folder"])
        for descriptor, name in ((1, "stdout"), (2, "stderr")):
            opened = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(opened, descriptor)
        _run(job)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def _run(job: dict[str, Any]) -> None:
    import model_kit
    from scripts import FakeClock

    import durable
    from durable.clock import use_clock

    class Clock(FakeClock):
        def now(self) -> int:
            self.ticks += 1
            return super().now() + self.ticks  # what is recorded later is later

        def sleep(self, seconds: float) -> None:
            super().sleep(seconds)
            model_kit.point()

    before = sys.modules.keys() | {"job"}
    now = model_kit._Now
    now.epoch, now.cut, now.how = job["epoch"], job["cut"], job["how"]
    now.log = os.open("log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o600)
    os.environ.update(job["environment"])
    specification = importlib.util.spec_from_file_location("job", Path("job.py").resolve())
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules["job"] = module
    clock = Clock()
    clock.seconds, clock.ticks = job["now"], 0
    with use_clock(clock):
        specification.loader.exec_module(module)
        try:
            called = module.job.with_options(idempotency_key=job["key"]) if job["key"] else module.job
            got = called(job["x"])
            ended = {"end": "value", "value": asyncio.run(got) if asyncio.iscoroutine(got) else got}
        except KeyboardInterrupt:
            ended = {"end": "interrupted"}
        except Exception as error:
            ended = {"end": "error", "value": f"{type(error).__name__}: {error}"}
            traceback.print_exc()
        durable.close_journals()
    Path("loaded").write_text(" ".join(sys.modules.keys() - before))
    Path("ended").write_text(json.dumps({**ended, "points": now.points, "now": clock.seconds}))


if __name__ == "__main__":
    _serve()
