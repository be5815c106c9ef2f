"""Files that are no journals, or journals no more: one clear line and an exit code, never a traceback or a hang."""

import random
import shutil
import sqlite3

import pytest
from inspecting import as_process, in_process, run_script, tampered

SCREENS = ([], ["-"], ["-", "--all"], ["--json"], ["-", "--json"])


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    run_script(folder, "fail")
    assert not (folder / "runs.db-wal").exists()
    return folder / "runs.db"


def complains(capsys, file, code, *words):
    """The command says so in one line, and shows nothing."""
    got, out, err = in_process(capsys, file)
    assert (got, out) == (code, "") and err.count("\n") == 1, (got, out, err)
    assert all(word in err for word in words), err


def test_what_is_no_journal_is_said_in_one_line(tmp_path, capsys):
    file = tmp_path / "x.db"
    complains(capsys, file, 3, "no such file")
    complains(capsys, tmp_path, 3, "folder")
    file.touch()
    complains(capsys, file, 3, "empty")
    file.write_text("hello " * 1000)
    complains(capsys, file, 3, "not an SQLite database")
    file.write_bytes(b"SQLite format 3\0")
    complains(capsys, file, 3)
    file.unlink()
    with sqlite3.connect(file) as other:
        other.execute("CREATE TABLE t (x)")
    other.close()
    complains(capsys, file, 3, "another program")
    complains(capsys, "/dev/null", 3, "regular file")
    complains(capsys, "nul\0byte.db", 3)
    assert not (tmp_path / "x.db-wal").exists()


def test_a_database_that_only_claims_to_be_a_journal(tmp_path, capsys):
    file = tmp_path / "x.db"
    other = sqlite3.connect(file)
    other.execute(f"PRAGMA application_id = {0x64757262}")
    other.execute("PRAGMA user_version = 1")
    other.execute("CREATE TABLE flow (x)")
    other.commit()
    other.close()
    complains(capsys, file, 5, "damaged", "task_run")


def test_a_truncated_journal(clean, tmp_path, capsys):
    whole = clean.read_bytes()
    for length in (100, 512, 4096, 8192, len(whole) // 2, len(whole) - 4096, len(whole) - 1):
        file = tmp_path / f"{length}.db"
        file.write_bytes(whole[:length])
        for args in SCREENS:
            code, out, err = in_process(capsys, file, *args)
            assert code in (3, 5), (length, args, out)
            assert "Traceback" not in err and err


@pytest.mark.parametrize("seed", range(20))
def test_changed_bytes_are_never_a_traceback(clean, tmp_path, capsys, seed, monkeypatch):
    """Ten files a seed: from one flipped bit to a page of noise."""
    # The check of the structure would refuse most of them before a screen meets them.
    if seed % 2:
        monkeypatch.setattr("durable.reader.journal._CHECKED_BYTES", 0)
    whole, dice = clean.read_bytes(), random.Random(seed)
    for case in range(10):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 8, 64))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if case == 9:
            page = 4096 * dice.randrange(len(data) // 4096)
            data[page : page + 4096] = dice.randbytes(4096)
        file = tmp_path / f"{case}.db"
        file.write_bytes(data)
        for args in SCREENS:
            code, out, err = in_process(capsys, file, *args)
            assert code in (0, 3, 5), (seed, case, args, err)
            assert "Traceback (most" not in err and "durable has a bug: Attribute" not in err, err
            assert code == 0 or err
            assert not [c for c in out + err if c != "\n" and not c.isprintable()]


def test_a_damaged_log_is_never_a_traceback(tmp_path, capsys):
    run_script(tmp_path, "die")
    log = (tmp_path / "runs.db-wal").read_bytes()
    dice = random.Random(7)
    for case in range(20):
        folder = tmp_path / str(case)
        folder.mkdir()
        data = bytearray(log)
        for _ in range(dice.choice((1, 50))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        shutil.copy(tmp_path / "runs.db", folder)
        (folder / "runs.db-wal").write_bytes(data[: dice.randrange(len(data)) if case % 2 else len(data)])
        for args in SCREENS:
            code, _, err = in_process(capsys, folder / "runs.db", *args)
            assert code in (0, 3, 5) and "Traceback" not in err


@pytest.mark.parametrize(
    ("statement", "codes"),
    [
        ("UPDATE flow_run SET parent_flow_run_id = id", (0, 3, 5)),  # every run its own ancestor
        ("UPDATE task_run SET parent_id = id", (0,)),
        ("UPDATE task_run SET parent_id = 999999", (0,)),
        ("UPDATE flow_run_state SET state = 99", (5,)),
        ("UPDATE flow_run SET process_id = 99; ", (5,)),
        ("UPDATE task_run SET at = 9223372036854775807", (0, 5)),
        ("UPDATE flow_run SET at = -9223372036854775808", (0, 5)),
        ("UPDATE task_run SET inputs = x'c1'", (0,)),
        ("UPDATE task_run SET inputs = zeroblob(5000000)", (0,)),
        ("UPDATE result SET payload = x'ff00'", (0,)),
        ("UPDATE process SET command = '{', host = char(27) || '[2J', pid = -1", (0,)),
        ("DELETE FROM task", (0, 5)),
        ("DELETE FROM flow", (5,)),
        ("DELETE FROM result", (0,)),
        ("UPDATE state_kind SET name = char(27) || ']0;' || code", (0,)),
    ],
)
def test_facts_that_cannot_be_are_refused_or_shown(clean, tmp_path, capsys, statement, codes):
    file = tampered(clean, tmp_path, "PRAGMA foreign_keys = OFF", statement)
    for args in SCREENS:
        code, out, err = in_process(capsys, file, *args)
        assert code in codes or (code == 3 and args[:1] == ["-"]), (code, args, err)
        assert "has a bug" not in err, err
        assert not [c for c in out + err if c != "\n" and not c.isprintable()]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE flow_run SET parent_flow_run_id = id WHERE id = 1",
        "UPDATE flow_run SET parent_flow_run_id = 3 - id",
        "UPDATE task_run SET parent_id = (SELECT max(id) FROM task_run) - id + 1",
    ],
)
def test_a_run_that_is_its_own_ancestor_is_no_endless_tree(clean, tmp_path, statement):
    file = tampered(clean, tmp_path, statement)
    db = sqlite3.connect(file)
    (id_,) = db.execute("SELECT lower(hex(key)) FROM flow_run WHERE id = 1").fetchone()
    db.close()
    for args in ([], ["--all"], ["--json", "--all"]):
        assert as_process(file, id_, *args).returncode in (0, 5)


def test_damage_found_by_the_check_is_told_with_what_can_be_shown(clean, tmp_path, capsys):
    file = tampered(clean, tmp_path)
    other = sqlite3.connect(file)
    (page,) = other.execute("SELECT rootpage FROM sqlite_master WHERE name = 'result_by_cache_key'").fetchone()
    other.close()
    data = bytearray(file.read_bytes())
    data[(page - 1) * 4096] = 0x55
    file.write_bytes(data)
    code, out, err = in_process(capsys, file)
    assert code == 5 and "journal damaged" in out and "Failed" in out and "a check of the file's structure found" in err


def test_a_newer_journal_with_the_same_tables_is_shown_in_full(clean, tmp_path, capsys):
    file = tampered(clean, tmp_path, "PRAGMA user_version = 7", "ALTER TABLE task_run ADD COLUMN colour TEXT",
                    "INSERT INTO state_kind VALUES (77, 'Dreaming', 'RUNNING')",
                    "UPDATE flow_run_state SET state = 77 WHERE state = 10")  # fmt: skip
    code, out, err = in_process(capsys, file)
    assert code == 0 and "schema 7" in out and "newer durable (schema 7" in err
    assert "Dreaming" in out or "Crashed" in out
    code, out, err = in_process(capsys, file, "-")
    assert code == 0 and "outer(x=0 .. 5)" in out


def test_a_newer_journal_with_other_tables_is_shown_by_its_views(clean, tmp_path, capsys):
    file = tampered(
        clean,
        tmp_path,
        "PRAGMA legacy_alter_table = OFF",
        "PRAGMA user_version = 7",
        "ALTER TABLE flow_run RENAME COLUMN parameters TO arguments",
        "ALTER TABLE task_run RENAME TO task_call",
    )
    code, out, err = in_process(capsys, file)
    assert code == 0 and "by its public views only" in err
    assert "nightly-etl" in out and "Failed" in out and "disk on fire" in out
    code, out, err = in_process(capsys, file, "-")
    assert code == 0 and "extract" in out and "load" in out
    assert in_process(capsys, file, "-", "--exit-code")[0] == 1
    code, out, _ = in_process(capsys, file, "-", "--json")
    assert code == 0 and '"entries"' in out
    assert in_process(capsys, file, "ffffffffff")[0] == 3


def test_a_hostile_schema_runs_nothing(clean, tmp_path, capsys):
    """No screen uses the views of a schema it knows; a view that calls a function would be refused."""
    file = tampered(
        clean, tmp_path, "DROP VIEW flow_runs", "CREATE VIEW flow_runs AS SELECT load_extension('/tmp/x') AS id"
    )
    assert in_process(capsys, file)[0] == 0


def test_the_real_command_says_it_in_one_line_too(tmp_path):
    done = as_process(tmp_path / "missing.db")
    assert (
        (done.returncode, done.stdout) == (3, "")
        and done.stderr.startswith("durable: ")
        and done.stderr.count("\n") == 1
    )
