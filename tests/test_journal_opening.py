"""Opening a journal: what is not ours is refused by name and not touched, what is ours gets its pragmas."""

import os
import socket
import sqlite3
import stat
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from durable.errors import (
    ConfigurationError,
    JournalError,
    JournalNotFound,
    NewerJournal,
    NotAJournal,
    UnsupportedFilesystem,
)
from durable.filesystem import filesystem_type
from durable.journal import Entry, close_journals, files, open_journal, opening, schema
from durable.journal import statements as sql

pytestmark = pytest.mark.usefixtures("nothing_stays_open")

# Permissions mean nothing to root, so a child gives up every privilege first (capset(2), an empty set).
UNPRIVILEGED = """
import ctypes, os, sys
if os.geteuid() == 0:
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, nothing) == 0
from durable.errors import JournalError
from durable.journal import open_journal
try:
    open_journal(sys.argv[1], "power")
except JournalError as error:
    print(type(error).__name__, error)
"""


@pytest.fixture
def journal_file(tmp_path):
    """A finished journal with one result in it."""
    path = tmp_path / "ours" / "runs.db"
    path.parent.mkdir()
    journal = open_journal(path, "power")
    journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"kept"))))
    close_journals()
    return path


def snapshot(folder: Path) -> dict[str, tuple[object, ...]]:
    """Everything about every file below a folder that opening one of them could change."""
    seen: dict[str, tuple[object, ...]] = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else None
        seen[str(path.relative_to(folder))] = (
            status.st_mode,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            content,
        )
    return seen


def refused(path: Path, error: type[JournalError], *words: str) -> None:
    """`path` is refused with this error, naming the file, and nothing in its folder is touched."""
    before = snapshot(path.parent)
    with pytest.raises(error) as caught:
        open_journal(path, "power")
    assert type(caught.value) is error
    assert str(path) in str(caught.value)
    assert caught.value.path == str(path)
    for word in words:
        assert word in str(caught.value)
    assert snapshot(path.parent) == before


def sqlite_file(path: Path, *statements: str) -> Path:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)
    return path


# What is not ours


@pytest.mark.parametrize(
    "content",
    [b"hello", b"x", b"name,price\n" * 500, b"SQLite format 3\0", b"SQLite format 3\0" + b"\xff" * 5000, b"\0" * 4096],
    ids=["text", "one byte", "csv", "magic only", "magic and noise", "zeros"],
)
def test_a_file_that_is_no_database_is_refused_and_not_touched(tmp_path, content):
    path = tmp_path / "runs.db"
    path.write_bytes(content)
    refused(path, NotAJournal)


@pytest.mark.parametrize(
    "statements",
    [
        ("CREATE TABLE song (title)",),
        ("CREATE TABLE song (title)", "PRAGMA journal_mode = wal"),
        ("PRAGMA application_id = 252006673",),
        ("PRAGMA user_version = 1",),
        ("PRAGMA user_version = 99",),
        ("CREATE TABLE flow (id)", f"PRAGMA user_version = {schema.VERSION}"),
    ],
)
def test_another_programs_database_is_refused_and_not_touched(tmp_path, statements):
    refused(sqlite_file(tmp_path / "runs.db", *statements), NotAJournal, "another program")


def test_another_programs_database_in_use_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "runs.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("PRAGMA journal_mode = wal")
        other.execute("CREATE TABLE song (title)")
        other.execute("PRAGMA wal_checkpoint")
        other.execute("INSERT INTO song VALUES ('in the log only')")
        refused(path, NotAJournal)


def test_another_programs_database_that_is_all_in_its_log_is_refused_and_not_touched(tmp_path):
    """Its process was killed before the first checkpoint: the file itself is empty, the tables are in the log."""
    script = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode = wal")
connection.execute("CREATE TABLE song (title)")
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "other" / "runs.db"
    path.parent.mkdir()
    subprocess.run([sys.executable, "-c", script, path], check=False)
    assert (path.parent / "runs.db-wal").stat().st_size > 0
    before = snapshot(path.parent)
    with pytest.raises(NotAJournal, match="another program"):
        open_journal(path, "power")
    # The index of the log (-shm) holds no data; SQLite rebuilds it.
    after = snapshot(path.parent)
    assert {name: row[4] for name, row in after.items() if name != "runs.db-shm"} == {
        name: row[4] for name, row in before.items() if name != "runs.db-shm"
    }


def test_a_newer_journal_is_refused_and_not_touched(journal_file):
    sqlite_file(journal_file, f"PRAGMA user_version = {schema.VERSION + 1}")
    refused(journal_file, NewerJournal, f"schema {schema.VERSION + 1}", "Upgrade durable-journal")


def test_a_newer_schema_that_is_still_in_the_log_is_refused(journal_file):
    with closing(sqlite3.connect(journal_file, isolation_level=None)) as newer:
        newer.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        assert journal_file.with_name("runs.db-wal").stat().st_size > 0
        with pytest.raises(NewerJournal, match="runs.db"):
            open_journal(journal_file, "power")


@pytest.mark.parametrize("name", ["missing/runs.db", "missing/deeper/runs.db"])
def test_a_missing_folder_is_named_and_not_created(tmp_path, name):
    with pytest.raises(JournalNotFound) as caught:
        open_journal(tmp_path / name, "power")
    assert str(tmp_path / name) in str(caught.value)
    assert "does not exist" in str(caught.value)
    assert "DURABLE_JOURNAL" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_place_of_the_folder_is_named(tmp_path):
    (tmp_path / "folder").write_text("a file")
    with pytest.raises(JournalNotFound, match="is not a folder"):
        open_journal(tmp_path / "folder" / "runs.db", "power")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path):
    (tmp_path / "runs.db").mkdir()
    refused(tmp_path / "runs.db", NotAJournal, "found a folder")


def test_a_pipe_or_socket_in_place_of_the_file_is_refused(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.db")
    refused(tmp_path / "pipe.db", NotAJournal)
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with closing(socket.socket(socket.AF_UNIX)) as listening:
        listening.bind("socket.db")
        refused(tmp_path / "socket.db", NotAJournal)


def test_a_circle_of_links_is_a_journal_error(tmp_path):
    (tmp_path / "a.db").symlink_to("b.db")
    (tmp_path / "b.db").symlink_to("a.db")
    with pytest.raises(JournalError, match="db"):
        open_journal(tmp_path / "a.db", "power")


# What may not be written


def unprivileged(path: Path) -> str:
    """What opening `path` says in a process that permissions apply to."""
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, path], capture_output=True, text=True, check=False)
    assert not done.stderr, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root cannot give up its privileges here")
@pytest.mark.parametrize(
    ("file_mode", "folder_mode", "error", "words"),
    [
        (0o400, 0o700, "JournalNotWritable", "file is read-only"),
        (0o200, 0o700, "JournalNotWritable", ""),
        (0o000, 0o700, "JournalNotWritable", ""),
        (0o600, 0o500, "JournalNotWritable", "is read-only"),
        (0o600, 0o600, "JournalNot", ""),
    ],
)
def test_what_may_not_be_written_is_named_and_not_touched(journal_file, file_mode, folder_mode, error, words):
    before = journal_file.read_bytes()
    journal_file.chmod(file_mode)
    journal_file.parent.chmod(folder_mode)
    try:
        said = unprivileged(journal_file)
    finally:
        journal_file.parent.chmod(0o700)
        journal_file.chmod(0o600)
    assert said.startswith(error)
    assert str(journal_file) in said
    assert words in said
    assert journal_file.read_bytes() == before
    assert [path.name for path in journal_file.parent.iterdir()] == ["runs.db"]


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root cannot give up its privileges here")
def test_a_read_only_folder_gets_no_new_journal(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    try:
        said = unprivileged(folder / "runs.db")
    finally:
        folder.chmod(0o700)
    assert said.startswith("JournalNotWritable")
    assert f"the folder {folder} is read-only" in said
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root cannot give up its privileges here")
def test_a_folder_that_may_not_be_entered_is_a_journal_error(tmp_path):
    folder = tmp_path / "private"
    (folder / "inner").mkdir(parents=True)
    folder.chmod(0)
    try:
        said = unprivileged(folder / "inner" / "runs.db")
    finally:
        folder.chmod(0o700)
    assert said.startswith("JournalNot")


def test_a_file_in_place_of_the_folder_of_locks_is_named(tmp_path):
    """It was taken for a folder that had just been removed, and tried again for ever."""
    (tmp_path / "runs.db-locks").write_text("a file")
    done = subprocess.run(
        [sys.executable, "-c", UNPRIVILEGED, tmp_path / "runs.db"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.stdout.startswith("JournalNotWritable"), done.stderr
    assert "runs.db-locks" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["runs.db-locks"]


@pytest.mark.skipif(sys.platform != "linux" and os.geteuid() == 0, reason="root cannot give up its privileges here")
def test_a_folder_of_locks_that_may_not_be_written_is_named(tmp_path):
    (tmp_path / "runs.db-locks").mkdir(mode=0o500)
    said = unprivileged(tmp_path / "runs.db")
    assert said.startswith("JournalNotWritable")
    assert "runs.db-locks" in said


# Network and pass-through file systems; the table itself is read in test_filesystem.py


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "virtiofs", "9p", "fuse.sshfs"])
def test_a_network_file_system_is_refused_and_not_touched(tmp_path, monkeypatch, kind):
    table = tmp_path / "mountinfo"
    folder = tmp_path / "shared"
    folder.mkdir()
    table.write_text(
        "27 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n"
        f"40 27 0:50 / {os.path.realpath(folder)} rw,relatime shared:7 - {kind} server:/export rw\n"
    )
    monkeypatch.setattr(opening, "filesystem_type", lambda folder: filesystem_type(folder, table))
    refused(folder / "runs.db", UnsupportedFilesystem, f"on a {kind} file system", "DURABLE_JOURNAL=")
    open_journal(tmp_path / "runs.db", "power")


# What is ours


def test_the_connection_has_the_pragmas_that_were_asked_for(tmp_path):
    connection = open_journal(tmp_path / "runs.db", "power")._connection
    (settings,) = [
        {
            name: connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("journal_mode", "wal_autocheckpoint", "mmap_size", "trusted_schema", "cell_size_check")
        }
    ]
    assert settings == {
        "journal_mode": "wal",
        "wal_autocheckpoint": 0,
        "mmap_size": 0,
        "trusted_schema": 0,
        "cell_size_check": 1,
    }
    assert connection.execute("PRAGMA busy_timeout").fetchone() == (opening.BUSY_TIMEOUT_MS,)
    assert connection.isolation_level is None


def test_what_asks_for_it_is_synced_after_its_commit_and_only_in_power(tmp_path, monkeypatch):
    seen = []

    def watched(descriptor):
        with closing(sqlite3.connect(path)) as reader:
            (found,) = reader.execute("SELECT count(*) FROM result").fetchone()
        same = os.path.samestat(os.fstat(descriptor), (tmp_path / f"{path.name}-wal").stat())
        seen.append((durability, found, same))

    monkeypatch.setattr(files, "_sync", watched)
    for durability in ("power", "process"):
        path = tmp_path / f"{durability}.db"
        journal = open_journal(path, durability)
        for synced in (True, False, True):
            journal.commit(Entry(synced, (sql.ADD_RESULT, (1, 0, None, None, None, b""))))
    assert seen == [("power", 1, True), ("power", 3, True)]


def test_a_pragma_that_does_not_take_is_an_error(tmp_path):
    """journal_mode=wal is ignored for a database in memory: the read-back must notice."""
    with (
        closing(sqlite3.connect(":memory:")) as connection,
        pytest.raises(JournalError, match="journal_mode is 'memory'"),
    ):
        opening._set_pragmas(tmp_path / "runs.db", connection)


def test_the_journal_and_its_side_files_are_private(tmp_path):
    before = os.umask(0)
    try:
        journal = open_journal(tmp_path / "runs.db", "power")
        journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b""))))
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    finally:
        os.umask(before)
    assert modes == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}


def test_an_empty_file_becomes_a_journal_and_keeps_its_mode(tmp_path):
    path = tmp_path / "runs.db"
    path.touch(mode=0o640)
    path.chmod(0o640)
    open_journal(path, "power")
    close_journals()
    assert opening.read_header(path)[:2] == (schema.APPLICATION_ID, schema.VERSION)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


@pytest.mark.parametrize(
    "name", ["a b.db", "what?.db", "50%20.db", "#1.db", "données.db", ":memory:", "no suffix", "'.db"]
)
def test_any_file_name_will_do(tmp_path, name):
    for _ in range(2):
        journal = open_journal(tmp_path / name, "power")
        journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b""))))
        close_journals()
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with closing(sqlite3.connect(tmp_path / name)) as connection:
        assert connection.execute("SELECT count(*) FROM result").fetchone() == (2,)


def test_a_link_is_the_file_it_points_to(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link.db").symlink_to(tmp_path / "real" / "runs.db")
    by_link = open_journal(tmp_path / "link.db", "power")
    assert by_link is open_journal(tmp_path / "real" / "runs.db", "power")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link.db", "real"]
    assert (tmp_path / "real" / "runs.db-wal").exists()
    assert not (tmp_path / "real" / "runs.db").is_symlink()


def test_a_path_is_relative_to_the_working_folder_and_knows_the_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    journal = open_journal("runs.db", "power")
    assert journal.path == Path(os.path.realpath(tmp_path / "runs.db"))
    assert open_journal("~/runs.db", "power") is journal
    assert open_journal(tmp_path / "x" / ".." / "runs.db", "power") is journal


def test_one_process_has_one_journal_object_a_file(tmp_path):
    first = open_journal(tmp_path / "a.db", "power")
    assert open_journal(str(tmp_path / "a.db"), "power") is first
    assert open_journal(tmp_path / "b.db", "power") is not first
    with pytest.raises(ConfigurationError, match=r"a\.db: open with durability='power', asked for 'process'"):
        open_journal(tmp_path / "a.db", "process")


def test_a_journal_that_was_deleted_or_replaced_is_opened_anew(tmp_path):
    path = tmp_path / "runs.db"
    first = open_journal(path, "power")
    for side_file in tmp_path.iterdir():
        side_file.unlink()
    second = open_journal(path, "power")
    assert second is not first
    second.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"new file"))))
    with pytest.raises(JournalError, match="closed"):
        first.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"lost file"))))
    close_journals()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT payload FROM result").fetchall() == [(b"new file",)]


def crashed(folder):
    """A journal whose process died: an older result is in the file, a newer one in its log."""
    code = """
        import os, sys
        from durable.journal import Entry, close_journals, open_journal, statements as sql
        for payload in (b"x" * 200_000, b"newest"):
            journal = open_journal(sys.argv[1], "power")
            journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, payload))))
            if payload == b"newest":
                os._exit(0)
            close_journals()
    """
    path = folder / "runs.db"
    subprocess.run([sys.executable, "-c", textwrap.dedent(code), str(path)], check=True)
    assert path.with_name("runs.db-wal").stat().st_size
    return path


@pytest.mark.parametrize("way", ["deleted", "emptied"])
def test_the_log_of_a_deleted_journal_is_kept_and_not_mixed_into_the_next(tmp_path, way, caplog):
    path = crashed(tmp_path)
    log = path.with_name("runs.db-wal").read_bytes()
    path.unlink() if way == "deleted" else os.truncate(path, 0)
    journal = open_journal(path, "power")
    assert journal.rows("SELECT payload FROM result") == []
    journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"new"))))
    close_journals()
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert connection.execute("SELECT payload FROM result").fetchall() == [(b"new",)]
    assert path.with_name("runs.db-wal.orphan").read_bytes() == log
    assert "kept as runs.db-wal.orphan" in caplog.text


def test_a_second_orphaned_log_does_not_replace_the_first(tmp_path):
    for _ in range(2):
        crashed(tmp_path).unlink()
    open_journal(tmp_path / "runs.db", "power")
    close_journals()
    assert sorted(file.name for file in tmp_path.glob("*.orphan*")) == ["runs.db-wal.orphan", "runs.db-wal.orphan1"]


def test_a_journal_that_was_cut_short_is_refused_and_not_touched(tmp_path):
    path = tmp_path / "runs.db"
    open_journal(path, "power")
    close_journals()
    os.truncate(path, 8192)
    left = path.read_bytes()
    with pytest.raises(JournalError, match=r"truncated: 8192 bytes are left\. Restore a backup"):
        open_journal(path, "power")
    assert path.read_bytes() == left
    assert [file.name for file in tmp_path.iterdir()] == ["runs.db"]


def test_a_file_that_grows_while_it_is_looked_at_is_not_taken_for_truncated(tmp_path, monkeypatch):
    path = tmp_path / "runs.db"
    open_journal(path, "power")
    close_journals()
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 8192 * 4096])
    monkeypatch.setattr(opening, "_rolls_back_to_nothing", lambda file: file.write_bytes(whole) and False)
    assert not open_journal(path, "power").is_closed
