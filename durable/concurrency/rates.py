"""Rates: how often something may begin. A bucket that each call fills and time empties, as Prefect 3's decaying slots.

A limit of 30 slots of which 0.5 decay each second lets 30 calls pass at once, and then one every two seconds. The first
in each process's line books its place ahead, and then waits for it: so processes take turns in the order they asked,
and a dead process leaves at most one booking behind. A clock that is set back empties nothing meanwhile, and does no
other harm; in a jump forward the bucket runs empty.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

from durable.clock import clock
from durable.concurrency.definitions import Limit
from durable.concurrency.folder import Bucket, Folder, read_bucket, write_bucket
from durable.concurrency.waiting import BUSY, IDLE, Line, Patience, Steps, Waiter, lock
from durable.errors import JournalNotWritable
from durable.phrases import duration

_ROUNDING: Final = 1e-9  # of a slot
_lines: dict[tuple[Path, str], Line] = {}


class RateTicket:
    """One call's slots of one rate.

    Attributes:
        name: the limit's.
    """

    def __init__(self, journal: Path, limit: Limit, occupy: int) -> None:
        self.name = limit.name
        self._slots = limit.slots
        self._decay = limit.decay or 0.0
        self._occupy = occupy
        self._folder = Folder(journal)
        self._wait = 0.0
        self._booked = False

    def wanted(self) -> str:
        """What it wants, for messages."""
        return f"{'slot' if self._occupy == 1 else f'{self._occupy} slots'} of {self.name!r}"

    def found(self) -> str:
        """What is in the way."""
        rate = f"{self._slots} at once, {self._decay:g} a second"
        return f"it lets pass {rate}, and the next in {duration(self._wait * 1e6)}" if self._wait else f"it is {rate}"

    def steps(self, patience: Patience) -> Steps:
        """Wait until it may pass."""
        key, waiter = (self._folder.path, self.name), Waiter()
        with lock:
            line = _lines.setdefault(key, Line())
            line.join(waiter)
        try:
            while True:
                with lock:
                    if line.is_first(waiter):
                        break
                yield waiter, patience.pause(IDLE, self)
            while not self._book(patience):
                yield None, patience.pause(BUSY, self)
            until = clock().monotonic() + self._wait
            while (left := until - clock().monotonic()) > 0:
                yield None, patience.pause(min(left, IDLE), self)
        finally:
            with lock:
                line.leave(waiter)
                if not line:
                    _lines.pop(key, None)

    def _book(self, patience: Patience) -> bool:
        """Fill the bucket: a call that finds no room is to wait until there would have been. False: look again."""
        with lock, self._folder.locked() as descriptor:
            if descriptor is None:
                return False
            bucket = self._now(read_bucket(descriptor, self.name))
            over = bucket.filled + self._occupy - self._slots
            self._wait = over / self._decay if over > _ROUNDING else 0.0
            left = patience.left()
            if left is not None and self._wait > left:
                raise patience.over(self)
            self._booked = True
            write_bucket(descriptor, self.name, Bucket(bucket.filled + self._occupy, bucket.at))
        return True

    def undo(self) -> None:
        """It does not pass after all."""
        if not self._booked:
            return
        self._booked = False
        # If it cannot be taken back now, time will.
        with suppress(JournalNotWritable), lock, self._folder.locked() as descriptor:
            if descriptor is not None:
                bucket = self._now(read_bucket(descriptor, self.name))
                write_bucket(descriptor, self.name, Bucket(max(0.0, bucket.filled - self._occupy), bucket.at))

    def _now(self, bucket: Bucket) -> Bucket:
        now = clock().now()
        return Bucket(max(0.0, bucket.filled - max(0, now - bucket.at) / 1e6 * self._decay), now)
