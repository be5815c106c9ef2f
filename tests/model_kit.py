"""What the scripts of the model import: bodies log that they run, fail as told, and are cut off at a numbered point."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import zlib
from types import SimpleNamespace
from typing import Any

from durable import flow, runtime, task
from durable.cache_policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NONE, RUN_ID, TASK_SOURCE

__all__ = ["DEFAULT", "FLOW_PARAMETERS", "INPUTS", "NONE", "RUN_ID", "TASK_SOURCE", "asyncio", "flow", "kit", "task"]


class Boom(Exception):
    """How bodies fail."""


class _Now:
    """This process: which one it is, where it is to be cut off, and how."""

    epoch = 0
    cut = 0
    how = "kill"
    points = 0
    log = -1
    lock = threading.Lock()


def mix(*facts: Any) -> int:
    """A value that depends on everything it is made of."""
    return zlib.crc32(repr(facts).encode())


def epoch() -> int:
    """The how many-th process of this journal it is."""
    return _Now.epoch


def point() -> None:
    """A place where the process may be cut off."""
    with _Now.lock:
        _Now.points += 1
        here = _Now.points == _Now.cut
    if here and _Now.how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if here:
        raise KeyboardInterrupt


def begin(name: str, x: int, y: int) -> int:
    """A body begins: the how many-th attempt it is told to be."""
    attempt = runtime.task_run.run_count
    os.write(_Now.log, f"{name} {x} {y} {attempt}\n".encode())
    point()
    return int(attempt)


def finish(name: str, x: int, attempt: int, fail: int) -> None:
    """A body ends: well in every (`fail` + 1)-th attempt."""
    point()
    if attempt % (fail + 1):
        raise Boom(f"{name} {x} {_Now.epoch} {attempt}")


def settled(futures: Any) -> list[Any]:
    """What futures came to: values and exceptions."""
    return [_settled(future) for future in futures]


def _settled(future: Any) -> Any:
    try:
        return future.result()
    except Exception as error:
        return error


def called(make: Any) -> list[Any]:
    """What a call came to: its value or exception."""
    try:
        return [make()]
    except Exception as error:
        return [error]


async def settled_async(futures: Any) -> list[Any]:
    """What futures came to: values and exceptions."""
    return list(await asyncio.gather(*futures, return_exceptions=True))


def taken(got: Any, catch: bool) -> Any:  # noqa: FBT001 - as short as the scripts that call it
    """A value, or what stands for a failure that is caught."""
    if not isinstance(got, BaseException):
        return got
    if catch and isinstance(got, Boom):
        return mix(str(got))
    raise got


# Of a namespace, so that TASK_SOURCE does not follow it: nobody edits these.
kit = SimpleNamespace(
    Boom=Boom,
    begin=begin,
    called=called,
    epoch=epoch,
    finish=finish,
    mix=mix,
    point=point,
    settled=settled,
    settled_async=settled_async,
    taken=taken,
)
