"""An open journal that can be asked: queries, one moment of it for several, and a second try where a writer died."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar

from durable.dialect import bound
from durable.reader.opening import Opened, compiles, explained, has_log, is_passing, open_for_reading

Reader = TypeVar("Reader", bound="Connection")


class Connection:
    """A journal, open to be read. Every method may raise the errors of `open_for_reading`.

    Args:
        path: the journal file.

    Attributes:
        version: the journal's schema.
        notes: what is to be said about how the file was opened.
        complete: False: the tables are not the ones known here; only `viewed_runs` and `viewed_tasks` can be asked.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        opened: Opened = open_for_reading(path)
        self.path = opened.path
        self.version = opened.version
        self.complete = opened.complete
        self.notes = opened.notes
        self._connection = opened.connection
        self._immutable = opened.immutable
        self._closed = False

    def __enter__(self: Reader) -> Reader:  # noqa: PYI019 - typing.Self is not in Python 3.10
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file, leaving everything beside it as it is."""
        self._closed = True
        self._connection.close()

    def changed(self) -> bool:
        """Whether a writer came while the file was read as if it never changed: what was read may not fit together."""
        return self._immutable and not self.notes and has_log(self.path)

    def rows(self, text: str, *parameters: object) -> list[Any]:
        """All rows of one of the queries of `durable.reader.sql`."""
        try:
            return self._execute(text, *parameters).fetchall()
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def fits(self, texts: Iterable[str]) -> bool:
        """Whether the file has the tables and columns that these queries ask for."""
        try:
            return all(compiles(self._connection, text) for text in texts)
        except sqlite3.Error as error:
            raise explained(self.path, error) from error

    def stream(self, text: str, *parameters: object) -> Generator[Any, None, None]:
        """The rows of a query one by one: for passes over a run of any length."""
        try:
            yield from self._execute(text, *parameters)
        except sqlite3.Error as error:
            if self._closed:
                return  # a pass that nobody went on with, let go of after the file
            raise explained(self.path, error) from error

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """All queries of the block see one moment, though a writer goes on. Keep it short: checkpoints wait for it."""
        self.rows("SELECT 1 FROM sqlite_master LIMIT 1")  # a second try is for what has not begun
        self.rows("BEGIN")
        try:
            yield
        finally:
            self.rows("ROLLBACK")

    def copy_to(self, target: sqlite3.Connection) -> None:
        """Copy the whole file, one moment of it, into another database."""
        self._connection.backup(target)

    def _execute(self, text: str, *parameters: object) -> sqlite3.Cursor:
        """Begin a query, on another connection if what this one was opened with has passed."""
        try:
            return self._connection.execute(text, bound(text, parameters))
        except sqlite3.OperationalError as error:
            if self._closed or self._connection.in_transaction or not is_passing(error):
                raise
            self._connection.close()  # first: all of this process share one index
            opened = open_for_reading(self.path)
            self._connection, self._immutable = opened.connection, opened.immutable
            if opened.immutable and opened.notes:  # without its log, of which nobody was told
                raise
        return self._connection.execute(text, bound(text, parameters))
