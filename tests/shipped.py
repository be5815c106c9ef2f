"""Tasks that the tests of task runners send to worker processes, which import them by name."""

import os
import time
from pathlib import Path

from durable import get_run_logger, runtime, task
from durable.cache_policies import INPUTS
from durable.concurrency import concurrency


def note(folder, *words):
    """Append a line to what was executed, without going through durable; how many there are with it."""
    descriptor = os.open(Path(folder, "ran.log"), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\n").encode())
    os.close(descriptor)
    return Path(folder, "ran.log").read_text().splitlines().count(" ".join(map(str, words)))


def wait_for(path):
    deadline = time.monotonic() + 120
    while not Path(path).exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.005)


def slow_pid(_):
    """The worker's own, slowly enough for the other worker to be asked as well."""
    time.sleep(0.05)
    return os.getpid()


@task
def double(x):
    return 2 * x


@task
async def double_async(x):
    return 2 * x


@task
def fails(folder):
    note(folder, "fails")
    raise LookupError("boom", 7)


@task(retries=2)
def flaky(folder, good):
    """Fails until it is executed for the `good`-th time."""
    count = note(folder, "flaky")
    if count < good:
        raise ValueError(f"not yet {count}")
    return count


patient = task(flaky.fn, name="patient", retries=3, retry_delay_seconds=[5, 60])


@task(timeout_seconds=0.2)
def slow():
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        time.sleep(0.005)


@task
def waits(path):
    wait_for(path)
    return "waited"


@task(cache_policy=INPUTS)
def memo(folder, x):
    note(folder, "memo", x)
    return x


@task(log_prints=True)
def prints(x):
    print("printed", x)
    get_run_logger().warning("logged %s", x)
    return x


@task(task_run_name="row-{x}", tags=["own"])
def facts(x):
    run, flow = runtime.task_run, runtime.flow_run
    return {
        "task run": [run.name, run.task_name, run.tags, run.parameters, run.run_count, len(run.id)],
        "flow run": [flow.name, flow.flow_name, flow.tags, flow.parameters, flow.id == run.flow_run_id],
    }


@task
def returns_a_lock():
    import threading

    return threading.Lock()


@task
def exits():
    raise SystemExit(4)


@task
def inner(x):
    return x + 1


@task
def outer(x):
    return inner(x)


@task
def dies():
    os._exit(1)


@task(on_interrupt="fail", retries=3)
def pays(folder):
    note(folder, "pays")
    os._exit(1)


@task
def alone(folder):
    """Whether nobody else is in the block, and the limit is kept beside the run's own journal."""
    with concurrency("one at a time", limit=1):
        Path(folder, "here").touch(exist_ok=False)
        time.sleep(0.01)
        Path(folder, "here").unlink()
        return Path(folder, "own.db-limits").is_dir()
