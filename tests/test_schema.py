"""The schema: append-only by its own triggers, explained by itself, upgraded whole or not at all."""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from durable.journal import close_journals, open_journal, opening, schema
from durable.states import STATES

pytestmark = pytest.mark.usefixtures("nothing_stays_open")

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture
def connection():
    """An empty database that has just been given the schema."""
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as made:
        made.execute("BEGIN")
        schema.create(made)
        made.execute("COMMIT")
        yield made


TABLES = (
    *("state_kind", "process", "flow", "task", "flow_run", "flow_run_state", "task_run", "task_run_state", "result"),
    *("task_run_yield", "task_run_dependency"),
)
KEY = "x'000102030405060708090a0b0c0d0e0f'"
FILL = f"""
INSERT INTO process VALUES (1, 1, 'host', 0, '3.11', '0', '3', 'power', '[]', '/');
INSERT INTO flow VALUES (1, {KEY}, 'job', 'job:job');
INSERT INTO task VALUES (1, {KEY}, {KEY}, 'step', 'job:step', '[]', '{{}}');
INSERT INTO flow_run (id, key, flow_id, process_id, state, at, parameters_digest)
    VALUES (1, {KEY}, 1, 1, 5, 0, {KEY});
INSERT INTO result (id, format, checksum, payload) VALUES (1, 1, 0, x'00');
INSERT INTO flow_run_state (flow_run_id, seq, state, at, process_id, result_id) VALUES (1, 1, 7, 0, 1, 1);
INSERT INTO task_run (id, key, task_id, flow_run_id, process_id, state, at, occurrence)
    VALUES (1, {KEY}, 1, 1, 1, 5, 0, 1);
INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, result_id) VALUES (1, 1, 7, 0, 1, 1);
INSERT INTO task_run_yield VALUES (1, 1, 0, 1, 1);
INSERT INTO task_run_dependency VALUES (1, 1, 'rows');
"""


@pytest.fixture
def filled(connection):
    """With a row in each table."""
    connection.executescript(FILL)
    return connection


def objects(connection, *kinds):
    marks = ", ".join("?" * len(kinds))
    return {name for (name,) in connection.execute(f"SELECT name FROM sqlite_master WHERE type IN ({marks})", kinds)}


# Append-only


def test_these_are_all_the_tables(connection):
    assert objects(connection, "table") == set(TABLES)


@pytest.mark.parametrize("table", TABLES)
def test_no_row_is_ever_updated_or_deleted(filled, table):
    before = filled.execute(f"SELECT * FROM {table}").fetchall()
    assert before
    columns = [column[1] for column in filled.execute(f"PRAGMA table_info({table})")]
    for column in columns:
        with pytest.raises(sqlite3.IntegrityError, match=f"append-only: {table} may not be updated"):
            filled.execute(f"UPDATE {table} SET {column} = {column}")
    with pytest.raises(sqlite3.IntegrityError, match=f"append-only: {table} may not be deleted from"):
        filled.execute(f"DELETE FROM {table}")
    assert filled.execute(f"SELECT * FROM {table}").fetchall() == before


@pytest.mark.parametrize("table", TABLES)
def test_every_table_is_strict(connection, table):
    (strict,) = connection.execute("SELECT strict FROM pragma_table_list WHERE name = ?", (table,)).fetchone()
    assert strict == 1


@pytest.mark.parametrize(
    "statement",
    [
        f"INSERT INTO flow VALUES (2, {KEY}, 'again', 'job:again')",
        "INSERT INTO flow VALUES (2, x'00', 'short key', 'job:job')",
        f"INSERT INTO task VALUES (2, {KEY}, {KEY}, 'again', 'f', '[]', '{{}}')",
        f"INSERT INTO task_run (key, task_id, process_id, state, at, occurrence) VALUES ({KEY}, 1, 1, 5, 0, 1)",
        "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id) VALUES (1, 0, 5, 0, 1)",
        "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id) VALUES (1, 1, 5, 0, 1)",
        "INSERT INTO flow_run_state (flow_run_id, seq, state, at, process_id) VALUES (1, 1, 5, 0, 1)",
        "INSERT INTO result (format, checksum, payload) VALUES (9, 0, x'00')",
        "INSERT INTO result (format, checksum, payload) VALUES (1, 'text', x'00')",
        "INSERT INTO result (format, checksum, payload, cache_key) VALUES (1, 0, x'00', x'00')",
        "INSERT INTO process VALUES (2, 1, 'h', 0, '3', '0', '3', 'perhaps', '[]', '/')",
    ],
)
def test_a_row_that_breaks_an_invariant_is_refused(filled, statement):
    with pytest.raises(sqlite3.IntegrityError):
        filled.execute(statement)


def test_an_idempotency_key_belongs_to_one_run_of_a_flow(filled):
    add = (
        "INSERT INTO flow_run (key, flow_id, process_id, state, at, parameters_digest, idempotency_key) "
        f"VALUES (randomblob(16), 1, 1, 5, 0, {KEY}, ?)"
    )
    filled.execute(add, ("a",))
    filled.execute(add, ("b",))
    filled.execute(add, (None,))
    filled.execute(add, (None,))
    with pytest.raises(sqlite3.IntegrityError):
        filled.execute(add, ("a",))


# What the file says of itself


def test_the_states_are_in_the_file(connection):
    rows = connection.execute("SELECT code, name, type FROM state_kind ORDER BY code").fetchall()
    assert rows == [(kind.code, kind.name, kind.type.value) for kind in STATES]


def test_every_reference_points_to_a_row(filled):
    assert filled.execute("PRAGMA foreign_key_check").fetchall() == []
    assert filled.execute("PRAGMA foreign_key_list(task_run)").fetchall(), "references are declared"


def test_every_view_can_be_read_and_sees_the_rows(filled):
    views = objects(filled, "view")
    assert views == {"flow_runs", "task_runs", "states", "results", "processes", "yields", "dependencies"}
    counts = {view: len(filled.execute(f"SELECT * FROM {view}").fetchall()) for view in views}
    assert counts == dict.fromkeys(views, 1) | {"states": 4}


def test_the_file_names_its_program_and_version(connection):
    assert connection.execute("PRAGMA application_id").fetchone() == (0x64757262,)
    assert schema.APPLICATION_ID.to_bytes(4, "big") == b"durb"
    assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


# Creating


def test_creation_is_one_transaction(monkeypatch):
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("BEGIN")
        schema.create(connection)
        assert connection.in_transaction, "no statement has committed by itself"
        connection.execute("ROLLBACK")
        assert connection.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,)
        assert connection.execute("PRAGMA application_id").fetchone() == (0,)


@pytest.mark.parametrize(
    ("script", "count"),
    [
        ("", 0),
        ("-- only a comment\n", 0),
        ("CREATE TABLE a (x);\nCREATE TABLE b (x);\n", 2),
        ("CREATE TABLE a (x -- one; two\n);\n", 1),
        ("INSERT INTO a VALUES (';');\n", 1),
        ("CREATE TRIGGER t BEFORE UPDATE ON a\nBEGIN SELECT 1;\nSELECT 2; END;\nSELECT 1;\n", 2),
        ("SELECT 1; -- said\nSELECT 2;", 2),
    ],
)
def test_a_script_is_split_into_its_statements(script, count):
    assert len(schema.statements(script)) == count


def test_every_statement_of_the_schema_ends_a_line_of_its_own():
    """Two statements on one line would be run as one, and refused by sqlite3."""
    for file in ("journal.sql", "views.sql"):
        text = (schema.FOLDER / file).read_text(encoding="utf-8")
        split = schema.statements(text)
        assert "".join(split).strip() == text.strip(), "nothing is left over"
        assert all(sqlite3.complete_statement(statement) for statement in split)


# Upgrading: what a migration may do, with made-up ones that stand for those of later releases.

NEXT, AFTER, LATER = schema.VERSION + 1, schema.VERSION + 2, schema.VERSION + 3


@pytest.fixture
def migrations(tmp_path):
    folder = tmp_path / "migrations"
    folder.mkdir()

    def write(*texts):
        for version, (name, text) in enumerate(texts, NEXT):
            (folder / f"{version:04d}_{name}.sql").write_text(text, encoding="utf-8")
        return folder

    return write


def upgrade(connection, folder, version):
    connection.execute("BEGIN IMMEDIATE")
    try:
        schema.upgrade(connection, folder, version)
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


ADD_NOTE = "ALTER TABLE flow_run ADD COLUMN note TEXT;\n"
ADD_VIEW = "CREATE VIEW notes AS SELECT id, note FROM flow_run;\n"


def test_an_upgrade_applies_what_is_missing_and_nothing_twice(filled, migrations):
    folder = migrations(("notes", ADD_NOTE), ("view", ADD_VIEW), ("future", "CREATE TABLE future (x);\n"))
    upgrade(filled, folder, AFTER)
    assert filled.execute("PRAGMA user_version").fetchone() == (AFTER,)
    assert filled.execute("SELECT * FROM notes").fetchall() == [(1, None)]
    assert "future" not in objects(filled, "table")
    upgrade(filled, folder, AFTER)
    upgrade(filled, folder, LATER)
    assert "future" in objects(filled, "table")
    assert filled.execute("PRAGMA user_version").fetchone() == (LATER,)
    recorded = [row[0] for row in filled.execute("SELECT name FROM _sqlite_migrations ORDER BY name")]
    assert recorded == [f"{NEXT:04d}_notes", f"{AFTER:04d}_view", f"{LATER:04d}_future"]


def test_an_upgrade_that_fails_changes_nothing(filled, migrations):
    folder = migrations(("notes", ADD_NOTE), ("wrong", "CREATE TABLE half (x);\nCREATE TABLE flow (x);\n"))
    before = filled.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        upgrade(filled, folder, AFTER)
    assert filled.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall() == before
    assert filled.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
    assert not filled.in_transaction


def test_an_upgrade_is_one_transaction(filled, migrations):
    folder = migrations(("notes", ADD_NOTE), ("view", ADD_VIEW))
    filled.execute("BEGIN IMMEDIATE")
    schema.upgrade(filled, folder, AFTER)
    assert filled.in_transaction, "neither sqlite-utils nor a script has committed by itself"
    filled.execute("ROLLBACK")
    assert "notes" not in objects(filled, "view")
    assert filled.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


def test_opening_an_older_journal_upgrades_it(tmp_path, migrations, monkeypatch):
    folder = migrations(("notes", ADD_NOTE), ("view", ADD_VIEW))
    path = tmp_path / "runs.db"
    open_journal(path, "power")
    close_journals()
    # Stands for a later release: its VERSION, and its migrations.
    monkeypatch.setattr(schema, "VERSION", AFTER)
    monkeypatch.setattr(schema.upgrade, "__defaults__", (folder, AFTER))
    journal = open_journal(path, "power")
    assert journal.rows("SELECT * FROM notes") == []
    close_journals()
    assert opening.read_header(path)[1] == AFTER
    monkeypatch.undo()
    with pytest.raises(Exception, match=f"schema {AFTER}"):
        open_journal(path, "power")


# Upgrading: real journals of earlier formats


def layout(connection):
    """What a schema is made of, however it was written down."""
    tables = sorted(objects(connection, "table") - {"_sqlite_migrations"} - {"sqlite_sequence"})
    return {
        "columns": {table: connection.execute(f"PRAGMA table_xinfo({table})").fetchall() for table in tables},
        "strict": connection.execute(
            "SELECT name, wr, strict FROM pragma_table_list WHERE type = 'table' AND schema = 'main' ORDER BY name"
        ).fetchall(),
        "keys": {table: sorted(connection.execute(f"PRAGMA foreign_key_list({table})").fetchall()) for table in tables},
        "others": connection.execute(
            "SELECT type, name, sql FROM sqlite_master WHERE type <> 'table' AND name NOT LIKE '%_sqlite_migrations%' "
            "AND sql IS NOT NULL ORDER BY type, name"
        ).fetchall(),
    }


@pytest.mark.parametrize("journal", sorted(GOLDEN.glob("journal-*/runs.db")), ids=lambda path: path.parent.name)
def test_an_upgraded_journal_has_the_schema_of_a_new_one(journal, tmp_path, connection):
    path = tmp_path / "runs.db"
    shutil.copy(journal, path)
    open_journal(path, "power")
    close_journals()
    with closing(sqlite3.connect(path)) as upgraded:
        assert upgraded.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)
        assert upgraded.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        assert upgraded.execute("PRAGMA foreign_key_check").fetchall() == []
        mine, its = layout(connection), layout(upgraded)
        its["strict"] = [row for row in its["strict"] if "migrations" not in row[0]]
        for part, expected in mine.items():
            assert its[part] == expected, part


def test_a_view_of_the_users_own_survives_an_upgrade(tmp_path):
    path = tmp_path / "runs.db"
    shutil.copy(GOLDEN / "journal-1" / "runs.db", path)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE VIEW mine AS SELECT flow, state FROM flow_runs")
        before = connection.execute("SELECT * FROM mine ORDER BY 1, 2").fetchall()
    journal = open_journal(path, "power")
    assert journal.rows("SELECT * FROM mine ORDER BY 1, 2") == before != []
    close_journals()


def test_sqlite_utils_is_not_imported_to_open_a_journal_that_is_up_to_date(tmp_path):
    code = (
        "import sys; from durable.journal import open_journal; open_journal(sys.argv[1], 'power'); "
        "print('sqlite_utils' in sys.modules)"
    )
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, tmp_path / "runs.db"], capture_output=True, text=True, check=True
        )
        assert done.stdout.strip() == "False"
