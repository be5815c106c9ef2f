"""The files that a power cut could have left, made from a trace of what a run wrote and synced.

The model is harsher than a disk. What was synced stays. Of what was not, each write is kept, dropped or torn on its
own, in blocks of 512 or 4096 bytes, so later writes may survive earlier ones; a length that was not synced may be the
old or the new one. A name is certain once its file or folder was synced; until then a created file may be missing, an
unlinked one still there, and a renamed one under either name. SQLite's shared-memory file is never there: nothing
reads it.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from proof import harness
from proof.effort import Effort

_HEAD: Final = struct.Struct("=4q")
_BLOCKS: Final = (512, 4096)


class Event(NamedTuple):
    """One call as the shim wrote it down."""

    kind: int
    offset: int
    path: str
    data: bytes


class Piece(NamedTuple):
    """Something done to a file that was not synced yet: bytes at an offset, or a length."""

    offset: int
    data: bytes
    length: int | None = None


class File:
    """One file: what is certain of it, and what is not."""

    def __init__(self) -> None:
        self.certain = bytearray()
        self.pending: list[Piece] = []
        self.named = False  # its name has reached the disk
        self.renamed = False  # and it has another one since: its own sync does not make that certain

    def sync(self) -> None:
        """All of it is certain from now on."""
        for piece in self.pending:
            _apply(self.certain, piece)
        self.pending.clear()
        self.named = not self.renamed

    def named_anew(self) -> File:
        """The same content under a name of its own."""
        made = File()
        made.certain, made.pending, made.renamed = self.certain, self.pending, True
        return made

    def left(self, seeded: random.Random, how: str) -> bytes:
        """What a power cut may leave of it."""
        content = bytearray(self.certain)
        for piece in self.pending:
            if how == "keep" or (how != "drop" and seeded.random() < 0.5):
                _apply(content, piece)
            elif how == "torn" and piece.length is None:
                size = seeded.choice(_BLOCKS)
                for start in range(0, len(piece.data), size):
                    if seeded.random() < 0.5:
                        _apply(content, Piece(piece.offset + start, piece.data[start : start + size]))
        return bytes(content)


class Disk:
    """The files below one folder, as calls change them."""

    def __init__(self, there: dict[str, bytes] | None = None) -> None:
        self.files: dict[str, File] = {}  # those that were there before are certain
        for path, content in (there or {}).items():
            self.files[path] = File()
            self.files[path].certain[:] = content
            self.files[path].named = True
        self.gone: dict[str, File] = {}  # unlinked or renamed away, and not certainly so

    def take(self, event: Event) -> None:
        """What one call does to them."""
        kind, path = event.kind, event.path
        if kind == harness.OPEN:
            file = self.files.setdefault(path, File())
            if event.offset:  # truncated when it was opened
                file.pending.append(Piece(0, b"", 0))
        elif kind == harness.WRITE and path in self.files:
            self.files[path].pending.append(Piece(event.offset, event.data))
        elif kind == harness.TRUNCATE and path in self.files:
            self.files[path].pending.append(Piece(0, b"", event.offset))
        elif kind == harness.SYNC:
            if path in self.files:
                self.files[path].sync()
            if path not in self.files or not path.rpartition(".")[2]:
                self._folder_synced(path)
        elif kind == harness.UNLINK and path in self.files:
            self.gone[path] = self.files.pop(path)
        elif kind == harness.RENAME and path in self.files:
            self.gone[path] = self._name(event.data.decode(), self.files.pop(path))
        elif kind == harness.LINK and path in self.files:
            self.files[path] = self._name(event.data.decode(), self.files[path])

    def _name(self, to: str, file: File) -> File:
        """Give a file another name, which is not certain; gives what still has, or had, the first one."""
        if to in self.files:
            self.gone[to] = self.files[to]
        self.files[to] = file.named_anew()
        return file

    def _folder_synced(self, folder: str) -> None:
        for path, file in self.files.items():
            if path.rpartition("/")[0] == folder:
                file.named, file.renamed = True, False
        self.gone = {path: file for path, file in self.gone.items() if path.rpartition("/")[0] != folder}

    def left(self, seeded: random.Random, how: str) -> dict[str, bytes]:
        """What a power cut may leave of all."""
        found = {}
        for path, file in self.files.items():
            if file.named or how == "keep" or (how != "drop" and seeded.random() < 0.5):
                found[path] = file.left(seeded, how)
        for path, file in self.gone.items():
            if path not in found and (how == "drop" or (how != "keep" and seeded.random() < 0.5)):
                found[path] = file.left(seeded, how)
        return {path: content for path, content in found.items() if not path.endswith("-shm")}


def _apply(content: bytearray, piece: Piece) -> None:
    if piece.length is not None:
        del content[piece.length :]
        content.extend(bytes(piece.length - len(content)))
        return
    if len(content) < piece.offset:
        content.extend(bytes(piece.offset - len(content)))
    content[piece.offset : piece.offset + len(piece.data)] = piece.data


def events(trace: Path) -> Iterator[Event]:
    """What the shim wrote down."""
    data = trace.read_bytes()
    at = 0
    while at + _HEAD.size <= len(data):
        kind, offset, path_length, length = _HEAD.unpack_from(data, at)
        at += _HEAD.size
        path = data[at : at + path_length].decode()
        at += path_length
        yield Event(kind, offset, path, data[at : at + length])
        at += length


_ROUND: Final = 6  # images
_HOW: Final = ("drop", "keep", "some", "torn", "torn")


def points(calls: int, effort: Effort, few: int, name: str) -> list[tuple[int, str]]:
    """Where the power is cut (before which call) and how harshly.

    In rounds, each in the order of the calls: a disk is made by replaying them, and when the time is up the last calls
    have had their turn, too.
    """
    seeded = effort.seeded(name)
    if effort.scale is None:
        return [(at, how) for at in range(calls + 1) for how in _HOW]
    chosen = [(seeded.randrange(calls + 1), seeded.choice(_HOW)) for _ in range(effort.count(few))]
    return [case for first in range(0, len(chosen), _ROUND) for case in sorted(chosen[first : first + _ROUND])]


def images(
    seen: list[Event], where: list[tuple[int, str]], seeded: random.Random, there: dict[str, bytes] | None = None
) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """States of the disk after power cuts: before which call, how harsh, and what is there.

    Args:
        seen: the calls.
        where: from `points`.
        seeded: decides what is kept.
        there: the files there were before the first call, whole.
    """
    disk, done = Disk(there), 0
    for at, how in where:
        if at < done:
            disk, done = Disk(there), 0
        for event in seen[done:at]:
            disk.take(event)
        done = at
        yield at, how, disk.left(seeded, how)
