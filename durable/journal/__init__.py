"""The journal: all SQL that writes. The schema and its essay are in schema/journal.sql."""

from durable.journal.entries import Entry, Statement
from durable.journal.facts import (
    FORMAT_DURABLE,
    FORMAT_EXCEPTION,
    FORMAT_PICKLE,
    NO_LABEL,
    CachedResult,
    FlowRecord,
    Label,
    Outcome,
    Place,
    TaskRecord,
    Yielded,
)
from durable.journal.journal import Journal
from durable.journal.registry import close_journals, open_journal

__all__ = [
    "FORMAT_DURABLE",
    "FORMAT_EXCEPTION",
    "FORMAT_PICKLE",
    "NO_LABEL",
    "CachedResult",
    "Entry",
    "FlowRecord",
    "Journal",
    "Label",
    "Outcome",
    "Place",
    "Statement",
    "TaskRecord",
    "Yielded",
    "close_journals",
    "open_journal",
]
