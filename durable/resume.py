"""Which flow run a call of a flow is: a new one, an unfinished one to continue, or a finished one to give its result.

The rule (it is the same in a script, a retry loop and a notebook):

1. With an idempotency key the run is that key's, of any age.
2. Otherwise it is the newest run of the same flow with the same parameters that did not complete, that no live process
   executes, and whose last record is younger than ``resume_within``. An older one is named, not continued.
3. Otherwise it is a new one. ``resume="never"`` goes straight here; ``resume="require"`` refuses.

A run is asked for its state again once its lock is held: it may have been finished in between.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct

from durable.clock import clock
from durable.definitions import FlowDefinition
from durable.errors import FlowRunInProgress, NothingToResume
from durable.journal import FlowRecord, Journal
from durable.logs import root_log
from durable.options import FlowOptions
from durable.ownership import Cancellation, RunLock
from durable.phrases import duration, moment
from durable.settings import resume_default, resume_override
from durable.spoken import digits_of
from durable.states import CANCELLED, ROLLED_BACK


class Choice(Struct, frozen=True):
    """What was decided.

    Attributes:
        record: the run to continue or to give the result of; None for a new one.
        lock: its lock, held by us; None for a new run and for a finished one.
    """

    record: FlowRecord | None = None
    lock: RunLock | None = None


class Request(Struct, frozen=True):
    """A call of a flow: which flow (its definition and row), with which parameters (their digest), under which
    options.
    """

    journal: Journal
    flow: FlowDefinition
    row: int
    parameters: bytes
    options: FlowOptions


_HEX: Final = frozenset("0123456789abcdef")
_overrides_used: set[str] = set()


def choose(request: Request) -> Choice:
    """Decide which run `request` is.

    Raises:
        FlowRunInProgress: a live process executes the run that an idempotency key or DURABLE_RESUME names.
        NothingToResume: ``resume="require"`` or DURABLE_RESUME found no run.
    """
    if request.options.idempotency_key is not None:
        return _by_idempotency_key(request, request.options.idempotency_key)
    override = resume_override()
    if override is not None and override not in ("auto", "never") and override not in _overrides_used:
        chosen = _by_override(request, override)
        if chosen is not None:
            return chosen
    resume = request.options.resume or resume_default()
    if override in ("auto", "never") and resume != "require":
        resume = override
    return Choice() if resume == "never" else _unfinished(request, required=resume == "require")


def _by_idempotency_key(request: Request, key: str) -> Choice:
    record = request.journal.flow_run_by_idempotency_key(request.row, key)
    if record is None:
        return Choice()
    override = resume_override() or "never"
    if record.state is CANCELLED and not record.key.hex().startswith(digits_of(override) or override):
        raise NothingToResume(
            f"{request.flow.where}: the run of idempotency key {key!r} was cancelled. To continue it after all: "
            f"DURABLE_RESUME={record.key.hex()[:7]}"
        )
    if record.parameters != request.parameters:
        root_log.warning(
            "flow %s: idempotency key %r is that of run %s, whose parameters were others; it is that run all the same",
            request.flow.name,
            key,
            record.key.hex()[:7],
        )
    return _named(request, record)


def _named(request: Request, record: FlowRecord) -> Choice:
    """Continue exactly this run, or give its result."""
    if _has_completed(record):
        return Choice(record)
    lock = RunLock(request.journal.path, record.key)
    if not lock.acquire():
        raise FlowRunInProgress(request.flow.name, record.key.hex(), owner_of(record))
    record = _refreshed(request, record)
    if _has_completed(record):
        lock.release()
        return Choice(record)
    return Choice(record, lock)


def _by_override(request: Request, prefix: str) -> Choice | None:
    """The run that DURABLE_RESUME names, if it is one of this call; None if it is another call's."""
    digits = digits_of(prefix) or prefix
    rows = request.journal.choose_flow_run(digits) if digits and _HEX.issuperset(digits) else []
    if len(rows) != 1:
        found = "no flow run has that id" if not rows else "several flow runs have such ids; give more digits"
        raise NothingToResume(f"DURABLE_RESUME={prefix}: {found}. See `durable inspect {request.journal.path}`")
    flow, parameters, key = rows[0]
    if flow != request.row:
        return None
    if parameters != request.parameters:
        root_log.warning(
            "DURABLE_RESUME=%s: that run of %s had other parameters; it is not continued", prefix, request.flow.name
        )
        return None
    _overrides_used.add(prefix)
    Cancellation(request.journal.path, key).withdraw()  # one that its owner did not live to follow
    record = request.journal.find_flow_run(key)
    if record is None or _has_completed(record):
        raise NothingToResume(
            f"DURABLE_RESUME={prefix}: that run of {request.flow.name} has completed; nothing is left to do"
        )
    return _named(request, record)


def _unfinished(request: Request, *, required: bool) -> Choice:
    journal, now = request.journal, clock().now()
    too_old: FlowRecord | None = None
    for record in journal.unfinished_flow_runs(request.row, request.parameters):
        if now - journal.last_record(record.id) > request.options.resume_within * 1_000_000:
            too_old = too_old or record
            continue
        lock = RunLock(journal.path, record.key)
        if not lock.acquire():
            continue
        fresh = _refreshed(request, record)
        if _has_completed(fresh) or fresh.state.type == "CANCELLED":
            lock.release()
            continue
        return Choice(fresh, lock)
    if required:
        raise NothingToResume(
            f'{request.flow.where}: resume="require", and no run of {request.flow.name} with these parameters is '
            f"unfinished, free and younger than {duration(request.options.resume_within * 1e6)}. "
            f"See `durable inspect {journal.path}`"
        )
    if too_old is not None:
        root_log.warning(
            "an unfinished run of %s, begun %s, is older than resume_within (%s): starting a new run. "
            "To continue the old one instead: DURABLE_RESUME=%s",
            request.flow.name,
            moment(too_old.begun, now),
            duration(request.options.resume_within * 1e6),
            too_old.key.hex()[:7],
        )
    return Choice()


def _has_completed(record: FlowRecord) -> bool:
    """Whether nothing is left to do. A run that was rolled back with the transaction around it begins again."""
    return record.state.type == "COMPLETED" and record.state is not ROLLED_BACK


def _refreshed(request: Request, record: FlowRecord) -> FlowRecord:
    return request.journal.find_flow_run(record.key) or record


def owner_of(record: FlowRecord) -> str:
    """The process that last recorded something for a run, for people."""
    return f"process {record.pid} on {record.host}, started {moment(record.process_started, clock().now())}"
