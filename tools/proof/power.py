"""Power cuts: whatever they may leave is a journal, with all that was acknowledged, that can be resumed.

The images are made in `proof.disk`. Of a scenario every tenth is resumed to its end; of the first seconds of a
journal's life, until its first result was acknowledged, each.
"""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path
from typing import Final

from proof import harness, oracle, scenarios
from proof.disk import Event, events, images, points
from proof.effort import Effort, Proof, Row
from proof.harness import Arm, Hung, Job
from proof.kill import baseline

_FEW: Final = 60  # images of a scenario in the quick proof
_EVERY: Final = 10


def recorded(job: Job, **environment: str) -> list[Event]:
    """Run a job to its end; what it did to its folder, its log among it.

    Raises:
        Violated: it failed.
    """
    trace = job.base / "trace"
    job.log = job.folder / "ran.log"
    job.log.touch()
    ended = job.run(Arm(record=trace), **environment)
    if ended.code:
        raise oracle.Violated(f"the run to be recorded failed:\n{ended.err}")
    found = list(events(trace))
    trace.unlink()
    return found


def image_of(base: Path, job: Job, left: dict[str, bytes]) -> Job:
    """A folder as a power cut left it, with the job in it."""
    made = Job(base / "image", "")
    shutil.copy(job.folder / "job.py", made.folder / "job.py")
    for path, content in left.items():
        file = made.folder / Path(path).relative_to(job.folder)
        if file.suffix != ".lock":  # a kernel lock dies with the kernel; its file is only a name
            file.parent.mkdir(exist_ok=True)
            file.write_bytes(content)
    log = made.folder / "ran.log"
    if log.exists():
        made.log = log
    check_names(made)
    return made


def check_names(job: Job) -> None:
    """A log without its database would be taken for that of the next one with its name.

    Raises:
        Violated: there is one.
    """
    for log in job.folder.glob("*.db-wal"):
        if log.stat().st_size and not log.with_name(log.name.removesuffix("-wal")).exists():
            raise oracle.Violated(f"{log.name} is there, and its database is not")


def _cut(
    scenario: str, durability: str, few: int, every: int, base: Path, effort: Effort, before: str, first: str = ""
) -> Row:
    text, name = before + scenarios.ALL[scenario], f"power {durability} {scenario} {first}"
    expected = baseline(base, text)
    job = Job(base / "recorded", text)
    count = resumed = repeated = lost = 0
    try:
        seen = recorded(job, DURABLE_DURABILITY=durability)
        seen = seen[: _acknowledged(seen)] if first else seen
        where = points(len(seen), effort, few, name)
        made = images(seen, where, effort.seeded(name + " image"))
        for number in effort.in_time(range(len(where))):
            at, how, left = next(made)
            count += 1
            try:
                again = _check(base, job, left, durability, expected, to_the_end=number % every == 0)
            except (oracle.Violated, Hung) as error:
                raise oracle.Violated(f"after call {at} ({how}): {error}") from error
            if again is not None:
                resumed, repeated, lost = resumed + 1, repeated + again[0], lost + again[1]
    finally:
        shutil.rmtree(job.base)
    what = first or f"durability={durability!r}: {scenario}"
    return Row(f"power cut, {what} ({resumed} resumed)", count, count, repeated, lost)


def _acknowledged(seen: list[Event]) -> int:
    """How many calls were made until the first result was acknowledged, for certain."""
    log = next(at for at, event in enumerate(seen) if event.kind == harness.WRITE and event.data.startswith(b"ack "))
    return log + 2


def _check(
    base: Path, job: Job, left: dict[str, bytes], durability: str, expected: oracle.Expected, *, to_the_end: bool
) -> tuple[int, int] | None:
    """Whether one image is a journal that nothing acknowledged is missing from; and whether it can be resumed."""
    try:
        made = image_of(base, job, left)
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
        shutil.rmtree(base / "image")


def _scenario(scenario: str, durability: str, base: Path, effort: Effort, before: str) -> Row:
    return _cut(scenario, durability, _FEW, _EVERY, base, effort, before)


def _first_seconds(base: Path, effort: Effort, before: str) -> Row:
    return _cut("sync", "power", _FEW, 1, base, effort, before, "the first seconds of a journal's life")


PROOFS: Final[dict[str, Proof]] = {
    "power/first seconds": _first_seconds,
    **{
        f"power/{durability}/{scenario}": partial(_scenario, scenario, durability)
        for durability in ("power", "process")
        for scenario in scenarios.ALL
        if scenario != "processes"  # the trace has no effects of worker processes; the journal is the driver's as ever
    },
}
