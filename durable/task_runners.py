"""Task runners, under the module name Prefect 3 gives them: what executes the task runs a flow submits.

Give one to ``@flow(task_runner=...)``. docs/task-runners.md says when each pays off.
"""

from durable.runners import TaskRunner, ThreadPoolTaskRunner
from durable.runners.dask import DaskTaskRunner
from durable.runners.executors import ExecutorTaskRunner
from durable.runners.processes import ProcessPoolTaskRunner

__all__ = [
    "DaskTaskRunner",
    "ExecutorTaskRunner",
    "ProcessPoolTaskRunner",
    "TaskRunner",
    "ThreadPoolTaskRunner",
]
