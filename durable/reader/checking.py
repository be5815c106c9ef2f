"""The invariants of schema/journal.sql, checked on every row: in one pass a table, in memory that does not grow.

Each check yields what it finds wrong, as a line for people; a sound journal yields nothing. While a pass is under way
a writer's checkpoints wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Final, NamedTuple

from durable.codec import decode_inert
from durable.errors import CodecError
from durable.journal.facts import FORMAT_EXCEPTION, FORMAT_PICKLE, checksum_of
from durable.journal.schema import FOLDER, statements
from durable.reader.journal import JournalReader
from durable.states import (
    AWAITING_RETRY,
    BY_CODE,
    CACHED,
    COMPLETED,
    FAILED,
    RETRYING,
    STATES,
    TIMED_OUT,
    TRANSITIONS,
    StateKind,
)

_RAISED: Final = frozenset({FAILED, TIMED_OUT, AWAITING_RETRY, RETRYING})
_RETURNED: Final = frozenset({COMPLETED, CACHED})  # others may have either: a cancelled state can be returned
_TASK_HISTORY: Final = """
SELECT t.id, t.state, t.at, s.seq, s.state, s.at, s.result_id, o.format, o.id
FROM task_run AS t LEFT JOIN task_run_state AS s ON s.task_run_id = t.id LEFT JOIN result AS o ON o.id = s.result_id
ORDER BY t.id, s.seq"""
_FLOW_HISTORY: Final = """
SELECT r.id, r.state, r.at, s.seq, s.state, s.at, s.result_id, o.format, o.id
FROM flow_run AS r LEFT JOIN flow_run_state AS s ON s.flow_run_id = r.id LEFT JOIN result AS o ON o.id = s.result_id
ORDER BY r.id, s.seq"""
_RESULTS: Final = "SELECT id, format, checksum, payload FROM result ORDER BY id"
_YIELDS: Final = """
SELECT y.task_run_id, y.number, y.result_id, o.id FROM task_run_yield AS y LEFT JOIN result AS o ON o.id = y.result_id
ORDER BY y.task_run_id, y.number"""
_LATER_THAN_CALLER: Final = """
SELECT 'task run', id FROM task_run WHERE parent_id >= id
UNION ALL SELECT 'flow run', id FROM flow_run WHERE parent_flow_run_id >= id"""
# The format each table came with, of those that the first had not: an older journal gets them when it is next written.
_SINCE: Final = {"task_run_yield": 2, "task_run_dependency": 2}
_TRIGGERS: Final = "SELECT name, sql FROM sqlite_master WHERE type = 'trigger'"


class Check(NamedTuple):
    """One thing that is checked: its short name, what it promises, and how to find what breaks it."""

    name: str
    promise: str
    find: Callable[[JournalReader], Iterator[str]]


def structure(reader: JournalReader) -> Iterator[str]:
    """SQLite's own check, without comparing every index with its table."""
    for (line,) in reader.rows("PRAGMA quick_check"):
        if line != "ok":
            yield str(line).strip()


def integrity(reader: JournalReader) -> Iterator[str]:
    """SQLite's own check of everything."""
    for (line,) in reader.rows("PRAGMA integrity_check"):
        if line != "ok":
            yield str(line).strip()


def append_only(reader: JournalReader) -> Iterator[str]:
    """I1: the triggers that refuse to update and delete are there, as the schema has them."""
    found = {str(name): str(text) for name, text in reader.rows(_TRIGGERS)}
    for text in statements((FOLDER / "journal.sql").read_text(encoding="utf-8")):
        words = text.split()
        if "TRIGGER" in words:
            name, table = words[words.index("TRIGGER") + 1], words[words.index("ON") + 1]
            if reader.version < _SINCE.get(table, 1):
                continue
            wanted = text[text.index("CREATE") :]
            if name not in found:
                yield f"the trigger {name} is missing"
            elif " ".join(found[name].split()).rstrip("; ") != " ".join(wanted.split()).rstrip("; "):
                yield f"the trigger {name} is not the schema's"


def state_names(reader: JournalReader) -> Iterator[str]:
    """The file explains its states as they are."""
    found = {tuple(row) for row in reader.rows("SELECT code, name, type FROM state_kind")}
    for kind in STATES:
        if (kind.code, kind.name, kind.type.value) not in found:
            yield f"state {kind.code} is not {kind.name} there"


def task_histories(reader: JournalReader) -> Iterator[str]:
    """I2, I3, I4, I5, I8 of task runs."""
    yield from _histories(reader, _TASK_HISTORY, "task run")


def flow_histories(reader: JournalReader) -> Iterator[str]:
    """I2, I3, I4, I5, I8 of flow runs."""
    yield from _histories(reader, _FLOW_HISTORY, "flow run")


def _histories(reader: JournalReader, text: str, noun: str) -> Iterator[str]:
    run, number, newest = None, 0, 0
    kind: StateKind | None = None
    for row, first, begun, seq, code, at, result, format_, there in reader.stream(text):
        if row != run:
            run, number, newest = row, 0, 0
            kind = BY_CODE.get(first)
            if kind not in TRANSITIONS[None]:
                yield f"{noun} {row} begins with state {first}"
            if not _is_time(begun):
                yield f"{noun} {row} began at {begun!r}"
        if seq is None:
            continue
        number += 1
        if seq != number:
            yield f"{noun} {row}: transition {number} is missing, {seq} is there"
            number = seq
        before, kind = kind, BY_CODE.get(code)
        if kind is None or (before is not None and kind not in TRANSITIONS[before]):
            was, now = before.name if before else "?", kind.name if kind else code
            yield f"{noun} {row}, transition {seq}: {now} may not follow {was}"
        if not _is_time(at):
            yield f"{noun} {row}, transition {seq}: its time is {at!r}"
        if result is None:
            if kind is CACHED or (kind in _RAISED and not (kind is RETRYING and before is AWAITING_RETRY)):
                yield f"{noun} {row}, transition {seq}: {kind.name if kind else '?'} without a result"
            continue
        if there is None:
            yield f"{noun} {row}, transition {seq}: its result {result} is missing"
        elif (kind in _RETURNED and format_ == FORMAT_EXCEPTION) or (kind in _RAISED and format_ != FORMAT_EXCEPTION):
            yield f"{noun} {row}, transition {seq}: {kind.name if kind else '?'} has a result of format {format_}"
        if kind is not CACHED:
            if result <= newest:
                yield f"{noun} {row}, transition {seq}: result {result} is no later than {newest} before it"
            newest = result


def _is_time(value: object) -> bool:
    return type(value) is int and 0 <= value < 1 << 62


def results(reader: JournalReader) -> Iterator[str]:
    """I6: the bytes are the ones that were written."""
    for row, _, checksum, payload in reader.stream(_RESULTS):
        if not isinstance(payload, bytes) or checksum_of(payload) != checksum:
            yield f"result {row}: its bytes do not match their checksum"


def readable_results(reader: JournalReader) -> Iterator[str]:
    """The bytes are an encoded value."""
    for row, format_, _, payload in reader.stream(_RESULTS):
        if format_ != FORMAT_PICKLE:
            try:
                decode_inert(payload)
            except CodecError as error:
                yield f"result {row}: {error}"


def yields(reader: JournalReader) -> Iterator[str]:
    """I7, and that each value is there."""
    run, number = None, 0
    if reader.version < _SINCE["task_run_yield"]:
        return
    for row, found, result, there in reader.stream(_YIELDS):
        run, number = row, (number if row == run else 0) + 1
        if found != number:
            yield f"task run {row}: yielded value {number} is missing, {found} is there"
            number = found
        if result is not None and there is None:
            yield f"task run {row}: the result {result} of yielded value {found} is missing"


def references(reader: JournalReader) -> Iterator[str]:
    """Every row that another one names is there."""
    for table, row, parent, _ in reader.stream("PRAGMA foreign_key_check"):
        yield f"{table} {'' if row is None else row}: it names a row of {parent} that is missing"


def order(reader: JournalReader) -> Iterator[str]:
    """What is called is recorded after its caller."""
    for noun, row in reader.stream(_LATER_THAN_CALLER):
        yield f"{noun} {row} is recorded before what called it"


def descriptions(reader: JournalReader) -> Iterator[str]:
    """What describes functions and processes can be read."""
    for row, tags, parts in reader.stream("SELECT id, tags, parts FROM task"):
        if not (_is_json(tags, list) and _is_json(parts, dict)):
            yield f"task {row}: its tags or its source's parts are not JSON"


def _is_json(text: object, kind: type) -> bool:
    try:
        return isinstance(json.loads(str(text)), kind)
    except (ValueError, RecursionError):
        return False


INVARIANTS: Final = (
    Check("append-only", "the triggers that refuse changes are there (I1)", append_only),
    Check("states", "the file explains its states as they are", state_names),
    Check("task histories", "transitions are legal, gapless and have their results (I2-I5, I8)", task_histories),
    Check("flow histories", "transitions are legal, gapless and have their results (I2-I5, I8)", flow_histories),
    Check("results", "the bytes are the ones that were written (I6)", results),
    Check("yields", "yielded values are gapless and there (I7)", yields),
    Check("references", "every row that another one names is there", references),
    Check("order", "what is called is recorded after its caller", order),
    Check("descriptions", "what describes functions can be read", descriptions),
)
STRUCTURE: Final = Check("structure", "SQLite finds no damage (quick_check)", structure)
INTEGRITY: Final = Check("integrity", "SQLite finds no damage (integrity_check)", integrity)
READABLE: Final = Check("values", "every recorded value can be decoded", readable_results)
EVERYTHING: Final = (INTEGRITY, *INVARIANTS, READABLE)
USUAL: Final = (STRUCTURE, *INVARIANTS)
