"""Which cache policy a recorded cache key is of: a key is a digest of facts in the journal, so all can be tried."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from typing import Final

from durable.policies import CachePolicy
from durable.reader import JournalReader, queries
from durable.reader.calls import Call, Source, source_of

_PARTS: Final = ("inputs", "task_source", "run_id", "flow_parameters")
_POLICIES: Final = [
    CachePolicy(frozenset((*parts, *(("inputs", "run_id") if checkpoint else ()))), frozenset(), checkpoint)
    for length in range(1, len(_PARTS) + 1)
    for parts in combinations(_PARTS, length)
    for checkpoint in (False, True)
]


def policy_of(
    reader: JournalReader, key: bytes | None, source: Source, inputs: bytes | None, flow_run: int | None
) -> CachePolicy | None:
    """The policy under which a call's result has its key; None where there is no key, or none of durable's own policies
    gives it: then a ``cache_key_fn`` takes part, or arguments that are not recorded.
    """
    if key is None:
        return None
    run = parameters = None
    if flow_run is not None:
        run, _, _, parameters, *_ = reader.rows(queries.FLOW_RUN_EXTRAS, flow_run)[0]
    for policy in _POLICIES:
        if policy.key(source.key, inputs or b"", source.digest, run, parameters) == key:
            return policy
    return None


def memos(reader: JournalReader) -> Callable[[Call], frozenset[str] | None]:
    """What tells of a call what the policy counts that gave its result a key, as far as it is known; None: its policy
    reuses no result of another run.
    """
    sources: dict[int, Source] = {}

    def counted(call: Call) -> frozenset[str] | None:
        if call.cache_key is None:
            return None
        source = sources.get(call.source) or sources.setdefault(call.source, source_of(reader, call.source))
        policy = policy_of(reader, call.cache_key, source, call.inputs, call.flow_run)
        if policy is None:
            return frozenset()
        return None if policy.checkpoint else policy.components

    return counted
