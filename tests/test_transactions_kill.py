"""Transactions across real deaths: a compensation that is due is never lost, and nothing is undone that need not be."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import in_colour

colours = pytest.mark.parametrize("colour", ["sync", "async"])

JOB = """
    import durable
    from durable.transactions import *

    def undo(name):
        def hook(txn):
            ran("undo", name, txn.read(), txn.get("path", "no path"))
            die("undo " + name)
        return hook

    def commit(name):
        return lambda txn: ran("commit", name)

    @task(on_rollback=[undo("a")], on_commit=[commit("a")])
    DEF a():
        ran("a")
        return "A"

    @task(on_rollback=[undo("inner")])
    DEF inner(n):
        ran("inner", n)
        return n

    @task
    DEF plain():
        ran("plain")

    @task(on_rollback=[undo("outer")], on_commit=[commit("outer")])
    DEF outer():
        AWAIT inner(1)
        AWAIT plain()
        ran("outer")
        return "O"

    @task
    DEF failing():
        ran("failing")
        die("failing")
        if asked("fail"):
            raise ValueError("boom")
        return "F"

    @task
    DEF caller():
        AWAIT inner(2)
        AWAIT failing()

    @flow
    DEF sub():
        AWAIT inner(3)

    @flow
    DEF job():
        BODY

    RUN(job())
"""


def write(script, colour, body):
    body = "\n".join(f"        {line}" for line in body.strip("\n").split("\n")).strip()
    text = in_colour(JOB.replace("BODY", body), colour)
    if colour == "async":
        text = text.replace("with transaction()", "async with atransaction()")
    script.write(text)


BLOCK = """
with transaction() as txn:
    txn.set("path", "/there")
    AWAIT a()
    AWAIT outer()
    die("before")
    AWAIT failing()
die("after")
"""


@colours
def test_a_kill_in_a_block_undoes_nothing_and_the_resume_continues_in_it(colour, script):
    write(script, colour, BLOCK)
    script.killed("failing")
    assert script.ran() == ["a", "inner 1", "plain", "outer", "failing"]
    script.ok()
    assert script.ran() == ["failing", "commit a", "commit outer"]
    assert script.tasks("a") == [["Running", "Completed"]]


@colours
def test_after_a_resume_what_was_replayed_is_undone_with_what_it_had_called(colour, script):
    write(script, colour, BLOCK)
    script.killed("failing")
    script.ran()
    assert script.run(DIE="fail").code == 1
    assert script.ran() == ["failing", "undo outer O /there", "undo inner 1 /there", "undo a A /there"]
    for name in ("a", "outer", "inner"):
        assert script.tasks(name) == [["Running", "Completed", "RolledBack", "RolledBack"]], name
    assert script.tasks("plain") == [["Running", "Completed", "RolledBack"]]
    ended = script.run()
    assert ended.code == 0, ended.err
    assert script.ran() == ["a", "inner 1", "plain", "outer", "failing", "commit a", "commit outer"]
    assert "0 tasks restored" in ended.err


@colours
def test_after_a_resume_a_replayed_subflow_is_undone_as_a_whole(colour, script):
    write(script, colour, "with transaction():\n    AWAIT sub()\n    AWAIT failing()")
    script.killed("failing")
    script.ran()
    assert script.run(DIE="fail").code == 1
    assert script.ran() == ["failing", "undo inner 3 no path"]
    assert script.flows("sub") == [["Running", "Completed", "RolledBack"]]
    script.ok()
    assert script.ran() == ["inner 3", "failing"]


@colours
def test_a_block_that_a_resume_only_replays_commits_nothing_again(colour, script):
    write(script, colour, BLOCK)
    script.killed("after")
    assert script.ran() == ["a", "inner 1", "plain", "outer", "failing", "commit a", "commit outer"]
    script.ok()
    assert script.ran() == []


@colours
def test_a_kill_while_undoing_leaves_the_rest_owed_until_the_task_is_called_again(colour, script):
    write(script, colour, BLOCK)
    ended = script.run(DIE="fail,undo inner")
    assert ended.code == -9
    assert script.ran()[5:] == ["undo outer O /there", "undo inner 1 /there"]
    owed, paid = ["Running", "Completed", "RolledBack"], ["Running", "Completed", "RolledBack", "RolledBack"]
    assert [*script.tasks("a"), *script.tasks("inner"), *script.tasks("outer")] == [owed, owed, paid]
    rows = script.query("SELECT message FROM task_runs WHERE task = 'a'")
    assert "hooks have not all run" in rows[0][0]
    again = ["undo outer O /there", "undo inner 1 /there", "undo a A /there"]
    assert script.run().code == 1, "the failure is history: it is raised again"
    owed_first = ["undo a A /there", "a", "undo inner 1 /there", "inner 1", "plain", "outer"]
    assert script.ran() == owed_first + again
    script.ok()
    assert script.ran() == ["a", "inner 1", "plain", "outer", "failing", "commit a", "commit outer"]


@colours
def test_what_an_owed_task_called_is_paid_with_it(colour, script):
    write(script, colour, BLOCK)
    assert script.run(DIE="fail,undo outer").code == -9
    script.ran()
    assert script.run().code == 1
    assert script.ran()[:7] == [
        *("undo a A /there", "a", "undo outer O /there", "undo inner 1 /there", "inner 1", "plain", "outer"),
    ]


@colours
def test_a_recorded_failure_leads_to_the_rollback_again(colour, script):
    write(
        script,
        colour,
        BLOCK.replace("with", "try:\n    with", 1)
        .replace("\n    ", "\n        ")
        .replace("\n        with", "\n    with")
        .replace('die("after")', "except ValueError:\n    ran('caught')\ndie('after')"),
    )
    assert script.run(DIE="fail,after").code == -9
    script.ran()
    script.ok()
    # The failure is history, so it is raised again; what was undone is not, so it is done, and undone once more.
    assert script.ran() == [
        *("a", "inner 1", "plain", "outer"),
        *("undo outer O /there", "undo inner 1 /there", "undo a A /there", "caught"),
    ]


@colours
def test_what_a_failed_task_owes_is_paid_when_its_failure_is_raised_again(colour, script):
    write(script, colour, "try:\n    AWAIT caller()\nexcept ValueError:\n    ran('caught')")
    assert script.run(DIE="fail,undo inner").code == -9
    assert script.ran() == ["inner 2", "failing", "undo inner 2 no path"]
    assert script.tasks("caller") == [["Running", "Failed"]]
    assert script.tasks("inner") == [["Running", "Completed", "RolledBack"]]
    script.ok(DIE="fail")
    assert script.ran() == ["undo inner 2 no path", "caught"]
    assert script.tasks("inner") == [["Running", "Completed", "RolledBack", "RolledBack"]]
    script.ok()


GENERATOR = """
    from contextlib import aclosing, closing
    from durable.transactions import *

    @task(on_rollback=[lambda txn: ran("undo")])
    DEF rows():
        for n in range(3):
            ran("row", n, os.environ["DAY"])
            yield n, os.environ["DAY"]

    @flow
    DEF job():
        with transaction():
            WITH closing(rows()) as found:
                EACH row in found:
                    ran("has", *row)
                    if asked("early"):
                        break
            if asked("fail"):
                raise ValueError("boom")
        die("after")

    RUN(job())
"""


@colours
@pytest.mark.parametrize("early", ["early", "late"])
def test_a_generator_that_was_rolled_back_is_executed_again_and_its_old_values_are_void(colour, early, script):
    text = in_colour(GENERATOR, colour)
    if colour == "async":
        text = text.replace("WITH closing", "async with aclosing").replace("EACH", "async for")
    script.write(text.replace("WITH", "with").replace("EACH", "for"))
    days = {"early": [0], "late": [0, 1, 2]}[early]
    rows = lambda day: [line for n in days for line in (f"row {n} {day}", f"has {n} {day}")]  # noqa: E731
    assert script.run(DIE=f"{early},fail", DAY="monday").code == 1
    assert script.ran() == [*rows("monday"), "undo"]
    assert script.run(DIE=f"{early},after", DAY="tuesday").code == -9
    assert script.ran() == rows("tuesday")
    script.ok(DIE=early, DAY="wednesday")
    assert script.ran() == rows("wednesday")


def test_the_example_of_the_documentation_runs_as_written(script):
    text = (Path(__file__).resolve().parent.parent / "docs" / "transactions.md").read_text(encoding="utf-8")
    example, _ = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    (script.folder / "job.py").write_text(example, encoding="utf-8")
    first = script.run()
    assert (first.code, first.out) == (1, "removed the report because the check failed\n")
    (script.folder / "approved").touch()
    assert script.ok() == "the report is there: report.txt\nreport.txt"


def test_inspect_shows_what_was_undone(script):
    write(script, "sync", BLOCK)
    script.run(DIE="fail")
    command = [sys.executable, "-m", "durable", "inspect", str(script.journal)]
    run = lambda *more: subprocess.run([*command, *more], capture_output=True, text=True, check=False)  # noqa: E731
    (run_id,) = (row[0] for row in script.query("SELECT id FROM flow_runs"))
    tree = run(run_id).stdout
    shown = [line.split()[2] for line in tree.splitlines() if line.startswith("  rolled back  ")]
    assert shown == ["a()", "outer()", "inner(n=1)", "plain()"]
    assert "1 failed, 4 rolled back" in tree
    assert "nothing is there to be restored, 1 failed task runs again and 4 rolled back tasks run again" in run().stdout
    document = json.loads(run("--json").stdout)
    assert document["runs"][0]["tasks"]["rolled_back"] == 4
