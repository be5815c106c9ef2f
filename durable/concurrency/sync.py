"""`concurrency`, and a `rate_limit` whose call waits. For Prefect 3's module of the same name."""

from durable.concurrency.api import concurrency
from durable.concurrency.api import rate_limit_now as rate_limit

__all__ = ["concurrency", "rate_limit"]
