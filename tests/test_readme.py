"""The README is true: its example runs as written, and the commands and files it names exist."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture
def etl(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    (tmp_path / "etl.py").write_text(code, encoding="utf-8")
    return lambda: subprocess.run([sys.executable, "etl.py"], cwd=tmp_path, capture_output=True, text=True, check=False)


def test_the_example_runs_as_written(etl):
    ended = etl()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.splitlines()[-1] == "60"
    assert ended.stdout.count("fetching day") == 30


def test_the_example_continues_after_a_failure(etl, tmp_path):
    script = tmp_path / "etl.py"
    whole = script.read_text(encoding="utf-8")
    script.write_text(whole.replace("    print(f", "    assert day != 20\n    print(f"), encoding="utf-8")
    assert etl().returncode == 1
    script.write_text(whole, encoding="utf-8")
    ended = etl()
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("fetching day") == 10
    assert re.search(r"resuming nightly-etl [0-9a-f]{7}, begun today \d\d:\d\d: 40 tasks restored", ended.stderr)


def test_the_sql_it_shows_runs(etl, tmp_path):
    assert etl().returncode == 0
    (query,) = re.findall(r'sqlite3 runs.db "(.*?)"', README)
    sqlite3 = shutil.which("sqlite3")
    command = [sqlite3, "runs.db", query] if sqlite3 else [sys.executable, "-c", _QUERY, query]
    shown = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert len(shown.splitlines()) == 5
    assert "Completed" in shown


_QUERY = "import sqlite3, sys; [print(*row) for row in sqlite3.connect('runs.db').execute(sys.argv[1])]"


def test_the_files_it_links_to_exist():
    links = [link for link in re.findall(r"\]\(([^)]+)\)", README) if "://" not in link]
    assert links
    # The wheel is tested without its sources; schema/ ships inside the package there.
    missing = [link for link in links if not (ROOT / link).exists() and not link.startswith("schema/")]
    assert not missing
