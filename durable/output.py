"""What a body logs and prints: loggers that know their run, and ``print`` turned into log lines where asked for."""

from __future__ import annotations

import builtins
import logging
import sys
import threading
from typing import Any

from durable.errors import MissingContextError
from durable.logs import flow_log, task_log
from durable.runs import around, current


def get_run_logger() -> logging.Logger:
    """The logger of the run whose body or hook calls this; its records name the flow run and the task run.

    Raises:
        MissingContextError: there is no run around the call.
    """
    scope = around()
    if scope is None:
        raise MissingContextError(
            "get_run_logger() was called outside of any flow or task: use logging.getLogger there"
        )
    return flow_log if scope is scope.flow_run else task_log


class _Printing:
    """``builtins.print``, replaced while a body that logs its prints is executing, in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._bodies = 0
        self._print = builtins.print

    def begin(self) -> None:
        """A body that logs its prints begins."""
        with self._lock:
            self._bodies += 1
            if self._bodies == 1:
                self._print = builtins.print
                builtins.print = self

    def end(self) -> None:
        """It has ended."""
        with self._lock:
            self._bodies -= 1
            now: Any = builtins.print  # somebody else's by now, perhaps
            if self._bodies == 0 and now is self:
                builtins.print = self._print

    def __call__(self, *values: Any, **options: Any) -> None:
        """Log what is printed to the terminal in a body that wants it; everything else is printed."""
        scope = current.get()
        if scope is None or not scope.log_prints or options.get("file") not in (None, sys.stdout, sys.stderr):
            self._print(*values, **options)
            return
        separator = options.get("sep")
        get_run_logger().info("%s", (" " if separator is None else separator).join(map(str, values)))


printing = _Printing()
