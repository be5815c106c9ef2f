"""Named limits as a type checker sees them, in plain code and in coroutines."""

from __future__ import annotations

from typing_extensions import assert_type

from durable.concurrency import RateLimit, asyncio, concurrency, rate_limit, sync


def plain() -> int:
    """One object for both."""
    with concurrency("api", occupy=2, timeout_seconds=5), concurrency(["a", "b"], limit=3, strict=False) as nothing:
        assert_type(nothing, None)
    assert_type(rate_limit("api", limit=3, slot_decay_per_second=0.5), RateLimit)
    with rate_limit(("a", "b"), 2, 1.5), sync.rate_limit("api"), sync.concurrency("api"):
        return 1


async def coroutine() -> int:
    """The same, awaited."""
    async with concurrency("api"), rate_limit("api"), asyncio.concurrency("api"):
        assert_type(await rate_limit("api"), None)
        assert_type(await asyncio.rate_limit("api", 1, 2.0), None)
        return 1


concurrency(3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
concurrency("api", "1")  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
concurrency("api", max_retries=3)  # type: ignore[call-arg] # pyright: ignore[reportCallIssue]
