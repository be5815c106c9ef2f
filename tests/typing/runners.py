"""Task runners as a type checker sees them, and what is generic. Checked as `api.py` is, and never run."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from typing import Any

from typing_extensions import assert_type

from durable import Flow, Future, State, Task, flow, task
from durable.errors import CancelledRun, FlowRunCancelled, RunFailed, TaskFailed, WorkerDied
from durable.futures import FutureList
from durable.task_runners import (
    DaskTaskRunner,
    ExecutorTaskRunner,
    ProcessPoolTaskRunner,
    TaskRunner,
    ThreadPoolTaskRunner,
)


@task
def size(path: str) -> int:
    """A task."""
    return len(path)


@task
async def fetch(path: str) -> int:
    """An async task."""
    return len(path)


# A flow takes a runner, or its class.


@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def shipped(paths: list[str]) -> int:
    """A flow."""
    assert_type(size.submit(paths[0]), Future[int])
    return sum(size.map(paths).result())


@flow(task_runner=ThreadPoolTaskRunner)
async def threaded(paths: list[str]) -> list[int]:
    """An async flow."""
    return await size.map(paths)


assert_type(shipped(["a"]), int)
assert_type(shipped.with_options(task_runner=ThreadPoolTaskRunner(4))(["a"]), int)
flow(task_runner="threads")  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
flow(task_runner=ThreadPoolExecutor())  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]

runners: list[TaskRunner] = [
    ThreadPoolTaskRunner(),
    ProcessPoolTaskRunner(2, initializer=print, initargs=("ready",)),
    ExecutorTaskRunner(ProcessPoolExecutor(), max_workers=2),
    DaskTaskRunner("tcp://127.0.0.1:8786"),
    DaskTaskRunner(cluster_kwargs={"n_workers": 2}),
]
ThreadPoolTaskRunner("4")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ProcessPoolTaskRunner(initargs=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
ExecutorTaskRunner(4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]

# What a run that did not complete raises.


def told(state: State[int]) -> str:
    """Catches the family, or one."""
    try:
        return str(state.result())
    except WorkerDied as error:
        assert_type(str(error), str)
        family: RunFailed = error
        return str(family)
    except (CancelledRun, TaskFailed) as error:
        return type(error).__name__


cancelled: type[BaseException] = FlowRunCancelled
failed: type[Exception] = FlowRunCancelled  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]

# What users write between brackets, also where it is evaluated.

AnyTask = Task[..., Any]
Sizes = FutureList[int]
Loader = Task[[str], int]
Job = Flow[[list[str]], int]


def uses(loader: Loader, job: Job, sizes: Sizes, state: State[bytes], future: Future[bytes]) -> AnyTask:
    """Takes one of each."""
    assert_type(loader("a"), int)
    assert_type(loader.submit("a"), Future[int])
    assert_type(job(["a"]), int)
    assert_type(sizes.result(), list[int])
    assert_type(state.result(), bytes)
    assert_type(future.result(), bytes)
    loader(1)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    return loader


needed: Loader = size
wrong: Loader = fetch  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
narrow: Future[bool] = size.submit("a")  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
