"""Looking at a journal changes nothing, whatever state it is in: not a byte, a name or a time of any file beside it."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys

import pytest
from inspecting import as_process, environment, everything, in_process, live, run_script

SCREENS = ([], ["-"], ["-", "--all"], ["--json"], ["-", "--json", "--all"], ["outside"])


def look(file, capsys=None):
    """All screens, each by a process of its own unless `capsys` is given."""
    for args in SCREENS:
        if capsys is None:
            done = as_process(file, *args)
            assert done.returncode == 0, done.stderr
        else:
            assert in_process(capsys, file, *args)[0] == 0


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    assert run_script(folder, "die").returncode == -signal.SIGKILL
    return folder / "runs.db"


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    assert run_script(folder).returncode == 0
    return folder / "runs.db"


def test_a_clean_journal(clean):
    before = everything(clean.parent)
    assert sorted(path.name for path in clean.parent.glob("runs.db*")) == ["runs.db"], "closed by its writer"
    look(clean)
    assert everything(clean.parent) == before


def test_a_crashed_journal_with_its_log(killed):
    before = everything(killed.parent)
    assert {"runs.db", "runs.db-wal", "runs.db-shm", "runs.db-locks"} <= {
        path.name for path in killed.parent.glob("runs.db*")
    }
    look(killed)
    assert everything(killed.parent) == before


def test_a_crashed_journal_resumes_after_it_was_looked_at(tmp_path, capsys):
    run_script(tmp_path, "die")
    look(tmp_path / "runs.db", capsys)
    assert "30 tasks restored" in run_script(tmp_path).stderr


def test_a_live_journal(tmp_path):
    with live(tmp_path):
        before = everything(tmp_path)
        look(tmp_path / "runs.db")
        assert everything(tmp_path) == before


def test_a_writer_in_this_process_keeps_its_locks(tmp_path, capsys):
    """Closing a second descriptor of a file drops the POSIX locks of the first; reading must not."""
    shutil.copy(_made(tmp_path), tmp_path / "copy.db")
    writer = sqlite3.connect(tmp_path / "copy.db", isolation_level=None)
    writer.execute("PRAGMA journal_mode = wal").fetchall()
    writer.execute("BEGIN IMMEDIATE")
    writer.execute("CREATE TABLE extra (x)")
    look(tmp_path / "copy.db", capsys)
    code = (
        "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1], isolation_level=None, timeout=0)\n"
        "try: c.execute('BEGIN IMMEDIATE')\nexcept sqlite3.OperationalError as e: print(e)"
    )
    seen = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "copy.db")], capture_output=True, text=True
    ).stdout
    writer.execute("ROLLBACK")
    writer.close()
    assert "locked" in seen


def test_a_copy_without_its_log_shows_what_the_file_holds(killed, tmp_path, capsys):
    copy = tmp_path / "copy.db"
    shutil.copy(killed, copy)
    before = everything(tmp_path)
    code, out, _ = in_process(capsys, copy)
    assert (code, "Nothing was run yet." in out) == (0, True), "all of this run was in the log"
    assert everything(tmp_path) == before


def test_a_copy_with_its_log_but_without_the_index_shows_everything(killed, tmp_path, capsys):
    for suffix in ("", "-wal"):
        shutil.copy(f"{killed}{suffix}", tmp_path / f"copy.db{suffix}")
    before = everything(tmp_path)
    code, out, err = in_process(capsys, tmp_path / "copy.db")
    assert code == 0 and "load(shard=5" in out
    after = everything(tmp_path)
    for name in ("copy.db", "copy.db-wal"):
        assert after[name] == before[name]
    # SQLite cannot read a log without an index, so it makes one; that is said.
    assert set(after) - set(before) <= {"copy.db-shm"}
    assert ("copy.db-shm" in err) is ("copy.db-shm" in after)


def test_a_link_to_a_journal_finds_the_log_beside_the_journal(killed, tmp_path, capsys):
    (tmp_path / "link.db").symlink_to(killed)
    code, out, _ = in_process(capsys, tmp_path / "link.db")
    assert code == 0 and "Crashed" in out and "load(shard=5" in out
    assert [path.name for path in tmp_path.iterdir()] == ["link.db"]


@pytest.mark.parametrize("state", ["clean", "crashed", "crashed, without index"])
def test_a_read_only_folder(state, tmp_path, clean, killed):
    folder = tmp_path / "archive"
    folder.mkdir()
    source = clean if state == "clean" else killed
    for path in source.parent.glob("runs.db*"):
        if path.is_file() and not (path.name.endswith("-shm") and "without" in state):
            shutil.copy(path, folder)
            (folder / path.name).chmod(0o444)
    folder.chmod(0o555)
    before = everything(folder)
    try:
        for args in SCREENS:
            done = bound(folder / "runs.db", args)
            assert done.returncode == (3 if "without" in state and "-" in args else 0), done.stderr
            assert ("may be missing" in done.stderr) is ("without" in state)
        assert everything(folder) == before
        if state == "crashed":
            assert "Crashed" in bound(folder / "runs.db", []).stdout
    finally:
        folder.chmod(0o755)


def test_an_unreadable_file_is_said_to_be(clean, tmp_path):
    file = tmp_path / "runs.db"
    shutil.copy(clean, file)
    file.chmod(0o000)
    done = bound(file, [])
    assert done.returncode == 3 and not done.stdout and "may not read" in done.stderr


def _made(folder):
    run_script(folder)
    return folder / "runs.db"


# Root is bound by no permission until it gives its capabilities up.
BOUND = """
import ctypes, os, sys
if os.getuid() == 0:
    header, data = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    assert ctypes.CDLL(None).capset(header, data) == 0
sys.argv[0] = "durable"
from durable.cli import main
main()
"""


def bound(file, args):
    """Inspect as a user whom permissions bind."""
    if not os.getuid() and not sys.platform.startswith("linux"):
        pytest.skip("root cannot give its rights up here")
    return subprocess.run(
        [sys.executable, "-B", "-c", BOUND, "inspect", str(file), *args],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )
