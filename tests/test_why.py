"""`durable why`: what it says is what happened: the argument, the source, the expiry, the crash, the origin."""

import json
import re

import pytest
from commands import command, job, lived, runs, task_run, told
from scripts import query


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    return folder / "runs.db", lived(folder)


def verdicts(capsys, *args):
    """What is said, by task: (verdict, count, first reason)."""
    document = json.loads(told(capsys, "why", *args, "--json"))
    found = {}
    for entry in document["entries"]:
        found.setdefault(entry["first"]["task"], []).append((entry["verdict"], entry["count"], entry["reasons"][0]))
    return document, found


def test_a_crash_is_named_with_the_process_that_died(history, capsys):
    journal, ids = history
    _, found = verdicts(capsys, journal, ids[0])
    (again,) = [line for line in found["load"] if line[0] == "ran again"]
    (pid,) = query(journal, "SELECT pid FROM processes ORDER BY process_row LIMIT 1")[0]
    assert re.fullmatch(rf"cut off: process {pid} on \S+ died while it ran", again[2])
    out = told(capsys, "why", journal, ids[0])
    assert re.search(r"ran again +load\(shard=3, scale=3\) .*\n +cut off: process", out)


def test_what_a_resume_replays_is_said_to_come_from_the_execution_that_recorded_it(history, capsys):
    journal, ids = history
    document, found = verdicts(capsys, journal, ids[0])
    (pid,) = query(journal, "SELECT pid FROM processes ORDER BY process_row LIMIT 1")[0]
    assert document["compared_with"] is None
    for task in ("extract", "price", "normalize", "outer"):
        ((word, _, reason),) = found[task]
        assert word == "replayed" and reason.startswith(f"recorded by execution 1 (process {pid} on ")
    assert found["price"][0][1] == 4


def test_a_value_that_was_not_kept_is_the_reason_to_run_again(history, capsys):
    journal, ids = history
    ((word, count, reason),) = verdicts(capsys, journal, ids[0])[1]["connect"]
    assert (word, count) == ("ran again", 1) and reason.startswith("not kept")


def test_a_changed_argument_is_named_with_both_values(history, capsys):
    journal, ids = history
    document, found = verdicts(capsys, journal, ids[1])
    assert document["compared_with"]["id"] == ids[0]
    assert found["extract"] == [
        ("ran", 1, f"inputs changed: day: '2026-11-22' -> '2026-11-23' (since run {ids[0][:7]})")
    ]
    assert found["load"] == [("ran", 4, f"inputs changed: scale: 3 -> 4 (since run {ids[0][:7]})")]


def test_a_cached_result_is_said_to_come_from_the_task_run_that_computed_it(history, capsys):
    journal, ids = history
    document, found = verdicts(capsys, journal, ids[1], "--all")
    cached = {entry["first"]["arguments"]["x"]: entry for entry in document["entries"] if entry["verdict"] == "cached"}
    assert sorted(cached) == [0, 1, 2, 3]
    for x, entry in cached.items():
        origin = task_run(journal, ids[0], "price", x=x)
        assert entry["origin"] == {"task_run": origin, "flow_run": ids[0]}
        assert entry["reasons"][0].startswith(f"from task run {origin[:7]} of etl {ids[0][:7]}")


def test_the_changed_helper_is_named(history, capsys):
    journal, ids = history
    document, _ = verdicts(capsys, journal, ids[3], "normalize")
    assert document["entries"]
    for entry in document["entries"]:
        assert any(re.search(r"source changed.*: clean\.RATE", reason) for reason in entry["reasons"])
    _, found = verdicts(capsys, journal, ids[3], "--with", ids[2])
    assert ("ran", 1, f"the same call in run {ids[2][:7]} had not completed: Failed") in found["load"]


def test_a_new_run_of_the_same_calls_says_that_its_policy_keeps_them_to_one_run(history, capsys):
    journal, ids = history
    _, found = verdicts(capsys, journal, ids[3])
    assert all(line[2].startswith("a new run: its policy reuses no result of another run") for line in found["outer"])


def test_one_task_run_is_explained_by_its_id_and_a_task_by_its_name(history, capsys):
    journal, ids = history
    id_ = task_run(journal, ids[0], "load", shard=3)
    out = told(capsys, "why", journal, ids[0], id_[:12])
    assert out.count("load(") == 1 and id_[:7] in out and "cut off" in out
    out = told(capsys, "why", journal, ids[0], "load")
    assert out.count("load(") == 4
    code, out, err = command(capsys, "why", journal, ids[0], "nothing")
    assert (code, out) == (3, "") and "no task run or task is called 'nothing'" in err


MEMO = """
import sys
from datetime import timedelta
from durable import flow, task
from durable.cache_policies import INPUTS, TASK_SOURCE

@task(cache_policy=INPUTS, cache_expiration=timedelta(microseconds=1))
def stale(x): return x

@task(cache_policy=INPUTS, refresh_cache=True)
def fresh(x): return x

@task(record_inputs=False)
def secret(word): return 1

@task
def long(data): return 1

def helper(x): return x

@task(cache_policy=INPUTS + TASK_SOURCE)
def memo(x): return helper(x)

@flow
def job(word):
    stale(1); fresh(1); secret(word); long([word] * 1000); memo(1)
    if word == "b": extra()

@task
def extra(): return 1

if __name__ == "__main__":
    job(sys.argv[1])
"""


def test_expiry_refreshing_digests_and_new_calls(tmp_path, capsys):
    job(tmp_path, "a", script=MEMO)
    job(tmp_path, "b", script=MEMO.replace("def helper(x): return x", "def helper(x): return x + 0"))
    first, second = runs(tmp_path / "runs.db")
    _, found = verdicts(capsys, tmp_path / "runs.db", second)
    said = {task: lines[0][2] for task, lines in found.items()}
    assert said["stale"].startswith("expired: ")
    assert "refresh" in said["fresh"]
    assert (
        said["secret"].endswith("only their digest is recorded (record_inputs=False)")
        and "changed since" in said["secret"]
    )
    assert re.search(r"inputs changed: data: <.*> -> <.*> \(recorded as digests\)", said["long"])
    assert said["memo"].startswith("source changed: job:helper")
    assert said["extra"] == f"new: run {first[:7]} made no such call"
    _, found = verdicts(capsys, tmp_path / "runs.db", first)
    assert found["memo"][0][2] == "it had never run: there is no earlier run of job"


KEYS = """
import os
from datetime import timedelta
from durable import flow, task
from durable.cache_policies import INPUTS, NONE, RUN_ID, TASK_SOURCE

FACTOR = 1

@task(cache_policy=INPUTS + RUN_ID, cache_expiration=timedelta(microseconds=1))
def mine(x): return x * FACTOR

@task(cache_policy=INPUTS + RUN_ID)
def broken(x):
    if os.environ.get("HOW") == "fail": raise ValueError("boom")
    return x

@task(cache_policy=NONE)
def never(x): return x

@task
def edited(x): return x

@flow
def job():
    mine(1); never(1); edited(1); broken(1)

if __name__ == "__main__":
    job()
"""


def test_what_is_said_of_a_policy_is_true_of_it(tmp_path, capsys):
    """Only what a policy counts is a reason, also of a call that has not completed, whose key is not recorded."""
    job(tmp_path, script=KEYS)
    again = KEYS.replace("FACTOR = 1", "FACTOR = 2").replace(
        "@task\ndef edited", "@task(cache_policy=INPUTS)\ndef edited"
    )
    job(tmp_path, code=1, script=again, HOW="fail")
    first, second = runs(tmp_path / "runs.db")
    document, found = verdicts(capsys, tmp_path / "runs.db", second)
    said = {task: lines[0][2] for task, lines in found.items()}
    assert said["mine"].startswith(f"another cache key than in run {first[:7]}: ")
    assert "source changed since: mine.FACTOR" in next(
        entry["reasons"] for entry in document["entries"] if entry["first"]["task"] == "mine"
    )
    assert said["never"].startswith("a new run: its policy reuses no result of another run")
    assert said["edited"].startswith(f"a new run: the policy in run {first[:7]} kept the result to that run")
    assert said["broken"].startswith(f"the result in run {first[:7]} was not used: ")


WAITING = """
import os
from durable import flow, task

@task
def first():
    if os.environ.get("HOW") == "fail": raise ValueError("boom")
    return 1

@task
def second(x): return x

@flow
def job():
    second.submit(1, wait_for=[first.submit()]).result()

if __name__ == "__main__":
    job()
"""


def test_a_call_that_was_not_made_for_want_of_an_input_ran_for_the_first_time_when_it_was_made(tmp_path, capsys):
    job(tmp_path, code=1, script=WAITING, HOW="fail")
    assert verdicts(capsys, tmp_path / "runs.db", "-")[1]["second"][0][0] == "did not run"
    job(tmp_path, script=WAITING)
    _, found = verdicts(capsys, tmp_path / "runs.db", "-")
    assert found["second"] == [("ran", 1, "it had never run: there is no earlier run of job")]


COUNTED = """
import os
from durable import flow, task
from durable.cache_policies import INPUTS, TASK_SOURCE

@task(cache_policy=INPUTS + TASK_SOURCE)
def memo(x): return x + 0

@flow
def job(word):
    memo(1)
    if os.environ.get("HOW") == "fail": raise ValueError("boom")

if __name__ == "__main__":
    job(os.environ["WORD"])
"""


def test_a_call_that_took_a_result_and_then_ran_for_changed_source_says_so(tmp_path, capsys):
    job(tmp_path, script=COUNTED, WORD="a")
    job(tmp_path, code=1, script=COUNTED, WORD="b", HOW="fail")
    assert verdicts(capsys, tmp_path / "runs.db", "-")[1]["memo"][0][0] == "cached"
    job(tmp_path, script=COUNTED.replace("x + 0", "x + 1"), WORD="b")
    assert verdicts(capsys, tmp_path / "runs.db", "-")[1]["memo"] == [("ran", 1, "source changed: job:memo")]


def test_a_failure_that_got_a_new_chance_is_named(tmp_path, capsys):
    job(tmp_path, code=1, HOW="fail")
    job(tmp_path)
    _, found = verdicts(capsys, tmp_path / "runs.db", "-")
    ((_, _, reason),) = [line for line in found["load"] if line[0] == "ran again"]
    assert reason.startswith("previous failed") and "boom" in reason


def test_the_recorded_reason_has_the_first_word(tmp_path, capsys):
    """Whatever else could be found out: the engine was there."""
    import sqlite3

    job(tmp_path)
    db = sqlite3.connect(tmp_path / "runs.db", isolation_level=None)
    db.execute(
        "INSERT INTO task_run (id, key, task_id, flow_run_id, process_id, state, at, occurrence, inputs, reason) "
        "SELECT id + 1000, randomblob(16), task_id, flow_run_id, process_id, state, at, 1, inputs, 'expired: today' "
        "FROM task_run LIMIT 1"
    )
    db.close()
    _, found = verdicts(capsys, tmp_path / "runs.db", "-")
    assert ("ran", 1, "expired: today") in found["connect"]


def test_a_killed_run_is_explained_as_far_as_it_came(history, capsys):
    journal, ids = history
    _, found = verdicts(capsys, journal, ids[4])
    assert sum(line[1] for line in found["load"]) == 4


def test_usage(history, capsys):
    journal, ids = history
    assert command(capsys, "why", journal)[0] == 2
    assert command(capsys, "why", journal, "-", "load", "more")[0] == 2
    assert command(capsys, "why", journal, "ffffffffff")[0] == 3
    assert command(capsys, "why", journal, task_run(journal, ids[0], "extract"))[0] == 3
    assert command(capsys, "why", journal.parent / "none.db", "-")[0] == 3


def test_the_journal_may_be_left_out_where_the_word_is_no_file(history, capsys, monkeypatch):
    journal, ids = history
    monkeypatch.chdir(journal.parent)
    assert told(capsys, "why", ids[0]) == told(capsys, "why", journal, ids[0])
    assert told(capsys, "why", "-") == told(capsys, "why", journal, "-")
    monkeypatch.chdir(journal.parent.parent)
    monkeypatch.setenv("DURABLE_JOURNAL", str(journal))
    assert told(capsys, "why", "-", "load") == told(capsys, "why", journal, "-", "load")
