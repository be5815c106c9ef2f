"""What the journal already knows of a task call: its own record or, under a memo policy, another call's result.

The rules are contract 3, 5, 6 and 7 of the design; each has its place here and nowhere else:

1. A completed task run gives its value, unless its policy never reuses or asks for more that does not agree, or the
   value was not kept, or it was rolled back: then it runs as if never called, with all its retries.
2. A failed one raises again if its failure is history: recorded after the scope's mark. Otherwise it runs again.
3. One that was cut off runs again, unless it is marked ``on_interrupt="fail"``.
4. A memo is asked for by its cache key only where the call has no record of its own, and where neither the task nor a
   setting says not to. The result is recorded under the key all the same.
5. Whatever runs although something was there says why (`durable.reasons`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from msgspec import Struct
from msgspec.structs import replace

from durable import reasons
from durable.clock import as_datetime, clock
from durable.definitions import TaskDefinition
from durable.errors import CodecError, TaskInterrupted, UnresolvedClass
from durable.forks import reusable_task
from durable.journal import Journal, Outcome, TaskRecord
from durable.journal.rollbacks import Run, standing
from durable.logs import task_log
from durable.outcomes import restore
from durable.runs import Scope
from durable.settings import interrupted_may_run, setting
from durable.states import AWAITING_RETRY, CACHED, CANCELLED, COMPLETED, NOT_READY, PENDING, ROLLED_BACK, StateType

TO_DECIDE: Final = object()  # no value can be; `at_once` gives it
_BETWEEN_ATTEMPTS = frozenset({PENDING, NOT_READY, AWAITING_RETRY})


class Known(Struct, frozen=True):
    """What was found.

    Attributes:
        record: the call's own record.
        ended: there is an outcome to give: `value`, or `error` to raise.
        value, error: that outcome.
        cached: the result, another call's, that `value` comes from.
        origin: the row of the task run that computed it, if it is another's.
        retries: failed attempts on record that count against the call's retries.
        mark: the newest of them, or the scope's: what failed in the body before it has a new chance.
        reason: why the body runs although something was there; None if nothing was.
        owed: it was rolled back, and its hooks have not all run.
    """

    record: TaskRecord | None = None
    ended: bool = False
    value: Any = None
    error: BaseException | None = None
    cached: int | None = None
    origin: int | None = None
    retries: int = 0
    mark: int = 0
    reason: str | None = None
    owed: bool = False


class Asked(Struct, frozen=True):
    """A call.

    Attributes:
        definition: of what.
        scope: made where.
        key: its identity.
        inputs: its canonical arguments.
        unhashable: those that count by their type only.
        context: gives what a cache_key_fn is handed.
        original: in a forked run, its identity in the run that was forked.
        in_thread: it was submitted, and is made in a thread beside others.
    """

    definition: TaskDefinition
    scope: Scope
    key: bytes
    inputs: bytes
    unhashable: tuple[str, ...]
    context: Callable[[], Any]  # a TaskRunContext
    original: bytes | None = None
    in_thread: bool = False


def recall(asked: Asked, cache_key: bytes | None) -> Known:
    """What the journal knows of a call.

    Args:
        asked: the call.
        cache_key: under which its result is to be found, by a policy that has one.

    Raises:
        TaskInterrupted: rule 3.
        CodecError: the recorded value cannot be given back by this process.
    """
    scope, policy = asked.scope, asked.definition.policy
    record = scope.recorded(asked.key) if scope.has_history else None
    if record is not None:
        return _own(asked, record, cache_key)
    reused = _reused(asked, asked.original, cache_key) if asked.original is not None else None
    if isinstance(reused, Known):
        return reused
    known = _memo(asked, cache_key) if policy.is_memo else Known(reason=_changed(asked) if scope.has_history else None)
    return known if reused is None or known.ended or known.reason is not None else replace(known, reason=reused)


def at_once(definition: TaskDefinition, scope: Scope, key: bytes) -> Any:
    """The value of a call, if a record that was read ahead leaves nothing to decide; else TO_DECIDE, for `recall`.

    It completed when it was first executed, from the present source, and nothing befell it since: rule 1 gives its
    value whatever else is asked. A resume is mostly made of these, and needs no more of them.
    """
    ahead = scope.ahead
    if ahead is None or (record := ahead.get(key)) is None:
        return TO_DECIDE
    if record.code != COMPLETED.code or record.seq != 1 or record.payload is None:
        return TO_DECIDE
    journal = scope.journal
    if record.task_id != definition.row(journal):
        return TO_DECIDE
    try:
        journal.check(record)
        value = restore(record, definition.where)
    except CodecError:
        return TO_DECIDE  # where the call is named that it belongs to
    ahead.met(key)
    if scope.flow_run is not None:
        scope.flow_run.root.counts.count(executed=False, failed=False)
    return value


def recorded_source(journal: Journal, record: TaskRecord) -> int:
    """The task row (a version of the source) that a run was last executed with."""
    executed_again = journal.executed_source(record.id) if record.seq > 1 else None
    return executed_again or record.task_id


def _own(asked: Asked, record: TaskRecord, cache_key: bytes | None) -> Known:
    definition, scope, journal = asked.definition, asked.scope, asked.scope.journal
    kind = record.state
    reason: str | None = None
    if kind is ROLLED_BACK:
        stands = standing(journal, Run(False, record.id, None))
        fresh = replace(record, seq=stands.seq)  # what was owed may have been paid since the record was read ahead
        mark = max(scope.mark, stands.result_id or 0)
        return Known(fresh, mark=mark, reason=reasons.ROLLED_BACK, owed=stands.owed)
    if kind.type is StateType.COMPLETED:
        if not definition.policy.reuses:
            reason = reasons.NEVER_REUSED
        elif record.result_id is None:
            reason = reasons.CLOSED if definition.is_generator and record.message else reasons.NOT_KEPT
        else:
            outcome = journal.outcome_of(record)
            reason = _disagrees(asked, record, outcome, cache_key)
            if reason is None:
                origin = outcome.task_run or _original_row(asked, record)
                return Known(record, True, _value(asked, record, outcome), origin=origin)
    elif kind.type is StateType.FAILED:
        assert record.result_id is not None  # noqa: S101 - invariant I4 of the journal
        if record.result_id > scope.mark:
            return Known(record, True, error=restore(journal.outcome_of(record), definition.where))
        reason = reasons.previous_failed(record.message)
    elif kind is CANCELLED:
        reason = reasons.CANCELLED
    elif kind not in _BETWEEN_ATTEMPTS:
        if definition.options.on_interrupt == "fail" and not interrupted_may_run():
            started = f"{as_datetime(record.at).astimezone():%Y-%m-%d %H:%M:%S}"
            raise TaskInterrupted(definition.name, asked.key.hex(), started)
        reason = reasons.CUT_OFF if kind.type is StateType.RUNNING else reasons.INTERRUPTED
    elif kind is AWAITING_RETRY:
        reason = reasons.CUT_OFF
    retries, newest = journal.failed_attempts(record.id, scope.mark)
    return Known(record, retries=retries, mark=max(scope.mark, newest), reason=reason)


def _disagrees(asked: Asked, record: TaskRecord, outcome: Outcome, cache_key: bytes | None) -> str | None:
    """What a policy with more to agree on does not agree on; None: nothing.

    Another key alone is no answer: the policy itself may have been edited since, and then the facts are compared.
    """
    definition, journal, run = asked.definition, asked.scope.journal, asked.scope.flow_run
    extras = definition.policy.extras
    if not extras or outcome.cache_key == cache_key:
        return None
    if definition.policy.needs_source:
        source = journal.computed_source(outcome.task_run or record.id, record.result_id or 0)
        if source != definition.row(journal):
            return reasons.source_changed(definition, journal, source)
    # Only by an idempotency key can a run be called with other parameters than it began with.
    if "flow_parameters" in extras and run is not None and journal.has_idempotency_key(run.id):
        return reasons.PARAMETERS_CHANGED
    return None


def _changed(asked: Asked) -> str | None:
    """A call a resumed run had not made: the one it had made and was not asked for yet, with other arguments.

    Which of several threads asks first is a matter of chance: there, what was not asked for yet tells nothing.
    """
    run = asked.scope.flow_run
    if run is None or run.ahead is None or asked.in_thread:
        return None
    unasked = run.ahead.unmet()
    if not unasked:
        return None
    definition, journal = asked.definition, asked.scope.journal
    return reasons.inputs_changed(definition, asked.inputs, reasons.nearest(definition, journal, unasked))


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


def _reused(asked: Asked, original: bytes, cache_key: bytes | None) -> Known | str | None:
    """What the call that this one stands for came to, in the run that was forked (see `durable.forks`); or why that is
    of no use.
    """
    policy, record = asked.definition.policy, reusable_task(asked.scope, original)
    if record is None or record.result_id is None or not policy.reuses:
        return None
    outcome = asked.scope.journal.outcome_of(record)
    if (reason := _disagrees(asked, record, outcome, cache_key)) is not None:
        return reason
    row = outcome.task_run or record.id
    if asked.definition.is_generator and row == record.id and record.state is CACHED:
        return None  # whose values they were is not known
    return Known(ended=True, value=_value(asked, record, outcome), cached=record.result_id, origin=row)


def _original_row(asked: Asked, record: TaskRecord) -> int | None:
    """The row of the task run whose result was reused in a forked run."""
    if record.state is not CACHED or asked.original is None:
        return None
    original = asked.scope.journal.find_task_run(asked.original)
    return None if original is None else original.id


def _memo(asked: Asked, cache_key: bytes | None) -> Known:
    definition, journal = asked.definition, asked.scope.journal
    if asked.unhashable and definition.policy.needs_inputs:
        return Known(reason=reasons.unhashable(asked.unhashable))
    if cache_key is None:
        return Known(reason=reasons.NO_KEY if definition.policy.key_fn is not None else None)
    outside = None if asked.scope.flow_run is None else asked.scope.flow_run.outside
    if setting("task_disable_caching", outside):
        return Known(reason=reasons.DISABLED)
    refresh = definition.options.refresh_cache
    if setting("task_refresh_cache", outside) if refresh is None else refresh:
        return Known(reason=reasons.REFRESHED)
    found = journal.find_cached(cache_key)
    # The arguments are compared whole: a digest alone could meet another's.
    if found is None or (definition.policy.needs_inputs and found.inputs != asked.inputs):
        return Known(reason=_missed(asked))
    if found.expires_at is not None and found.expires_at <= clock().now():
        return Known(reason=reasons.expired(found.expires_at))
    try:
        journal.check(found)
        value = restore(found, definition.where)
    except CodecError as error:
        task_log.warning("%s: the cached result cannot be used (%s); the task runs", definition.where, error)
        return Known(reason=reasons.undecodable(error))
    return Known(ended=True, value=value, cached=found.result_id, origin=found.task_run)


def _missed(asked: Asked) -> str | None:
    """What a memo without a hit differs in from results that are there: the source, or an argument."""
    definition, journal, policy = asked.definition, asked.scope.journal, asked.definition.policy
    if policy.needs_source:
        for row, source in journal.other_sources(definition.key, definition.row(journal)):
            other = cache_key(asked, source)
            if other is not None and journal.find_cached(other) is not None:
                return reasons.source_changed(definition, journal, row)
    if not policy.needs_inputs:
        return None
    run = asked.scope.flow_run
    recent = journal.recent_inputs(definition.key, None) if run is None else run.earlier_inputs(definition.key)
    return reasons.inputs_changed(definition, asked.inputs, recent)


def cache_key(asked: Asked, source: bytes | None = None) -> bytes | None:
    """The key under which a memo's result is found, or that a checkpoint with more to agree on compares; or None.

    `source` stands for the digest of the task's present source.
    """
    definition, run, policy = asked.definition, asked.scope.flow_run, asked.definition.policy
    if asked.unhashable and policy.is_memo and policy.needs_inputs:
        return None
    return policy.key(
        definition.memo_key if policy.is_memo and policy.key_fn is None else definition.key,
        asked.inputs,
        source or (definition.source.digest if policy.needs_source else None),
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
