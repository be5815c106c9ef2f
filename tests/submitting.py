"""Flows whose bodies submit tasks, and a task that runs until it is let go."""

import asyncio
import threading

from durable import flow, task
from durable.runners import ThreadPoolTaskRunner


class Gate:
    """A task that stands at a gate until the test opens it."""

    def __init__(self):
        self.entered, self.open = threading.Event(), threading.Event()

        @task
        def stand(value="stood"):
            self.entered.set()
            assert self.open.wait(60)
            return value

        self.stand = stand


def run(fn, **options):
    """A flow of this function, called; of a coroutine function, run to its end."""
    made = flow(**options)(fn)()
    return asyncio.run(made) if asyncio.iscoroutine(made) else made


def one_worker():
    return ThreadPoolTaskRunner(max_workers=1)
