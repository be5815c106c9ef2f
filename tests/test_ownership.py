"""One owner: a flow run is executed by at most one live process."""

import os
import re
import socket

import pytest
from scripts import finish, in_colour

COLOURS = ["sync", "async"]

JOB = """
@task
DEF step(i):
    ran("step", i, "by", os.environ.get("WHO"))
    return i

@flow(OPTIONS)
DEF job(n=3):
    found = [AWAIT step(0)]
    die("early")
    if os.environ.get("WHO") == "first":
        signal_files("inside")
    found += [AWAIT step(i) for i in range(1, n)]
    return found

if __name__ == "__main__":
    print(RUN(job()))
"""


def write(script, colour, options=""):
    script.write(in_colour(JOB, colour).replace("(OPTIONS)", f"({options})" if options else ""))


@pytest.mark.parametrize("colour", COLOURS)
def test_with_an_idempotency_key_a_second_copy_is_refused_and_told_who_has_it(script, colour):
    write(script, colour, "idempotency_key='tonight'")
    first = script.start(WHO="first")
    script.wait_for("inside.here", first)
    second = script.run(WHO="second")
    script.go("inside")
    assert finish(first).out.strip() == "[0, 1, 2]"
    assert second.code == 1
    assert second.out == ""
    (line,) = [line for line in second.err.splitlines() if "errors.FlowRunInProgress" in line]
    assert f"process {first.pid}" in line
    assert socket.gethostname() in line
    assert re.search(r"started (today|yesterday) \d\d:\d\d", line)
    assert not [line for line in script.ran() if line.endswith("second")]
    assert script.flows() == [["Running", "Completed"]]
    # The key's run has completed meanwhile: its value is given, nothing is executed.
    assert script.ok(WHO="third") == "[0, 1, 2]"
    assert script.ran() == []


@pytest.mark.parametrize("colour", COLOURS)
def test_without_a_key_a_second_copy_is_a_run_of_its_own(script, colour):
    write(script, colour)
    first = script.start(WHO="first")
    script.wait_for("inside.here", first)
    assert script.ok(WHO="second") == "[0, 1, 2]"
    script.go("inside")
    assert finish(first).out.strip() == "[0, 1, 2]"
    ran = script.ran()
    for who in ("first", "second"):
        assert [line for line in ran if line.endswith(who)] == [f"step {i} by {who}" for i in range(3)]
    assert script.flows() == [["Running", "Completed"]] * 2


@pytest.mark.parametrize("colour", COLOURS)
def test_a_second_copy_leaves_a_run_alone_that_is_being_resumed(script, colour):
    write(script, colour)
    script.killed("early")
    first = script.start(WHO="first")
    script.wait_for("inside.here", first)
    assert script.ok(WHO="second") == "[0, 1, 2]"
    script.go("inside")
    assert finish(first).out.strip() == "[0, 1, 2]"
    assert script.ran() == [
        "step 0 by None",
        *[f"step {i} by second" for i in range(3)],
        "step 1 by first",
        "step 2 by first",
    ]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"], ["Running", "Completed"]]


@pytest.mark.parametrize("key", ["", "idempotency_key='k'"])
def test_of_many_that_race_to_resume_one_run_one_gets_it(script, key):
    write(script, "sync", key)
    script.killed("early")
    script.ran()
    copies = [script.start(WHO=f"{n}") for n in range(4)]
    ended = [finish(copy) for copy in copies]
    histories = script.flows()
    assert histories[0] == ["Running", "Crashed", "Running", "Completed"]
    assert all(history == ["Running", "Completed"] for history in histories[1:])
    # In one flow run, each task ran once (and step 0 not at all: it had completed).
    resumed = script.query(
        "SELECT t.task, count(*), max(attempts) FROM task_runs AS t WHERE t.flow_run_row = 1 GROUP BY t.task, t.id"
    )
    assert resumed == [("step", 1, 1)] * 3
    for end in ended:
        assert end.out.strip() == "[0, 1, 2]" if end.code == 0 else "FlowRunInProgress" in end.err
    assert len(script.ran()) == 2 + 3 * (len(histories) - 1)
    if key:
        assert len(histories) == 1


def test_of_many_that_race_to_begin_a_key_one_does(script):
    write(script, "sync", "idempotency_key='k'")
    copies = [script.start(WHO=f"{n}") for n in range(4)]
    ended = [finish(copy) for copy in copies]
    assert len(script.flows()) == 1
    assert len(script.ran()) == 3
    for end in ended:
        assert end.out.strip() == "[0, 1, 2]" if end.code == 0 else "FlowRunInProgress" in end.err
    assert any(end.code == 0 for end in ended)


@pytest.mark.parametrize("colour", COLOURS)
def test_after_a_kill_the_next_copy_takes_over_at_once(script, colour):
    write(script, colour, "idempotency_key='k'")
    first = script.start(WHO="first")
    script.wait_for("inside.here", first)
    first.kill()
    finish(first)
    assert script.ok(WHO="second") == "[0, 1, 2]"
    assert script.ran() == ["step 0 by first", "step 1 by second", "step 2 by second"]


def test_no_lock_is_left_behind(script):
    write(script, "sync")
    script.killed("early")
    assert len(list(script.folder.glob("runs.db-locks/*.lock"))) == 1
    script.ok()
    assert not (script.folder / "runs.db-locks").exists()


def test_a_lock_file_left_by_a_kill_owns_nothing(script):
    write(script, "sync", "idempotency_key='k'")
    script.killed("early")
    (lock,) = script.folder.glob("runs.db-locks/*.lock")
    os.utime(lock, (0, 0))
    assert script.ok() == "[0, 1, 2]"
    assert not lock.exists()


def test_concurrent_calls_of_one_flow_in_one_process_are_separate_runs(script):
    script.write(
        """
        @task
        async def step(i):
            ran("step", i)
            await asyncio.sleep(0.01)
            return i

        @flow
        async def job():
            return [await step(i) for i in range(3)]

        async def main():
            return await asyncio.gather(job(), job(), job())

        print(asyncio.run(main()))
        """
    )
    assert script.ok() == "[[0, 1, 2], [0, 1, 2], [0, 1, 2]]"
    assert sorted(script.ran()) == ["step 0"] * 3 + ["step 1"] * 3 + ["step 2"] * 3
    assert script.flows() == [["Running", "Completed"]] * 3


def test_concurrent_calls_with_one_key_in_one_process_are_refused_but_one(script):
    script.write(
        """
        @task
        async def step():
            ran("step")
            await asyncio.sleep(0.01)
            return 1

        @flow(idempotency_key="k")
        async def job():
            return await step()

        async def main():
            found = await asyncio.gather(job(), job(), return_exceptions=True)
            return [type(x).__name__ for x in found], await job()

        print(asyncio.run(main()))
        """
    )
    assert script.ok() == "(['int', 'FlowRunInProgress'], 1)"
    assert script.ran() == ["step"]


def test_flows_in_threads_are_separate_runs(script):
    script.write(
        """
        from concurrent.futures import ThreadPoolExecutor

        @task
        def step(i):
            ran("step", i)
            return i

        @flow
        def job(n):
            return [step(i) for i in range(20)][n]

        with ThreadPoolExecutor(4) as pool:
            print(list(pool.map(job, [1, 1, 2, 2])))
        """
    )
    assert script.ok() == "[1, 1, 2, 2]"
    assert script.flows() == [["Running", "Completed"]] * 4
    assert len(script.ran()) == 80


def test_two_scripts_write_one_journal_at_the_same_time(script):
    script.write(
        """
        @task
        def step(who, i):
            return i

        @flow
        def job(who):
            return sum(step(who, i) for i in range(100))

        print(job(sys.argv[1]))
        """
    )
    processes = [script.start(str(who)) for who in range(3)]
    assert [finish(process).out.strip() for process in processes] == ["4950"] * 3
    assert script.query("SELECT count(*) FROM task_runs WHERE state = 'Completed'") == [(300,)]
    assert script.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_flow_called_in_a_task_outside_any_flow_is_owned_and_resumes_like_any_other(script, colour):
    script.write(
        in_colour(
            """
            @task
            DEF step(i):
                ran("step", i, "by", os.environ["WHO"])
                die(f"in {i}")
                if i == 1 and os.environ["WHO"] == "first":
                    signal_files("inside")
                return i

            @flow
            DEF job():
                return [AWAIT step(i) for i in range(3)]

            @task
            DEF outer():
                return AWAIT job()

            print(RUN(outer() if os.environ["WHO"] != "second" else job()))
            """,
            colour,
        )
    )
    first = script.start(WHO="first")
    script.wait_for("inside.here", first)
    assert script.ok(WHO="second") == "[0, 1, 2]"
    script.go("inside")
    assert finish(first).out.strip() == "[0, 1, 2]"
    assert sorted(script.ran()) == sorted(f"step {i} by {who}" for i in range(3) for who in ("first", "second"))
    assert script.flows() == [["Running", "Completed"]] * 2
    script.killed("in 2", WHO="third")
    script.ran()
    assert script.ok(WHO="third") == "[0, 1, 2]"
    assert script.ran() == ["step 2 by third"]
