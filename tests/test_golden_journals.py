"""A journal of every released format stays here for good, and must still open, be inspected, resumed and finished."""

import shutil
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scripts import Script

from durable.journal.opening import read_header
from durable.reader import JournalReader

GOLDEN = Path(__file__).parent / "golden"
# Folder -> what its job.py, run with "4", still executes: the run was killed after its last task.
JOURNALS = ["journal-1"]


@pytest.fixture(params=JOURNALS)
def golden(request, tmp_path):
    for file in (GOLDEN / request.param).iterdir():
        shutil.copy(file, tmp_path)
    script = Script(tmp_path)
    shutil.copy(GOLDEN / request.param / "job.py", tmp_path / "job.py")
    return script


def test_every_golden_journal_is_tried():
    assert sorted(path.name for path in GOLDEN.glob("journal-*")) == JOURNALS


def test_it_is_inspected_as_it_is(golden):
    before = golden.journal.read_bytes()
    shown = subprocess.run(
        [sys.executable, "-m", "durable", "inspect", "runs.db"],
        cwd=golden.folder,
        env={"PYTHONPATH": golden.package},
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr
    assert "nightly" in shown.stdout
    assert "failing" in shown.stdout
    assert golden.journal.read_bytes() == before
    with closing(JournalReader(golden.journal)) as reader:
        assert reader.version == 1


def test_its_killed_run_resumes_and_finishes(golden):
    (golden.folder / "mended").touch()
    run = golden.query("SELECT id FROM flow_runs WHERE flow = 'nightly' AND state = 'Running'")[0][0]
    ended = golden.run("4", DURABLE_RESUME=run)
    assert ended.code == 0, ended.err
    assert ended.out.split() == ["608"], "every task was restored"
    assert golden.query("SELECT state FROM flow_runs WHERE id = ?", run) == [("Completed",)]
    assert read_header(golden.journal)[1] > 1


def test_its_failed_run_gets_a_new_chance(golden):
    (golden.folder / "mended").touch()
    run = golden.query("SELECT id FROM flow_runs WHERE flow = 'failing'")[0][0]
    ended = golden.run("failing", DURABLE_RESUME=run)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["load [20, 21]", "([10, 11], 2)"]


def test_its_memos_are_found(golden):
    ended = golden.run("3", DURABLE_RESUME="never")
    assert ended.code == 0, ended.err
    assert "price" not in ended.out, "an earlier run computed them"
