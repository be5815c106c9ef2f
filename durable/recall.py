"""What the journal already knows of a task call: its own record or, under a memo policy, another call's result.

The rules are contract 3, 5, 6 and 7 of the design; each has its place here and nowhere else:

1. A completed task run gives its value, unless its policy never reuses or asks for more that does not agree, or the
   value was not kept. One that was rolled back since runs again, as if it had never been called: it has its retries.
2. A failed one raises again if its failure is history: recorded after the scope's mark. Otherwise it runs again.
3. One that was cut off runs again, unless it is marked ``on_interrupt="fail"``.
4. A memo is asked for by its cache key only where the call has no record of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from durable.clock import as_datetime, clock
from durable.definitions import TaskDefinition
from durable.errors import CodecError, TaskInterrupted, UnresolvedClass
from durable.journal import Journal, Outcome, TaskRecord
from durable.journal.rollbacks import Run, standing
from durable.logs import task_log
from durable.outcomes import restore
from durable.runs import Scope
from durable.settings import interrupted_may_run
from durable.states import AWAITING_RETRY, NOT_READY, PENDING, ROLLED_BACK, StateType
from durable.views import TaskRunContext

_BETWEEN_ATTEMPTS = frozenset({PENDING, NOT_READY, AWAITING_RETRY})


class Known(NamedTuple):
    """What was found.

    Attributes:
        record: the call's own record.
        cache_key: the key under which its result is to be found, by a policy that has one.
        ended: there is an outcome to give: `value`, or `error` to raise.
        cached: the result, another call's, that `value` comes from.
        retries: failed attempts on record that count against the call's retries.
        mark: the newest of them, or the scope's: what failed in the body before it has a new chance.
        owed: it was rolled back, and its hooks have not all run.
    """

    record: TaskRecord | None = None
    cache_key: bytes | None = None
    ended: bool = False
    value: Any = None
    error: BaseException | None = None
    cached: int | None = None
    retries: int = 0
    mark: int = 0
    owed: bool = False


class Asked(NamedTuple):
    """A call.

    Attributes:
        definition: of what.
        scope: made where.
        key: its identity.
        inputs: its canonical arguments.
        unhashable: those that count by their type only.
        context: gives what a cache_key_fn is handed.
    """

    definition: TaskDefinition
    scope: Scope
    key: bytes
    inputs: bytes
    unhashable: tuple[str, ...]
    context: Callable[[], TaskRunContext]


def recall(asked: Asked) -> Known:
    """What the journal knows of a call.

    Raises:
        TaskInterrupted: rule 3.
        CodecError: the recorded value cannot be given back by this process.
    """
    policy = asked.definition.policy
    record = asked.scope.recorded(asked.key) if asked.scope.has_history else None
    key = _cache_key(asked) if policy.is_memo or policy.extras else None
    if record is not None:
        return _own(asked, record, key)
    if not policy.is_memo or key is None or asked.definition.options.refresh_cache:
        return Known(cache_key=key)
    return _memo(asked, key)


def recorded_source(journal: Journal, record: TaskRecord) -> int:
    """The task row (a version of the source) that a run was last executed with."""
    executed_again = journal.executed_source(record.id) if record.seq > 1 else None
    return executed_again or record.task_id


def _own(asked: Asked, record: TaskRecord, cache_key: bytes | None) -> Known:
    definition, scope, journal = asked.definition, asked.scope, asked.scope.journal
    kind = record.state
    if kind.type is StateType.COMPLETED:
        if definition.policy.reuses and record.result_id is not None:
            outcome = journal.outcome(record.result_id)
            if not definition.policy.extras or outcome.cache_key == cache_key:
                return Known(record, cache_key, ended=True, value=_value(asked, record, outcome))
    elif kind.type is StateType.FAILED:
        assert record.result_id is not None  # noqa: S101 - invariant I4 of the journal
        if record.result_id > scope.mark:
            return Known(
                record, cache_key, ended=True, error=restore(journal.outcome(record.result_id), definition.where)
            )
    elif kind not in _BETWEEN_ATTEMPTS and definition.options.on_interrupt == "fail" and not interrupted_may_run():
        started = f"{as_datetime(record.at).astimezone():%Y-%m-%d %H:%M:%S}"
        raise TaskInterrupted(definition.name, asked.key.hex(), started)
    if kind is ROLLED_BACK:
        stands = standing(journal, Run(False, record.id, None))
        fresh = record._replace(seq=stands.seq)  # what was owed may have been paid since the record was read ahead
        return Known(fresh, cache_key, mark=max(scope.mark, stands.result_id or 0), owed=stands.owed)
    retries, newest = journal.failed_attempts(record.id, scope.mark)
    return Known(record, cache_key, retries=retries, mark=max(scope.mark, newest))


def _value(asked: Asked, record: TaskRecord, outcome: Outcome) -> Any:
    definition, journal = asked.definition, asked.scope.journal
    if record.task_id != definition.row(journal) or record.seq > 1:
        source = recorded_source(journal, record)
        if source != definition.row(journal):
            definition.tell_source_change(journal, source)
    try:
        return restore(outcome, definition.where)
    except UnresolvedClass as error:
        reason = (
            f"{error.reason} It is in the recorded result of task {definition.where}, task run {asked.key.hex()[:7]}"
        )
        raise UnresolvedClass(error.module, error.qualname, reason) from None


def _memo(asked: Asked, cache_key: bytes) -> Known:
    journal, found = asked.scope.journal, asked.scope.journal.find_cached(cache_key)
    # The arguments are compared whole: a digest alone could meet another's.
    if found is None or (asked.definition.policy.needs_inputs and found.inputs != asked.inputs):
        return Known(cache_key=cache_key)
    if found.expires_at is not None and found.expires_at <= clock().now():
        return Known(cache_key=cache_key)
    try:
        value = restore(journal.outcome(found.result_id), asked.definition.where)
    except CodecError as error:
        task_log.warning("%s: the cached result cannot be used (%s); the task runs", asked.definition.where, error)
        return Known(cache_key=cache_key)
    return Known(cache_key=cache_key, ended=True, value=value, cached=found.result_id)


def _cache_key(asked: Asked) -> bytes | None:
    definition, run, policy = asked.definition, asked.scope.flow_run, asked.definition.policy
    if asked.unhashable and policy.is_memo and policy.needs_inputs:
        return None
    return policy.key(
        definition.key,
        asked.inputs,
        definition.source.digest if policy.needs_source else None,
        run.key if run is not None else None,
        run.parameters if run is not None else None,
        _custom_key(asked, policy.key_fn) if policy.key_fn is not None else None,
    )


def _custom_key(asked: Asked, key_fn: Callable[..., Any]) -> str | None:
    context = asked.context()
    try:
        key = key_fn(context, context.parameters)
    except Exception:  # noqa: BLE001 - what a user's function raises is logged, whatever it is
        task_log.exception(
            "%s: its cache_key_fn raised; the task runs, and its result is no memo", asked.definition.where
        )
        return None
    if key is not None and not isinstance(key, str):
        task_log.error("%s: its cache_key_fn gave %r, no str; the task runs", asked.definition.where, key)
        return None
    return key
