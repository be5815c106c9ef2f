"""The jobs that are killed, cut off and starved. Each prints its value last and logs, independently of the journal:

``step X`` when the body of the task run named ``step-X`` has its effect, and ``ack X`` once its result was returned.
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

ALL: Final = {
    "sync": SYNC,
    "async": ASYNC,
    "threads": THREADS,
    "generators": GENERATOR,
    "nested flows and tasks": NESTED,
    "retries": RETRIES,
    "memos": MEMO,
    "equal calls": EQUAL,
}
