"""The bytes of a result: whole where they are to be decoded, in parts where they are to be copied."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, NamedTuple

from xxhash import xxh3_64

from durable.errors import CorruptPayload
from durable.reader import queries
from durable.reader.journal import JournalReader

LONGEST: Final = 64 << 20  # bytes of a result that is decoded: its values take several times as many
_PART: Final = 4 << 20
_SIGNED: Final = 1 << 63


class Head(NamedTuple):
    """A result without its bytes. `format`: 1 durable's codec, 2 pickle, 3 an exception."""

    row: int
    format: int
    checksum: int
    size: int


def head(reader: JournalReader, row: int) -> Head | None:
    """What is known of a result, or None."""
    for format_, checksum, _, _, length in reader.rows(queries.RESULT_HEAD, row):
        return Head(row, format_, checksum, length)
    return None


def parts(reader: JournalReader, found: Head) -> Iterator[bytes]:
    """The bytes of a result, a few MB at a time.

    Raises:
        CorruptPayload: after the last of them, if they do not match their checksum.
    """
    digest = xxh3_64()
    for start in range(1, found.size + 1, _PART):
        for (part,) in reader.rows(queries.RESULT_PART, start, _PART, found.row):
            digest.update(part)
            yield part
    if (digest.intdigest() + _SIGNED) % (2 * _SIGNED) - _SIGNED != found.checksum:
        raise CorruptPayload(f"{reader.path}: result {found.row} does not match its checksum: the file is damaged")


def payload(reader: JournalReader, found: Head) -> bytes:
    """All bytes of a result of at most `LONGEST`. Raises as `parts`."""
    return b"".join(parts(reader, found))
