"""What the model's journal is made of: runs, their transitions, failures, and the reasons for what is executed."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, NamedTuple

NEAREST = 3  # so many recorded calls are compared for what is most alike
YOUNG = 12 * 3600.0  # seconds: resume_within
CUT_OFF = "cut off: its process died"
CLOSED = "closed early: its consumer now asks for more"
Name = tuple[Any, ...]
RETRIED = ("Boom", "UnfinishedRun")  # failures of a body; other errors of durable are none
NOTHING = object()  # it runs, and nothing recorded is a reason
OVER = ("Completed", "Cached")
_OWN = re.compile("TaskInterrupted|GeneratorDiverged|UnfinishedRun|NothingToResume")
IN_FLIGHT = ("Running", "Retrying", "AwaitingRetry")


class Event(NamedTuple):
    """A transition: why, in what it ended, and its place in the order of all."""

    state: str
    order: int
    why: Any = None
    value: Any = None
    kept: bool = True


@dataclass
class Run:
    """A flow run or task run."""

    name: Name
    flow: Name
    events: list[Event] = field(default_factory=list)
    yields: list[int] = field(default_factory=list)
    parts: dict[str, Any] = field(default_factory=dict)
    key: Any = None
    expires: float | None = None
    counts: frozenset[str] = frozenset()  # what the policy it last ran under counts; empty: it finds no other run's
    origin: Name = ()  # whose result a cached one has

    @property
    def state(self) -> str:
        return self.events[-1].state

    @property
    def attempts(self) -> int:
        return sum(event.state in ("Running", "Retrying") for event in self.events)

    @property
    def failures(self) -> list[Event]:
        """Failed attempts, in order."""
        return [e for e in self.events if e.state in ("Failed", "AwaitingRetry") or (e.state == "Retrying" and e.why)]


class Before(NamedTuple):
    """What a run was: how many transitions and yielded values it had, and what its result counted by."""

    events: int
    yields: int
    parts: dict[str, Any]
    key: Any
    expires: float | None
    counts: frozenset[str]


class Boomed(Exception):
    """The body's own failure, or one of durable's (`own`): ``(class name, message)``."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind, self.message = kind, message

    @property
    def text(self) -> str:
        return f"{self.kind}: {self.message}" if self.message else self.kind


class Cut(BaseException):
    """The process is cut off here: "kill" or "interrupt"."""


@dataclass
class Frame:
    """One execution of a body. `mark`: failures up to there have a new chance."""

    name: Name
    flow: Name
    x: int
    mark: int
    resumed: bool
    equal: Counter[Any] = field(default_factory=Counter)


class Journal:
    """What is recorded. `now` is the time, `how` the process is cut off, `at_once` what ran at once before its end."""

    def __init__(self) -> None:
        self.runs: dict[Name, Run] = {}
        self.roots: list[tuple[Name, tuple[int, bool]]] = []  # with what each was called, and whether by a key
        self.last: dict[Name, float] = {}
        self.forks: dict[Name, Any] = {}  # by their names: `model_forks.Fork`
        self.now = 0.0
        self.order = 0
        self.log: list[tuple[str, int, int, int]] = []
        self.points = 0
        self.how = "kill"
        self.at_once: dict[Name, Before] | None = None
        self.groups: list[tuple[int, int]] = []  # the points passed while calls ran at once
        self.doubtful: dict[Name, Before] = {}  # what ran at once when it was killed, as it was before
        self.earlier: dict[tuple[Name, str], list[Run]] = {}  # what of other runs was known when it was first asked for
        self.unasked: dict[Name, dict[Name, Run]] = {}  # of each flow run: what is on record and not asked for yet
        self.recorded: dict[Name, list[Run]] = {}  # of each flow run: what was on record when its body began

    def settle(self, there: dict[Name, tuple[int, int]]) -> None:
        """It was killed while calls ran at once: how far each had come is nobody's promise, and is taken as it is.

        Args:
            there: how many transitions and yielded values each run has.
        """
        for name, before in self.doubtful.items():
            run, (events, yields) = self.runs[name], there.get(name, (0, 0))
            assert before.events <= events <= len(run.events), f"{name}: {before}, {events} transitions"
            assert before.yields <= yields <= len(run.yields), f"{name}: {before}, {yields} values"
            del run.events[events:], run.yields[yields:]
            if not events:
                del self.runs[name]
            elif events == before.events:
                run.parts, run.key, run.expires, run.counts = before[2:]
        self.doubtful = {}

    def new(self, frame: Frame, name: Name) -> Run:
        run = self.runs[name] = Run(name, frame.flow)
        return run

    def begins(self, run: Run, why: Any) -> None:
        if run.events and run.state in IN_FLIGHT:
            self.enters(run, "Crashed", None)
        self.enters(run, "Running", why)

    def interrupted(self, run: Run) -> None:
        if self.how == "interrupt":
            self.enters(run, "Crashed", None)

    def enters(self, run: Run, state: str, why: Any, value: Any = None, *, kept: bool = True) -> None:
        if self.at_once is not None:
            counted_by = run.parts, run.key, run.expires, run.counts
            self.at_once.setdefault(run.name, Before(len(run.events), len(run.yields), *counted_by))
        self.order += 1
        run.events.append(Event(state, self.order, why, value, kept))
        self.last[root_of(run.name)] = self.now

    def _mark(self, run: Run, *states: str) -> int:
        return max((e.order for e in run.failures if not states or e.state in states), default=0)


class AnyOf(list[Any]):
    """One of several reasons."""


def is_reason(found: str | None, why: Any) -> bool:
    """Whether a recorded reason is the one that is expected."""
    if isinstance(why, AnyOf):
        return any(is_reason(found, one) for one in why)
    if why == "expired":
        return found is not None and found.startswith("expired: ")
    if isinstance(why, str) and why.startswith("previous failed: "):
        return shown(found) == shown(why)
    return bool(found == why)


def shown(value: Any) -> Any:
    """A value; of an error of durable's own, only which it is."""
    found = _OWN.search(value) if isinstance(value, str) else None
    return value if found is None else value[: found.end()]


def root_of(name: Name) -> Name:
    """The run of the flow that a run belongs to."""
    while name[0] != "run":
        name = name[1]
    return name


def moved(name: Name, root: Name, to: Name) -> Name:
    """The name of the same call in another run of the flow."""
    if name == root:
        return to
    return tuple(moved(part, root, to) if isinstance(part, tuple) else part for part in name)


def different(before: dict[str, Any], now: dict[str, Any]) -> str:
    names = sorted(name for name in before.keys() | now.keys() if before.get(name) != now.get(name))
    return f"source changed: {', '.join(names) or 'itself'}"


def nearest(given: tuple[int, ...], others: Collection[Run], among: int = NEAREST) -> Any:
    """Which argument of the most similar recorded call was another one."""
    told, skipped = [], False
    for run in others:
        before = run.name[3]
        if len(before) != len(given) or before == given or "?" in before:  # "?": it was never made, for want of a value
            skipped = True
            continue
        pairs = [(n, b, g) for n, b, g in zip("xy", before, given, strict=False) if b != g]
        told.append(f"inputs changed: {', '.join(f'{n}: {b} -> {g}' for n, b, g in pairs)}")
    if len(others) <= among:
        fewest = min((text.count("->") for text in told), default=0)
        told = [text for text in told if text.count("->") == fewest]
    elif told and skipped:
        return AnyOf([*told, None])
    return AnyOf(told) if told else None
