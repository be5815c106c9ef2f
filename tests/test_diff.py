"""`durable diff`: what differs is told, what is alike is not; matching survives insertions and repetitions."""

import json
import re
import sqlite3

import pytest
from commands import command, job, lived, runs, told

from durable.reader import JournalReader
from durable.reader.calls import identity
from durable.reader.comparing import pairs


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    return folder / "runs.db", lived(folder)


def compared(capsys, *args):
    document = json.loads(told(capsys, "diff", *args, "--json"))
    return document, {row["task"]: row for row in document["tasks"]}


def test_inputs_and_results_that_differ_are_told_with_their_values(history, capsys):
    journal, ids = history
    document, tasks = compared(capsys, journal, ids[0], ids[1])
    assert document["parameters"] == [{"name": "day", "old": "'2026-11-22'", "new": "'2026-11-23'", "exact": True}]
    load = tasks["load"]
    assert (load["old"], load["new"], load["alike"], load["inputs"], load["result"]) == (4, 4, 0, 4, 4)
    assert tasks["price"]["alike"] == 4, "computed or cached, the value is the same"
    assert tasks["inner"]["alike"] == 12
    entry = next(one for one in document["entries"] if one["new"]["task"] == "load")
    assert entry["matched_by"] == "position"
    assert entry["inputs"] == [{"name": "scale", "old": "3", "new": "4", "exact": True}]
    out = told(capsys, "diff", journal, ids[0], ids[1])
    assert re.search(r"~ load\(shard=0, scale=4\) .*\n +inputs +scale: 3 -> 4\n +result +\{.*3\]\} -> \{.*4\]\}\n", out)


def test_source_and_state_that_differ_are_told(history, capsys):
    journal, ids = history
    document, tasks = compared(capsys, journal, ids[2], ids[3])
    assert tasks["normalize"]["source"] == 4 and tasks["normalize"]["result"] == 3
    assert {tuple(one["source"]) for one in document["entries"] if "source" in one["differs_in"]} == {("clean.RATE",)}
    assert tasks["load"]["state"] == 1 and tasks["load"]["alike"] == 3
    assert "Failed -> Completed" in told(capsys, "diff", journal, ids[2], ids[3])


def test_a_run_is_like_itself(history, capsys):
    journal, ids = history
    document, tasks = compared(capsys, journal, ids[0], ids[0])
    assert not document["entries"] and all(row["alike"] == row["old"] == row["new"] for row in tasks.values())
    assert command(capsys, "diff", journal, ids[0], ids[0], "--exit-code")[0] == 0
    assert command(capsys, "diff", journal, ids[0], ids[1], "--exit-code")[0] == 1


def test_summary_and_details_agree_whatever_is_shown(history, capsys):
    journal, ids = history
    document, tasks = compared(capsys, journal, ids[0], ids[1], "--all")
    for name in ("inputs", "result", "source", "state", "time", "only_old", "only_new"):
        assert sum(row[name] for row in tasks.values()) == sum(name in one["differs_in"] for one in document["entries"])
    code, out, err = command(capsys, "diff", journal, ids[0], ids[1], "--limit", "1")
    assert code == 0 and len(re.findall(r"^[~+-] \S+\(", out, re.MULTILINE)) == 1
    assert f"{len(document['entries']) - 1} differing calls not shown" in err


SEQUENCE = """
import sys
from durable import flow, task
@task
def step(x): return {"b", "a", "c"}
@task
def other(x): return x
@task
def outer(x): return other(x)
@flow
def job(*calls):
    for call in calls:
        name, _, value = call.partition("=")
        {"step": step, "other": other, "outer": outer}[name](value)
job(*sys.argv[1:])
"""


def test_insertions_removals_and_repetitions_keep_the_rest_matched(tmp_path, capsys):
    job(tmp_path, "step=1", "step=2", "step=2", "step=3", "other=9", script=SEQUENCE, PYTHONHASHSEED="1")
    job(tmp_path, "step=0", "step=1", "step=2", "step=2", "step=2", "step=4", script=SEQUENCE, PYTHONHASHSEED="2")
    old, new = runs(tmp_path / "runs.db")
    document, tasks = compared(capsys, tmp_path / "runs.db", old, new)
    assert tasks["step"]["alike"] == 3, "1, 2 and 2; and a set is equal in whatever order it was written"
    assert tasks["step"]["inputs"] == 1 and tasks["step"]["only_new"] == 2
    assert tasks["other"]["only_old"] == 1
    only = [one for one in document["entries"] if one["differs_in"] == ["only_old"]]
    assert len(only) == 1 and only[0]["new"] is None and only[0]["old"]["arguments"] == {"x": "9"}


def test_calls_in_the_body_of_a_call_that_was_matched_by_position_are_matched_too(tmp_path, capsys):
    job(tmp_path, "outer=1", "outer=5", script=SEQUENCE)
    job(tmp_path, "outer=2", "outer=5", script=SEQUENCE)
    with JournalReader(tmp_path / "runs.db") as reader:
        new, old = (run.row for run in reader.flow_runs(2))
        found = [(reader.task(pair.new.task)[1], pair.same) for pair in pairs(reader, old, new)]
    assert sorted(found) == [("other", False), ("other", True), ("outer", False), ("outer", True)]


def test_the_key_of_the_same_call_in_another_run_is_the_engines(tmp_path):
    job(tmp_path, "step=1", "step=1", "outer=2", script=SEQUENCE)
    db = sqlite3.connect(tmp_path / "runs.db")
    rows = db.execute(
        "SELECT t.key, coalesce(p.key, r.key), d.key, t.inputs, t.occurrence FROM task_run AS t "
        "JOIN task AS d ON d.id = t.task_id JOIN flow_run AS r ON r.id = t.flow_run_id "
        "LEFT JOIN task_run AS p ON p.id = t.parent_id"
    ).fetchall()
    db.close()
    assert len(rows) == 4
    for key, scope, task, inputs, occurrence in rows:
        assert identity(scope, task, inputs, occurrence) == key


def test_usage(history, capsys):
    journal, ids = history
    assert command(capsys, "diff", journal, ids[0])[0] == 2
    assert command(capsys, "diff", journal, ids[0], ids[1], ids[2])[0] == 2
    assert command(capsys, "diff", journal, ids[0], "ffffffffff")[0] == 3
