"""A log of what tasks with hooks did, committed and undid, and their states; for the tests of transactions."""

import asyncio

from durable import task

UNDONE = ["Running", "Completed", "RolledBack", "RolledBack"]  # decided, then its hooks have run
UNDONE_WITHOUT_HOOKS = ["Running", "Completed", "RolledBack"]
DONE = ["Running", "Completed"]


class Log(list):
    """What was called, in order. `step("a")` is a task that says so, and so do its hooks."""

    def note(self, what):
        return lambda txn: self.append(what)

    def note_later(self, what):
        async def hook(txn):
            await asyncio.sleep(0)
            self.append(what)

        return hook

    def step(self, name, *, fails=False, **options):
        options = {"on_rollback": [self.note(f"undo {name}")], "on_commit": [self.note(f"commit {name}")], **options}

        @task(name=name, **options)
        def step():
            self.append(name)
            if fails:
                raise ValueError(name)
            return name

        return step


def fails():
    raise ValueError("boom")
