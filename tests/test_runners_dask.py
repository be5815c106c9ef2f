"""DaskTaskRunner on real clusters of worker processes, some of which are killed."""

import os
import signal
import subprocess
import sys

import pytest
import shipped
from scripts import DEADLINE, all_end, finish, histories

import durable
from durable import flow
from durable.task_runners import DaskTaskRunner

distributed = pytest.importorskip("distributed")
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="POSIX signals")

HEAD = """
import dataclasses
from durable.task_runners import DaskTaskRunner

RUNNER = DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 1})
"""


def write(script, body):
    import textwrap

    script.write(HEAD + textwrap.dedent(body))


def test_a_killed_worker_is_a_crashed_attempt_retried_on_another_and_the_cluster_ends_with_the_run(script):
    write(
        script,
        """
        @dataclasses.dataclass(frozen=True)
        class Point:
            x: int

        @task
        def sleeps():
            ran("pid", os.getpid())
            if not os.path.exists("pid"):
                open("pid.tmp", "w").write(str(os.getpid()))
                os.rename("pid.tmp", "pid")
                time.sleep(600)
            return Point(7)

        @task
        def work(i):
            ran("pid", os.getpid())
            return i

        @flow(task_runner=RUNNER)
        def job():
            @task
            def closure(p):
                return dataclasses.replace(p, x=p.x + 1)

            future = sleeps.submit()
            values = work.map(range(50)).result()
            open("others", "w").close()
            point = future.result()
            return sum(values), closure.submit(point).result(), type(point) is Point

        if __name__ == "__main__":
            print(job())
        """,
    )
    process = script.start()
    script.wait_for("pid", process)
    script.wait_for("others", process)
    os.kill(int((script.folder / "pid").read_text()), signal.SIGKILL)
    ended = finish(process)
    assert ended.out.strip() == "(1225, Point(x=8), True)", ended.err
    assert script.tasks("sleeps") == [["Running", "Crashed", "Running", "Completed"]]
    assert script.tasks("work") == [["Running", "Completed"]] * 50
    ((message,),) = script.query("SELECT message FROM states WHERE state = 'Crashed'")
    assert "its worker, dask tcp://127.0.0.1:" in message
    pids = [line.split()[1] for line in script.ran()]
    assert len(pids) == 52
    all_end(set(pids))


def test_500_in_flight_are_continued_where_they_stood_and_no_worker_is_left(script):
    write(
        script,
        """
        @task
        def work(i):
            ran("pid", os.getpid())
            if i >= 8 and not os.environ.get("AGAIN"):
                time.sleep(600)
            ran("work", i)
            return i

        @flow(task_runner=RUNNER, idempotency_key="one")
        def job():
            futures = work.map(range(500))
            first = [future.result() for future in futures[:8]]
            open("submitted", "w").close()
            return sum(futures.result())

        if __name__ == "__main__":
            print(job())
        """,
    )
    process = script.start()
    script.wait_for("submitted", process)
    script.wait_for_lines(10, process, "pid")  # eight have ended, two sleep
    process.kill()
    assert process.wait(DEADLINE) == -9
    all_end({line.split()[1] for line in script.all_ran() if line.startswith("pid")})
    finish(process)
    assert sorted(line for line in script.ran() if line.startswith("work")) == [f"work {i}" for i in range(8)]
    assert script.ok(AGAIN="1") == str(sum(range(500)))
    again = [line for line in script.ran() if line.startswith("work")]
    assert sorted(again) == sorted(f"work {i}" for i in range(8, 500))


def test_a_cluster_of_yours_never_executes_twice_what_must_not_be(journal, tmp_path):
    """Dask itself would begin the task on three more workers."""
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:

        @flow(task_runner=DaskTaskRunner(address=cluster.scheduler_address))
        def job():
            return shipped.pays.submit(str(tmp_path), return_state=True).result(raise_on_failure=False)

        error = job()
    assert type(error) is durable.WorkerDied
    assert (tmp_path / "ran.log").read_text().split() == ["pays"]
    assert histories(journal, "pays") == [["Running", "Crashed"]]


def test_a_cluster_class_is_started_adapts_and_is_closed(journal):
    started = []

    class Mine(distributed.LocalCluster):
        def __init__(self, **options):
            super().__init__(**options)
            started.append(self)

    runner = DaskTaskRunner(
        cluster_class=Mine,
        cluster_kwargs={"n_workers": 0, "threads_per_worker": 1, "dashboard_address": ":0"},
        adapt_kwargs={"minimum": 1, "maximum": 2},
        client_kwargs={"name": "a-client"},
    )

    @flow(task_runner=runner)
    def job():
        return shipped.double.map([1, 2]).result()

    assert job() == [2, 4]
    (cluster,) = started
    assert cluster.status is distributed.Status.closed


def test_a_cluster_that_cannot_be_started_is_told(journal):
    def broken(**options):
        raise OSError("no cluster today")

    @flow(task_runner=DaskTaskRunner(cluster_class=broken))
    def job():
        return shipped.double.submit(1).result()

    with pytest.raises(OSError, match="no cluster today"):
        job()
    assert histories(journal, "double") == []


@pytest.mark.parametrize(
    "given",
    [
        {"address": "tcp://127.0.0.1:1", "cluster": object()},
        {"address": "tcp://127.0.0.1:1", "cluster_kwargs": {"n_workers": 1}},
        {"address": "tcp://127.0.0.1:1", "adapt_kwargs": {"maximum": 1}},
        {"cluster": object(), "cluster_class": "distributed.LocalCluster"},
        {"cluster_class": "distributed.NoSuchCluster"},
        {"cluster_class": "nothing"},
    ],
    ids=["address-cluster", "address-kwargs", "address-adapt", "cluster-class", "no-class", "no-module"],
)
def test_arguments_that_exclude_each_other_are_refused(given):
    with pytest.raises(durable.ConfigurationError, match="DaskTaskRunner"):
        DaskTaskRunner(**given)


def test_without_distributed_the_extra_is_named():
    code = (
        "import sys; sys.modules['distributed'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *a: None if name == 'distributed' else found(name, *a)\n"
        "from durable.task_runners import DaskTaskRunner\n"
        "try: DaskTaskRunner()\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert told.strip() == (
        "ConfigurationError DaskTaskRunner needs `distributed`, which is not installed: "
        "pip install 'durable-journal[dask]'"
    )
