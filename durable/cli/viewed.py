"""The screens for a journal whose tables are newer than this durable: what its public views offer."""

from __future__ import annotations

from durable.cli import document
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.terminal import Screen
from durable.phrases import duration, safe
from durable.reader import JournalReader
from durable.reader.viewed import viewed_run, viewed_runs, viewed_tasks


def show(reader: JournalReader, prefix: str | None, limit: int | None, *, as_json: bool) -> bool:
    """The dashboard, or one flow run. Returns whether the newest, or that one, completed."""
    screen = Screen("never")
    if prefix is None:
        runs = viewed_runs(reader, -1 if limit is None else limit)
        if as_json:
            document.viewed(reader, "runs", {}, runs)
        else:
            screen.line(f"{safe(reader.path.name)}  schema {reader.version}")
            for run in runs:
                told = f"{safe(run.flow)}  {safe(run.state)}  {safe(run.started)}  {safe(run.message or '')}"
                screen.line(f"  {safe(run.id)[:7]}  {told}".rstrip())
        return not runs or runs[0].type == "COMPLETED"
    found = viewed_run(reader, prefix)
    if len(found) != 1:
        raise Stopped(NO_SUCH, f"{reader.path}: {len(found) or 'no'} flow runs have ids that begin with {prefix!r}")
    (run,) = found
    tasks = viewed_tasks(reader, run)
    if as_json:
        document.viewed(reader, "entries", {"run": run._asdict()}, tasks)
        return run.type == "COMPLETED"
    screen.line(f"{safe(run.flow)} {safe(run.id)}  {safe(run.state)}  {safe(run.message or '')}".rstrip())
    for task in tasks:
        took = duration(task.seconds * 1e6) if task.seconds is not None else ""
        told = f"{safe(task.task)} {safe(task.id)[:7]}  {took}  {safe(task.message or '')}"
        screen.line(f"  {safe(task.state).ljust(10)}  {told}".rstrip())
    return run.type == "COMPLETED"
