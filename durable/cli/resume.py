"""``durable resume``: continue one run from the shell."""

from __future__ import annotations

import inspect
import os
import shlex
from pathlib import Path
from typing import Any

import click

from durable.cli.completing import runs_complete
from durable.cli.execution import call, resume_only, users_code
from durable.cli.exits import NO_SUCH, Stopped
from durable.cli.loading import Place, load, of_recorded
from durable.cli.target import flow_run, reading, split
from durable.cli.terminal import note
from durable.codec import decode
from durable.errors import CodecError
from durable.flows import Flow
from durable.keys import digest
from durable.ownership import Cancellation
from durable.reader import FlowRun, JournalReader
from durable.reader.recorded import Recorded, recorded_call
from durable.settings import configure


@click.command()
@click.argument("words", metavar="[DB] [RUN]", nargs=-1, shell_complete=runs_complete)
@click.option("--flow", "target", metavar="FLOW", help="Where its flow is now: job.py, job.py:flow or module:flow.")
def resume(words: tuple[str, ...], *, target: str | None) -> None:
    """Continue exactly one run: completed tasks are kept, the rest runs.

    RUN is the beginning of a flow run's id; by default it is the newest that did not complete. The flow is found by its
    recorded name and command, in the folder it was started in, and is given the recorded parameters. A forked run is
    begun, a cancelled one goes on, whatever their age.

    \b
    Exit codes: as of `durable run`; 3 also where nothing is left to do, or the
    recorded parameters are not enough to call the flow with.
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    path, run = split(words, needs_run=False)
    with reading(path) as reader:
        chosen = flow_run(reader, run) if run is not None else _newest_unfinished(reader)
        if chosen.completed:
            raise Stopped(NO_SUCH, f"{reader.path}: run {chosen.id[:7]} has completed; nothing is left to do")
        recorded = recorded_call(reader, chosen)
        file = reader.path
    place = of_recorded(chosen.function, [(process.command, process.folder) for process in recorded.processes], target)
    folder = recorded.processes[0].folder
    if target is None and Path(folder).is_dir() and not Path.cwd().samefile(folder):
        note(f"in {folder}, where the run was started")
        os.chdir(folder)
    module, _, name = chosen.function.partition(":")
    with users_code():
        flow = load(place or Place(None, module, name))
    _check_is_same(flow, chosen, place)
    args, kwargs = _arguments(flow, chosen, recorded)
    Cancellation(file, bytes.fromhex(chosen.id)).withdraw()
    resume_only(chosen.id)
    configure(journal=file)
    call(flow.with_options(journal=file, idempotency_key=chosen.idempotency_key), args, kwargs)


def _newest_unfinished(reader: JournalReader) -> FlowRun:
    before: int | None = None
    while page := reader.flow_runs(100, before):
        for run in page:
            if run.type not in ("COMPLETED", "CANCELLED"):
                return run
        before = page[-1].row
    raise Stopped(NO_SUCH, f"{reader.path}: every run has completed or was cancelled; nothing is left to do")


def _check_is_same(flow: Flow[..., Any], run: FlowRun, place: Place | None) -> None:
    definition = flow.definition
    if (definition.function, definition.name) != (run.function, run.flow):
        where = place.script if place is not None and place.script is not None else run.function.partition(":")[0]
        raise Stopped(
            NO_SUCH,
            f"run {run.id[:7]} is of flow {run.flow!r}, function {run.function}; {where} has {definition.name!r}, "
            f"{definition.function}. Tell where it is now: --flow job.py:flow",
        )


def _arguments(flow: Flow[..., Any], run: FlowRun, recorded: Recorded) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The recorded parameters, as they are handed to the flow."""
    definition, found = flow.definition, None
    if recorded.parameters is not None:
        try:
            found = decode(recorded.parameters)
        except CodecError as error:
            raise _by_hand(run, recorded, f"its parameters cannot be given back ({error})") from None
    if not isinstance(found, dict) or found.keys() != set(definition.binder.names):
        raise _by_hand(run, recorded, "its parameters are not recorded, or are not those the flow has now")
    args, kwargs = _call_with(flow.fn, found)
    if digest("parameters", definition.parameters(args, kwargs)) != recorded.digest:
        raise _by_hand(run, recorded, "a parameter was recorded as a digest only (it was long, or record_inputs=False)")
    return args, kwargs


def _call_with(function: Any, found: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            args += found[name]
        elif parameter.kind is parameter.VAR_KEYWORD:
            kwargs |= found[name]
        elif parameter.kind is parameter.KEYWORD_ONLY:
            kwargs[name] = found[name]
        else:
            args.append(found[name])
    return tuple(args), kwargs


def _by_hand(run: FlowRun, recorded: Recorded, why: str) -> Stopped:
    first = recorded.processes[0]
    command = shlex.join(first.words) if first.words else "its script"
    return Stopped(
        NO_SUCH,
        f"run {run.id[:7]} cannot be called from here: {why}. Run the script itself: "
        f"cd {shlex.quote(first.folder)} && DURABLE_RESUME={run.id[:12]} python {command}",
    )
