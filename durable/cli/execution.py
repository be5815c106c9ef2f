"""Calling a flow for ``durable run`` and ``durable resume``, and ending as `python job.py` would."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click

from durable.cli.exits import NOT_COMPLETED, Stopped
from durable.cli.terminal import note
from durable.errors import FlowRunCancelled, FlowRunInProgress, JournalError, NothingToResume, ParameterBindError
from durable.flows import Flow
from durable.outcomes import without_engine

_ENGINE: Final = str(Path(__file__).parent.parent)


@contextmanager
def users_code() -> Iterator[None]:
    """Code of the user's runs in the block: what it raises is shown as Python shows it, and ends with exit code 1."""
    try:
        yield
    except (click.ClickException, Stopped, FlowRunInProgress, JournalError, NothingToResume):
        raise
    except FlowRunCancelled as error:
        note(str(error))
        raise Stopped(NOT_COMPLETED) from None
    except Exception as error:  # noqa: BLE001 - a user's flow may raise anything
        _without_us(error)
        sys.stdout.flush()
        traceback.print_exception(type(error), error, error.__traceback__)
        raise Stopped(NOT_COMPLETED) from None


def _without_us(error: BaseException) -> None:
    """Cut the frames above the user's: those of the import system and of durable."""
    without_engine(error)
    frame = error.__traceback__
    while frame is not None and frame.tb_frame.f_code.co_filename.startswith(("<frozen importlib", _ENGINE)):
        frame = frame.tb_next
    error.__traceback__ = frame


def call(flow: Flow[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Call the flow, and print what it returns unless that is None.

    Raises:
        UsageError: the arguments do not fit.
        Stopped: it failed; its traceback has been shown.
    """
    try:
        flow.definition.binder.values(args, kwargs)
    except ParameterBindError as error:
        raise click.UsageError(str(error)) from None
    with users_code():
        value = _result(flow, args, kwargs)
        if value is not None:
            sys.stdout.write(f"{value}\n")


def _result(flow: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    made = flow(*args, **kwargs)
    if not getattr(flow, "definition").is_async:  # noqa: B009 - a flow is callable, and more
        return made
    from asyncio import run  # a flow of coroutines is there, so it is imported

    return run(made)


def resume_only(run: str | None) -> None:
    """Make `run` the one that the next call of its flow continues; None: none at all is to be continued."""
    os.environ["DURABLE_RESUME"] = run or "never"
