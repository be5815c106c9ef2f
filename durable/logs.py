"""Logging, through the standard library's ``logging`` under the name ``durable``.

Records say where they were logged: each has the attributes ``flow_run``, ``flow_run_id``, ``flow_name``, ``task_run``,
``task_run_id`` and ``task_name`` (str, or None outside). ``durable.engine`` tells what begins outside of any run,
``durable.flow_runs`` and ``durable.task_runs`` what occurs in one. A program that configures logging gets the records
where it wants them; one that does not sees them on stderr. The lines are Prefect 3's.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, Final

from durable.settings import setting

root_log = logging.getLogger("durable")
engine_log = logging.getLogger("durable.engine")
flow_log = logging.getLogger("durable.flow_runs")
task_log = logging.getLogger("durable.task_runs")

_DEFAULT_FORMAT = "%(asctime)s.%(msecs)03d | %(levelname)-7s | %(origin)s - %(message)s"


_SCOPE: Final = "durable_scope"
_NOWHERE: Final[dict[str, str | None]] = dict.fromkeys(
    ("flow_run", "flow_run_id", "flow_name", "task_run", "task_run_id", "task_name")
)


class _Places(logging.Filter):
    """Gives every record of ours its attributes, from where it was logged or from what `at` said."""

    def __init__(self) -> None:
        super().__init__()
        self.place: Callable[[Any], dict[str, str | None]] = lambda scope: _NOWHERE

    def filter(self, record: logging.LogRecord) -> bool:
        # It is kept no longer than this: a record may outlive its run.
        scope = record.__dict__.pop(_SCOPE, None)
        if "task_run_id" not in record.__dict__:  # else it was logged in a worker, which knew
            record.__dict__.update(self.place(scope))
        return True


_places = _Places()
for _log in (root_log, engine_log, flow_log, task_log):
    _log.addFilter(_places)


def place_records_by(place: Callable[[Any], dict[str, str | None]]) -> None:
    """Set what gives the attributes of a record logged in a scope; asked with None, in the current one.

    `durable.runs` knows, from a higher layer.
    """
    _places.place = place


def at(scope: Any) -> dict[str, Any]:
    """The ``extra`` of a record that is about a scope other than the current one."""
    return {_SCOPE: scope}


class _DefaultHandler(logging.StreamHandler):  # type: ignore[type-arg]  # generic at type-check time only
    """Writes to stderr for programs that never configured logging; steps aside when they do."""

    def emit(self, record: logging.LogRecord) -> None:
        if logging.getLogger().handlers:
            return
        self.stream = sys.stderr  # looked up each time: programs and tests replace it
        record.origin = _origin(record)
        super().emit(record)


def _origin(record: logging.LogRecord) -> str:
    if record.name == engine_log.name:
        return record.name
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
