"""The journal's schema: where its SQL lies, how a new file gets it and how an older file is brought up to date.

`schema/journal.sql` and `schema/views.sql` are the canonical text for a new file; `schema/migrations/NNNN_name.sql`
take an older one to version NNNN, applied and remembered by sqlite-utils. Both ways end in the same schema; a test
compares.
"""

from __future__ import annotations

import re
import sqlite3
from pathlib import Path
from typing import Final

from durable.dialect import APPLICATION_ID, VERSION
from durable.states import STATES

__all__ = ["APPLICATION_ID", "FOLDER", "VERSION", "create", "statements", "upgrade"]

_VIEW: Final = r"^CREATE VIEW (\w+)"
_PACKAGE: Final = Path(__file__).parent.parent
# A wheel carries the folder inside the package; a source checkout has its one copy beside the package.
FOLDER: Final = _PACKAGE / "schema" if (_PACKAGE / "schema").is_dir() else _PACKAGE.parent / "schema"


def create(connection: sqlite3.Connection) -> None:
    """Give an empty database the current schema. Inside the caller's transaction: all of it, or nothing."""
    for file in ("journal.sql", "views.sql"):
        for statement in statements((FOLDER / file).read_text(encoding="utf-8")):
            connection.execute(statement)
    connection.executemany(
        "INSERT INTO state_kind (code, name, type) VALUES (?, ?, ?)",
        [(kind.code, kind.name, kind.type.value) for kind in STATES],
    )
    connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    connection.execute(f"PRAGMA user_version = {VERSION}")


def upgrade(connection: sqlite3.Connection, folder: Path = FOLDER / "migrations", version: int = VERSION) -> None:
    """Apply the migrations that take an older journal to `version`. Inside the caller's transaction."""
    from sqlite_utils import Database, Migrations  # imported late: it costs more than the rest of durable together

    (found,) = connection.execute("PRAGMA user_version").fetchone()
    migrations = Migrations("durable")
    for file in sorted(folder.glob("*.sql")):
        if found < int(file.name[:4]) <= version:
            migrations(name=file.stem)(_Script(file))
    # A view that names a table which a migration remakes would stand in its way; ours are text, so they are made anew.
    views = statements((FOLDER / "views.sql").read_text(encoding="utf-8"))
    for name in re.findall(_VIEW, "".join(views), re.MULTILINE):
        connection.execute(f"DROP VIEW IF EXISTS {name}")
    migrations.apply(Database(connection))
    for statement in views:
        connection.execute(statement)
    connection.execute(f"PRAGMA user_version = {version}")


class _Script:
    """One migration file, callable as sqlite-utils wants its migrations."""

    def __init__(self, file: Path) -> None:
        self.__name__ = file.stem
        self._text = file.read_text(encoding="utf-8")

    def __call__(self, database: object, /) -> None:
        for statement in statements(self._text):
            database.conn.execute(statement)  # type: ignore[attr-defined]  # sqlite-utils is imported late


def statements(script: str) -> list[str]:
    """Split a script into statements. `sqlite3.executescript` would commit the transaction it is run in."""
    found, pending = [], ""
    for line in script.splitlines(keepends=True):
        pending += line
        if ";" in line and sqlite3.complete_statement(pending):
            found.append(pending)
            pending = ""
    return found
