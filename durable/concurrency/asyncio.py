"""`concurrency`, and a `rate_limit` that is awaited. For Prefect 3's module of the same name."""

from durable.concurrency.api import RateLimit as rate_limit  # noqa: N813 - Prefect's name
from durable.concurrency.api import concurrency

__all__ = ["concurrency", "rate_limit"]
