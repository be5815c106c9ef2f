"""docs/sql.md: every query runs as it stands, in sqlite3, in Python and in sqlite-utils, and reads the views alone."""

import json
import re
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from commands import lived
from sqlite_utils import Database
from test_views import COLUMNS

DOCS = Path(__file__).resolve().parent.parent / "docs" / "sql.md"
TEXT = DOCS.read_text(encoding="utf-8")
QUERIES = re.findall(r"```sql\n(.*?)```", TEXT, re.DOTALL)
# Those the journal below has nothing for: no recorded reasons in journals that were written before, no fan-out.
MAY_BE_EMPTY = ("FROM dependencies", "FROM yields", "reason IS NOT NULL", "s.message IS NOT NULL")


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    lived(folder)
    return folder / "runs.db"


@pytest.mark.parametrize("text", QUERIES, ids=range(len(QUERIES)))
def test_a_query_runs_everywhere_and_finds_something(journal, text):
    db = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    db.execute("PRAGMA trusted_schema = OFF")
    cursor = db.execute(text)
    names = [column[0] for column in cursor.description]
    rows = cursor.fetchall()
    assert rows or any(part in text for part in MAY_BE_EMPTY)
    assert [tuple(row.values()) for row in Database(db).query(text)] == rows and len(set(names)) == len(names)
    db.close()
    if program := shutil.which("sqlite3"):
        told = subprocess.run([program, "-readonly", "-csv", str(journal), text], capture_output=True, text=True)
        assert told.returncode == 0 and not told.stderr and bool(told.stdout) is bool(rows), told.stderr


@pytest.mark.parametrize("text", QUERIES, ids=range(len(QUERIES)))
def test_a_query_reads_the_public_views_alone(text):
    read = set(re.findall(r"(?:FROM|JOIN)\s+(\w+)", text))
    assert read and read <= set(COLUMNS)


def test_every_view_is_told_and_used():
    told = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    used = {name for text in QUERIES for name in re.findall(r"(?:FROM|JOIN)\s+(\w+)", text)}
    assert told == used == set(COLUMNS)


def test_sqlite_utils_lists_and_reads_every_view_as_it_is(journal):
    db = Database(sqlite3.connect(f"file:{journal}?mode=ro", uri=True))
    assert set(db.view_names()) == set(COLUMNS)
    for name in COLUMNS:
        for row in db[name].rows_where(limit=3):
            assert all(value is None or isinstance(value, (str, int, float)) for value in row.values()), "no blobs"
    db.conn.close()


def test_the_queries_of_one_run_do_not_scan_the_others(journal):
    (text,) = [text for text in QUERIES if "max(flow_run_row)" in text]
    db = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}")]
    db.close()
    assert any("task_run_by_flow_run" in step for step in plan) and "SCAN t" not in plan, plan


@pytest.mark.parametrize("view", sorted(COLUMNS))
def test_datasette_serves_every_view_as_it_is(journal, view):
    program = shutil.which("datasette")
    if program is None:
        pytest.skip("no datasette here")
    command = [program, str(journal), "--get", f"/runs/{view}.json?_shape=array&_size=2"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert [set(row) for row in json.loads(told)] == [set(COLUMNS[view].split())] * len(json.loads(told))
