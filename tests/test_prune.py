"""`durable prune` removes whole old runs, and nothing that anything left needs."""

import json
import sqlite3
from contextlib import closing
from importlib import import_module

import pytest
from operating import durable
from scripts import Script, finish

JOB = """
from durable.cache_policies import INPUTS

@task
def step(n):
    ran("step", n)
    die(f"step{n}")
    return "x" * int(os.environ.get("SIZE", "10"))

@task(cache_policy=INPUTS)
def memo(n):
    ran("memo", n)
    return n

@flow
def inner(n):
    return step(n)

@flow
def job(n: int):
    memo(0)
    step(n)
    inner(n)

@flow
def other():
    step(0)
    signal_files("other")

if __name__ == "__main__":
    if sys.argv[1] == "other":
        other()
    else:
        job(int(sys.argv[1]))
"""


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    made.write(JOB)
    return made


def runs(script):
    return script.query("SELECT flow, state FROM flow_runs ORDER BY flow_run_row")


def sound(script):
    ended = durable(script, "check", "--full")
    return ended.code == 0, ended.out


def test_the_newest_stay_and_the_rest_goes_whole(script):
    for number in range(4):
        script.ok(str(number))
    names = {"flow_run", "flow_run_state", "task_run", "task_run_state", "result"}
    before = {name: script.query(f"SELECT count(*) FROM {name}")[0][0] for name in names}
    dry = durable(script, "prune", "--keep-last", "2", "--dry-run")
    assert "would remove 2 runs, 6 task runs" in dry.err
    assert len(dry.out.splitlines()) == 2
    assert len(runs(script)) == 8, "nothing was removed"
    ended = durable(script, "prune", "--keep-last", "2")
    assert ended.code == 0, ended
    assert "removed 2 runs, 6 task runs" in ended.err
    assert runs(script) == [("job", "Completed"), ("inner", "Completed")] * 2
    after = {name: script.query(f"SELECT count(*) FROM {name}")[0][0] for name in names}
    assert {name: after[name] * 2 for name in names - {"result"}} == {name: before[name] for name in names - {"result"}}
    assert after["result"] == before["result"] // 2 + 1, "the memo's value is pointed to by runs that stay"
    assert sound(script)[0]
    assert "2 runs" in durable(script, "inspect").out


def test_the_file_is_append_only_again_and_goes_on_being_used(script):
    script.ok("1")
    durable(script, "prune", "--keep-last", "0")
    assert runs(script) == []
    with closing(sqlite3.connect(script.journal)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("DELETE FROM process")
    script.ran()
    script.ok("1")
    assert script.ran() == ["memo 0", "step 1", "step 1"]
    with closing(sqlite3.connect(script.journal)) as connection, pytest.raises(sqlite3.IntegrityError):
        connection.execute("DELETE FROM task_run")
    assert sound(script)[0]


def test_a_run_that_can_be_resumed_stays_unless_it_is_forced(script):
    assert script.run("1", DIE="step1").code == -9
    script.ok("2")
    assert durable(script, "prune", "--older-than", "0s").code == 0
    assert runs(script) == [("job", "Running")]
    script.ran()
    script.ok("1")
    assert script.ran() == ["step 1", "step 1"], "the memo is its own, and stayed"
    assert script.run("3", DIE="step3").code == -9
    assert durable(script, "prune", "--older-than", "0s", "--force").code == 0
    assert runs(script) == []
    assert not (script.folder / "runs.db-locks").exists()
    assert sound(script)[0]


def test_a_live_run_is_never_removed_and_others_are_under_it(script):
    script.ok("1")
    script.ok("2")
    process = script.start("other")
    script.wait_for("other.here", process)
    refused = durable(script, "prune", "--older-than", "0s", "--force")
    assert refused.code in (0, 4)
    assert ("other", "Running") in runs(script)
    ended = durable(script, "prune", "--keep-last", "0")
    assert ended.code == 0
    assert "with cached results stay while something runs" in ended.err
    script.go("other")
    assert finish(process).code == 0
    assert durable(script, "prune", "--keep-last", "0").code == 0
    assert runs(script) == []


def test_a_live_run_that_would_go_is_named(script):
    process = script.start("other")
    script.wait_for("other.here", process)
    ended = durable(script, "prune", "--older-than", "0s", "--force")
    script.go("other")
    assert finish(process).code == 0
    assert ended.code == 4
    assert "is being executed: nothing was removed" in ended.err
    assert runs(script) == [("other", "Completed")]


def test_age_counts_from_the_last_record(script):
    script.ok("1")
    assert "removed 0 runs" in durable(script, "prune", "--older-than", "1h").err
    assert "removed 0 runs" in durable(script, "prune", "--older-than", "0s", "--keep-last", "1").err
    found = json.loads(durable(script, "prune", "--older-than", "0.0s", "--json").out)
    assert (found["dry_run"], len(found["runs"]), found["runs"][0]["task_runs"]) == (False, 1, 3)
    assert runs(script) == []


def test_space_is_given_back(script):
    script.ok("1", SIZE="3000000")
    script.ok("2")
    before = script.journal.stat().st_size
    found = json.loads(durable(script, "prune", "--keep-last", "1", "--json").out)
    assert script.journal.stat().st_size < before // 10
    assert found["bytes_after"] < found["bytes_before"] // 10
    assert sound(script)[0]


def test_the_original_of_a_fork_stays_with_it(script):
    script.ok("1")
    made = durable(script, "fork", "runs.db", "-", "--from", "memo").out.strip()
    assert "removed 0 runs" in durable(script, "prune", "--older-than", "0s").err
    script.ran()
    assert durable(script, "resume", "runs.db", made).code == 0
    assert "removed 2 runs" in durable(script, "prune", "--older-than", "0s").err
    assert sound(script)[0]


def test_a_fork_can_be_removed_and_its_original_keep_its_results(script):
    script.ok("1")
    second = script.query("SELECT id FROM task_runs WHERE task = 'step' ORDER BY task_run_row")[1][0]
    made = durable(script, "fork", "runs.db", "-", "--from", second).out.strip()
    assert durable(script, "resume", "runs.db", made).code == 0
    assert script.tasks("step")[2] == ["Pending", "Cached"]
    original = script.query("SELECT id FROM flow_runs ORDER BY flow_run_row")[0][0]
    # The fork is the older one of two by what --keep-last counts only if it is not the newest: so a third one is made.
    durable(script, "cancel", "runs.db", durable(script, "fork", "runs.db", original, "--from", second).out.strip())
    assert durable(script, "prune", "--keep-last", "1").code == 0
    assert sound(script)[0]
    assert (original,) in script.query("SELECT id FROM flow_runs")
    assert (made,) not in script.query("SELECT id FROM flow_runs")


def test_batches(script, monkeypatch):
    for number in range(3):
        script.ok(str(number))
    from durable import close_journals
    from durable.cli import main

    monkeypatch.setattr(import_module("durable.cli.prune"), "_BATCH", 3)
    with pytest.raises(SystemExit) as ended:
        main(["prune", str(script.journal), "--keep-last", "0"])
    close_journals()
    assert ended.value.code == 0
    assert runs(script) == []
    assert sound(script)[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [((), "say which runs"), (("--older-than", "soon"), "expected a number and a unit"), (("--keep-last", "-1"), "-1")],
)
def test_what_cannot_be_meant_is_refused(script, words, message):
    script.ok("1")
    ended = durable(script, "prune", "runs.db", *words)
    assert ended.code == 2
    assert message in ended.err


def test_a_generator_whose_values_another_run_has_taken_from_the_cache_stays(script):
    script.write("""
        from durable.cache_policies import INPUTS

        @task(cache_policy=INPUTS)
        def numbers():
            ran("numbers")
            yield from range(3)

        @task
        def last():
            ran("last")
            die("last")

        @flow
        def job(n: int):
            found = list(numbers())
            last()
            return found

        print(job(int(sys.argv[1])))
    """)
    script.ok("1")
    assert script.run("2", DIE="last").code == -9
    assert "removed 0 runs" in durable(script, "prune", "--older-than", "0s").err
    script.ran()
    assert script.ok("2") == "[0, 1, 2]"
    assert script.ran() == ["last"]
    assert "removed 2 runs" in durable(script, "prune", "--older-than", "0s").err
