"""``durable export``: a journal as JSON lines, or one of its views as CSV."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TextIO

import click

from durable.cli.document import plain
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.target import SCHEMA, flow_run, reading
from durable.cli.terminal import note
from durable.phrases import safe
from durable.reader import JournalReader
from durable.reader.exporting import VIEWS, columns, pages, recorded, states_of, task_runs_of
from durable.settings import journal_path

# How rows of a view are told to belong to a run or its subflows, given their rows as a JSON array.
_OF_RUN: Final = {
    "flow_runs": "AND flow_run_row IN (SELECT value FROM json_each(?))",
    "task_runs": "AND flow_run_row IN (SELECT value FROM json_each(?))",
}


@click.command()
@click.argument("journal", metavar="[DB]", required=False)
@click.option("--run", "prefix", metavar="RUN", help='Only this flow run and its subflows; "-" is the newest.')
@click.option("--format", "form", type=click.Choice(["jsonl", "csv"]), default="jsonl", show_default=True)
@click.option("--view", type=click.Choice(sorted(VIEWS)), help="The view that becomes CSV; task_runs by default.")
@click.option("-o", "--output", metavar="FILE", help="Write there, and not to standard output.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def export(
    journal: str | None, *, prefix: str | None, form: str, view: str | None, output: str | None, force: bool
) -> None:
    """Write out what a journal holds: everything as JSON lines, or one of its public views as CSV.

    A live journal may be written to meanwhile: each page is of one moment, the whole is not. No code of yours is
    imported; what JSON cannot say is {"$bytes": base64} or {"$repr": text}.

    A run is followed by its states, a flow run then by its task runs; tasks called outside any flow come last. The
    shape of the lines is documented in schema/cli/export.schema.json.
    """
    if view is not None and form != "csv":
        raise click.UsageError("--view is for --format csv")
    if prefix is not None and form == "csv" and (view or "task_runs") not in _OF_RUN:
        raise click.UsageError(f"--run goes with the views {' and '.join(_OF_RUN)} only")
    with reading(journal_path(journal)) as reader, _opened(reader, output, force=force) as file:
        family = reader.family(flow_run(reader, prefix).row) if prefix is not None else None
        if form == "csv":
            _csv(reader, file, view or "task_runs", family)
        else:
            for line in _lines(reader, family):
                file.write(json.dumps({"schema": SCHEMA, **line}) + "\n")
        if reader.changed():
            note("a process began to write while this was read: run the command again for a true picture")


@contextmanager
def _opened(reader: JournalReader, output: str | None, *, force: bool) -> Iterator[TextIO]:
    if output is None:
        yield sys.stdout
        return
    path = Path(output).expanduser()
    if path.exists() and path.samefile(reader.path):
        raise click.UsageError(f"{path} is the journal itself")
    try:
        with path.open("w" if force else "x", encoding="utf-8", newline="") as file:
            yield file
    except FileExistsError:
        raise Stopped(NO_SUCH, f"{path} is there already; --force replaces it") from None
    except OSError as error:
        raise Stopped(NO_SUCH, f"{path}: it cannot be written: {error.strerror or error}") from None


def _csv(reader: JournalReader, file: TextIO, view: str, family: list[int] | None) -> None:
    where, parameters = ("", ()) if family is None else (_OF_RUN[view], (json.dumps(family),))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns(reader, view))
    shown = safe if file.isatty() else _without_nul
    for rows in pages(reader, view, where, *parameters):
        writer.writerows([shown(value) if type(value) is str else value for value in row] for row in rows)


def _without_nul(text: str) -> str:
    """Text as a CSV file may hold it: Python 3.10 neither writes nor reads a NUL there."""
    return text.replace("\0", "\ufffd")


def _lines(reader: JournalReader, family: list[int] | None) -> Iterator[dict[str, Any]]:
    flow_columns, task_columns, state_columns = (columns(reader, view) for view in ("flow_runs", "task_runs", "states"))
    where, parameters = ("", ()) if family is None else (_OF_RUN["flow_runs"], (json.dumps(family),))

    def states(kind: str, row: int) -> Iterator[dict[str, Any]]:
        for found in states_of(reader, kind, row):
            yield {"kind": "state", **_named(state_columns, found)}

    def tasks(flow: int | None) -> Iterator[dict[str, Any]]:
        for *found, row in task_runs_of(reader, flow):
            yield {
                "kind": "task_run",
                **_named(task_columns, found),
                **_values(recorded(reader, row, flow=False)),
            }
            yield from states("task run", row)

    for rows in pages(reader, "flow_runs", where, *parameters):
        for found in rows:
            told = _named(flow_columns, found)
            row = told["flow_run_row"]
            yield {"kind": "flow_run", **told, **_values(recorded(reader, row, flow=True))}
            yield from states("flow run", row)
            yield from tasks(row)
    if family is None:
        yield from tasks(None)


def _named(names: list[str], row: Any) -> dict[str, Any]:
    return {name: plain(value) for name, value in zip(names, row, strict=True)}


def _values(found: dict[str, Any]) -> dict[str, Any]:
    told: dict[str, Any] = {"arguments": plain(found["arguments"])}
    if "failure" in found:
        failure = found["failure"]
        told["error"] = {
            "type": plain(failure.type_name),
            "message": plain(failure.message),
            "traceback": plain(failure.traceback),
        }
    elif "result" in found:
        told["result"] = plain(found["result"])
    elif "not_shown" in found:
        told["not_shown"] = found["not_shown"]
    return told
