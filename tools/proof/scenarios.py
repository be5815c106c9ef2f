"""The jobs that are killed, cut off and starved. Each prints its value last and logs, independently of the journal:

``step X`` when the body of the task run named ``step-X`` has its effect, and ``ack X`` once its result was returned;
``put X`` and ``undo X`` when a task of a transaction that fails has its effect, and when that is undone.

One more scenario is one more text here, and everything is tried on it: kills, power cuts.
"""

from __future__ import annotations

from typing import Final

_STEP: Final = """
@task(task_run_name="step-{x}")
def step(x):
    ran("step", x)
    return {"x": x, "pair": (x, x * x), "squared": x * x}

@task(task_run_name="step-{x}")
async def astep(x):
    ran("step", x)
    await asyncio.sleep(0)
    return x * 10

def acked(x):
    value = step(x)
    ran("ack", x)
    return value["pair"]
"""

SYNC: Final = (
    _STEP
    + """
@flow
def job():
    return [acked(x) for x in range(4)]

print(job())
"""
)

ASYNC: Final = (
    _STEP
    + """
@flow
async def job():
    async def one(x):
        value = await astep(x)
        ran("ack", x)
        return value
    first = await one(0)
    return first, await asyncio.gather(*[one(x) for x in range(1, 5)])

print(asyncio.run(job()))
"""
)

THREADS: Final = (
    _STEP
    + """
from durable.runners import ThreadPoolTaskRunner

@task(task_run_name="step-{name}")
def total(name, values):
    ran("step", name)
    return sum(value["squared"] for value in values)

@flow(task_runner=ThreadPoolTaskRunner(max_workers=3))
def job():
    steps = step.map(range(6))
    summed = total.submit("sum", steps)
    for x, future in enumerate(steps):
        future.result()
        ran("ack", x)
    value = summed.result()
    ran("ack", "sum")
    return value

print(job())
"""
)

PROCESSES: Final = (
    _STEP
    + """
from durable.task_runners import ProcessPoolTaskRunner

@flow(task_runner=ProcessPoolTaskRunner(max_workers=2))
def job():
    steps = step.map(range(4))
    for x, future in enumerate(steps):
        future.result()
        ran("ack", x)
    return [future.result()["pair"] for future in steps]

if __name__ == "__main__":
    print(job())
"""
)

GENERATOR: Final = (
    _STEP
    + """
@task
def numbers(n):
    for x in range(n):
        yield x

@flow
def job():
    return [acked(x) for x in numbers(5)]

print(job())
"""
)

NESTED: Final = (
    _STEP
    + """
@task(task_run_name="step-{name}")
def outer(name, low):
    values = [acked(low), acked(low + 1)]
    ran("step", name)
    return values

@flow
def part(low):
    return outer(f"outer{low}", low)

@flow
def job():
    first = part(0)
    return first, part(2), acked(4)

print(job())
"""
)

RETRIES: Final = (
    _STEP
    + """
class Refused(Exception):
    pass

@task(retries=3, task_run_name="flaky")
def flaky():
    ran("flaky")
    if done("flaky") < 2:
        raise Refused("not yet")
    return acked(10)

@task(task_run_name="step-broken")
def broken():
    ran("step", "broken")
    raise Refused("never")

@flow
def job():
    value = flaky()
    try:
        broken()
    except Refused as error:
        value = value, repr(error)
    return value, acked(11)

print(job())
"""
)

MEMO: Final = (
    _STEP
    + """
from durable.cache_policies import INPUTS

memo = step.with_options(cache_policy=INPUTS)

@flow
def job(day):
    value = memo(7)["squared"], memo(8)["squared"]
    ran("ack", 7)
    ran("ack", 8)
    return day, value

print([job(day) for day in ("mon", "tue")])
"""
)

EQUAL: Final = (
    _STEP
    + """
@task
def tick(x):
    return x

@flow
def job():
    return [tick(1) for _ in range(3)], acked(1), [tick(1) for _ in range(3)], acked(2)

print(job())
"""
)

ASYNC_GENERATOR: Final = (
    _STEP
    + """
@task
async def numbers(n):
    for x in range(n):
        await asyncio.sleep(0)
        yield x

@flow
async def job():
    values = []
    async for x in numbers(4):
        values.append(await astep(x))
        ran("ack", x)
    return values

print(asyncio.run(job()))
"""
)

SUBMITTED: Final = (
    _STEP
    + """
@flow
async def part(low):
    futures = [astep.submit(low + x) for x in range(3)]
    return [await future for future in futures]

@flow
async def job():
    found = await part(0)
    return found, await part(3), acked(10)

print(asyncio.run(job()))
"""
)

TRANSACTION: Final = (
    _STEP
    + """
from durable.transactions import transaction

class Refused(Exception):
    pass

@task
def put(x):
    ran("put", x)
    return x

@put.on_rollback
def undo(txn):
    ran("undo", txn.read())

@task
def check():
    raise Refused("no")

@flow
def job():
    try:
        with transaction():
            put(1)
            put(2)
            check()
    except Refused:
        refused = True
    with transaction():
        return refused, acked(1), acked(2)

print(job())
"""
)

_NEWEST: Final = """
from durable.reader import JournalReader

def newest():
    if not os.path.exists("runs.db"):
        return None
    with JournalReader("runs.db") as reader:
        runs = reader.flow_runs(1, None)
    return runs[0] if runs else None
"""

CANCEL: Final = (
    _STEP
    + _NEWEST
    + """
@task
def stop():
    if not done("asked"):
        ran("asked")
        command("cancel", "runs.db", "-")

@flow
def job():
    first = acked(0)
    stop()
    return first, acked(1), acked(2)

while True:
    found = newest()
    os.environ["DURABLE_RESUME"] = found.id if found and found.recorded == "Cancelled" else "auto"
    try:
        print(job())
        break
    except durable.FlowRunCancelled:
        pass
"""
)

FORK: Final = (
    _STEP
    + _NEWEST
    + """
import contextlib, io

again = ""

@task(task_run_name=lambda: "step-late" + again)
def late():
    ran("step", "late" + again)
    return "late"

@flow
def job():
    return acked(0), acked(1), late()

once = job.with_options(idempotency_key="once")
first = once()
found = newest()
if found.idempotency_key is not None:
    with contextlib.redirect_stdout(io.StringIO()):
        command("fork", "runs.db", "-", "--from", "late")
    found = newest()
again = "-again"
if found.recorded != "Completed":
    os.environ["DURABLE_RESUME"] = found.id
    assert job() == first
print(first)
"""
)

ALL: Final = {
    "sync": SYNC,
    "async": ASYNC,
    "threads": THREADS,
    "processes": PROCESSES,
    "generators": GENERATOR,
    "async generators": ASYNC_GENERATOR,
    "nested flows and tasks": NESTED,
    "async subflows, submitted tasks": SUBMITTED,
    "retries": RETRIES,
    "memos": MEMO,
    "equal calls": EQUAL,
    "transactions": TRANSACTION,
    "durable cancel, then resumed": CANCEL,
    "durable fork": FORK,
}

SLOW: Final = frozenset({"processes"})  # fresh interpreters take a second to start
