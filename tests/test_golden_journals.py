"""A journal of every format stays here for good, and must still open, be inspected, resumed and finished.

Each was written by its ``job.py``, run once for each word that it takes; the numbers are a run killed at its end (4)
and one that completed (2), of which journal-2 has a fork besides. ``mended`` is a file that lets the job go on.
"""

import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from scripts import Script

from durable.codec import decode_inert
from durable.journal import schema
from durable.journal.opening import read_header
from durable.reader import JournalReader

GOLDEN = Path(__file__).parent / "golden"
JOURNALS = ["journal-1", "journal-2"]


def copied(name, folder):
    script = Script(folder)
    for file in (GOLDEN / name).iterdir():
        shutil.copy(file, folder)
    return script


@pytest.fixture(params=JOURNALS)
def golden(request, tmp_path):
    return copied(request.param, tmp_path)


@pytest.fixture
def second(tmp_path):
    script = copied("journal-2", tmp_path)
    (script.folder / "mended").touch()
    return script


def durable(script, *words):
    """A command of durable's, in the journal's folder."""
    return subprocess.run(
        [sys.executable, "-m", "durable", *words],
        cwd=script.folder,
        env=script.environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run_of(script, flow, state="Running"):
    """The id of the run of a flow that is in a state."""
    ((run,),) = script.query("SELECT id FROM flow_runs WHERE flow = ? AND state = ?", flow, state)
    return run


def test_every_golden_journal_is_tried():
    assert sorted(path.name for path in GOLDEN.glob("journal-*")) == JOURNALS


def test_it_is_inspected_as_it_is(golden, request):
    before = golden.journal.read_bytes()
    shown = durable(golden, "inspect", "runs.db")
    assert shown.returncode == 0, shown.stderr
    assert "nightly" in shown.stdout
    assert "failing" in shown.stdout
    assert golden.journal.read_bytes() == before
    with closing(JournalReader(golden.journal)) as reader:
        assert reader.version == int(request.node.callspec.params["golden"].partition("-")[2])


def test_its_promises_hold(golden):
    checked = durable(golden, "check", "runs.db")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_its_killed_run_resumes_and_finishes(golden):
    (golden.folder / "mended").touch()
    run = golden.query("SELECT id FROM flow_runs WHERE flow = 'nightly' AND state = 'Running'")[0][0]
    ended = golden.run("4", DURABLE_RESUME=run)
    assert ended.code == 0, ended.err
    assert ended.out.split() == ["608"], "every task was restored"
    assert golden.query("SELECT state FROM flow_runs WHERE id = ?", run) == [("Completed",)]
    assert read_header(golden.journal)[1] == schema.VERSION


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


# What format 2 can hold besides.


def test_the_second_holds_everything_its_format_can_hold(second):
    assert {state for (state,) in second.query("SELECT DISTINCT state FROM states")} >= {
        *("Pending", "Running", "Retrying", "AwaitingRetry", "Completed", "Cached", "Failed", "NotReady", "RolledBack"),
    }
    assert second.query("SELECT DISTINCT format FROM results ORDER BY 1") == [("durable",), ("exception",), ("pickle",)]
    facts = """
        SELECT count(r.version), count(r.name), count(r.idempotency_key), count(r.forked_from),
               (SELECT count(version) FROM task_runs), (SELECT count(worker) FROM task_runs),
               (SELECT count(name) FROM task_runs), (SELECT count(tags) FROM task_run),
               (SELECT count(*) FROM dependencies), (SELECT count(result_row) FROM yields),
               (SELECT count(*) FROM yields WHERE result_row IS NULL), (SELECT count(reason) FROM task_runs)
        FROM flow_runs AS r"""
    assert all(second.query(facts)[0]), second.query(facts)
    names, values = second.query("SELECT group_concat(task), count(*) FROM task_runs WHERE yielded > 0")[0]
    assert (names, values) == ("lost,read", 2)


def test_its_generator_goes_on_after_the_last_recorded_value(second):
    ended = second.run("streaming", DURABLE_RESUME=run_of(second, "streaming"))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["lost", "read 5", "['object', 0, 1, 2, 3, 4]"]
    payloads = second.query(
        "SELECT o.payload, task_run_row FROM yields JOIN result AS o ON o.id = result_row ORDER BY 2, number"
    )
    assert [repr(decode_inert(payload)) for payload, _ in payloads[:2]] == [
        f"Row(day={n}, facts=(Decimal('{n}'), datetime.date(2026, 11, 25)))" for n in (0, 1)
    ]


def test_its_owed_rollback_is_paid_and_its_keyed_transaction_is_committed(second):
    ended = second.run("transacting", DURABLE_RESUME=run_of(second, "transacting", "Running"))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["undo first", "first", "second", "(3, {'paid': Row(day=1, facts=())})"]


def test_its_run_of_many_kinds_finishes_once_a_person_has_checked(second):
    run = run_of(second, "kinds")
    refused = second.run("kinds", DURABLE_RESUME=run)
    assert refused.code == 1 and "TaskInterrupted" in refused.err
    ended = second.run("kinds", DURABLE_RESUME=run, DURABLE_ON_INTERRUPT="retry")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[-1] == "(('ONE', 3, 'after', 'Completed'), 'paid')"
    assert not {"pickled", "hidden", "price"} & {line.split()[0] for line in ended.out.splitlines()}


def test_its_idempotency_key_and_its_fork_are_found(second):
    ended = second.run("keyed")
    assert (ended.code, ended.out) == (0, "[30, 31]\n"), ended.err
    ended = second.run("2", DURABLE_RESUME=run_of(second, "nightly", "Pending"))
    assert ended.code == 0, ended.err
    assert ended.out.splitlines() == ["load [0, 1]", "fetch 1", "load [1, 2]", "104"]


# A newer one.

READING = ["inspect", "inspect RUN", "why RUN", "result RUN", "check", "export", "tail", "plan", "report RUN -o -"]
WRITING = ["prune --keep-last 0 --force", "fork RUN --from load", "cancel OPEN", "resume OPEN"]


@pytest.fixture
def newer(second):
    """The second as a later release might leave it: with tables and columns of its own."""
    with closing(sqlite3.connect(second.journal)) as db:
        db.execute("ALTER TABLE task_run ADD COLUMN mood TEXT")
        db.execute("CREATE TABLE dream (id INTEGER PRIMARY KEY) STRICT")
        db.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
    return second


def command(script, line):
    """A command with the runs it names: one that has completed, and one that can be continued."""
    runs = {"RUN": ("nightly", "Completed"), "OPEN": ("nightly", "Running")}
    first, *words = line.split()
    return durable(script, first, "runs.db", *(run_of(script, *runs[word]) if word in runs else word for word in words))


@pytest.mark.parametrize("line", READING)
def test_a_newer_one_is_read_and_left_alone(newer, line):
    before = newer.journal.read_bytes()
    done = command(newer, line)
    assert done.returncode == 0, done.stderr
    assert done.stdout
    assert newer.journal.read_bytes() == before


@pytest.mark.parametrize("line", WRITING)
def test_a_newer_one_is_not_written_to_by_a_command(newer, line):
    before = newer.journal.read_bytes()
    done = command(newer, line)
    assert done.returncode not in (0, 1), done.stdout
    assert "Traceback" not in done.stderr
    assert "Upgrade durable-journal" in done.stderr
    assert newer.journal.read_bytes() == before


def test_a_newer_one_is_not_written_to_by_a_script(newer):
    before = newer.journal.read_bytes()
    ended = newer.run("4")
    assert ended.code == 1
    assert "NewerJournal" in ended.err and "Upgrade durable-journal" in ended.err
    assert ended.out == ""
    assert newer.journal.read_bytes() == before
