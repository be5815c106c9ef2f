"""The files beside a journal, deleted, renamed, replaced or truncated under a live run: noticed before the next result.

The log (`-wal`) has the newest results, the index (`-shm`) tells processes apart: without it two write at one place.
"""

import os
import sqlite3
import subprocess
import sys
import textwrap
from contextlib import closing
from pathlib import Path

import pytest

from durable.errors import JournalFailed
from durable.journal import Entry, close_journals, files, open_journal
from durable.journal import statements as sql

pytestmark = [
    pytest.mark.usefixtures("nothing_stays_open"),
    pytest.mark.skipif(sys.platform == "win32", reason="what is open cannot be deleted there"),
]


@pytest.fixture(params=["power", "process"])
def journal(tmp_path, request):
    opened = open_journal(tmp_path / "runs.db", request.param)
    opened.commit(mark("first"))
    return opened


@pytest.fixture(params=["deleted", "renamed", "renamed, without /proc"])
def lose(request, journal, monkeypatch):
    """Take a file's name away. A name is looked for only every few milliseconds: here, in every transaction."""
    monkeypatch.setattr(files, "_SETTLED", -1)
    if "/proc" in request.param:
        monkeypatch.setattr(files, "readlink", lambda link: Path(link, "nothing").readlink())

    def lose(suffix):
        file = beside(journal, suffix)
        file.unlink() if request.param == "deleted" else file.rename(file.with_name("elsewhere"))

    return lose


def mark(name, *, synced=True):
    return Entry(synced, (sql.ADD_RESULT, (1, 0, None, None, None, str(name).encode())))


def beside(journal, suffix):
    return journal.path.with_name(f"runs.db{suffix}")


def marks(path):
    """What a process that comes later finds."""
    close_journals()
    script = """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1])
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        for (payload,) in connection.execute("SELECT payload FROM result ORDER BY id"):
            print(payload.decode())
    """
    return run(script, path).splitlines()


def run(script, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


ADD = """
    import sys
    from durable.journal import Entry, close_journals, open_journal, statements as sql
    journal = open_journal(sys.argv[1], sys.argv[2])
    journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, sys.argv[3].encode()))))
    close_journals()
"""


VICTIM = """
    import logging, os, shutil, sys
    from durable.errors import JournalFailed
    from durable.journal import Entry, close_journals, open_journal, statements as sql

    def add(name, synced=True):
        journal.commit(Entry(synced, (sql.ADD_RESULT, (1, 0, None, None, None, name.encode()))))

    logging.basicConfig(stream=sys.stdout)
    journal = open_journal(sys.argv[1], sys.argv[2])
    log = sys.argv[1] + "-wal"
    size = lambda: os.stat(log).st_size
    add("first")
    add("second")
    try:
        DO
        add("third")
    except JournalFailed as error:
        print(error)
    finally:
        close_journals()
"""


def victim(path, do):
    """A process to whose files something is done, and that ends then. What it says."""
    return run(VICTIM.replace("DO", do), path, "power")


def refused(journal, match, name="after"):
    with pytest.raises(JournalFailed, match=match) as told:
        journal.commit(mark(name))
    with pytest.raises(JournalFailed, match=match):
        journal.commit(mark("later"))
    assert str(journal.path) in str(told.value)
    assert "un the same command again" in str(told.value)
    return str(told.value)


def test_a_log_lost_in_use_poisons_and_what_it_held_is_saved(journal, lose):
    lose("-wal")
    assert "nothing is lost" in refused(journal, "runs.db-wal was deleted, renamed or replaced")
    assert marks(journal.path) == ["first"]
    run(ADD, journal.path, journal.durability, "next")
    assert marks(journal.path) == ["first", "next"]


def test_a_log_deleted_just_as_it_is_opened_is_noticed(tmp_path, monkeypatch):
    asked = files.readlink

    def delete_first(link):
        (tmp_path / "runs.db-wal").unlink(missing_ok=True)
        return asked(link)

    monkeypatch.setattr(files, "readlink", delete_first)
    journal = open_journal(tmp_path / "runs.db", "power")
    refused(journal, "runs.db-wal was deleted")


def test_nothing_is_started_into_a_lost_log(journal, lose):
    lose("-wal")
    with pytest.raises(JournalFailed, match="runs.db-wal was deleted"):
        journal.commit(mark("a start", synced=False))
    refused(journal, "runs.db-wal was deleted")
    assert marks(journal.path) == ["first"]


def test_what_was_started_into_a_deleted_log_in_the_same_moment_is_saved_as_well(journal, monkeypatch):
    monkeypatch.setattr(files, "_SETTLED", 1e9)
    beside(journal, "-wal").unlink()
    journal.commit(mark("a start", synced=False))
    refused(journal, "runs.db-wal was deleted")
    assert marks(journal.path) == ["first", "a start"]


def test_another_process_may_go_on_while_the_one_whose_log_was_lost_still_lives(journal, lose):
    lose("-wal")
    refused(journal, "runs.db-wal was deleted")
    for name in ("second", "third"):
        run(ADD, journal.path, journal.durability, name)
    assert marks(journal.path) == ["first", "second", "third"]


def test_a_reader_in_the_way_of_saving_is_told(journal, lose):
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM result").fetchone()
        journal.commit(mark("newer"))
        lose("-wal")
        assert "may be lost" in refused(journal, "runs.db-wal was deleted")


@pytest.mark.parametrize("left", ["0", "20", "4000", "size() // 2", "size() - 1"])
def test_a_log_truncated_in_use_poisons(tmp_path, left):
    path = tmp_path / "runs.db"
    said = victim(path, f"os.truncate(log, {left})")
    assert "runs.db-wal was truncated" in said
    assert "may be lost" in said
    found = marks(path)
    assert found == ["first", "second"][: len(found)]
    run(ADD, path, "power", "next")
    assert marks(path) == [*found, "next"]


def test_a_cut_log_is_noticed_before_a_start_makes_it_long_again(tmp_path):
    path = tmp_path / "runs.db"
    assert "runs.db-wal was truncated" in victim(path, "os.truncate(log, 0); add('a start', synced=False)")
    assert marks(path) == []


def test_a_log_replaced_by_a_copy_poisons(tmp_path):
    path = tmp_path / "runs.db"
    said = victim(path, "shutil.copy(log, log + '.copy'); add('after the copy'); os.replace(log + '.copy', log)")
    assert "runs.db-wal was deleted, renamed or replaced" in said
    assert "may be lost" in said
    assert marks(path) == ["first", "second"]


def test_a_lost_index_poisons_before_anything_is_written(journal, lose):
    lose("-shm")
    run(ADD, journal.path, journal.durability, "other")
    with pytest.raises(JournalFailed, match="runs.db-shm was deleted"):
        journal.commit(mark("a start", synced=False))
    assert "Nothing is lost" in refused(journal, "runs.db-shm was deleted")
    assert marks(journal.path) == ["first", "other"]


def test_a_process_that_comes_to_a_log_that_is_not_the_live_ones_does_not_write(journal, lose):
    lose("-wal")
    other = """
        import sys
        from durable.errors import JournalError
        from durable.journal import Entry, open_journal, statements as sql
        try:
            journal = open_journal(sys.argv[1], sys.argv[2])
            journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"other"))))
        except JournalError as error:
            print(error)
    """
    assert "runs.db" in run(other, journal.path, journal.durability)
    refused(journal, "runs.db-wal was deleted")
    assert marks(journal.path) == ["first"]


@pytest.mark.parametrize("mode", ["PASSIVE", "FULL", "RESTART", "TRUNCATE"])
@pytest.mark.parametrize("limit", [-1, 0])
def test_checkpoints_of_other_processes_are_no_damage(journal, mode, limit):
    script = """
        import sqlite3, sys
        connection = sqlite3.connect(sys.argv[1], isolation_level=None)
        connection.execute(f"PRAGMA journal_size_limit = {sys.argv[3]}")
        connection.execute(f"PRAGMA wal_checkpoint({sys.argv[2]})")
        connection.execute("CREATE TABLE IF NOT EXISTS theirs (n)")
        connection.execute("INSERT INTO theirs VALUES (1)")
    """
    for number in range(3):
        journal.commit(Entry(True, (sql.ADD_RESULT, (1, 0, None, None, None, b"x" * 50_000))))
        run(script, journal.path, mode, limit)
        journal.commit(mark(f"start {number}", synced=False))
        journal.commit(mark(number))
    assert marks(journal.path)[-1] == "2"


def test_other_processes_come_and_go(journal):
    for number in range(3):
        run(ADD, journal.path, journal.durability, f"other-{number}")
        journal.commit(mark(number))
    assert marks(journal.path) == ["first", "other-0", "0", "other-1", "1", "other-2", "2"]


def test_an_end_whose_log_was_deleted_moves_what_it_held(tmp_path):
    path = tmp_path / "runs.db"
    assert "nothing is lost" in victim(path, "add('third'); os.unlink(log); raise JournalFailed('', '')")
    assert marks(path) == ["first", "second", "third"]


def test_an_end_whose_log_was_cut_does_not_move_half_of_it(tmp_path):
    path = tmp_path / "runs.db"
    do = "[add(f'{n}') for n in range(20)]; os.truncate(log, size() // 2); raise JournalFailed('', '')"
    assert "runs.db-wal was truncated" in victim(path, do)
    found = marks(path)
    assert 5 < len(found) < 20
    assert found == ["first", "second", *map(str, range(20))][: len(found)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("suffix", ["-wal", "-shm"])
def test_a_fork_after_a_file_was_lost_is_no_way_around(journal, lose, suffix):
    lose(suffix)
    pid = os.fork()
    if not pid:
        code = 1
        try:
            open_journal(journal.path, journal.durability)
        except JournalFailed:
            code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    refused(journal, f"runs.db{suffix} was deleted")
    assert marks(journal.path) == ["first"]


@pytest.mark.skipif(sys.platform != "linux", reason="no list of open files here")
def test_forks_and_reopening_leave_no_descriptors(journal):
    def held():
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    counts = []
    for number in range(4):
        pid = os.fork()
        if not pid:
            os._exit(0)
        os.waitpid(pid, 0)
        journal.commit(mark(number))
        counts.append(held())
    assert len(set(counts)) == 1
    with closing(sqlite3.connect(journal.path)) as other:
        other.execute("SELECT count(*) FROM result").fetchone()
        before = held()
        for number in range(3):
            close_journals()
            journal = open_journal(journal.path, journal.durability)
            journal.commit(mark(number))
            assert held() <= before + 1


def test_looking_drops_no_lock_of_sqlites(journal):
    """A descriptor of the index, closed, would drop them all."""
    with closing(sqlite3.connect(journal.path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM result").fetchone()
        journal.commit(mark("second"))
        close_journals()
        probe = """
            import sqlite3, sys
            connection = sqlite3.connect(sys.argv[1], isolation_level=None)
            print(connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0])
        """
        assert run(probe, journal.path).strip() == "1", "the reader's lock is gone"
