"""The outcomes of submitted task runs: which stay in memory, and which failures nobody asked about."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from durable.errors import SubmittedTaskFailed
from durable.futures import Future
from durable.generation import GeneratorCall
from durable.outcomes import message_of
from durable.states import NOT_READY, State

if TYPE_CHECKING:
    from durable.call import Call

HELD: Final = 1000  # outcomes kept by their futures: the newest of a flow run


class Outcomes:
    """Those of one task runner, whose lock guards them."""

    def __init__(self) -> None:
        self._failed: list[Future[Any]] = []
        self._held: deque[Future[Any]] = deque()

    def add(self, future: Future[Any], call: Call, state: State[Any]) -> None:
        """One has ended, that of this call."""
        if state.is_completed():
            recorded = call.definition.options.persist_result and not isinstance(call, GeneratorCall)
        else:
            recorded = state.is_failed() or state.kind is NOT_READY
            if not state.is_cancelled():
                self._failed.append(future)
        if not recorded:  # else its outcome can be had from the journal again
            return
        if not future.definition.options.cache_result_in_memory:
            future.forget()
            return
        self._held.append(future)
        if len(self._held) > HELD:
            self._held.popleft().forget()

    def failures(self) -> list[Future[Any]]:
        """Those that failed since this was last asked. Nothing runs."""
        failed, self._failed = self._failed, []
        return failed

    def raise_breakage(self) -> None:
        """Raise what no task is to blame for, and nobody can handle: a journal that fails, SystemExit."""
        for future in self._failed:
            if (breakage := future.breakage()) is not None:
                raise breakage

    def raise_unhandled(self) -> None:
        """Raise if somebody could have handled a failure and nobody did.

        Raises:
            SubmittedTaskFailed: a task run failed and nobody asked.
        """
        told = [future for future in self.failures() if future.unhandled()]
        if told:
            first = told[0]
            error = first.ended().result(raise_on_failure=False)
            raise SubmittedTaskFailed(len(told), f"{first.name}: {message_of(error)}") from error
