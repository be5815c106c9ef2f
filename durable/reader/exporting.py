"""A journal read through from end to end, in pages: each query ends before what it gave is handed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from durable.codec import decode_inert
from durable.errors import CodecError
from durable.journal.facts import FORMAT_DURABLE, FORMAT_EXCEPTION, checksum_of
from durable.reader.failures import arguments_of, failure_of
from durable.reader.journal import JournalReader

PAGE: Final = 500
LONGEST: Final = 32 << 20  # bytes of a value that are still decoded
_HIGHEST: Final = (1 << 63) - 1
_HELD: Final = 4 << 20  # characters after which a page ends

# The public views, each with the column that pages are made by and the table whose rows that counts.
VIEWS: Final = {
    "flow_runs": ("flow_run_row", "flow_run"),
    "task_runs": ("task_run_row", "task_run"),
    "processes": ("process_row", "process"),
    "results": ("result_row", "result"),
    "yields": ("task_run_row", "task_run"),
    "dependencies": ("task_run_row", "task_run"),
    "states": ("run_row", "task_run"),
}
_TASK_RUNS_OF: Final = f"""
SELECT *, task_run_row FROM task_runs WHERE flow_run_row IS ? AND task_run_row > ?
ORDER BY task_run_row LIMIT {PAGE}"""
_RECORDED: Final = """
SELECT t.inputs, o.format, o.checksum, length(o.payload), iif(length(o.payload) <= :b, o.payload, NULL)
FROM task_run AS t
LEFT JOIN task_run_state AS s
    ON s.task_run_id = t.id AND s.seq = (SELECT max(seq) FROM task_run_state WHERE task_run_id = t.id)
LEFT JOIN result AS o ON o.id = s.result_id WHERE t.id = :a"""
_RECORDED_FLOW: Final = """
SELECT r.parameters, o.format, o.checksum, length(o.payload), iif(length(o.payload) <= :b, o.payload, NULL)
FROM flow_run AS r
LEFT JOIN flow_run_state AS s
    ON s.flow_run_id = r.id AND s.seq = (SELECT max(seq) FROM flow_run_state WHERE flow_run_id = r.id)
LEFT JOIN result AS o ON o.id = s.result_id WHERE r.id = :a"""


def columns(reader: JournalReader, view: str) -> list[str]:
    """The names of a view's columns."""
    return [str(row[1]) for row in reader.rows(f"PRAGMA table_info({view})")]


def pages(reader: JournalReader, view: str, where: str = "", *parameters: Any) -> Iterator[list[Any]]:
    """The rows of a view in order of the rows they tell of, some at a time. `where` is more to ask of them."""
    key, table = VIEWS[view]
    tables = ["flow_run", "task_run"] if view == "states" else [table]
    nearest = ", ".join(f"(SELECT id FROM {name} WHERE id >= ? ORDER BY id LIMIT 1)" for name in tables)
    text = f"SELECT {key}, * FROM {view} WHERE {key} BETWEEN ? AND ? {where} ORDER BY {key}"
    newest = 0
    while newest < _HIGHEST:
        # The numbers may lie far apart: what was pruned, or a file made by hand, must not be paged through.
        ((*found_next,),) = reader.rows(f"SELECT {nearest}", *[newest + 1] * len(tables))
        low = min((row for row in found_next if row is not None), default=None)
        if low is None:
            return
        rows: list[Any] = []
        held, newest = 0, min(low + PAGE - 1, _HIGHEST)
        with closing(reader.stream(text, low, newest, *parameters)) as found:
            for row, *values in found:
                if held > _HELD and row != rows[-1][0]:
                    newest = rows[-1][0]
                    break
                rows.append((row, values))
                held += _size(values)
        if rows:
            yield [values for _, values in rows]


def task_runs_of(reader: JournalReader, flow_run: int | None) -> Iterator[Any]:
    """The rows of the view `task_runs` that belong to a flow run (None: to none), in the order they began."""
    after = 0
    while rows := _some(reader, _TASK_RUNS_OF, flow_run, after):
        yield from rows
        after = rows[-1][-1]


def _some(reader: JournalReader, text: str, *parameters: Any) -> list[Any]:
    """The first rows of a query, no more than are held at once."""
    rows: list[Any] = []
    held = 0
    with closing(reader.stream(text, *parameters)) as found:
        for row in found:
            rows.append(row)
            held += _size(row)
            if held > _HELD:
                break
    return rows


def _size(row: Any) -> int:
    return sum(len(value) for value in row if isinstance(value, str | bytes))


def states_of(reader: JournalReader, kind: str, row: int) -> list[Any]:
    """The rows of the view `states` for one run; `kind` is ``flow run`` or ``task run``."""
    return reader.rows("SELECT * FROM states WHERE run_kind = ? AND run_row = ? ORDER BY seq", kind, row)


def recorded(reader: JournalReader, row: int, *, flow: bool) -> dict[str, Any]:
    """What a run was called with and what its newest state points to: ``arguments``, and ``result``, ``failure`` or
    ``not_shown`` (why it is not).
    """
    ((inputs, format_, checksum, length, payload),) = reader.rows(_RECORDED_FLOW if flow else _RECORDED, row, LONGEST)
    found: dict[str, Any] = {"arguments": arguments_of(inputs)}
    if format_ is None:
        return found
    if payload is None:
        return found | {"not_shown": f"{length} bytes"}
    if checksum_of(payload) != checksum:
        return found | {"not_shown": "damaged: its bytes do not match their checksum"}
    if format_ == FORMAT_EXCEPTION:
        return found | {"failure": failure_of(payload)}
    if format_ != FORMAT_DURABLE:
        return found | {"not_shown": f"a pickle of {length} bytes"}
    try:
        return found | {"result": decode_inert(payload)}
    except CodecError as error:
        return found | {"not_shown": f"damaged: {error}"}
