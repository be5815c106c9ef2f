"""The run whose body is executing, as plain facts: ``durable.runtime.flow_run`` and ``durable.runtime.task_run``.

Borrowed from Prefect 3's ``prefect.runtime``. Outside of a run the facts are None, empty or 0.
"""

from durable.runtime import flow_run, task_run

__all__ = ["flow_run", "task_run"]
