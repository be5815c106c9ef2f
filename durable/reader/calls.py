"""Calls as they are compared: one tuple a task run, read in pages, without the bytes of its result."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from itertools import takewhile
from typing import Any, Final, NamedTuple

from msgspec import DecodeError, Raw
from msgspec.msgpack import Decoder
from xxhash import xxh3_128_digest

from durable.codec import decode_inert, summary
from durable.codec.inert import Digest
from durable.errors import CorruptPayload
from durable.phrases import size
from durable.reader import queries
from durable.reader.journal import JournalReader
from durable.reader.standing import STARTS

_PAGE: Final = 500
_SHOWN: Final = 40  # characters of a value
_READ: Final = 1 << 20  # bytes of a result that are read to show it
PICKLED: Final = 2  # result.format
EXCEPTION: Final = 3
_ITEMS: Final = Decoder(dict[str, Raw])


class Call(NamedTuple):
    """One task run, as it stands.

    Attributes:
        task: row of the source it began with; `source`: of the one it was last executed with.
        seq: number of its newest transition, 0 if it has but one.
        state: its newest state's number, recorded at `at` by `process`.
        began: when its last attempt began.
        format: of its result or exception, with `checksum`, `size`, `cache_key` and `expires`; None: there is none.
    """

    row: int
    key: bytes
    task: int
    flow_run: int | None
    parent: int | None
    first_process: int
    first_state: int
    started: int
    occurrence: int
    inputs: bytes | None
    reason: str | None
    seq: int
    state: int
    at: int
    process: int
    message: str | None
    result: int | None
    began: int
    source: int
    format: int | None
    checksum: int | None
    cache_key: bytes | None
    expires: int | None
    size: int | None

    @property
    def took(self) -> int:
        """How long its last attempt lasted, or lasted when something was last recorded."""
        return max(0, self.at - self.began)

    @property
    def executed(self) -> bool:
        """Whether its body ever began."""
        return self.first_state in STARTS or self.began != self.started


def call(reader: JournalReader, row: int) -> Call | None:
    """One call, or None."""
    return next((_call(found) for found in reader.rows(queries.CALL, row)), None)


def call_by_key(reader: JournalReader, key: bytes) -> Call | None:
    """The call with this identity, or None."""
    return next((_call(found) for found in reader.rows(queries.CALL_BY_KEY, key)), None)


def calls_in(reader: JournalReader, flow_run: int, after: int = 0) -> Iterator[Call]:
    """The calls of a flow run after row `after`, those made in tasks' bodies too, in the order they began; a page at a
    time.
    """
    while page := reader.rows(queries.CALLS_OF, flow_run, after, _PAGE):
        yield from map(_call, page)
        after = page[-1][0]


def calls_of_task(reader: JournalReader, flow_run: int, after: int, name: str, rows: Collection[int]) -> Iterator[Call]:
    """The calls of a flow run after a row that are of the task called so, or are among `rows`."""
    while page := reader.rows(queries.ROWS_OF_TASK, flow_run, after, name, json.dumps([*rows]), _PAGE):
        for (row,) in page:
            yield from (one for one in (call(reader, row),) if one is not None)
        after = page[-1][0]


def calls_between(reader: JournalReader, flow_run: int, first: int, last: int) -> Iterator[Call]:
    """The calls of a flow run whose rows are between two."""
    return takewhile(lambda found: found.row <= last, calls_in(reader, flow_run, first - 1))


def _call(row: tuple[Any, ...]) -> Call:
    first_process, first_state, started = row[5:8]
    seq, state, at, process, message, result, began, source = row[11:19]
    newest = (seq, state, at, process) if seq is not None else (0, first_state, started, first_process)
    since = started if began is None else began
    return Call._make((*row[:11], *newest, message, result, since, source or row[2], *row[19:]))


class Source(NamedTuple):
    """One version of a task's function."""

    key: bytes
    digest: bytes
    name: str
    function: str
    tags: str
    parts: dict[str, str]


def source_of(reader: JournalReader, row: int) -> Source:
    """One version of a task's function; what is damaged of its parts is left out."""
    for key, digest_, name, function, tags, parts in reader.rows(queries.SOURCE, row):
        try:
            found = json.loads(parts)
        except (ValueError, TypeError, RecursionError):
            found = {}
        components = found.items() if isinstance(found, dict) else ()
        return Source(key, digest_, name, function, tags, {k: v for k, v in components if isinstance(v, str)})
    return Source(b"", b"", "?", "?", "[]", {})


def changed_parts(old: Source, new: Source) -> list[str]:
    """The functions and constants that differ between two versions, without the module they share."""
    names = sorted(n for n in old.parts.keys() | new.parts.keys() if old.parts.get(n) != new.parts.get(n))
    home = new.function.partition(":")[0]
    return [name.removeprefix(f"{home}:") for name in names] or ["itself"]


class Difference(NamedTuple):
    """One argument of two calls.

    Attributes:
        exact: the values are there; otherwise only digests are, so no more than that they differ is known.
    """

    name: str
    old: str
    new: str
    exact: bool

    def __str__(self) -> str:
        return f"{self.name}: {self.old} -> {self.new}" + ("" if self.exact else " (recorded as digests)")


def differences(old: bytes | None, new: bytes | None) -> list[Difference] | None:
    """The arguments in which two calls differ; None where the arguments of one are not recorded by name."""
    before, after = _split(old), _split(new)
    if before is None or after is None:
        return None
    names = [*after, *(name for name in before if name not in after)]
    pairs = ((name, before.get(name), after.get(name)) for name in names)
    return [
        Difference(name, _shown(left), _shown(right), not (_is_digest(left) or _is_digest(right)))
        for name, left, right in pairs
        if left != right
    ]


def _split(inputs: bytes | None) -> dict[str, bytes] | None:
    if not isinstance(inputs, bytes):
        return None
    try:
        return {name: bytes(value) for name, value in _ITEMS.decode(inputs).items()}
    except (DecodeError, RecursionError):
        return None


def _shown(value: bytes | None) -> str:
    if value is None:
        return "(no such argument)"
    try:
        return summary(value, _SHOWN)
    except CorruptPayload:
        return "<damaged>"


def _is_digest(value: bytes | None) -> bool:
    try:
        return value is not None and isinstance(decode_inert(value), Digest)
    except CorruptPayload:
        return False


def by_digest_only(inputs: bytes | None) -> bool:
    """Whether a call's arguments are recorded as one digest: ``record_inputs=False``."""
    return isinstance(inputs, bytes) and _is_digest(inputs)


def preview(reader: JournalReader, row: int | None, width: int = _SHOWN) -> str:
    """A result in a few characters, at a cost that hardly depends on its length. Empty where there is none."""
    for format_, _, _, _, length in reader.rows(queries.RESULT_HEAD, row) if row is not None else ():
        if format_ == PICKLED:
            return f"<pickled {size(length)}>"
        ((part,),) = reader.rows(queries.RESULT_PART, 1, _READ, row)
        try:
            return summary(part, width)
        except CorruptPayload:
            return f"<{size(length)}>" if length > _READ else "<damaged>"
    return ""


def identity(scope: bytes, task: bytes, inputs: bytes, occurrence: int) -> bytes:
    """The key of a call made in a scope: `durable.runs.Scope.identify` gives the same."""
    base = xxh3_128_digest(scope + task + inputs)
    return base if occurrence == 1 else xxh3_128_digest(base + occurrence.to_bytes(8, "little"))
