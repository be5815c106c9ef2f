"""A flow run that somebody asked to be cancelled: noticed where it calls its next task, and what is recorded then."""

from __future__ import annotations

from typing import Any

from durable.errors import FlowRunCancelled
from durable.outcomes import CANCELLED_MESSAGE
from durable.runs import FlowRun
from durable.states import CANCELLED


def check(call: Any, run: FlowRun | None) -> None:
    """Stop here if the run of this task call is to be cancelled. A call that did not begin leaves no record.

    Raises:
        FlowRunCancelled: it is.
    """
    if run is None or not run.cancel.asked():
        return
    if call._failure is not None:  # noqa: SLF001 - what waited for another attempt has ended
        call.done = True
        # Not handed to the driver, which expects an attempt; nothing is lost by waiting for this one commit.
        call.journal.commit(call._ends(CANCELLED, CANCELLED_MESSAGE))  # noqa: SLF001 - see above
    raise error_of(run)


def error_of(run: FlowRun) -> FlowRunCancelled:
    """What is raised in a cancelled run."""
    return FlowRunCancelled(run.flow_name, run.key.hex())


def meant_by(error: BaseException, run: FlowRun | None) -> BaseException:
    """What ended a flow's body. In an async flow the call that was told may be another coroutine's, and this one was
    cancelled with it.
    """
    ended_with_others = type(error).__name__ in ("CancelledError", "BaseExceptionGroup")
    return error_of(run) if run is not None and run.cancel.noticed and ended_with_others else error
