"""Journals that are written row by row, for what reads them."""

import sqlite3

from durable.journal import schema


def begun(file):
    """A connection to a new journal, in a transaction that has two processes and a flow."""
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("BEGIN")
    schema.create(db)
    for process in (1, 2):
        db.execute("INSERT INTO process VALUES (?, 1, 'h', 0, '3', '0', '3', 'power', '[]', '/')", (process,))
    db.execute("INSERT INTO flow (id, key, name, function) VALUES (1, ?, 'f', 'm:f')", (bytes(16),))
    return db
