"""fork() and multiprocessing inside a flow harm nothing."""

import ast
import json
import os
import re
import signal
from pathlib import Path

import pytest
from scripts import DEADLINE, finish, in_colour

import durable

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning"),
]


FORKED = """
import json

@task
def step(i):
    ran("step", i)
    return i

def child():
    CHILD

@flow
def job():
    first = step(1)
    pid = os.fork()
    if pid == 0:
        child()
        return "the child fell off the end"
    _, status = os.waitpid(pid, 0)
    lock = [name for name in os.listdir("runs.db-locks") if name.endswith(".lock")]
    die("after")
    return first, step(2), os.waitstatus_to_exitcode(status), len(lock)

if __name__ == "__main__":
    print(json.dumps(job()), flush=True)
"""

CHILDREN = [
    ("os._exit(7)", 7),
    ("sys.exit(7)", 7),
    ("raise SystemExit(7)", 7),
    ("raise ValueError('the child failed')", 1),
    ("return", 0),
    ("os.kill(os.getpid(), signal.SIGKILL)", -9),
    ("os.kill(os.getpid(), signal.SIGTERM)", -15),
]


@pytest.mark.parametrize(("child", "code"), CHILDREN, ids=[child for child, _ in CHILDREN])
def test_however_a_child_ends_the_parents_run_and_lock_are_intact(script, child, code):
    script.write(FORKED.replace("CHILD", child))
    ended = script.run()
    assert ended.code == 0, ended.err
    *of_child, last = ended.out.splitlines()
    assert json.loads(last) == [1, 2, code, 1]
    assert of_child in ([], ['"the child fell off the end"'])
    assert "JournalFailed" not in ended.err
    assert "InvalidTransition" not in ended.err
    assert script.ran() == ["step 1", "step 2"]
    assert script.flows() == [["Running", "Completed"]]
    assert script.tasks("step") == [["Running", "Completed"]] * 2
    assert script.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("child", ["os._exit(0)", "sys.exit(0)", "return"])
def test_after_a_child_the_parent_may_be_killed_and_resumed(script, child):
    script.write(FORKED.replace("CHILD", child))
    script.killed("after")
    assert json.loads(script.ok().splitlines()[-1]) == [1, 2, 0, 1]
    assert script.ran() == ["step 1", "step 2"]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]


def test_a_child_forked_in_a_task_does_not_end_the_task(script):
    script.write(
        """
        @task
        def step():
            pid = os.fork()
            if pid == 0:
                return "child"
            os.waitpid(pid, 0)
            return "parent"

        @flow
        def job():
            return step()

        value = job()
        print(value, flush=True)
        """
    )
    assert sorted(script.ok().split()) == ["child", "parent"]
    assert script.tasks("step") == [["Running", "Completed"]]
    assert script.flows() == [["Running", "Completed"]]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_child_that_raises_in_a_task_with_retries_does_not_retry_it(script, colour):
    script.write(
        in_colour(
            """
            @task(retries=2)
            DEF step():
                ran("body")
                if os.fork() == 0:
                    raise ValueError("in the child")
                os.wait()
                return "parent"

            @flow
            DEF job():
                return AWAIT step()

            print(RUN(job()))
            """,
            colour,
        )
    )
    ended = script.run()
    assert (ended.code, ended.out.split()) == (0, ["parent"])
    assert script.ran() == ["body"]
    assert "ValueError: in the child" in ended.err
    assert ended.err.count("Finished in state") == 1
    assert script.tasks("step") == [["Running", "Completed"]]


def test_while_a_child_unwinds_nobody_else_gets_the_run(script):
    """A child that ends must not take the parent's lock away: a second copy would run beside it."""
    script.write(
        """
        @task
        def step():
            ran("step", os.environ["WHO"])
            return os.environ["WHO"]

        @flow(idempotency_key="one")
        def job():
            pid = os.fork()
            if pid == 0:
                sys.exit(0)
            os.waitpid(pid, 0)
            if os.environ["WHO"] == "first":
                signal_files("forked")
            return step()

        print(job())
        """
    )
    first = script.start(WHO="first")
    script.wait_for("forked.here", first)
    second = script.run(WHO="second")
    script.go("forked")
    ended = finish(first)
    assert second.code == 1
    assert "FlowRunInProgress" in second.err
    assert ended.out.strip() == "first", ended.err
    assert script.ran() == ["step first"]


def test_an_orphan_does_not_keep_a_dead_run_owned(script):
    script.write(
        """
        @task
        def step(i):
            ran("step", i)
            return i

        @flow(idempotency_key="one")
        def job():
            step(1)
            if os.environ.get("FORK"):
                if os.fork() == 0:
                    signal_files("orphan")
                    os._exit(0)
                while not os.path.exists("orphan.here"):
                    time.sleep(0.005)
                os.kill(os.getpid(), signal.SIGKILL)
            return step(2)

        print(job())
        """
    )
    process = script.start(FORK="1")
    assert process.wait(DEADLINE) == -signal.SIGKILL
    try:
        assert script.ok() == "2"  # at once, while the orphan lives
    finally:
        script.go("orphan")
        finish(process)
    assert script.ran() == ["step 1", "step 2"]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]


POOL = """
import multiprocessing

@task
def step(i):
    ran("step", i, "in", "child" if multiprocessing.parent_process() else "parent")
    return i * 10

def work(i):
    return step(i) + 1

@task
def fan_out(n):
    ran("fan_out")
    context = multiprocessing.get_context(os.environ["METHOD"])
    with context.Pool(2) as pool:
        return sorted(pool.map(work, range(n)))

@flow
def job():
    before = step(100)
    values = fan_out(4)
    die("after")
    return before, values, step(200)

if __name__ == "__main__":
    print(job())
"""


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_tasks_called_in_worker_processes_are_task_runs_of_their_own(script, method):
    script.write(POOL)
    ended = script.run(METHOD=method, DIE="after")
    assert ended.code == -9, ended.err
    assert script.ok(METHOD=method) == "(1000, [1, 11, 21, 31], 2000)"
    executed = script.ran()
    assert sorted(executed) == sorted(
        ["step 100 in parent", "fan_out", "step 200 in parent", *[f"step {i} in child" for i in range(4)]]
    )
    rows = script.query("SELECT state, count(*) FROM task_runs WHERE flow_run_row IS NULL GROUP BY 1")
    assert rows == [("Completed", 4)]
    # A spawned process knows the script as __mp_main__; it is the same task all the same.
    assert script.query("SELECT DISTINCT function FROM task_runs WHERE task = 'step'") == [("job:step",)]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]
    assert script.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_a_worker_process_can_still_be_terminated(script, colour):
    """The flow watches SIGTERM for itself only."""
    text = """
    import multiprocessing

    def work():
        open("worker.here", "w").close()
        time.sleep(300)

    @flow
    DEF job():
        process = multiprocessing.get_context("fork").Process(target=work, daemon=True)
        process.start()
        while not os.path.exists("worker.here"):
            time.sleep(0.005)
        process.terminate()
        process.join(60)
        code = process.exitcode
        process.kill()
        process.join()
        return code

    if __name__ == "__main__":
        print(RUN(job()))
    """
    script.write(in_colour(text, colour))
    assert script.ok() == "-15"
    assert script.flows() == [["Running", "Completed"]]


def test_the_parents_checkpoint_on_exit_does_not_lose_what_a_child_records(script):
    """A result returned to its caller is in the journal, also in a child that outlives its parent."""
    script.write(
        """
        @task
        def step(i):
            ran("step", i)
            return i

        @flow
        def job():
            step("parent")
            if os.fork() == 0:
                step("child, parent alive")
                parent = os.getppid()
                open("child.here", "w").close()
                while os.getppid() == parent:
                    time.sleep(0.005)
                step("child, parent gone")
                open("child.done", "w").close()
                os._exit(0)
            while not os.path.exists("child.here"):
                time.sleep(0.005)
            return 1

        job()
        """
    )
    process = script.start()
    process.wait(DEADLINE)
    script.wait_for("child.done")
    finish(process)
    assert len(script.ran()) == 3
    assert script.tasks("step") == [["Running", "Completed"]] * 3
    assert script.query("PRAGMA integrity_check") == [("ok",)]


def test_a_child_that_opens_the_journal_does_not_break_its_parents_locks(script):
    """Parent and child write at the same time, and a third process beside them."""
    script.write(
        """
        @task
        def step(who, i):
            return i

        def steps(who):
            for i in range(60):
                step(who, i)

        @flow
        def job(who):
            step(who, -1)
            if who == "other":
                return steps(who)
            pids = []
            for number in range(2):
                pid = os.fork()
                if pid == 0:
                    steps(f"child {number}")
                    os._exit(0)
                pids.append(pid)
            steps(who)
            return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

        print(job(sys.argv[1]))
        """
    )
    other = script.start("other")
    assert script.ok("parent") == "[0, 0]"
    assert finish(other).code == 0
    assert script.query("SELECT count(*) FROM task_runs WHERE state = 'Completed'") == [(242,)]
    assert script.query("PRAGMA integrity_check") == [("ok",)]


def test_children_forked_at_once_read_the_header_of_the_one_file(script):
    """Its descriptor is kept open, so parent and children share it, and with it its offset."""
    script.write(
        """
        from durable.journal.opening import read_header

        @task
        def step(i):
            return i

        step(0)
        read_header("runs.db")
        pid = os.fork()
        for _ in range(20_000):
            read_header("runs.db")
        if pid:
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        else:
            os._exit(0)
        """
    )
    assert script.ok() == "0"


@pytest.mark.parametrize("colour", ["sync", "async"])
@pytest.mark.parametrize("where", ["step()", "step.submit().result()"])
def test_a_child_has_no_signal_handler_of_the_flow_s(script, colour, where):
    """One of Python's is not heard by a child that is about to wait in C, as a pool's workers are."""
    text = """
    def ours():
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGALRM)]
        return sum(getattr(handler, "__module__", "").startswith("durable") for handler in handlers)

    @task(timeout_seconds=300)
    def step():
        pid = os.fork()
        if pid == 0:
            os._exit(ours())
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    @flow(timeout_seconds=600)
    DEF job():
        return WHERE, ours() > 0

    print(RUN(job()), ours())
    """
    script.write(in_colour(text.replace("WHERE", where), colour))
    assert script.ok() == "(0, True) 0"


def test_a_child_outlives_the_time_of_the_body_it_was_forked_in(script):
    script.write(
        """
        @task(timeout_seconds=60)
        def own():
            time.sleep(3)
            return "its own"

        @task(timeout_seconds=2)
        def step():
            pid = os.fork()
            if pid == 0:
                print(own(), flush=True)
                os._exit(0)
            return pid

        print(os.waitstatus_to_exitcode(os.waitpid(step(), 0)[1]))
        """
    )
    assert script.ok() == "its own\n0"


def test_threads_that_fork_at_once_leave_their_children_no_lock_that_is_taken(script):
    """Each call in here is the first of its task, and takes what a task's first call takes, in parent and child."""
    script.write(
        """
        from durable.task_runners import ThreadPoolTaskRunner

        def made(number):
            @task(name=f"part-{number}")
            def part(where):
                return where
            return part

        parts = [made(number) for number in range(80)]

        def fork():
            while True:
                try:
                    return os.fork()
                except RuntimeError:  # filelock's, from Python 3.12 on, where another thread forks just now
                    time.sleep(0.001)

        @task
        def step(number):
            pid = fork()
            if pid == 0:
                code = 1
                try:
                    parts[number]("child")
                    code = 0
                finally:
                    os._exit(code)
            parts[number]("parent")
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

        @flow(task_runner=ThreadPoolTaskRunner(8))
        def job():
            return sum(step.map(range(80)).result())

        print(job())
        """
    )
    ended = script.run()
    assert (ended.out, ended.code) == ("0\n", 0), ended.err
    assert "Exception ignored" not in ended.err, ended.err
    assert script.query("SELECT count(*) FROM task_runs WHERE state = 'Completed'") == [(240,)]


def test_no_module_keeps_a_lock_that_a_child_could_find_taken():
    """It is a `ProcessLock`, or held during a fork by whoever forks."""
    held = {("registry.py", "_lock"), ("waiting.py", "lock")}
    locks = re.compile(r"\b(R?Lock|Condition|Event|\w*Semaphore)$")
    kept = set()
    for file in sorted(Path(durable.__file__).parent.rglob("*.py")):
        for statement in ast.parse(file.read_text(encoding="utf-8")).body:
            value = getattr(statement, "value", None)
            if isinstance(value, ast.Call) and locks.search(ast.unparse(value.func)):
                target = statement.target if isinstance(statement, ast.AnnAssign) else statement.targets[0]
                kept.add((file.name, ast.unparse(target)))
    assert kept == held
