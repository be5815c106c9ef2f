"""The journal: all SQL that writes. The schema and its essay are in schema/journal.sql."""

from durable.journal.records import (
    FORMAT_DURABLE,
    FORMAT_EXCEPTION,
    FORMAT_PICKLE,
    CachedResult,
    FlowRecord,
    Journal,
    Label,
    Outcome,
    TaskRecord,
)
from durable.journal.registry import close_journals, open_journal
from durable.journal.writer import Entry

__all__ = [
    "FORMAT_DURABLE",
    "FORMAT_EXCEPTION",
    "FORMAT_PICKLE",
    "CachedResult",
    "Entry",
    "FlowRecord",
    "Journal",
    "Label",
    "Outcome",
    "TaskRecord",
    "close_journals",
    "open_journal",
]
