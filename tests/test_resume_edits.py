"""Editing code never strands a run, and never gives a wrong value."""

import pytest
from scripts import Script

JOB = """
@task
def load(i):
    ran("load", i)
    return i * 10

@task
def save(rows):
    ran("save")
    return len(rows)

@flow
def job():
    rows = [load(i) for i in range(4)]
    die("loaded")
    return save(rows), rows

if __name__ == "__main__":
    print(job())
"""
RESULT = "(4, [0, 10, 20, 30])"


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    made.write(JOB)
    made.killed("loaded")
    made.ran()
    return made


def edited(before: str, after: str) -> str:
    assert before in JOB
    return JOB.replace(before, after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("    rows =", "    # a comment in the flow\n\n    rows ="),
        ('    ran("load", i)', '    # a comment in the task\n    ran("load", i)  # and another'),
        ("@task\ndef load", "def helper():\n    pass\n\n@task\ndef load"),
        ("def load(i):\n", 'def load(i):\n    """What it does."""\n'),
        ("def job():\n", "def job():\n    print('begin', file=sys.stderr)\n"),
        ("def load(i)", "def load(i: int) -> int"),
        ("@task\ndef load", "@task(retries=3)\ndef load"),
        ("[load(i) for i in range(4)]", "list(map(load, (0, 1, 2, 3)))"),
        ("[load(i) for i in range(4)]", "[load(i=i) for i in range(4)]"),
    ],
    ids=["comment", "task-comment", "helper", "docstring", "flow-body", "annotation", "option", "map", "keyword"],
)
def test_an_edit_that_changes_no_call_replays_everything(script, before, after):
    script.write(edited(before, after))
    ended = script.run()
    assert (ended.code, ended.out.strip()) == (0, RESULT), ended.err
    assert script.ran() == ["save"]
    assert len(script.flows()) == 1


def test_comments_docstrings_and_options_are_no_change_of_source(script):
    script.write(
        edited('    ran("load", i)', '    """Doc."""\n    # c\n    ran("load", i)').replace("@task", "@task(retries=1)")
    )
    ended = script.run()
    assert ended.code == 0
    assert "source changed" not in ended.err


def test_a_task_inserted_before_runs_and_the_rest_replays(script):
    script.write(
        edited("def job():\n", "def job():\n    check()\n").replace(
            "@flow", '@task\ndef check():\n    ran("check")\n\n@flow'
        )
    )
    assert script.ok() == RESULT
    assert script.ran() == ["check", "save"]


def test_a_reordered_loop_gives_each_call_its_own_value(script):
    script.write(edited("range(4)", "(3, 1, 0, 2)"))
    assert script.ok() == "(4, [30, 10, 0, 20])"
    assert script.ran() == ["save"]


def test_a_longer_loop_runs_only_what_is_new(script):
    script.write(edited("range(4)", "range(-1, 6)"))
    assert script.ok() == "(7, [-10, 0, 10, 20, 30, 40, 50])"
    assert script.ran() == ["load -1", "load 4", "load 5", "save"]


def test_a_removed_call_is_not_missed(script):
    script.write(edited("range(4)", "(0, 3)"))
    assert script.ok() == "(2, [0, 30])"
    assert script.ran() == ["save"]


def test_a_changed_argument_runs_with_the_new_one(script):
    script.write(edited("load(i) for i", "load(i + 100) for i"))
    assert script.ok() == "(4, [1000, 1010, 1020, 1030])"
    assert len(script.ran()) == 5


def test_a_new_parameter_with_a_default_is_another_call(script):
    """Its arguments are other arguments now, so nothing recorded may stand for it."""
    script.write(edited("def load(i):", "def load(i, factor=1):"))
    assert script.ok() == RESULT
    assert script.ran() == ["load 0", "load 1", "load 2", "load 3", "save"]


def test_a_completed_task_whose_own_source_changed_is_reused_with_one_line_saying_so(script):
    script.write(edited("return i * 10", "return i * 11"))
    ended = script.run()
    assert ended.code == 0
    assert ended.out.strip() == RESULT
    assert script.ran() == ["save"]
    lines = [line for line in ended.err.splitlines() if "source changed" in line]
    assert len(lines) == 1
    assert "load" in lines[0]
    assert "TASK_SOURCE" in lines[0]


def test_a_changed_helper_is_named_in_the_line(script):
    helper = "def tenfold(i):\n    return i * 10\n\n@task\ndef load"
    text = edited("@task\ndef load", helper).replace(
        "return i * 10\n\n@task\ndef save", "return tenfold(i)\n\n@task\ndef save"
    )
    script.write(text)
    script.killed("loaded")  # the edit itself: reused, with a line
    script.write(text.replace('    ran("load", i)', '    ran("load", i)').replace("return i * 10", "return 10 * i"))
    ended = script.run()
    assert ended.out.strip() == RESULT
    (line,) = [line for line in ended.err.splitlines() if "source changed" in line]
    assert "tenfold" in line


def test_with_task_source_an_edited_task_runs_again_and_its_neighbour_does_not(tmp_path):
    script = Script(tmp_path)
    text = """
    from durable.cache_policies import DEFAULT, TASK_SOURCE

    def factor():
        return 10

    @task(cache_policy=DEFAULT + TASK_SOURCE)
    def load(i):
        ran("load", i)
        return i * factor()

    @task(cache_policy=DEFAULT + TASK_SOURCE)
    def other(i):
        ran("other", i)
        return i

    @flow
    def job():
        rows = [(load(i), other(i)) for i in range(2)]
        die("loaded")
        return rows

    print(job())
    """
    script.write(text)
    script.killed("loaded")
    script.ran()
    script.write(text.replace('ran("load", i)', 'ran("load", i)  # a comment'))
    script.killed("loaded")
    assert script.ran() == []
    script.write(text.replace("return i * factor()", "return i * factor() + 1"))
    script.killed("loaded")
    assert script.ran() == ["load 0", "load 1"]
    script.write(text.replace("return 10", "return 20"))  # a helper of the task
    assert script.ok() == "[(0, 0), (20, 1)]"
    assert script.ran() == ["load 0", "load 1"]
    assert script.tasks("load")[0] == ["Running", "Completed"] + ["Running", "Completed"] * 2
    assert len(script.flows()) == 1


def test_a_memo_with_task_source_does_not_replay_an_edited_task_either(tmp_path):
    """The policy says that the source must agree, in a resumed run as anywhere."""
    script = Script(tmp_path)
    text = """
    from durable.cache_policies import INPUTS, TASK_SOURCE

    @task(cache_policy=INPUTS + TASK_SOURCE)
    def load(i):
        ran("load", i)
        return i * 10

    @flow
    def job():
        rows = [load(i) for i in range(2)]
        die("loaded")
        return rows

    print(job())
    """
    script.write(text)
    script.killed("loaded")
    script.ran()
    script.write(text.replace("i * 10", "i * 20"))
    assert script.ok() == "[0, 20]"
    assert script.ran() == ["load 0", "load 1"]


def test_an_edit_while_a_task_was_in_flight_runs_the_new_code(tmp_path):
    script = Script(tmp_path)
    text = """
    @task
    def load():
        ran("old")
        die("in load")
        return 1

    @flow
    def job():
        return load()

    print(job())
    """
    script.write(text)
    script.killed("in load")
    script.write(text.replace("old", "new").replace("return 1", "return 2"))
    assert script.ok() == "2"
    assert script.ran() == ["old", "new"]


def test_a_renamed_task_is_another_task(script):
    script.write(JOB.replace("load(i)", "fetch(i)"))
    assert script.ok() == RESULT
    assert script.ran() == ["load 0", "load 1", "load 2", "load 3", "save"]  # the body still says load


def test_a_result_class_that_is_gone_is_a_clear_error_before_anything_runs_twice(tmp_path):
    script = Script(tmp_path)
    text = """
    import dataclasses

    EXTRA

    @task
    def load():
        ran("load")
        return make()

    @task
    def more():
        ran("more")

    @flow
    def job():
        row = load()
        die("loaded")
        more()
        return row.x

    print(job())
    """
    with_class = text.replace(
        "EXTRA", "@dataclasses.dataclass\n    class Row:\n        x: int\n\n    def make(): return Row(1)"
    )
    script.write(with_class)
    script.killed("loaded")
    script.ran()
    script.write(text.replace("EXTRA", "def make(): return 1"))
    ended = script.run()
    assert ended.code == 1
    assert "UnresolvedClass" in ended.err
    assert "job:Row" in ended.err
    assert "load" in ended.err
    assert script.ran() == []
    script.write(with_class)
    assert script.ok() == "1"
    assert script.ran() == ["more"]


def test_the_way_a_script_is_started_does_not_matter(tmp_path):
    script = Script(tmp_path)
    script.write(JOB)
    script.killed("loaded")
    script.ran()
    script.write("import job\nprint(job.job())", name="other.py")
    ended = script.run(name="other.py")
    assert ended.code == 0, ended.err
    assert ended.out.strip() == RESULT
    assert script.ran() == ["save"]


POLICIES = """
from durable.cache_policies import *

@task(cache_policy=POLICY)
def load(i):
    ran("load", i)
    return i * 10

@flow(idempotency_key=os.environ.get("KEY"))
def job(day):
    rows = [load(i) for i in range(2)]
    die("loaded")
    return rows

print(job(os.environ.get("DAY", "monday")))
"""


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("DEFAULT", "DEFAULT + TASK_SOURCE"),
        ("DEFAULT", "DEFAULT + FLOW_PARAMETERS"),
        ("DEFAULT + TASK_SOURCE", "DEFAULT + TASK_SOURCE + FLOW_PARAMETERS"),
        ("INPUTS", "INPUTS + TASK_SOURCE"),
        ("INPUTS + RUN_ID", "INPUTS + FLOW_PARAMETERS"),
        ("INPUTS", "DEFAULT + TASK_SOURCE"),
    ],
)
def test_a_policy_that_asks_for_more_from_now_on_runs_again_only_what_does_not_agree(tmp_path, before, after):
    script = Script(tmp_path)
    script.write(POLICIES.replace("POLICY", before))
    script.killed("loaded")
    script.ran()
    script.write(POLICIES.replace("POLICY", after))
    script.killed("loaded")
    assert script.ran() == []
    if "TASK_SOURCE" in after:
        script.write(POLICIES.replace("POLICY", after).replace("i * 10", "i * 20"))
        script.killed("loaded")
        assert script.ran() == ["load 0", "load 1"]
        messages = script.query("SELECT message FROM states WHERE run_kind = 'task run' AND state = 'Running'")
        assert {message for (message,) in messages if message} == {"source changed: job:load"}
        script.write(POLICIES.replace("POLICY", after))
        assert script.ok() == "[0, 10]"
        assert script.ran() == ["load 0", "load 1"]
    else:
        assert script.ok() == "[0, 10]"
        assert script.ran() == []


def test_what_another_call_computed_from_other_source_is_not_taken_for_this_source(tmp_path):
    """A memo's result counts by the source it was computed with, not by that of the call that found it."""
    script = Script(tmp_path)
    script.write(POLICIES.replace("POLICY", "INPUTS"))
    script.ok(DAY="sunday")
    script.ran()
    script.write(POLICIES.replace("POLICY", "INPUTS").replace("i * 10", "i * 20"))
    script.killed("loaded")
    assert script.ran() == []
    script.write(POLICIES.replace("POLICY", "INPUTS + TASK_SOURCE").replace("i * 10", "i * 20"))
    assert script.ok() == "[0, 20]"
    assert script.ran() == ["load 0", "load 1"]


def test_an_idempotency_keys_run_with_other_parameters_does_not_agree_with_what_was_recorded_before(tmp_path):
    script = Script(tmp_path)
    script.write(POLICIES.replace("POLICY", "DEFAULT"))
    script.killed("loaded", KEY="one")
    script.ran()
    script.write(POLICIES.replace("POLICY", "DEFAULT + FLOW_PARAMETERS"))
    script.ok(KEY="one", DAY="tuesday")
    assert script.ran() == ["load 0", "load 1"]
