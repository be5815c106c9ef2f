"""``durable watch``: a running job, seen from another terminal."""

from __future__ import annotations

import os
import shutil
import sys
import time
from typing import Final

import click

from durable.cli import events, facts
from durable.cli.completing import runs_complete
from durable.cli.exits import NOT_COMPLETED, Stopped
from durable.cli.tail import POLL_SECONDS
from durable.cli.target import flow_run, reading, split
from durable.cli.terminal import Colour, Screen, clipped
from durable.clock import clock
from durable.phrases import duration, safe
from durable.reader import Counts, FlowRun, JournalReader, TaskRun
from durable.reader.flight import in_flight
from durable.reader.following import Follower, Pace, Signature

_SHOWN: Final = 15  # tasks in flight


@click.command()
@click.argument("words", metavar="[DB] [RUN]", nargs=-1, shell_complete=runs_complete)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if the run did not complete.")
@click.option("--color", "colour", type=click.Choice(["auto", "always", "never"]), default="auto", show_default=True)
def watch(words: tuple[str, ...], *, exit_code: bool, colour: Colour) -> None:
    """Watch a flow run until it ends: what is done, what runs now. On a terminal the picture is redrawn; elsewhere each
    transition is a line.

    RUN is the beginning of its id, or "-" for the newest; by default the newest that runs, or else the newest. The job
    is not slowed down: nothing is held open between two looks.
    """
    path, run = split(words, needs_run=False)
    screen = Screen(colour)
    with reading(path) as reader:
        chosen = flow_run(reader, run) if run is not None else _running(reader)
        row = chosen.row
    drawn = screen.tty and os.environ.get("TERM") != "dumb"
    seen = _draw(screen, path, row) if drawn else _print(screen, path, row)
    if exit_code and not seen.completed:
        raise Stopped(NOT_COMPLETED)


def _running(reader: JournalReader) -> FlowRun:
    newest = reader.flow_runs(50)
    return next((run for run in newest if run.running), None) or flow_run(reader, "-")


def _print(screen: Screen, path: str, row: int) -> FlowRun:
    """A line for each transition of the run and its subflows, until it ends."""
    follower, family = Follower(), set[int]()
    with reading(path) as reader:
        signature = Signature(reader.path)
        signature.changed()
        seen = reader.flow_run(row)
        if seen.running:
            screen.line(_head(screen, seen))
        follower.begin(reader, 0)
        family.update(reader.family(row))
    changed = True
    while True:
        with reading(path) as reader:
            seen = reader.flow_run(row)
            while changed or follower.behind or not seen.running:
                found = follower.poll(reader, changed=changed, whole=not seen.running)
                for each in found or ():
                    run = events.of(reader, each)
                    if isinstance(run, FlowRun) and run.parent_row in family:
                        family.add(run.row)
                    if events.flow_row(run) in family:
                        screen.line(events.line(screen, reader, each, run))
                changed = False
                if not found:
                    break
            if not seen.running:
                screen.line(f"{_head(screen, seen)}  {_counted(reader.counts(seen))}")
                return seen
        sys.stdout.flush()
        clock().sleep(POLL_SECONDS)
        changed = signature.changed()


def _draw(screen: Screen, path: str, row: int) -> FlowRun:
    """One picture, drawn again and again until the run ends."""
    pace, height = Pace(), 0
    counts, flying = Counts(), list[TaskRun]()
    while True:
        with reading(path) as reader:
            seen = reader.flow_run(row)
            if pace.due() or not seen.running:
                began = time.monotonic()
                counts, flying = reader.counts(seen), in_flight(reader, seen, _SHOWN) if seen.running else []
                pace.took(began)
            lines = _picture(screen, reader, seen, counts, flying)
        room = max(shutil.get_terminal_size().lines - 1, 3)
        sys.stdout.write((f"\x1b[{height}F" if height else "") + "\x1b[J" + "\n".join(lines[:room]) + "\n")
        sys.stdout.flush()
        height = min(len(lines), room)
        if not seen.running:
            return seen
        clock().sleep(POLL_SECONDS)


def _picture(screen: Screen, reader: JournalReader, seen: FlowRun, counts: Counts, flying: list[TaskRun]) -> list[str]:
    lines = [_head(screen, seen), f"  {_counted(counts)}"]
    now = clock().now()
    for task in flying:
        status = "running" if task.status == "running?" else task.status
        text = f"{facts.call(reader, task)}  {duration(now - task.began)}"
        if task.attempts > 1:
            text += f"  [attempt {task.attempts}]"
        lines.append(f"  {screen.paint(status, status.ljust(8))}  {clipped(text, (screen.width or 80) - 13)}")
    if counts.running > len(flying):
        lines.append(f"  and {counts.running - len(flying)} more")
    return lines


def _head(screen: Screen, seen: FlowRun) -> str:
    name = screen.paint("title", f"{safe(seen.flow)} {seen.id[:7]}")
    rest = f"  {duration(seen.took)}  process {seen.process.pid} on {safe(seen.process.host)}"
    rest += f"  {clipped(seen.message, 100)}" if seen.message else ""
    if screen.width is not None:
        rest = clipped(rest, screen.width - len(safe(seen.flow)) - len(seen.state) - 12)
    return f"{name}  {screen.paint(seen.state.rstrip('?'), seen.state)}{rest}"


def _counted(counts: Counts) -> str:
    words = (
        (counts.completed, "done"),
        (counts.cached, "cached"),
        (counts.failed, "failed"),
        (counts.cut_off, "cut off"),
        (counts.running, "in flight"),
        (counts.other, "other"),
    )
    return ", ".join(f"{number} {word}" for number, word in words if number) or "no task yet"
