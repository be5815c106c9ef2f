"""Cache policies: what must agree for a recorded result to be used instead of running a task. Names as in Prefect 3.

Two kinds, which Prefect does not tell apart:

* A *checkpoint* (`DEFAULT`, and whatever contains it) reuses a result only in the flow run that recorded it, for the
  same call: it is what makes a resume. Equal calls in one run are executed each.
* A *memo* (any other policy) reuses any completed, unexpired result with its key, across runs as far as the policy
  says.

``+`` joins policies, ``- "argument"`` leaves an argument out of the inputs, `NONE` never reuses anything.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from functools import cached_property
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from durable.errors import ConfigurationError
from durable.keys import digest

_ORDER: Final = ("inputs", "task_source", "run_id", "flow_parameters", "key_fn")


class IsolationLevel(str, Enum):
    """What concurrent calls see of each other's results. Names as in Prefect 3."""

    READ_COMMITTED = "READ_COMMITTED"  # two calls that miss a key at once both run
    SERIALIZABLE = "SERIALIZABLE"  # one runs, the other waits for its result


class CachePolicy(Struct, frozen=True, dict=True):
    """A cache policy. Build one from the constants of this module with ``+`` and ``-``."""

    components: frozenset[str] = frozenset()
    excluded: frozenset[str] = frozenset()
    checkpoint: bool = False
    key_fn: Callable[..., str | None] | None = None
    isolation_level: IsolationLevel = IsolationLevel.READ_COMMITTED

    def configure(self, *, isolation_level: IsolationLevel | str) -> CachePolicy:
        """The same policy with another isolation. Borrowed from Prefect 3, whose storage options have no place here.

        Args:
            isolation_level: ``"SERIALIZABLE"``: of two calls that miss one key at once, in any threads and processes
                that share the journal, one runs the body and the other gets its result.

        Raises:
            ConfigurationError: it is no isolation level.
        """
        try:
            return replace(self, isolation_level=IsolationLevel(isolation_level))
        except ValueError:
            expected = " or ".join(repr(level.value) for level in IsolationLevel)
            raise ConfigurationError(f"isolation_level={isolation_level!r}: expected {expected}") from None

    def __add__(self, other: CachePolicy) -> CachePolicy:
        """What must agree for both. A policy that contains DEFAULT stays a checkpoint; adding NONE changes nothing."""
        if not isinstance(other, CachePolicy):
            return NotImplemented
        return CachePolicy(
            self.components | other.components,
            self.excluded | other.excluded,
            self.checkpoint or other.checkpoint,
            self.key_fn or other.key_fn,
            max(self.isolation_level, other.isolation_level, key=list(IsolationLevel).index),
        )

    def __sub__(self, argument: str) -> CachePolicy:
        """The same policy without `argument` among the inputs."""
        if not isinstance(argument, str):
            raise ConfigurationError(f"cache policy - {argument!r}: expected the name of an argument (str)")
        return replace(self, excluded=self.excluded | {argument})

    # What durable calls.
    # Of that, found once, for a policy is never changed:

    @cached_property
    def reuses(self) -> bool:
        """Whether any recorded result may be used: False for NONE alone."""
        return bool(self.components)

    @cached_property
    def is_memo(self) -> bool:
        """Whether results are found by key, in any run the key allows."""
        return self.reuses and not self.checkpoint

    @cached_property
    def is_serializable(self) -> bool:
        """Whether calls that miss a key at once wait for each other."""
        return self.is_memo and self.isolation_level is IsolationLevel.SERIALIZABLE

    @cached_property
    def extras(self) -> frozenset[str]:
        """What must agree beyond being the same call of the same run."""
        return self.components - {"inputs", "run_id", "key_fn"}

    @cached_property
    def needs_inputs(self) -> bool:
        """Whether the arguments take part in the cache key."""
        return "inputs" in self.components

    @cached_property
    def needs_source(self) -> bool:
        """Whether the task's source takes part."""
        return "task_source" in self.components

    def key(
        self,
        task: bytes,
        inputs: bytes,
        source: bytes | None,
        run: bytes | None,
        flow_parameters: bytes | None,
        custom: str | None = None,
    ) -> bytes | None:
        """The cache key (16 bytes) of one call, or None where the policy asks for what the call does not have.

        Args:
            task: the task's key.
            inputs: canonical bytes of the arguments, without the excluded ones.
            source: digest of the task's source fingerprint.
            run: id of the flow run, None outside of one.
            flow_parameters: digest of the flow run's parameters, None outside of one.
            custom: what `key_fn` gave.
        """
        components = self.extras if self.checkpoint else self.components
        parts = []
        for name, fact in zip(_ORDER, (inputs, source, run, flow_parameters, custom), strict=True):
            if name in components:
                if fact is None:
                    return None
                parts.append([name, fact])
        return digest("extras" if self.checkpoint else "memo", task, *parts) if parts else None

    def __repr__(self) -> str:
        names = [name.upper() for name in _ORDER if name in self.components] or ["NONE"]
        text = " + ".join((["DEFAULT", *(n.upper() for n in _ORDER if n in self.extras)]) if self.checkpoint else names)
        return text + "".join(f" - {name!r}" for name in sorted(self.excluded))


# A memo of the arguments.
INPUTS: Final = CachePolicy(frozenset({"inputs"}))
# A memo of the task's source; with nothing else, of any call of it.
TASK_SOURCE: Final = CachePolicy(frozenset({"task_source"}))
# A memo within one flow run.
RUN_ID: Final = CachePolicy(frozenset({"run_id"}))
# A memo of the flow's parameters.
FLOW_PARAMETERS: Final = CachePolicy(frozenset({"flow_parameters"}))
# Reuses nothing: the task runs whenever it is called.
NONE: Final = CachePolicy()
NO_CACHE: Final = NONE  # Prefect's other name for it
# A checkpoint: the same call, in the same flow run.
DEFAULT: Final = CachePolicy(frozenset({"inputs", "run_id"}), checkpoint=True)


def key_function(function: Callable[..., str | None]) -> CachePolicy:
    """A memo whose key is what `function` gives for ``(context, parameters)``; None is never a hit."""
    return CachePolicy(frozenset({"key_fn"}), key_fn=function)
