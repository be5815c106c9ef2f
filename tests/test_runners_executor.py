"""ExecutorTaskRunner: any executor executes bodies, stays its owner's, and is never mistaken for a failing task."""

import concurrent.futures
import multiprocessing
import os

import pytest
import shipped
from scripts import DEADLINE, all_end, finish, histories, query

import durable
from durable import flow, task
from durable.task_runners import ExecutorTaskRunner

SPAWN = multiprocessing.get_context("spawn")


def test_the_executor_is_used_by_one_run_after_the_other_and_not_shut_down(journal):
    with concurrent.futures.ThreadPoolExecutor(2) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        def job(n):
            return shipped.double.map(range(n)).result()

        assert job(3) == [0, 2, 4]
        assert job(4) == [0, 2, 4, 6]
        assert executor.submit(int).result() == 0
    assert query(journal, "SELECT DISTINCT worker FROM task_runs") == [("executor ThreadPoolExecutor",)]


def test_no_more_is_handed_over_than_it_has_workers_and_the_rest_has_not_begun(journal, tmp_path):
    class Counting(concurrent.futures.ThreadPoolExecutor):
        now = most = 0

        def submit(self, *args):
            self.now += 1
            self.most = max(self.most, self.now)
            future = super().submit(*args)
            future.add_done_callback(self.ended)
            return future

        def ended(self, _):
            self.now -= 1

    with Counting(3) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        def job():
            return len(shipped.double.map(range(100)).result())

        assert job() == 100
        assert 1 <= executor.most <= 3 + 3  # a place is free a moment before the executor says so


def test_a_broken_executor_fails_what_it_executed_and_says_which_worker(journal):
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        def job():
            return shipped.dies.submit(return_state=True).result(raise_on_failure=False)

        error = job()
    assert type(error) is durable.WorkerDied
    assert "a worker of ProcessPoolExecutor" in str(error)
    assert histories(journal, "dies") == [["Running", "Failed"]]


def test_a_body_that_would_wait_for_its_own_executor_is_refused(journal):
    @task
    def waits_inside():
        return shipped.double.submit(1).result()

    with concurrent.futures.ThreadPoolExecutor(1) as executor:

        @flow(task_runner=ExecutorTaskRunner(executor))
        def job():
            return waits_inside.submit(return_state=True).result(raise_on_failure=False)

        error = job()
    assert type(error) is durable.ConfigurationError
    assert "while it occupies a worker of the executor" in str(error)


@pytest.mark.parametrize("given", [None, 3, "threads"])
def test_what_is_no_executor_is_refused(given):
    with pytest.raises(durable.ConfigurationError, match=r"expected a concurrent\.futures\.Executor"):
        ExecutorTaskRunner(given)


@pytest.mark.parametrize("workers", [0, -1, 1.5, True])
def test_a_number_of_workers_that_cannot_be_meant_is_refused(workers):
    with (
        concurrent.futures.ThreadPoolExecutor(1) as executor,
        pytest.raises(durable.ConfigurationError, match="whole number"),
    ):
        ExecutorTaskRunner(executor, workers)


def test_loky_gets_functions_of_the_script_and_closures_by_value(script):
    pytest.importorskip("loky")
    script.write(
        """
        import dataclasses, loky
        from durable.task_runners import ExecutorTaskRunner

        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int

        @task
        def down(n):
            return n if n == 0 else down(n - 1)

        def job():
            outside = 5

            @task
            def closure(p):
                return Point(p.x + outside)

            found = closure.submit(Point(1)).result()
            return found == Point(6), down.submit(3).result()

        with loky.ProcessPoolExecutor(1) as executor:
            print(flow(name="job", task_runner=ExecutorTaskRunner(executor))(job)())
        """
    )
    assert script.ok() == "(True, 0)"


MANY = """
import concurrent.futures, multiprocessing
from durable.task_runners import ExecutorTaskRunner

@task
def work(i):
    ran("pid", os.getpid())
    if i >= 8 and not os.environ.get("AGAIN"):
        time.sleep(600)
    ran("work", i)
    return i

def job():
    futures = work.map(range(500))
    open("submitted", "w").close()
    return sum(futures.result())

if __name__ == "__main__":
    spawn = multiprocessing.get_context("spawn")
    with EXECUTOR as executor:
        print(flow(name="job", task_runner=ExecutorTaskRunner(executor), idempotency_key="one")(job)())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX signals")
@pytest.mark.parametrize(
    "executor",
    [
        "concurrent.futures.ThreadPoolExecutor(2)",
        "concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn)",
    ],
)
def test_500_in_flight_are_continued_where_they_stood_and_no_worker_is_left(script, executor):
    script.write(MANY.replace("EXECUTOR", executor))
    process = script.start()
    script.wait_for("submitted", process)
    script.wait_for_lines(10, process, "pid")  # eight have ended, two sleep
    process.kill()
    assert process.wait(DEADLINE) == -9
    all_end({line.split()[1] for line in script.all_ran() if line.startswith("pid")} - {str(process.pid)})
    finish(process)
    done = {line for line in script.ran() if line.startswith("work")}
    assert done == {f"work {i}" for i in range(8)}
    completed = script.tasks("work").count(["Running", "Completed"])
    assert script.ok(AGAIN="1") == str(sum(range(500)))
    again = [line for line in script.ran() if line.startswith("work")]
    assert len(again) == 500 - completed
    assert set(again) >= {f"work {i}" for i in range(8, 500)}
