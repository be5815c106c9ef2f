"""Generator tasks of either colour, and what their consumers get."""

import asyncio

from durable import task


def made(colour, body, **options):
    """A generator task of `body(n)`, which lists what to yield or raise, in one colour."""
    if colour == "sync":

        def numbers(n):
            for step in body(n):
                if isinstance(step, BaseException):
                    raise step
                yield step

    else:

        async def numbers(n):
            for step in body(n):
                if isinstance(step, BaseException):
                    raise step
                await asyncio.sleep(0)
                yield step

    return task(**options)(numbers)


def consumed(generator, limit=None):
    """All that a generator of either colour gives, or its first `limit` values and a close."""
    if hasattr(generator, "__next__"):
        got = []
        for value in generator:
            got.append(value)
            if len(got) == limit:
                generator.close()
                break
        return got

    async def collect():
        got = []
        async for value in generator:
            got.append(value)
            if len(got) == limit:
                await generator.aclose()
                break
        return got

    return asyncio.run(collect())
