"""How often a failed run is tried again, and after which waits.

The semantics are Prefect 3's, with a jitter that works. A list of delays shorter than the retries repeats its last
value; a callable is asked once, at decoration, for the list. With a jitter factor j a delay d becomes a random one: an
exponential variable of mean d, cut off so that it lies between ``d * log2(2**(1+j) / (2**(1+j) - 1))`` and
``d * (1 + j)``, which keeps the mean near d (Prefect's "clamped Poisson interval", which Prefect 3 ignores for tasks).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

from durable.errors import ConfigurationError

MAX_DELAYS: Final = 50  # Prefect's bound
Delays = float | Sequence[float] | Callable[[int], Sequence[float]]


class Retries:
    """A checked retry policy; nobody changes it.

    Attributes:
        count: retries after the first attempt.
        delays: seconds to wait before each; empty for none.
        jitter: the jitter factor, or None.
        condition: asked ``(task, task_run, state)`` before each retry, sync or async; None retries always.
    """

    __slots__ = ("condition", "count", "delays", "jitter")

    def __init__(
        self,
        count: int = 0,
        delays: tuple[float, ...] = (),
        jitter: float | None = None,
        condition: Callable[..., Any] | None = None,
    ) -> None:
        self.count = count
        self.delays = delays
        self.jitter = jitter
        self.condition = condition

    def delay(self, number: int) -> float:
        """Seconds to wait before retry `number` (0 is the first)."""
        if not self.delays:
            return 0.0
        base = self.delays[min(number, len(self.delays) - 1)]
        return jittered(base, self.jitter) if self.jitter and base else base


NO_RETRIES: Final = Retries()


def checked(where: str, *, retries: Any, delays: Any, jitter: Any = None, condition: Any = None) -> Retries:
    """Check the retry options of a task or flow.

    Args:
        where: the function with its file and line, for messages.

    Raises:
        ConfigurationError: an option that cannot be meant.
    """
    if retries is None:
        retries = 0
    if type(retries) is not int or retries < 0:
        raise ConfigurationError(f"{where}: retries={retries!r}: expected a whole number, 0 or more")
    if jitter is not None and (not is_number(jitter) or jitter < 0):
        raise ConfigurationError(f"{where}: retry_jitter_factor={jitter!r}: expected a number, 0 or more")
    if condition is not None and not callable(condition):
        raise ConfigurationError(
            f"{where}: retry_condition_fn={condition!r}: expected a callable of (task, task_run, state)"
        )
    policy = retries, _delays(where, delays, retries), jitter, condition
    return NO_RETRIES if policy == (0, (), None, None) else Retries(*policy)


def _delays(where: str, value: Any, retries: int) -> tuple[float, ...]:
    if value is None:
        return ()
    given = value(retries) if callable(value) else value
    delays = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if not all(is_number(delay) and delay >= 0 for delay in delays):
        raise ConfigurationError(
            f"{where}: retry_delay_seconds={given!r}: expected seconds (a number, 0 or more), a list of them, "
            "or a callable that gives a list"
        )
    if len(delays) > MAX_DELAYS:
        raise ConfigurationError(
            f"{where}: retry_delay_seconds has {len(delays)} values; at most {MAX_DELAYS} can be meant"
        )
    return tuple(float(delay) for delay in delays) if any(delays) else ()


def is_number(value: Any) -> bool:
    """Whether a value is a finite int or float, and no bool."""
    return type(value) in (int, float) and math.isfinite(value)


def exponential_backoff(backoff_factor: float) -> Callable[[int], list[float]]:
    """Delays that double: ``backoff_factor`` seconds, twice that, four times that... For ``retry_delay_seconds``.

    Borrowed from Prefect 3: ``exponential_backoff(10)`` waits 10, 20 and 40 seconds before three retries.

    Args:
        backoff_factor: seconds before the first retry.

    Raises:
        ConfigurationError: it is no number of 0 or more.
    """
    if not is_number(backoff_factor) or backoff_factor < 0:
        raise ConfigurationError(f"exponential_backoff({backoff_factor!r}): expected seconds (a number, 0 or more)")
    return lambda retries: [backoff_factor * 2.0**number for number in range(min(retries, MAX_DELAYS))]


def _random() -> float:
    import random  # where delays are random: few are, and it takes its time to import

    return random.random()  # noqa: S311 - a delay is no secret


def jittered(base: float, factor: float, uniform: Callable[[], float] = _random) -> float:
    """A random delay of mean near `base` seconds, at most ``base * (1 + factor)``: see the top of this file."""
    upper = 1 + factor
    # 2**upper overflows nothing below 1024, and from 50 on the lower bound is 0 to every digit.
    lower = math.log2(2**upper / (2**upper - 1)) if upper < MAX_DELAYS else 0.0
    least, most = 1 - math.exp(-lower), 1 - math.exp(-upper)
    drawn = -math.log(1 - (least + (most - least) * uniform()))
    return base * min(max(drawn, lower), upper)
