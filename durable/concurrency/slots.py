"""Slots of a limit: held from one moment to another, by whichever process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from durable.clock import clock
from durable.concurrency.definitions import Limit
from durable.concurrency.folder import Entry, Folder, Standing
from durable.concurrency.waiting import BUSY, IDLE, LOOK, Line, Patience, Steps, Waiter, lock
from durable.futures import executing, giving_way
from durable.runs import current

_FAIR: Final = 250_000  # microseconds that another process's first in line must have waited longer to go first
_FRESH: Final = 2_000_000  # microseconds after which one that has not looked again is not waited for
_GIVING_WAY: Final = 200  # waiting task runs of one limit that give their places up, at most

_here: dict[tuple[Path, str], Slots] = {}


class Slots:
    """What this process holds of one limit, and who waits for more. The lock is held for every call."""

    def __init__(self, folder: Folder, name: str) -> None:
        self.folder = folder
        self.name = name
        self.held = 0
        self.line = Line()
        self.holders: list[Any] = []  # the task runs whose bodies hold slots; for others None, or True in a flow run
        self.giving_way = 0
        self.others: list[tuple[str, Standing]] = []  # as last seen
        self._entry: Entry | None = None
        self._since = 0
        self._inherited = False

    def look(self, ticket: Ticket) -> float:
        """Take the slots of the first in line, if there are so many: 0, or seconds until the next look."""
        if not self.line.is_first(ticket.waiter):
            return IDLE
        now = clock().now()
        self._since = self._since or now
        if self._entry is not None and self.held + ticket.occupy > ticket.limit.slots:
            self._entry.write(Standing(self.held, self._since, now))
            return IDLE  # what others hold does not matter: it is rung when one of this process's gives back
        with self.folder.locked() as descriptor:
            if descriptor is None:
                return BUSY
            if self._entry is None:
                self._entry = Entry(descriptor, self.name)
            self.others = self._entry.others(descriptor)
            free = ticket.limit.slots - self.held - sum(standing.held for _, standing in self.others)
            if free < ticket.occupy or self._others_first(now):
                self._entry.write(Standing(self.held, self._since, now))
                return LOOK
            ticket.holds = True
            self.held += ticket.occupy
            self.holders.append(ticket.holder)
            self._since = 0
            self._entry.write(Standing(self.held, self._since, now))
        return 0.0

    def _others_first(self, now: int) -> bool:
        return any(
            0 < standing.since < self._since - _FAIR and abs(now - standing.looked) < _FRESH
            for _, standing in self.others
        )

    def give_back(self, ticket: Ticket) -> None:
        """Its slots are free again."""
        if not ticket.holds:
            return
        ticket.holds = False
        self.held -= ticket.occupy
        self.holders.remove(ticket.holder)
        self.settle()

    def settle(self) -> None:
        """Somebody has left: tell the others what is left, and ring for the next."""
        if self._inherited:
            return
        if self.held or self.line:
            if self._entry is not None:
                self._entry.write(Standing(self.held, self._since, 0))
            self.line.ring()
            return
        _here.pop((self.folder.path, self.name), None)
        entry, self._entry = self._entry, None
        if entry is not None:
            entry.remove(self.folder.path)
            self.folder.tidy()

    def may_lock_up(self) -> bool:
        """Whether a holder in this process may be waiting for task runs, which need the places of those who wait."""
        waiting = any(holder is True or (holder is not None and holder.waits) for holder in self.holders)
        return waiting and self.giving_way < _GIVING_WAY

    def forget(self) -> None:
        """In a forked child: all this is the parent's."""
        self._inherited = True
        if self._entry is not None:
            with suppress(OSError):
                self._entry.forget()


class Ticket:
    """One call's slots of one limit: wanted, then held.

    Attributes:
        name: the limit's.
        limit, occupy: how many of which.
        holds: it has them.
        waiter: itself, in the line.
        holder: the task run whose body asks; True: something else in a flow run; None: nothing of durable's.
    """

    def __init__(self, journal: Path, limit: Limit, occupy: int) -> None:
        self.name = limit.name
        self.limit = limit
        self.occupy = occupy
        self.holds = False
        self.waiter = Waiter()
        scope = current.get()
        self.holder: Any = executing.get() or (True if scope is not None and scope.flow_run is not None else None)
        self._folder = Folder(journal)
        self._slots: Slots | None = None

    def wanted(self) -> str:
        """What it wants, for messages."""
        return f"{'slot' if self.occupy == 1 else f'{self.occupy} slots'} of {self.name!r}"

    def found(self) -> str:
        """What is in the way."""
        slots = self._slots
        held = [(f"process {pid}", standing.held) for pid, standing in slots.others] if slots is not None else []
        held += [("this process", slots.held)] if slots is not None else []
        by = ", ".join(f"{who} ({count})" for who, count in held if count)
        taken = sum(count for _, count in held)
        return f"{taken} of {self.limit.slots} are held{f', by {by}' if by else ''}"

    def steps(self, patience: Patience) -> Steps:
        """Wait until it has them."""
        slots = self._join()
        gives_way = False
        with ExitStack() as waiting:
            waiting.callback(self._leave, slots)
            while True:
                with lock:
                    seconds = slots.look(self)
                    begins = not (gives_way or self.holds) and slots.may_lock_up()
                if self.holds:
                    return
                if begins:
                    gives_way = True
                    waiting.enter_context(self._gives_way(slots))
                yield None if seconds == BUSY else self.waiter, patience.pause(seconds, self)

    def undo(self) -> None:
        """Give back what it has."""
        with lock:
            if self._slots is not None:
                self._slots.give_back(self)

    def _join(self) -> Slots:
        with lock:
            key = self._folder.path, self.name
            slots = self._slots = _here.get(key) or Slots(self._folder, self.name)
            _here[key] = slots
            slots.line.join(self.waiter)
        return slots

    def _leave(self, slots: Slots) -> None:
        with lock:
            slots.line.leave(self.waiter)
            if not self.holds:
                slots.settle()

    @contextmanager
    def _gives_way(self, slots: Slots) -> Iterator[None]:
        with lock:
            slots.giving_way += 1
        try:
            with giving_way():
                yield
        finally:
            with lock:
                slots.giving_way -= 1


def _after_fork_in_child() -> None:
    for slots in _here.values():
        slots.forget()
    _here.clear()
    lock.release()


if hasattr(os, "register_at_fork"):
    # Nobody is in the middle of a look: its locks would live on in the child.
    os.register_at_fork(before=lock.acquire, after_in_parent=lock.release, after_in_child=_after_fork_in_child)
