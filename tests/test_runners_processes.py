"""ProcessPoolTaskRunner: a worker that dies takes its own task with it and nothing else; none outlives its flow."""

import os
import signal
from pathlib import Path

import pytest
from scripts import DEADLINE, all_end, finish, read_until

import durable
from durable.task_runners import ProcessPoolTaskRunner

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX signals")

HEAD = """
from durable import get_run_logger
from durable.task_runners import ProcessPoolTaskRunner

def first(name):
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True

@task
def pid(i):
    return os.getpid()

@task
def square(i):
    ran("square", i)
    return i * i
"""


def write(script, body):
    import textwrap

    script.write(HEAD + textwrap.dedent(body))


DEATHS = {
    "os.kill(os.getpid(), signal.SIGKILL)": "was killed by SIGKILL",
    "__import__('ctypes').string_at(0)": "was killed by SIGSEGV",
    "os._exit(7)": "exited with code 7",
}


@pytest.mark.parametrize("death", DEATHS)
def test_a_worker_that_dies_fails_its_own_task_and_no_other(script, death):
    write(
        script,
        f"""
        @task
        def dies():
            {death}

        @task(retries=2)
        def dies_once():
            if first("died"):
                {death}
            return "lived"

        @flow(task_runner=ProcessPoolTaskRunner(2))
        def job():
            squares = square.map(range(10))
            bad, good = dies.submit(), dies_once.submit()
            more = square.map(range(10, 20))
            error = bad.result(raise_on_failure=False)
            print(type(error).__name__, error)
            print(good.result(), sum(squares.result()) + sum(more.result()))

        if __name__ == "__main__":
            job()
        """,
    )
    told, result = script.ok().splitlines()
    assert told.startswith("WorkerDied dies (")
    assert "its worker, process " in told
    assert DEATHS[death] in told
    assert result == f"lived {sum(i * i for i in range(20))}"
    assert script.tasks("dies") == [["Running", "Failed"]]
    assert script.tasks("dies_once") == [["Running", "Crashed", "Running", "Completed"]]
    assert script.tasks("square") == [["Running", "Completed"]] * 20
    assert len(script.ran()) == 20


def test_what_must_not_run_twice_unseen_stays_crashed_and_a_resume_says_so(script):
    write(
        script,
        """
        @task(retries=5, on_interrupt="fail")
        def pays():
            ran("pays")
            os._exit(1)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            return pays.submit().result()

        if __name__ == "__main__":
            job()
        """,
    )
    assert "WorkerDied" in script.run().err
    assert script.tasks("pays") == [["Running", "Crashed"]]
    assert "TaskInterrupted" in script.run().err
    assert script.ran() == ["pays"]


def test_a_timeout_ends_even_a_blocking_call_with_its_worker_and_retries_go_on(script):
    write(
        script,
        """
        @task(timeout_seconds=1, retries=9)  # on a slow machine the time of another attempt may be up, too
        def blocks():
            if not os.path.exists("blocked"):
                signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals))
                ran("blocks", os.getpid())
                open("blocked", "w").close()
                time.sleep(600)
            return f"done {os.getpid()}"

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            print(blocks.submit().result())

        if __name__ == "__main__":
            job()
        """,
    )
    done, pid = script.ok().split()
    ((first, *retried, last),) = script.tasks("blocks")
    assert (first, set(retried), last, done) == ("Running", {"Retrying"}, "Completed", "done")
    blocked = [line.split()[1] for line in script.ran()]
    assert blocked and pid not in blocked
    all_end([*blocked, pid])


def test_cancelling_a_running_task_ends_its_worker(script):
    write(
        script,
        """
        @task
        def sleeps():
            open("pid.tmp", "w").write(str(os.getpid()))
            os.rename("pid.tmp", "pid")
            time.sleep(600)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            future = sleeps.submit()
            while not os.path.exists("pid"):
                time.sleep(0.005)
            print(future.cancel(), future.result(raise_on_failure=False).__class__.__name__, future.state.name)
            print(square.submit(3).result(), future.cancel())

        if __name__ == "__main__":
            job()
        """,
    )
    assert script.ok().splitlines() == ["True CancelledRun Cancelled", "9 True"]
    assert script.tasks("sleeps") == [["Running", "Cancelled"]]
    all_end([(script.folder / "pid").read_text()])


def test_classes_and_functions_of_the_script_travel_by_name(script):
    write(
        script,
        """
        import dataclasses, enum

        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int

        class Mine(Exception):
            pass

        class Holder:
            @task
            def method(self, p):
                return Point(p.x + 1)

            def __durable_key__(self):
                return "holder"

            @task
            @classmethod
            def of_class(cls, p):
                return cls.__name__, p

            @staticmethod
            @task
            def static(p):
                return p

        @task
        def raises():
            raise Mine("text", Point(2))

        @task
        def calls(function, value):
            return function(value)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            error = raises.submit().result(raise_on_failure=False)
            assert type(error) is Mine and error.args == ("text", Point(2)), error
            found = Holder().method.submit(Point(1)).result()
            assert type(found) is Point and found == Point(2), found
            assert Holder.static.submit(Point(5)).result() == Point(5)
            assert Holder.of_class.submit(Point(6)).result() == ("Holder", Point(6))
            other = square.with_options(name="other").submit(5).result()
            die("here")
            return found, other

        if __name__ == "__main__":
            print(job())
        """,
    )
    script.killed("here")
    assert script.ok() == "(Point(x=2), 25)"
    assert script.ran() == ["square 5"]


def test_a_closure_is_refused_with_its_name_and_line(tmp_path, journal):
    @durable.task
    def closure():
        return tmp_path

    @durable.flow(task_runner=ProcessPoolTaskRunner(1))
    def job():
        return closure.submit().result()

    with pytest.raises(durable.ConfigurationError, match=r"closure \(.*processes.py:\d+\): a worker process"):
        job()


def test_an_initializer_runs_in_each_worker_and_one_that_raises_is_told(script):
    write(
        script,
        """
        def prepare(value):
            if value == "bad":
                raise OSError("no such luck")
            os.environ["PREPARED"] = value

        @task
        def prepared():
            return os.environ["PREPARED"]

        @flow
        def job():
            return prepared.submit().result()

        if __name__ == "__main__":
            print(job.with_options(task_runner=ProcessPoolTaskRunner(1, prepare, (sys.argv[1],)))())
        """,
    )
    assert script.ok("good") == "good"
    ended = script.run("bad", DURABLE_RESUME="never")
    assert ended.code == 1
    assert "its initializer raised in the worker process: OSError: no such luck" in ended.err
    assert script.tasks("prepared") == [["Running", "Completed"]]


def test_a_script_without_its_guard_is_told_and_begins_nothing_twice(script):
    write(
        script,
        """
        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            return square.submit(1).result()

        job()
        """,
    )
    ended = script.run()
    assert ended.code == 1
    assert "before it was ready" in ended.err
    assert 'if __name__ == "__main__":' in ended.err
    assert len(script.flows()) == 1


def test_a_worker_keeps_its_process_and_logs_at_once(script):
    write(
        script,
        """
        @task
        def logs():
            get_run_logger().info("from the body")
            signal_files("logged")
            return os.getpid()

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            print({logs.submit().result(), *pid.map(range(20)).result()} - {os.getpid()})

        if __name__ == "__main__":
            job()
        """,
    )
    process = script.start()
    script.wait_for("logged.here", process)
    read_until(process, "from the body")  # it arrives while the body still runs
    script.go("logged")
    out = finish(process).out
    assert len(eval(out)) == 1


def test_flows_and_submits_are_refused_in_a_worker(script):
    write(
        script,
        """
        @flow
        def other():
            return 1

        @task
        def calls_flow():
            return other()

        @task
        def submits():
            return square.submit(2).result()

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            for made in (calls_flow, submits):
                error = made.submit().result(raise_on_failure=False)
                print(type(error).__name__, error)

        if __name__ == "__main__":
            job()
        """,
    )
    one, two = script.ok().splitlines()
    assert one.startswith("MissingContextError other (")
    assert "worker process" in one
    assert two.startswith("MissingContextError nothing can be submitted in a worker process")
    assert script.flows("other") == []


def test_a_body_may_start_processes_of_its_own(script):
    write(
        script,
        """
        import multiprocessing, subprocess

        @task
        def nests(i):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                return pool.map(abs, [-i])

        @task
        def leaves_a_child():
            subprocess.run(["true"], check=True)
            if first("left"):
                if os.fork() == 0:
                    open("orphan.tmp", "w").write(str(os.getpid()))
                    os.rename("orphan.tmp", "orphan")
                    time.sleep(600)
                while not os.path.exists("orphan"):
                    time.sleep(0.005)
                os._exit(1)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            print(nests.submit(3).result())
            print(leaves_a_child.submit(return_state=True).name)

        if __name__ == "__main__":
            job()
        """,
    )
    process = script.start()
    try:
        assert process.wait(DEADLINE) == 0
    finally:
        os.kill(int((script.folder / "orphan").read_text()), signal.SIGKILL)
    assert finish(process).out.split() == ["[3]", "Failed"]


MANY = """
@task
def work(i):
    ran("pid", os.getpid())
    if i >= 8 and not os.environ.get("AGAIN"):
        time.sleep(600)
    ran("work", i)
    return i

@flow(task_runner=ProcessPoolTaskRunner(2), idempotency_key="one")
def job():
    futures = work.map(range(500))
    open("submitted", "w").close()
    return sum(futures.result())

if __name__ == "__main__":
    print(job())
"""


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM", "two Ctrl-C"])
def test_500_in_flight_are_continued_where_they_stood_and_no_worker_is_left(script, how):
    write(script, MANY)
    process = script.start()
    script.wait_for("submitted", process)
    script.wait_for_lines(10, process, "pid")  # eight have ended, two sleep
    if how == "two Ctrl-C":
        process.send_signal(signal.SIGINT)
        read_until(process, "Ctrl-C again abandons")
        process.send_signal(signal.SIGINT)
    else:
        process.send_signal(getattr(signal, how))
    code = finish(process).code
    assert code in ({"SIGKILL": (-9,), "SIGTERM": (143,), "two Ctrl-C": (-2, 1, 130)}[how])
    lines = script.ran()
    all_end({line.split()[1] for line in lines if line.startswith("pid")})
    done = {line for line in lines if line.startswith("work")}
    assert done == {f"work {i}" for i in range(8)}
    # A first Ctrl-C calls off what has not begun; the second may come before all of that is recorded.
    begun = [states for states in script.tasks("work") if states != ["Pending", "Cancelled"]]
    assert sorted(begun) == sorted([["Running", "Completed"]] * 8 + [["Running"]] * 2)
    assert script.ok(AGAIN="1") == str(sum(range(500)))
    again = [line for line in script.ran() if line.startswith("work")]
    assert sorted(again) == sorted(f"work {i}" for i in range(8, 500))


def test_one_ctrl_c_lets_what_runs_finish(script):
    write(
        script,
        """
        @task
        def work(i):
            signal_files("in")
            ran("work", i)

        @flow(task_runner=ProcessPoolTaskRunner(1))
        def job():
            futures = work.map(range(3))
            open("submitted", "w").close()
            futures.result()

        if __name__ == "__main__":
            job()
        """,
    )
    process = script.start()
    script.wait_for("in.here", process)
    script.wait_for("submitted", process)
    # As a terminal does it: the worker gets the signal too.
    for pid in [process.pid, *_children(process.pid)]:
        os.kill(pid, signal.SIGINT)
    read_until(process, "Ctrl-C again abandons")
    script.go("in")
    assert finish(process).code in (-2, 1, 130)
    assert script.ran() == ["work 0"]
    assert script.tasks("work") == [["Running", "Completed"]] + [["Pending", "Cancelled"]] * 2


def _children(pid):
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text(encoding="utf-8")
        except OSError:
            continue
        if int(text.rpartition(")")[2].split()[1]) == pid and b"spawn_main" in (stat.parent / "cmdline").read_bytes():
            found.append(int(stat.parent.name))
    return found
