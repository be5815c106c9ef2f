"""`durable run` and `durable resume`: a flow from the shell is the same flow, from wherever it is called."""

import pytest
from operating import durable
from scripts import Script

JOB = """
import datetime
from dataclasses import dataclass

@dataclass
class Point:
    x: int
    y: tuple

@task
def step(n):
    ran("step", n)
    die(f"step{n}")
    return n

@task
def where():
    ran("where", os.path.basename(os.getcwd()))

@flow
def job(count: int = 2, label: str = "a", extra=None):
    where()
    total = sum(step(n) for n in range(count))
    if label == "fail":
        raise ValueError("no " + label)
    return f"{label} {total} {extra!r}"

@flow
def pointed(point, *rest, flag=False, **more):
    step(0)
    return point, rest, flag, more

@flow
async def later(n: int):
    return step(n) + 1

class Jobs:
    @staticmethod
    @flow
    def inside():
        return step(5)

if __name__ == "__main__":
    ran("main")
    print(job())
"""


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path / "here")
    made.write(JOB)
    return made


@pytest.fixture
def elsewhere(tmp_path):
    (tmp_path / "there").mkdir()
    return tmp_path / "there"


@pytest.fixture(autouse=True)
def _folder(tmp_path):
    (tmp_path / "here").mkdir(exist_ok=True)


def test_a_flow_runs_with_parameters_and_prints_what_it_returns(script):
    ended = durable(
        script, "run", "job.py:job", "-p", "count=3", "--param", "label=7", "--params", '{"extra": [1, "x"]}'
    )
    assert (ended.code, ended.out) == (0, "7 3 [1, 'x']\n"), ended
    assert script.ran() == ["where here", "step 0", "step 1", "step 2"], "without its __main__ part"


def test_it_is_the_same_run_as_the_scripts_own(script):
    script.killed("step1")
    script.ran()
    ended = durable(script, "run", "job.py:job")
    assert ended.code == 0, ended
    assert "resuming job" in ended.err
    assert "source changed" not in ended.err
    assert script.ran() == ["step 1"]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]
    assert durable(script, "run", "job.py:job", DIE="step1").code == -9
    script.ran()
    script.ok()
    assert script.ran() == ["main", "step 1"]


def test_a_module_coroutines_and_methods(script):
    assert durable(script, "run", "job:job").out == "a 1 None\n"
    assert durable(script, "run", "job.py:later", "-p", "n=4").out == "5\n"
    assert durable(script, "run", "job.py:Jobs.inside").out == "5\n"
    assert {function for (function,) in script.query("SELECT function FROM flow_runs")} == {
        "job:job",
        "job:later",
        "job:Jobs.inside",
    }


def test_fresh_begins_a_new_run_and_a_key_gives_its_result(script):
    script.killed("step1")
    assert durable(script, "run", "job.py:job", "--fresh").code == 0
    assert [states[-1] for states in script.flows()] == ["Running", "Completed"]
    script.ran()
    first = durable(script, "run", "job.py:job", "--idempotency-key", "k").out
    assert script.ran() == ["where here", "step 0", "step 1"]
    assert durable(script, "run", "job.py:job", "--idempotency-key", "k").out == first
    assert script.ran() == []
    assert durable(script, "run", "job.py:job", "--idempotency-key", "k", "--fresh").code == 2


def test_a_failure_ends_with_the_traceback_python_shows(script):
    ended = durable(script, "run", "job.py:job", "-p", "label=fail")
    assert ended.code == 1
    shown = ended.err[ended.err.index("Traceback") :]
    assert shown.startswith('Traceback (most recent call last):\n  File "')
    assert shown.count('  File "') == 1, "the user's frame alone"
    assert shown.endswith("ValueError: no fail\n")


def test_another_journal_and_another_folder(script, elsewhere):
    ended = durable(script, "run", "../here/job.py:job", "--journal", "other.db", folder=elsewhere)
    assert ended.code == 0, ended
    assert (elsewhere / "other.db").exists()
    assert (elsewhere / "ran.log").read_text().startswith("where there\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("job.py",), "expected job.py:flow or module:flow"),
        (("nothing.py:job",), "there is no file"),
        (("nothing:job",), "there is no module 'nothing'"),
        (("job.py:nothing",), "its flows: job, later, pointed"),
        (("job.py:step",), "found Task, which is no flow"),
        (("job.py:job", "-p", "count"), "expected KEY=VALUE"),
        (("job.py:job", "-p", "wrong=1"), "unexpected keyword argument 'wrong'"),
        (("job.py:job", "--params", "[1]"), "expected a JSON object"),
        (("job.py:job", "--params", "{"), "it is not JSON"),
    ],
)
def test_what_cannot_be_run_is_told(script, words, message):
    ended = durable(script, "run", *words)
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert not script.journal.exists()


def test_a_script_that_cannot_be_imported_shows_why(script):
    script.write("1 / 0")
    ended = durable(script, "run", "job.py:job")
    assert ended.code == 1
    assert 'job.py", line 2' in ended.err
    assert "ZeroDivisionError" in ended.err
    assert "durable/cli" not in ended.err
    assert "importlib" not in ended.err


def test_resume_continues_the_newest_from_another_folder(script, elsewhere):
    script.killed("step1")
    script.ran()
    ended = durable(script, "resume", str(script.journal), folder=elsewhere)
    assert (ended.code, ended.out) == (0, "a 1 None\n"), ended
    assert "where the run was started" in ended.err
    assert script.ran() == ["step 1"]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]
    again = durable(script, "resume", "runs.db")
    assert again.code == 3
    assert "nothing is left to do" in again.err


def test_resume_gives_the_recorded_parameters(script):
    program = 'import job\njob.pointed(job.Point(1, (2, "x")), 3, [4], flag=True, other={1: 2.5})\n'
    script.write(program, "start.py")
    assert script.run(name="start.py", DIE="step0").code == -9
    ended = durable(script, "resume")
    assert (ended.code, ended.out) == (0, "(Point(x=1, y=(2, 'x')), (3, [4]), True, {'other': {1: 2.5}})\n"), ended


def test_resume_takes_up_exactly_the_run_it_is_told(script):
    script.killed("step1")
    assert durable(script, "run", "job.py:job", "--fresh", DIE="step1").code == -9
    ((old,), (new,)) = script.query("SELECT id FROM flow_runs ORDER BY flow_run_row")
    assert durable(script, "resume", "runs.db", old[:8]).code == 0
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"], ["Running"]]
    assert durable(script, "resume", "runs.db", new[:8]).code == 0, "begun with durable run"
    assert script.flows()[1] == ["Running", "Crashed", "Running", "Completed"]


@pytest.mark.parametrize("lost", ["extra='x' * 5000", "record_inputs"])
def test_parameters_that_are_not_recorded_whole_are_not_guessed(script, lost):
    if lost == "record_inputs":
        script.write(JOB.replace("@flow\ndef job", "@flow(record_inputs=False)\ndef job"))
    else:
        script.write(JOB.replace("print(job())", f"print(job({lost}))"))
    script.killed("step1")
    script.ran()
    ended = durable(script, "resume", "runs.db")
    assert ended.code == 3
    assert "cannot be called from here" in ended.err
    ((run,),) = script.query("SELECT id FROM flow_runs")
    assert f"DURABLE_RESUME={run[:12]} python job.py" in ended.err
    assert script.ran() == []
    script.ok(DURABLE_RESUME=run[:12])
    assert script.ran()[-1] == "step 1"


def test_resume_of_a_fork_begins_it(script):
    script.ok()
    made = durable(script, "fork", "runs.db", "-", "--from", "step").out.strip()
    script.ran()
    ended = durable(script, "resume", "runs.db", made[:7])
    assert ended.code == 0, ended
    assert "a fork of run" in ended.err
    assert script.ran() == ["step 0", "step 1"]


def test_resume_of_a_live_run_is_refused(script):
    script.write(JOB.replace('ran("step", n)', 'ran("step", n); signal_files("here")'))
    process = script.start()
    script.wait_for("here.here", process)
    ended = durable(script, "resume", "runs.db")
    script.go("here")
    process.communicate()
    assert ended.code == 4
    assert "is being executed by process" in ended.err


def test_a_flow_that_moved_is_named_and_found_where_it_is_told(script):
    script.killed("step1")
    script.write(JOB, "moved.py")
    (script.folder / "job.py").unlink()
    assert "there is no module 'job'" in durable(script, "resume").err
    ended = durable(script, "resume", "--flow", "moved.py")
    assert ended.code == 3
    assert "moved.py has 'job', moved:job" in ended.err
