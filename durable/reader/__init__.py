"""The read model: a journal's facts as plain tuples. It never writes and never runs user code."""

from __future__ import annotations

from durable.reader import queries
from durable.reader.journal import JournalReader
from durable.reader.model import Alive, Counts, Execution, Failure, FlowRun, Health, Node, Process, TaskRun, Times
from durable.reader.opening import Damaged
from durable.reader.tree import calls_of, collapsed, every

__all__ = [
    "Alive",
    "Counts",
    "Damaged",
    "Execution",
    "Failure",
    "FlowRun",
    "Health",
    "JournalReader",
    "Node",
    "Process",
    "TaskRun",
    "Times",
    "calls_of",
    "collapsed",
    "every",
    "queries",
]
