"""Task runners: what executes the task runs a flow submits."""

from durable.runners.base import TaskRunner
from durable.runners.mapping import mapped
from durable.runners.threads import ThreadPoolTaskRunner

__all__ = ["TaskRunner", "ThreadPoolTaskRunner", "mapped"]
