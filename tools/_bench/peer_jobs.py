"""The benchmark's job as each peer does it: ``python peer_jobs.py NAME FOLDER TASKS``, in that peer's environment.

Prints microseconds a task: ``first`` where everything is executed, ``replay`` where all of it is already known.
"""
# mypy: disable-error-code="import-not-found,import-untyped,untyped-decorator"
# The peers are not installed where this file is checked.

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

OFFSET = 1_000_000_000_000


def timed(tasks: int, work: Callable[[], Any]) -> float:
    """Microseconds a task."""
    begin = time.perf_counter()
    work()
    return (time.perf_counter() - begin) / tasks * 1e6


def number_of(number: int) -> int:
    """The task."""
    return number + OFFSET


def joblib(folder: Path, tasks: int) -> dict[str, float | None]:
    """``Memory``: files, no fsync."""
    from joblib import Memory

    step = Memory(folder, verbose=0).cache(number_of)
    first, replay = (timed(tasks, lambda: [step(number) for number in range(tasks)]) for _ in range(2))
    return {"first": first, "replay": replay}


def diskcache(folder: Path, tasks: int) -> dict[str, float | None]:
    """``memoize``: SQLite without fsync."""
    from diskcache import Cache

    step = Cache(str(folder)).memoize()(number_of)
    first, replay = (timed(tasks, lambda: [step(number) for number in range(tasks)]) for _ in range(2))
    return {"first": first, "replay": replay}


def huey(folder: Path, tasks: int) -> dict[str, float | None]:
    """A queue in SQLite, worked off in this process; nothing is replayed."""
    from huey import SqliteHuey

    queue = SqliteHuey(filename=str(folder / "huey.db"), fsync=True)
    step = queue.task()(number_of)

    def work() -> None:
        for number in range(tasks):
            asked = step(number)
            queue.execute(queue.dequeue())
            asked.get(blocking=True)

    return {"first": timed(tasks, work), "replay": None}


def redun(folder: Path, tasks: int) -> dict[str, float | None]:
    """Its scheduler, with an SQLite backend."""
    import logging

    from redun import Scheduler, task
    from redun.config import Config

    logging.disable(logging.CRITICAL)
    step = task(name="step", namespace="bench")(number_of)

    def work() -> None:
        scheduler = Scheduler(config=Config({"backend": {"db_uri": f"sqlite:///{folder}/redun.db"}}))
        scheduler.load()
        scheduler.run([step(number) for number in range(tasks)])

    return {"first": timed(tasks, work), "replay": timed(tasks, work)}


def dbos(folder: Path, tasks: int) -> dict[str, float | None]:
    """Steps of a workflow, SQLite; a fork that begins after the last step replays them all."""
    from dbos import DBOS, SetWorkflowID

    DBOS(config={"name": "bench", "system_database_url": f"sqlite:///{folder}/dbos.db", "log_level": "CRITICAL"})
    step = DBOS.step()(number_of)
    took: list[float] = []

    @DBOS.workflow()
    def job(tasks: int) -> None:
        took.append(timed(tasks, lambda: [step(number) for number in range(tasks)]))

    DBOS.launch()
    with SetWorkflowID("first"):
        job(tasks)
    DBOS.fork_workflow("first", tasks + 1).get_result()
    return {"first": took[0], "replay": took[1]}


def prefect(folder: Path, tasks: int) -> dict[str, float | None]:
    """Its local server, started for the run; replay is a cache hit of persisted results."""
    os.environ |= {
        "PREFECT_HOME": str(folder),
        "PREFECT_LOGGING_LEVEL": "CRITICAL",
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    }
    from prefect import flow, task
    from prefect.cache_policies import INPUTS

    step = task(cache_policy=INPUTS, persist_result=True)(number_of)
    took: list[float] = []

    @flow
    def job() -> None:
        step(-1)
        took.append(timed(tasks, lambda: [step(number) for number in range(tasks)]))

    job()
    job()
    return {"first": took[0], "replay": took[1]}


if __name__ == "__main__":
    name, given, number = sys.argv[1:]
    print(json.dumps(globals()[name](Path(given), int(number))))
