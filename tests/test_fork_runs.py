"""`durable fork`: a new run takes what its original completed before a task, and runs that task and the rest again."""

import json

import pytest
from operating import durable
from scripts import in_colour

JOB = """
import os
from durable.cache_policies import NONE, DEFAULT, TASK_SOURCE

@task
DEF step(n):
    ran("step", n)
    return n

@task
DEF inside(n):
    ran("inside", n)
    return n

@task
DEF outer(n):
    ran("outer", n)
    a = AWAIT inside(n)
    b = AWAIT inside(n)
    return a + b

@task(cache_policy=NONE)
DEF never():
    ran("never")

@task(cache_policy=DEFAULT + TASK_SOURCE)
DEF extra():
    ran("extra")
    return 5

@flow
DEF early(n):
    ran("early", n)
    return AWAIT step(n)

@flow
DEF late(n):
    ran("late", n)
    x = AWAIT step(n)
    await_ = AWAIT last(n)
    return x + await_

@task
DEF last(n):
    ran("last", n)
    return n

@flow
DEF job(base: int = 1):
    total = AWAIT step(base)
    total += AWAIT step(base)
    total += AWAIT outer(2)
    AWAIT never()
    total += AWAIT extra()
    total += AWAIT early(7)
    total += AWAIT late(8)
    total += AWAIT step(99)
    return total

if __name__ == "__main__":
    print(RUN(job()))
"""


def forked(script, start, run="-"):
    ended = durable(script, "fork", "runs.db", run, "--from", start, "--json")
    assert ended.code == 0, ended
    return json.loads(ended.out)


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_what_came_before_is_reused_and_the_rest_runs_again(script, colour):
    script.write(in_colour(JOB, colour))
    first = script.ok()
    before = script.ran()
    original = script.query("SELECT * FROM flow_runs ORDER BY flow_run_row LIMIT 1")
    made = forked(script, "last")
    assert made["forked_from"] == original[0][0]
    assert script.query("SELECT state, forked_from FROM flow_runs WHERE id = ?", made["run"]) == [
        ("Pending", original[0][0])
    ]
    assert script.ok(DURABLE_RESUME=made["run"]) == first
    assert script.ran() == ["never", "late 8", "last 8", "step 99"]
    assert before[-4:] == ["late 8", "step 8", "last 8", "step 99"]
    assert script.query("SELECT * FROM flow_runs ORDER BY flow_run_row LIMIT 1") == original
    states = script.query(
        "SELECT t.task, t.state FROM task_runs AS t JOIN flow_runs AS r USING (flow_run_row) WHERE r.id = ? "
        "ORDER BY task_run_row",
        made["run"],
    )
    assert states[:5] == [("step", "Cached"), ("step", "Cached"), ("outer", "Cached"), ("never", "Completed"),
                          ("extra", "Cached")]  # fmt: skip
    assert script.flows("early") == [["Running", "Completed"], ["Pending", "Cached"]]
    assert script.flows("late") == [["Running", "Completed"]] * 2
    assert script.flows("job") == [["Running", "Completed"], ["Pending", "Running", "Completed"]]
    pointers = script.query(
        "SELECT count(DISTINCT result_row), count(*) FROM states WHERE state = 'Cached' AND run_kind = 'task run'"
    )
    shared = script.query(
        "SELECT count(*) FROM states AS a JOIN states AS b USING (result_row) "
        "WHERE a.state = 'Cached' AND b.state = 'Completed' AND a.run_kind = 'task run' AND b.run_kind = 'task run'"
    )
    assert pointers[0][0] == pointers[0][1] == shared[0][0] == 5, "each points to the original's result"


def test_a_fork_inside_a_task_reuses_what_the_task_had_called_before(script):
    script.write(in_colour(JOB, "sync"))
    first = script.ok()
    script.ran()
    second = script.query("SELECT id FROM task_runs WHERE task = 'inside' AND occurrence = 2")[0][0]
    made = forked(script, second[:8])
    assert made["before"] == second
    assert made["reused"] == 3, "and not the one it was called in"
    assert script.ok(DURABLE_RESUME=made["run"]) == first
    assert script.ran()[:2] == ["outer 2", "inside 2"], "the first of the two equal calls is not made again"


def test_a_fork_is_not_begun_by_the_next_run_of_the_script_and_resumes_like_any_other(script):
    script.write(in_colour(JOB, "sync").replace('ran("step", n)', 'ran("step", n); die(f"step{n}")'))
    script.ok()
    made = forked(script, "extra")
    script.ran()
    script.ok()
    assert script.ran()[0] == "step 1", "a run of its own"
    script.killed("step99", DURABLE_RESUME=made["run"][:9])
    assert script.ran()[0] == "never"
    script.ok()
    assert script.ran() == ["never", "step 99"], "begun and killed, it is continued like any other"
    states = script.query("SELECT state FROM flow_runs WHERE id = ?", made["run"])
    assert states == [("Completed",)]


def test_a_fork_of_a_fork(script):
    script.write(in_colour(JOB, "sync"))
    script.ok()
    one = forked(script, "last")["run"]
    script.ok(DURABLE_RESUME=one)
    script.ran()
    two = forked(script, "outer", one[:6])["run"]
    script.ok(DURABLE_RESUME=two)
    assert script.ran()[:3] == ["outer 2", "inside 2", "inside 2"]


def test_why_says_from_which_task_run_what_is_reused_came(script):
    """Also that of a fork of a fork: the one that computed it."""
    script.write(in_colour(JOB, "sync"))
    script.ok()
    run = "-"
    for _ in range(2):
        run = forked(script, "last", run)["run"]
        script.ok(DURABLE_RESUME=run)
        told = json.loads(durable(script, "why", "runs.db", run, "--all", "--json").out)
        computed = dict(
            script.query(
                "SELECT a.run_id, b.run_id FROM states AS a JOIN states AS b USING (result_row, run_kind) "
                "WHERE a.state = 'Cached' AND b.state = 'Completed' AND run_kind = 'task run'"
            )
        )
        cached = [entry for entry in told["entries"] if entry["verdict"] == "cached"]
        assert len(cached) == 5
        for entry in cached:
            origin = computed[entry["first"]["id"]]
            assert entry["origin"]["task_run"] == origin
            assert entry["reasons"][0].startswith(f"from task run {origin[:7]} of ")


def test_failures_are_run_again_and_changed_source_decides_where_it_was_asked_to(script):
    script.write(in_colour(JOB, "sync").replace("return 5", "return 6 if os.environ.get('FAIL') is None else 1 / 0"))
    assert script.run(FAIL="1").code == 1
    made = forked(script, "extra")["run"]
    script.ran()
    script.ok(DURABLE_RESUME=made)
    assert script.ran()[:2] == ["never", "extra"]
    again = forked(script, "last", made)["run"]
    script.write(in_colour(JOB, "sync").replace("return 5", "return 7"))
    script.ran()
    script.ok(DURABLE_RESUME=again)
    assert script.ran()[:2] == ["never", "extra"], "TASK_SOURCE: its source is another one"
    said = script.query("SELECT reason FROM task_runs WHERE task = 'extra' ORDER BY task_run_row DESC LIMIT 1")
    assert said == [("source changed: job:extra",)]


def test_what_it_says_and_what_inspect_makes_of_it(script):
    script.write(in_colour(JOB, "sync"))
    script.ok()
    ended = durable(script, "fork", "runs.db", "-", "--from", "outer")
    assert ended.code == 0
    assert len(ended.out.strip()) == 32
    assert "2 task runs reused, outer(n=2) and the rest run again" in ended.err
    dashboard = durable(script, "inspect", "runs.db").out
    assert f"a fork, not begun: durable resume runs.db {ended.out[:7]}" in dashboard
    assert "Pending" in dashboard
    assert durable(script, "inspect", "runs.db", "-").code == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("-", "--from", "nothing"), "has no task and no task run 'nothing'"),
        (("ffff0000", "--from", "step"), "no flow run is called"),
        (("early", "--from", "step"), "is a subflow of run"),
    ],
)
def test_what_cannot_be_forked_is_named(script, words, message):
    script.write(in_colour(JOB, "sync"))
    script.ok()
    if words[0] == "early":
        words = (script.query("SELECT id FROM flow_runs WHERE flow = 'early'")[0][0], *words[1:])
    before = script.query("SELECT count(*) FROM flow_runs")
    ended = durable(script, "fork", "runs.db", *words)
    assert ended.code == 3
    assert message in ended.err
    assert script.query("SELECT count(*) FROM flow_runs") == before


def test_generators_and_submitted_tasks_are_reused_too(script):
    script.write("""
        @task
        def numbers(n):
            ran("numbers")
            yield from range(n)

        @task
        def double(x):
            ran("double", x)
            return 2 * x

        @task
        def end(total):
            ran("end")
            die("end")
            return total

        @flow
        def job():
            doubled = [double.submit(double.submit(n)) for n in numbers(2)]
            return end(sum(each.result() for each in doubled))

        if __name__ == "__main__":
            print(job())
    """)
    first = script.ok()
    script.ran()
    made = forked(script, "end")
    assert made["reused"] == 5
    assert script.run(DURABLE_RESUME=made["run"], DIE="end").code == -9
    assert script.ran() == ["end"]
    assert script.ok(DURABLE_RESUME=made["run"]) == first, "a resumed fork finds the values where they are"
    assert script.ran() == ["end"]
    again = forked(script, "end", made["run"])["run"]
    assert script.ok(DURABLE_RESUME=again) == first
