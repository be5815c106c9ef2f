"""Entries that can be told from all others in a journal, and a wait for what another thread does."""

import sqlite3
import time
from contextlib import closing

from durable.journal import Entry
from durable.journal import statements as sql

DEADLINE = 60  # seconds after which something hangs


def mark(name, *, synced=True):
    """An entry that can be told from all others, and has no unique key: written twice it would be there twice."""
    return Entry(synced, (sql.ADD_RESULT, (1, 0, None, None, None, str(name).encode())))


def marks(path):
    """What a reader of the file finds, in the order it was recorded."""
    with closing(sqlite3.connect(path)) as connection:
        return [payload.decode() for (payload,) in connection.execute("SELECT payload FROM result ORDER BY id")]


def until(condition):
    """Wait until it is so."""
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.001)
