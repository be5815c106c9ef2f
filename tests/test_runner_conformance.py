"""Each scenario through every task runner gives the same transitions: only the body is executed elsewhere."""

import concurrent.futures
import logging
import multiprocessing
import re
import threading

import pytest
import shipped
from scripts import histories, query

import durable
from durable import NotSerializable, flow, tags
from durable.codec import decode_exception
from durable.journal import open_journal
from durable.task_runners import DaskTaskRunner, ExecutorTaskRunner, ProcessPoolTaskRunner, ThreadPoolTaskRunner

SPOKEN = re.compile("[a-z]+-[a-z]+")
RUNNERS = ["threads", "processes", "executor of threads", "executor of processes", "dask"]


@pytest.fixture(scope="module")
def executors():
    """One of each for the module: starting processes costs more than every scenario together."""
    from distributed import LocalCluster

    with (
        concurrent.futures.ThreadPoolExecutor(2) as threads,
        concurrent.futures.ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as processes,
        LocalCluster(n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster,
    ):
        pids = set()
        while len(pids) < 2:  # both have begun: one that begins in a test's folder may find it gone
            pids |= set(processes.map(shipped.slow_pid, range(2)))
        yield {"executor of threads": threads, "executor of processes": processes, "dask": cluster}


@pytest.fixture(params=RUNNERS)
def runner(request, executors):
    if request.param == "threads":
        return ThreadPoolTaskRunner(2)
    if request.param == "processes":
        return ProcessPoolTaskRunner(2)
    if request.param == "dask":
        return DaskTaskRunner(cluster=executors["dask"])
    return ExecutorTaskRunner(executors[request.param])


def is_remote(runner):
    return not isinstance(runner, ThreadPoolTaskRunner) and "Thread" not in type(vars(runner).get("executor")).__name__


def run(runner, body):
    return flow(name="job", task_runner=runner)(body)()


def test_values_come_back_and_exceptions_are_what_they_were(runner, journal, tmp_path):
    found = {}

    def job():
        state = shipped.fails.submit(str(tmp_path), return_state=True)
        found["error"] = state.result(raise_on_failure=False)
        return shipped.double.map(range(20)).result(), shipped.double_async.map([1, 2]).result()

    assert run(runner, job) == (list(range(0, 40, 2)), [2, 4])
    assert (type(found["error"]), found["error"].args) == (LookupError, ("boom", 7))
    notes = "".join(getattr(found["error"], "__notes__", []))
    assert is_remote(runner) is ("In process " in notes and "shipped.py" in notes)
    assert histories(journal, "fails") == [["Running", "Failed"]]
    assert histories(journal, "double") == [["Running", "Completed"]] * 20
    assert histories(journal, "double_async") == [["Running", "Completed"]] * 2
    sql = "SELECT r.payload FROM result AS r JOIN task_run_state AS s ON s.result_id = r.id WHERE s.state = 10"
    ((recorded,),) = query(journal, sql)
    text = vars(decode_exception(recorded))["__durable_traceback__"]
    assert "shipped.py" in text
    assert 'raise LookupError("boom", 7)' in text


def test_retries_with_and_without_delays(runner, journal, tmp_path, clock):
    for folder in "ab":
        (tmp_path / folder).mkdir()

    def job():
        return (
            shipped.flaky.submit(str(tmp_path / "a"), 3).result(),
            shipped.patient.submit(str(tmp_path / "b"), 3).result(),
        )

    assert run(runner, job) == (3, 3)
    assert histories(journal, "flaky") == [["Running", "Retrying", "Retrying", "Completed"]]
    assert histories(journal, "patient") == [
        ["Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    ]
    assert clock.slept == [5, 60]


def test_a_timeout_ends_python_code(runner, journal):
    def job():
        state = shipped.slow.submit(return_state=True)
        return state.name, type(state.result(raise_on_failure=False)).__name__, state.message

    name, error, message = run(runner, job)
    assert (name, error) == ("TimedOut", "TaskRunTimeoutError")
    assert "exceeded timeout of 0.2 second(s)" in message
    assert histories(journal, "slow") == [["Running", "TimedOut"]]


def test_what_has_not_begun_can_be_cancelled(runner, journal, tmp_path):
    def job():
        first = shipped.waits.submit(str(tmp_path / "go"))
        second = shipped.double.submit(first)
        told = second.cancel()
        (tmp_path / "go").touch()
        second.wait()
        return told, second.state.name, first.result()

    assert run(runner, job) == (True, "Cancelled", "waited")
    assert histories(journal, "double") == [["Pending", "Cancelled"]]


def test_a_memo_is_hit_without_a_worker(runner, journal, tmp_path):
    def job():
        return [shipped.memo.submit(str(tmp_path), 1).result() for _ in range(3)]

    assert run(runner, job) == [1, 1, 1]
    assert (tmp_path / "ran.log").read_text().split() == ["memo", "1"]
    assert histories(journal, "memo") == [["Running", "Completed"], ["Pending", "Cached"], ["Pending", "Cached"]]


def test_what_waits_for_a_failure_is_not_ready(runner, journal, tmp_path):
    def job():
        failed = shipped.fails.submit(str(tmp_path))
        return shipped.double.submit(failed, return_state=True).name

    assert run(runner, job) == "NotReady"
    assert histories(journal, "double") == [["Pending", "NotReady"]]


def test_prints_and_records_are_logged_in_the_driver_with_the_runs_names(runner, journal, caplog):
    def job():
        return shipped.prints.submit(5).result()

    with caplog.at_level(logging.INFO, "durable"):
        assert run(runner, job) == 5
    told = {record.getMessage(): record for record in caplog.records if record.name == "durable.task_runs"}
    assert {"printed 5", "logged 5"} <= told.keys()
    for message in ("printed 5", "logged 5"):
        assert told[message].task_run.startswith("prints-")
        assert SPOKEN.fullmatch(told[message].flow_run)


def test_a_body_can_ask_about_its_run(runner, journal):
    def job(x):
        with tags("around"):
            return shipped.facts.submit(x).result()

    told = flow(name="job", task_runner=runner)(job)(3)
    assert told["task run"] == ["row-3", "facts", ["around", "own"], {"x": 3}, 1, 32]
    name, *rest = told["flow run"]
    assert SPOKEN.fullmatch(name)
    assert rest == ["job", [], {"x": 3}, True]
    assert query(journal, "SELECT name FROM task_runs") == [("row-3",)]


def test_a_resumed_run_executes_nothing_twice(runner, journal, tmp_path):
    def job(folder):
        values = [shipped.flaky.submit(str(tmp_path / name), 1).result() for name in "ab"]
        assert (tmp_path / "mended").exists()
        return values

    for folder in "ab":
        (tmp_path / folder).mkdir()
    made = flow(name="job", task_runner=runner)(job)
    with pytest.raises(AssertionError):
        made("x")
    (tmp_path / "mended").touch()
    assert made("x") == [1, 1]
    assert [(tmp_path / name / "ran.log").read_text().split() for name in "ab"] == [["flaky"], ["flaky"]]


def test_an_exit_in_a_body_ends_it_as_in_a_thread(runner, journal):
    def job():
        shipped.exits.submit().result()

    with pytest.raises(SystemExit) as caught:
        run(runner, job)
    assert caught.value.code == 4
    assert histories(journal, "exits") == [["Running", "Crashed"]]


def test_what_cannot_be_sent_is_refused_by_name(runner, journal):
    if not is_remote(runner):
        pytest.skip("nothing is pickled in one process")

    def job():
        sent = shipped.double.submit(threading.Lock(), return_state=True)
        got = shipped.returns_a_lock.submit(return_state=True)
        return sent.result(raise_on_failure=False), got.result(raise_on_failure=False)

    sent, got = flow(name="job", task_runner=runner, persist_result=False)(job)()
    assert type(sent) is type(got) is NotSerializable
    assert "argument 'x'" in str(sent) and "shipped.py:" in str(sent)
    assert str(got).startswith("result: lock: pickle refuses it")


def test_a_task_called_in_a_worker_is_a_plain_function_and_says_so(runner, journal, caplog):
    def job():
        return shipped.outer.map([1, 2]).result()

    assert run(runner, job) == [2, 3]
    recorded = histories(journal, "inner")
    if is_remote(runner):
        assert recorded == []
        assert [r.getMessage() for r in caplog.records if "as a plain function" in r.getMessage()][0].startswith(
            "inner"
        )
    else:
        assert recorded == [["Running", "Completed"]] * 2


def test_a_generator_task_is_refused_at_submit(runner, journal):
    @durable.task
    def count(n):
        yield from range(n)

    def job():
        return count.submit(3).result()

    if isinstance(runner, ThreadPoolTaskRunner):
        assert run(runner, job) == [0, 1, 2]
    else:
        with pytest.raises(durable.ConfigurationError, match="generator task cannot be executed by"):
            run(runner, job)
        assert histories(journal, "count") == []


def test_a_named_limit_holds_in_workers_beside_the_runs_own_journal(runner, journal, tmp_path):
    @flow(name="job", task_runner=runner, journal=tmp_path / "own.db")
    def job():
        return shipped.alone.map([str(tmp_path)] * 6).result()

    assert job() == [True] * 6


def test_a_workers_name_is_recorded(runner, journal):
    def job():
        return shipped.double.submit(1).result()

    run(runner, job)
    ((worker,),) = query(journal, "SELECT worker FROM task_runs")
    assert worker.split()[0].partition("-")[0] in {"worker", "process", "executor", "dask"}


def test_equal_commits_are_shared(runner, journal):
    """The journal's own count: far fewer transactions than two a task."""

    def job():
        return len(shipped.double.map(range(200)).result())

    made = flow(name="job", task_runner=runner)(job)
    opened = open_journal("runs.db", "power")
    before = opened.commits
    assert made() == 200
    assert opened.commits - before < 400 + 20
