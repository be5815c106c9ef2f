"""``durable backup``: a copy of a journal that is one moment of it, made while others write."""

from __future__ import annotations

import glob
import os
import re
import sqlite3
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import click

from durable.cli.exits import DAMAGED, NO_SUCH, Stopped
from durable.cli.liveness import exists
from durable.cli.terminal import note
from durable.phrases import size
from durable.reader import JournalReader
from durable.reader.opening import has_log
from durable.settings import journal_path

_LEFTOVER: Final = re.compile(r"(\d+)\.backup(-journal|-wal|-shm)?")


@click.command()
@click.argument("words", metavar="[DB] FILE", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def backup(words: tuple[str, ...], *, force: bool) -> None:
    """Copy the journal to FILE, consistent however much is written meanwhile, and check the copy.

    FILE appears whole, or not at all. Copying a live journal with cp would miss its newest results.
    """
    if len(words) not in (1, 2):
        raise click.UsageError("expected [DB] FILE")
    path, target = journal_path(None if len(words) == 1 else words[0]), words[-1]
    goal = Path(target).expanduser().absolute()
    with JournalReader(path) as reader:
        for told in reader.notes:
            note(told)
        _check_goal(reader.path, goal, force=force)
        made = goal.with_name(f".{goal.name}.{os.getpid()}.backup")
        try:
            _remove_leftovers(goal)
            os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
            _copy(reader, made)
            if reader.changed():
                raise Stopped(DAMAGED, "a process began to write while this was read: run the command again")
            _give_name(made, goal, force=force)
        except OSError as error:
            raise Stopped(NO_SUCH, f"{goal}: it cannot be written: {error.strerror or error}") from None
        finally:
            for suffix in ("", "-journal", "-wal", "-shm"):
                with suppress(OSError):
                    Path(f"{made}{suffix}").unlink()
    note(f"{reader.path.name} is copied to {goal}, {size(goal.stat().st_size)}, and the copy is sound")


def _check_goal(journal: Path, goal: Path, *, force: bool) -> None:
    if goal.is_dir():
        raise click.UsageError(f"{goal} is a folder; name a file in it")
    if not goal.parent.is_dir():
        raise click.UsageError(f"the folder {goal.parent} does not exist")
    if goal.exists():
        if goal.samefile(journal):
            raise click.UsageError(f"{goal} is the journal itself")
        if not force:
            raise Stopped(NO_SUCH, f"{goal} is there already; --force replaces it")
    if has_log(goal):
        raise Stopped(
            NO_SUCH, f"{goal}-wal belongs to a database of that name, which may be in use. Choose another name"
        )


def _remove_leftovers(goal: Path) -> None:
    """Remove what killed backups to `goal` left behind: their names hold the ids of processes that are gone."""
    for file in goal.parent.glob(f".{glob.escape(goal.name)}.[0-9]*.backup*"):
        found = _LEFTOVER.fullmatch(file.name.removeprefix(f".{goal.name}."))
        if found and (int(found[1]) == os.getpid() or not exists(int(found[1]))):
            file.unlink(missing_ok=True)


def _copy(reader: JournalReader, made: Path) -> None:
    """Copy in one step, so that it is one moment, and have SQLite check what came of it."""
    with closing(sqlite3.connect(made, isolation_level=None)) as copy:
        try:
            reader.copy_to(copy)
            ((verdict,),) = copy.execute("PRAGMA quick_check(1)").fetchall()
        except sqlite3.DatabaseError as error:
            raise Stopped(_code(error), f"{reader.path}: it cannot be copied: {error}") from None
    if verdict != "ok":
        raise Stopped(DAMAGED, f"{reader.path}: it is damaged, and so would be the copy, which is not kept: {verdict}")
    descriptor = os.open(made, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _code(error: sqlite3.Error) -> int:
    return NO_SUCH if "full" in str(error) or "unable" in str(error) else DAMAGED


def _give_name(made: Path, goal: Path, *, force: bool) -> None:
    if force:
        made.replace(goal)
    else:
        try:
            os.link(made, goal)  # unlike a rename it fails if somebody was faster
        except FileExistsError:
            raise Stopped(NO_SUCH, f"{goal} is there already; --force replaces it") from None
        except OSError:  # a file system without hard links
            made.rename(goal)
    if sys.platform != "win32":
        descriptor = os.open(goal.parent, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
