"""`durable inspect DB RUN TASK`: all that is recorded of one task run, and how it is found."""

import json
import re
import sqlite3

import pytest
from commands import command, job, lived, task_run, told
from inspecting import tampered


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    return folder / "runs.db", lived(folder)


def test_the_history_of_every_process_is_shown(history, capsys):
    journal, ids = history
    id_ = task_run(journal, ids[0], "load", shard=3)
    out = told(capsys, "inspect", journal, ids[0], id_[:10])
    section = out.split("History\n")[1].splitlines()
    assert [re.search(r"(Running|Crashed|Completed) ", line)[1] for line in section] == [
        "Running", "Crashed", "Running", "Completed"
    ]  # fmt: skip
    assert len({re.search(r"pid (\d+) on", line)[1] for line in section}) == 2
    document = json.loads(told(capsys, "inspect", journal, ids[0], id_, "--json"))
    assert [one["state"] for one in document["task"]["history"]] == ["Running", "Crashed", "Running", "Completed"]
    assert out == told(capsys, "inspect", journal, id_), "the id alone says as much"


def test_arguments_result_and_key_components_are_shown(history, capsys):
    journal, ids = history
    task = json.loads(told(capsys, "inspect", journal, task_run(journal, ids[0], "normalize", x=2), "--json"))["task"]
    assert task["arguments"] == {"x": 2} and task["result"] == "4"
    assert set(task["key"]["parts"]) == {"job:normalize", "job:clean", "job:clean.RATE"}
    assert task["key"]["policy"] == "DEFAULT + TASK_SOURCE"
    task = json.loads(told(capsys, "inspect", journal, task_run(journal, ids[0], "price", x=2), "--json"))["task"]
    assert task["key"]["policy"] == "INPUTS"
    out = told(capsys, "inspect", journal, task_run(journal, ids[0], "price", x=2))
    assert re.search(r"cache key +[0-9a-f]{32}  INPUTS\n", out) and "result       5.0" in out


def test_an_error_is_shown_with_its_traceback_and_every_attempt(history, capsys):
    journal, ids = history
    out = told(capsys, "inspect", journal, task_run(journal, ids[2], "load", shard=3))
    assert "Traceback (most recent call last)" in out and "ValueError: boom" in out and "2 attempts" in out
    assert re.search(r"Running .*\n.*Retrying .*boom.*\n.*Failed ", out)


def test_a_name_that_means_several_is_refused_with_choices(history, capsys):
    journal, ids = history
    code, out, err = command(capsys, "inspect", journal, ids[0], "load")
    assert (code, out) == (3, "") and "load(shard=0, scale=3)" in err and "Give the id of one" in err
    assert "extract(day=" not in err
    assert told(capsys, "inspect", journal, ids[0], "extract").startswith("extract ")
    code, _, err = command(capsys, "inspect", journal, ids[1], task_run(journal, ids[0], "extract"))
    assert code == 3 and "no task run or task" in err, "it is another run's"


def test_dependencies_worker_version_and_reason_are_shown(history, capsys, tmp_path):
    journal, ids = history
    first, second = (task_run(journal, ids[1], "load", shard=shard) for shard in (0, 1))
    file = tampered(
        journal,
        tmp_path,
        f"INSERT INTO task_run_dependency SELECT a.id, b.id, 'rows' FROM task_run AS a, task_run AS b "
        f"WHERE a.key = x'{second}' AND b.key = x'{first}'",
        f"UPDATE task_run SET worker = 'thread 3', version = '7', reason = 'refreshed' WHERE key = x'{second}'",
    )
    out = told(capsys, "inspect", file, second)
    assert re.search(rf"Waited for\n +ok +load\(shard=0.*{first[:7]}  \(rows\)", out)
    assert "worker       thread 3" in out and "version      7" in out and "why it ran   refreshed" in out
    assert re.search(
        rf"Waited for by\n +ok +load\(shard=1.*{second[:7]}  \(rows\)", told(capsys, "inspect", file, first)
    )
    task = json.loads(told(capsys, "inspect", file, first, "--json"))["task"]
    assert task["waited_for_by"] == [{"id": second, "argument": "rows"}] and task["waited_for"] == []


def test_a_journal_of_the_first_format_shows_what_it_has(tmp_path, capsys):
    from test_golden_journals import GOLDEN

    file = tmp_path / "old.db"
    file.write_bytes((GOLDEN / "journal-1" / "runs.db").read_bytes())
    db = sqlite3.connect(f"file:{file}?immutable=1", uri=True)
    (id_,) = db.execute("SELECT lower(hex(key)) FROM task_run LIMIT 1").fetchone()
    db.close()
    assert "arguments" in told(capsys, "inspect", file, id_)
    for name in ("why", "result", "plan"):
        code, out, err = command(capsys, name, file, "-")
        assert (code, out) == (3, "") and "schema 1" in err and "brought up to date" in err


def test_a_run_outside_any_flow_has_a_page_too(tmp_path, capsys):
    job(tmp_path, script="from durable import task\n@task\ndef alone(x): return x\nalone(1)\n")
    out = told(capsys, "inspect", tmp_path / "runs.db", "-")
    assert out.startswith("alone ") and "History" in out
