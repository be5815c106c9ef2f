"""Named limits, honoured by every thread, coroutine and process that shares a journal. After Prefect 3's module.

::

    from durable.concurrency import concurrency, rate_limit

    with concurrency("github-api", occupy=1):  # in a coroutine: async with
        ...
    rate_limit("github-api")  # in a coroutine: await rate_limit(...)

What a name stands for is a setting, `concurrency_limits`, or said in the call (``limit=5``). In a flow or task the
limit is its journal's; elsewhere that of the journal the settings name, which need not exist.
"""

from durable.concurrency.api import RateLimit, concurrency, rate_limit

__all__ = ["RateLimit", "concurrency", "rate_limit"]
