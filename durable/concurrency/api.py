"""`concurrency` and `rate_limit`, as users have them."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Generator, Iterable
from pathlib import Path
from types import TracebackType
from typing import Any

from durable.concurrency.definitions import Limit, defined, names_of
from durable.concurrency.rates import RateTicket
from durable.concurrency.slots import Ticket
from durable.concurrency.waiting import Patience, Steps, wait, wait_async
from durable.errors import ConfigurationError
from durable.journal import Journal
from durable.ownership import locks_beside
from durable.retries import is_number
from durable.runs import current
from durable.settings import journal_path


class concurrency:  # noqa: N801 - Prefect's name, and used as a function is
    """Hold slots of named limits for a block: ``with`` in plain functions, ``async with`` in coroutines.

    However the block is left, its slots are free again, and so are those of a dead process, at once. In one process
    it is first come, first served; between processes whoever has waited a quarter of a second longer goes first. Not to
    be nested under one name: a block that holds the last slot would wait for itself. The object may be kept and used
    again. Borrowed from Prefect 3; see `durable.concurrency` for where limits are defined.

    Args:
        names: the limit's name, or a list of names, which are taken in alphabetical order.
        occupy: how many slots of each.
        timeout_seconds: how long to wait for them; for ever by default.
        limit: how many slots there are of each, instead of what the settings say. Processes should agree; each keeps
            to its own number.
        strict: False lets an undefined name pass, with one warning. Prefect's default is False.

    Raises:
        ConfigurationError: what cannot be meant. When the block is entered: an undefined limit, more than there are.
        ConcurrencyTimeoutError: when the block is entered: not to be had in that time.
        FlowRunCancelled: while it waits: the flow run is to be cancelled.
        JournalNotWritable: beside the journal no folder can be made.
    """

    def __init__(
        self,
        names: str | Iterable[str],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        *,
        limit: int | None = None,
        strict: bool = True,
    ) -> None:
        self._names = names_of("concurrency", names)
        self._occupy = occupy
        self._timeout = _seconds("concurrency", timeout_seconds)
        self._limit = limit
        self._strict = strict
        self._held: list[list[Ticket]] = []  # of each block that is in use now

    def __enter__(self) -> None:
        tickets = self._tickets()
        wait(_all_of(tickets, Patience(self._timeout)))
        self._held.append(tickets)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for ticket in reversed(self._held.pop()):
            ticket.undo()

    async def __aenter__(self) -> None:
        tickets = self._tickets()
        await wait_async(_all_of(tickets, Patience(self._timeout)))
        self._held.append(tickets)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, traceback)

    def _tickets(self) -> list[Ticket]:
        limits = _limits("concurrency", self._names, self._occupy, self._limit, None, self._strict)
        return [Ticket(_journal(), limit, self._occupy) for limit in limits]


class RateLimit:
    """What `rate_limit` gives: to be awaited, entered or, in plain code, left alone.

    Each ``await``, ``with`` and ``async with`` waits once.
    """

    def __init__(
        self,
        names: str | Iterable[str],
        occupy: int = 1,
        timeout_seconds: float | None = None,
        *,
        limit: int | None = None,
        slot_decay_per_second: float | None = None,
        strict: bool = True,
    ) -> None:
        self._used = True  # as long as it may not be meant at all
        self._paid = False
        self._names = names_of("rate_limit", names)
        self._occupy = occupy
        self._timeout = _seconds("rate_limit", timeout_seconds)
        self._limit = limit
        self._decay = slot_decay_per_second
        self._strict = strict
        self._used = False

    def __enter__(self) -> None:
        paid, self._paid, self._used = self._paid, False, True
        if not paid:
            wait(self._steps())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """A rate is not given back."""

    def __await__(self) -> Generator[Any, None, None]:
        paid, self._paid, self._used = self._paid, False, True
        if not paid:
            yield from wait_async(self._steps()).__await__()

    async def __aenter__(self) -> None:
        await self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """A rate is not given back."""

    def __del__(self) -> None:
        if not self._used:
            message = f"rate_limit({self._names!r}) was neither awaited nor entered: it has limited nothing"
            warnings.warn(message, RuntimeWarning, stacklevel=1, source=self)

    # What durable calls.

    def pay(self) -> None:
        """Wait now; the next use does not."""
        self._used = True
        wait(self._steps())
        self._paid = True

    def _steps(self) -> Steps:
        limits = _limits("rate_limit", self._names, self._occupy, self._limit, self._decay, self._strict, is_rate=True)
        return _all_of([RateTicket(_journal(), limit, self._occupy) for limit in limits], Patience(self._timeout))


def rate_limit(
    names: str | Iterable[str],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    *,
    limit: int | None = None,
    slot_decay_per_second: float | None = None,
    strict: bool = True,
) -> RateLimit:
    """Wait until named rates let the caller pass. Borrowed from Prefect 3.

    In plain code the call waits, and what it gives may be entered (``with rate_limit("api"):``). On an event loop the
    call waits for nothing: ``await rate_limit("api")``, or ``async with``; one that is neither gives a RuntimeWarning,
    as a forgotten coroutine does. In `durable.concurrency.sync` a call always waits, in `durable.concurrency.asyncio`
    it never does.

    A rate counts over all processes that share the journal, and over their deaths: how much of it was used stays on
    disk. First come, first served; a wait that cannot end in time is not begun.

    Args:
        names: the limit's name, or a list of names.
        occupy: how many slots of each a pass takes.
        timeout_seconds: how long to wait; for ever by default.
        limit: how many slots there are of each, instead of what the settings say: so many may pass at once.
        slot_decay_per_second: how many of the slots that were taken are free again each second, instead of what the
            settings say: so many pass each second in the long run.
        strict: False lets an undefined name pass, with one warning. Prefect's default is False.

    Raises:
        ConfigurationError: what cannot be meant, an undefined limit, one that has no decay, more slots than there are.
        ConcurrencyTimeoutError: it would not pass in that time.
        FlowRunCancelled: while it waits: the flow run is to be cancelled.
        JournalNotWritable: beside the journal no folder can be made.
    """
    made = RateLimit(
        names, occupy, timeout_seconds, limit=limit, slot_decay_per_second=slot_decay_per_second, strict=strict
    )
    asyncio = sys.modules.get("asyncio")
    if asyncio is None or asyncio._get_running_loop() is None:  # noqa: SLF001 - the documented one raises
        made.pay()
    return made


def rate_limit_now(
    names: str | Iterable[str],
    occupy: int = 1,
    timeout_seconds: float | None = None,
    *,
    limit: int | None = None,
    slot_decay_per_second: float | None = None,
    strict: bool = True,
) -> RateLimit:
    """As `rate_limit`, but the call waits also on an event loop, which then stands still."""
    made = RateLimit(
        names, occupy, timeout_seconds, limit=limit, slot_decay_per_second=slot_decay_per_second, strict=strict
    )
    made.pay()
    return made


def _limits(
    who: str,
    names: list[str],
    occupy: int,
    slots: int | None,
    decay: float | None,
    strict: bool,  # noqa: FBT001 - internal
    *,
    is_rate: bool = False,
) -> list[Limit]:
    found = [defined(who, name, occupy, slots, decay, is_rate=is_rate, strict=strict) for name in names]
    return [limit for limit in found if limit is not None]


def _all_of(tickets: list[Any], patience: Patience) -> Steps:
    """One after the other; all or none."""
    try:
        for ticket in tickets:
            yield from ticket.steps(patience)
    except BaseException:
        for ticket in reversed(tickets):
            ticket.undo()
        raise


def _journal() -> Path:
    """The journal beside which the limits are kept."""
    beside, scope = locks_beside.get(), current.get()
    if beside is not None:
        return beside
    if scope is not None and isinstance(scope.journal, Journal):
        return scope.journal.path
    return Path(os.path.realpath(Path(journal_path()).expanduser()))


def _seconds(who: str, given: Any) -> float | None:
    if given is None:
        return None
    if is_number(given) and given >= 0:
        return float(given)
    raise ConfigurationError(f"{who}: timeout_seconds={given!r}: expected seconds, 0 or more, or None")
