"""Futures: task runs that were submitted, and may not have ended yet. Names and semantics follow Prefect 3.

Unlike Prefect's, a future can be awaited and cancelled, and it keeps its outcome only among the newest ones of its task
runner: an older one is read from the journal again, so that a million of them fit in memory.
"""

from durable.futures.future import Future, executing, giving_way
from durable.futures.several import DoneAndNotDone, FutureList, as_completed, wait

__all__ = ["DoneAndNotDone", "Future", "FutureList", "as_completed", "executing", "giving_way", "wait"]
