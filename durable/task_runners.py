"""The task runners, under the module name Prefect 3 gives them: what executes the task runs a flow submits."""

from durable.runners import TaskRunner, ThreadPoolTaskRunner

__all__ = ["TaskRunner", "ThreadPoolTaskRunner"]
