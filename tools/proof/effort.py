"""How much of a proof is tried: a seeded choice until the time is up, or everything; and what came of it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

Case = TypeVar("Case")


class Row(NamedTuple):
    """A line of the table: what was tried, how often, and what came of it."""

    what: str
    cases: int
    faults: int
    repeated: int = 0
    lost: int = 0  # results that may be lost, as documented


class NotHere(Exception):
    """What a proof needs cannot be had on this machine; its text says what."""


class Effort(NamedTuple):
    """How hard one proof is to try.

    Attributes:
        seed: of the choice of cases.
        scale: how many times as many cases as in the quick proof; None for all of them.
        end: the time (`time.monotonic`) after which no further case is begun; None for no such time.
        pairs: also the calls of the run that resumes, from every state that the first kill can leave: of so many
            parts which one, (1, 1) for every call; None for none.
    """

    seed: int
    scale: int | None = 1
    end: float | None = None
    pairs: tuple[int, int] | None = None

    def seeded(self, name: str) -> random.Random:
        """A source of chance that one proof does not share with others, so that each can be made again alone."""
        return random.Random(f"{self.seed} {name}")

    def count(self, few: int) -> int:
        """How many cases, where there is no end to what could be tried."""
        return few * (5 if self.scale is None else self.scale)

    def choice(self, every: Sequence[Case], few: int, seeded: random.Random) -> Iterator[Case]:
        """Some of `every` case, `few` in the quick proof; one at least. All of them, in order, where all are wanted."""
        if self.scale is None or few * self.scale >= len(every):
            chosen = list(every) if self.scale is None else seeded.sample(every, len(every))
        else:
            chosen = seeded.sample(every, few * self.scale)
        return self.in_time(chosen)

    def in_time(self, chosen: Sequence[Case]) -> Iterator[Case]:
        """`chosen`, until the time is up; one at least."""
        for number, case in enumerate(chosen):
            if number and self.end is not None and time.monotonic() > self.end:
                return
            yield case

    def seconds(self, few: float, many: float) -> float:
        """How long something that has no cases goes on: `few` in the quick proof, if there is that much time."""
        if self.end is None:
            return few if self.scale == 1 else many
        return min(few, max(1.0, self.end - time.monotonic()))


# A proof of one thing: in a folder of its own, this hard, on jobs that begin with this code (which breaks a promise).
Proof = Callable[[Path, Effort, str], Row]
