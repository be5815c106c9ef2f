"""``durable result``: what a task run returned, without the code that made it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal

import click

from durable.cli import document
from durable.cli.choosing import flow_run_of, needed, opened, run_of, task_of
from durable.cli.completing import words_complete
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.terminal import note
from durable.cli.values import as_json, as_text
from durable.codec import decode_inert
from durable.phrases import counted, size
from durable.reader import FlowRun, JournalReader, TaskRun, payloads
from durable.reader.calls import PICKLED
from durable.reader.history import Yield, extras, yields
from durable.reader.payloads import Head, head, parts, payload

_FORMATS: Final = ("durable", "pickle", "exception")
Format = Literal["json", "text", "raw"]


@click.command(name="result")
@click.argument("words", metavar="[DB] RUN [TASK]", nargs=-1, shell_complete=words_complete)
@click.option("--format", "form", type=click.Choice(["text", "json", "raw"]), default="text", show_default=True)
@click.option("--json", "json_asked", is_flag=True, help="The same as --format json: schema/cli/result.schema.json.")
@click.option("--yield", "number", type=click.IntRange(1), help="Only the value a generator yielded as its N-th.")
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), help="Write to this file, which is replaced."
)
def result(words: tuple[str, ...], *, form: Format, json_asked: bool, number: int | None, output: Path | None) -> None:
    """Give the recorded result of a task run, or of a flow run.

    DB is the journal's file; without it the one that is set (by DURABLE_JOURNAL, say), else runs.db. RUN is the
    beginning of a flow run's id, or "-" for the newest; TASK is the beginning of a task run's id, its name or its
    task's. RUN alone may be a task run's id; a flow run's alone gives what the flow returned.

    Nothing is unpickled and no class of yours is needed: an object is shown by the name of its class and its fields, an
    array or a table by its type and shape. A failed run gives its exception. What a generator yielded comes first, in
    order, then what it returned. A pickled result (result_serializer="pickle") is given raw only.

    \b
    Formats:
      text  a string as it is, control characters escaped; the rest as
            Python shows it
      json  {"schema": 1, "run", "state", "format", "yielded", "value"}
            with {"$tuple": [...]}, {"$set": [...]}, {"$bytes": base64},
            {"$object": class, "fields": {...}}, {"$repr": text}, ...
            for what JSON does not have
      raw   the recorded bytes: for a file or a pipe, not a terminal

    \b
    Exit codes:
      0  given
      2  wrong usage
      3  no such file, run or result, or the file is no journal
      4  another process keeps the journal locked
      5  the journal, or the result, is damaged
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    form = "json" if json_asked else form
    journal, (name, *rest) = needed(words, ("RUN", "TASK"), 1)
    with opened(journal, whole="result") as reader:
        run = task_of(reader, flow_run_of(reader, name), rest[0]) if rest else run_of(reader, name)
        _refuse(reader, output)
        if form == "raw":
            _raw(reader, run, number, output)
            return
        write = _document(reader, run, number) if form == "json" else _text(reader, run, number)
        if output is None:
            for line in write:
                sys.stdout.write(line)
        else:
            with _written(output) as file:
                file.writelines(line.encode("utf-8", "backslashreplace") for line in write)


def _refuse(reader: JournalReader, output: Path | None) -> None:
    """The journal and what lies beside it are not to be written over."""
    if output is None:
        return
    target = Path(os.path.realpath(output))
    if str(target).startswith(str(reader.path)):
        raise click.UsageError(f"{output} belongs to the journal: give the name of another file.")


@contextmanager
def _written(output: Path) -> Iterator[BinaryIO]:
    """The file to write to. What was there is replaced when all is written, and not before."""
    special = output.exists() and not output.is_file()
    partial = output if special else output.with_name(f".{output.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as file:
            yield file
        if not special:
            partial.replace(output)
    except OSError as error:
        raise click.FileError(str(output), error.strerror or str(error)) from None
    finally:
        if not special:
            partial.unlink(missing_ok=True)


def _raw(reader: JournalReader, run: TaskRun | FlowRun, number: int | None, output: Path | None) -> None:
    if number is not None:
        found = _head(reader, _yielded(reader, run, number).result, run)
    else:
        found = _head(reader, run.result_row, run)
    if output is None and sys.stdout.isatty():
        raise click.UsageError("the recorded bytes are not for a terminal: -o FILE, or a pipe.")
    if output is None:
        sys.stdout.flush()
        for part in parts(reader, found):
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
    else:
        with _written(output) as file:
            file.writelines(parts(reader, found))
    note(f"{_FORMATS[found.format - 1]}, {size(found.size)}")


def _head(reader: JournalReader, row: int | None, run: TaskRun | FlowRun) -> Head:
    found = head(reader, row) if row is not None else None
    if found is None:
        raise Stopped(NO_SUCH, f"{reader.path}: {_named(run)} has no recorded result: {_why_none(reader, run)}")
    return found


def _named(run: TaskRun | FlowRun) -> str:
    return f"{run.task if isinstance(run, TaskRun) else run.flow} {run.id[:7]}"


def _why_none(reader: JournalReader, run: TaskRun | FlowRun) -> str:
    if run.state == "Completed":
        kept = (
            "its consumer closed it" if isinstance(run, TaskRun) and extras(reader, run).yields else "it was not kept"
        )
        return f"{kept} (persist_result=False, say)" if kept == "it was not kept" else kept
    return f"it is {run.status}"


def _yielded(reader: JournalReader, run: TaskRun | FlowRun, number: int) -> Yield:
    found = next((one for one in _yields(reader, run) if one.number == number), None)
    if found is None:
        count = extras(reader, run).yields if isinstance(run, TaskRun) else 0
        raise Stopped(NO_SUCH, f"{reader.path}: {_named(run)} yielded {counted(count, 'value')}, not {number}")
    return found


def _yields(reader: JournalReader, run: TaskRun | FlowRun) -> Iterator[Yield]:
    return yields(reader, run.row) if isinstance(run, TaskRun) else iter(())


def _value(reader: JournalReader, found: Head, run: TaskRun | FlowRun) -> Any:
    if found.format == PICKLED:
        raise Stopped(
            NO_SUCH,
            f"{reader.path}: the result of {_named(run)} is pickled ({size(found.size)}), and unpickling runs code. "
            "--format raw -o FILE gives its bytes; load them only if you trust who wrote them",
        )
    if found.size > payloads.LONGEST:
        raise Stopped(
            NO_SUCH,
            f"{reader.path}: the result of {_named(run)} is {size(found.size)} long, and {size(payloads.LONGEST)} is "
            "the most that is decoded. --format raw -o FILE gives its bytes",
        )
    return decode_inert(payload(reader, found))


def _text(reader: JournalReader, run: TaskRun | FlowRun, number: int | None) -> Iterator[str]:
    if number is not None:
        yield from _lines(_value(reader, _head(reader, _yielded(reader, run, number).result, run), run))
        return
    several = False
    for one in _yields(reader, run):
        several = True
        found = head(reader, one.result) if one.result is not None else None
        shown = "\n".join(as_text(_value(reader, found, run))) if found is not None else "(could not be recorded)"
        yield f"yielded {one.number}: {shown}\n"
    if several and run.result_row is None:
        return
    lines = _lines(_value(reader, _head(reader, run.result_row, run), run))
    yield from (f"returned: {line}" if i == 0 else line for i, line in enumerate(lines)) if several else lines


def _lines(value: Any) -> Iterator[str]:
    return (f"{line}\n" for line in as_text(value))


def _document(reader: JournalReader, run: TaskRun | FlowRun, number: int | None) -> Iterator[str]:
    """One document; what was yielded is written as it is read."""
    row = run.result_row if number is None else _yielded(reader, run, number).result
    found = head(reader, row) if row is not None else None
    yielded: Iterable[Yield] = _yields(reader, run) if number is None else ()
    if found is None and not (isinstance(run, TaskRun) and number is None and extras(reader, run).yields):
        _head(reader, None, run)
    facts = {
        "schema": document.SCHEMA,
        "journal": str(reader.path),
        "kind": "task" if isinstance(run, TaskRun) else "flow",
        "run": run.id,
        "name": run.task if isinstance(run, TaskRun) else run.flow,
        "state": run.state,
        "format": None if found is None else _FORMATS[found.format - 1],
        "bytes": None if found is None else found.size,
        "value": None if found is None else as_json(_value(reader, found, run)),
    }
    yield json.dumps(facts, indent=2)[:-2] + ',\n  "yielded": ['
    separator = "\n    "
    for one in yielded:
        inner = head(reader, one.result) if one.result is not None else None
        value = None if inner is None else as_json(_value(reader, inner, run))
        yield separator + json.dumps({"number": one.number, "recorded": inner is not None, "value": value})
        separator = ",\n    "
    yield "\n  ]\n}\n"
