"""Power cuts: the files one could have left, made from a trace of what a run wrote and synced.

The model is harsher than a disk. What was synced stays. Of what was not, each write is kept, dropped or torn on its
own, in blocks of 512 or 4096 bytes, so later writes may survive earlier ones; a length that was not synced may be the
old or the new one. A name is certain once its file or folder was synced; until then a created file may be missing, an
unlinked one still there, and a renamed one under either name. SQLite's shared-memory file is never there: nothing
reads it.
"""

from __future__ import annotations

import random
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from proof import harness, oracle, scenarios
from proof.harness import Arm, Job
from proof.kill import Row, baseline

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

    def __init__(self) -> None:
        self.files: dict[str, File] = {}
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
            to = event.data.decode()
            moved = self.files.pop(path)
            moved.named, moved.renamed = False, True
            self.gone[path] = moved
            if to in self.files:
                self.gone[to] = self.files[to]
            self.files[to] = moved

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


def recorded(job: Job, **environment: str) -> list[Event]:
    """Run a job to its end; what it did to its folder, its log among it."""
    trace = job.base / "trace"
    job.log = job.folder / "ran.log"
    job.log.touch()
    ended = job.run(Arm(record=trace), **environment)
    if ended.code:
        raise oracle.Violated(f"the run to be recorded failed:\n{ended.err}")
    return list(events(trace))


def images(seen: list[Event], seeded: random.Random, count: int) -> Iterator[tuple[int, str, dict[str, bytes]]]:
    """States of the disk after a power cut: at which call, how harsh, and what is there."""
    points = [seeded.randrange(len(seen) + 1) for _ in range(count)]
    disk, at = Disk(), 0
    for point in sorted(points):
        for event in seen[at:point]:
            disk.take(event)
        at = point
        how = seeded.choice(("drop", "keep", "some", "torn", "torn"))
        yield point, how, disk.left(seeded, how)


def prove(base: Path, seed: int, limit: int, before: str = "") -> Iterator[Row]:
    """Images of every scenario under both durabilities, `limit` of each; every tenth is resumed to its end.

    `before` is code that the jobs begin with.
    """
    for durability in ("power", "process"):
        count = resumed = repeated = lost = 0
        for scenario, text in scenarios.ALL.items():
            seeded = random.Random(f"{seed} {scenario} {durability}")
            expected = baseline(base, before + text)
            job = Job(base / "recorded", before + text)
            seen = recorded(job, DURABLE_DURABILITY=durability)
            for number, (point, how, left) in enumerate(images(seen, seeded, limit)):
                count += 1
                try:
                    again = _check(base, job, left, durability, expected, to_the_end=number % 10 == 0)
                except oracle.Violated as error:
                    raise oracle.Violated(f"{scenario}, {durability}, after call {point} ({how}): {error}") from error
                if again is not None:
                    resumed, repeated, lost = resumed + 1, repeated + again[0], lost + again[1]
            shutil.rmtree(job.base)
        told = f"power cut, durability={durability!r} ({resumed} resumed" + (f", {lost} results lost)" if lost else ")")
        yield Row(told, count, count, repeated)


def _check(
    base: Path, job: Job, left: dict[str, bytes], durability: str, expected: oracle.Expected, *, to_the_end: bool
) -> tuple[int, int] | None:
    """Whether one image is a journal that nothing acknowledged is missing from; and whether it can be resumed."""
    made = Job(base / "image", "")
    try:
        shutil.copy(job.folder / "job.py", made.folder / "job.py")
        for path, content in left.items():
            file = made.folder / Path(path).relative_to(job.folder)
            if file.suffix != ".lock":  # a kernel lock dies with the kernel; its file is only a name
                file.write_bytes(content)
        log = made.folder / "ran.log"
        if log.exists():
            made.log = log
        crash = oracle.look(made, acknowledged=durability == "power", started=False)
        if not to_the_end:
            return None
        lines = crash.ran
        lost = sum(f"step-{line[4:]}" not in crash.completed for line in lines if line.startswith("ack "))
        ended = made.run(DURABLE_DURABILITY=durability)
        if ended.code:
            raise oracle.Violated(f"it cannot be resumed:\n{ended.err}")
        return oracle.check_end(made, [crash], ended.out, expected), lost
    finally:
        shutil.rmtree(made.base)
