"""Logging, through the standard library's ``logging`` under the name ``durable``.

Records of ``durable.flow_runs`` and ``durable.task_runs`` carry the attributes ``flow_run`` and ``task_run`` (names, or
None). A program that configures logging gets them where it wants them; one that does not sees them on stderr.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

from durable.settings import setting

root_log = logging.getLogger("durable")
flow_log = logging.getLogger("durable.flow_runs")
task_log = logging.getLogger("durable.task_runs")

_DEFAULT_FORMAT = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(origin)s - %(message)s"


class _Names(logging.Filter):
    """Gives every record of ours the attributes ``flow_run`` and ``task_run``, from where it was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.current: Callable[[], tuple[str | None, str | None]] = lambda: (None, None)

    def filter(self, record: logging.LogRecord) -> bool:
        if not hasattr(record, "flow_run"):
            record.flow_run, record.task_run = self.current()
        return True


_names = _Names()
for _log in (root_log, flow_log, task_log):
    _log.addFilter(_names)


def name_records_by(current: Callable[[], tuple[str | None, str | None]]) -> None:
    """Set what names the flow run and the task run a record is logged in. `durable.runs` knows, from a higher layer."""
    _names.current = current


class _DefaultHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic at type-check time only
    """Writes to stderr for programs that never configured logging; steps aside when they do."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers:
            return
        self.stream = sys.stderr  # looked up each time: programs and tests replace it
        record.origin = _origin(record)
        super().emit(record)


def _origin(record: logging.LogRecord) -> str:
    task_run = getattr(record, "task_run", None)
    flow_run = getattr(record, "flow_run", None)
    if task_run:
        return f"Task run {task_run!r}"
    return f"Flow run {flow_run!r}" if flow_run else record.name


def show_by_default() -> None:
    """Make durable's lines readable on stderr unless the application has configured logging. Called at a run's
    start.
    """
    if root_log.handlers or logging.getLogger().handlers or root_log.level != logging.NOTSET:
        return
    root_log.setLevel(setting("logging_level"))
    handler = _DefaultHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(_DEFAULT_FORMAT, datefmt="%H:%M:%S"))
    root_log.addHandler(handler)
