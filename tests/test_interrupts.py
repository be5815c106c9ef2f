"""Ctrl-C, SIGTERM, sys.exit, os._exit and the kernel's killer: each leaves a journal that resumes, most say why."""

import os
import signal
import subprocess
import time

import pytest
from scripts import DEADLINE, finish, in_colour

COLOURS = ["sync", "async"]

JOB = """
SETUP

@task
DEF step(i):
    ran("step", i)
    if asked(f"in {i}"):
        END
    return i

@flow
DEF job():
    try:
        found = []
        for i in range(4):
            found.append(AWAIT step(i))
            if asked(f"after {i}"):
                END
        return found
    finally:
        ran("finally")

if __name__ == "__main__":
    print(RUN(job()))
"""
WAIT = {
    # In short sleeps: a signal that arrives just before a long one begins is noticed at its end.
    "sync": "open('waiting', 'w').close(); [time.sleep(0.05) for _ in range(6000)]",
    "async": "open('waiting', 'w').close(); [await asyncio.sleep(0.05) for _ in range(6000)]",
}


def write(script, colour, end, setup=""):
    script.write(in_colour(JOB, colour).replace("END", end).replace("SETUP", setup))


def interrupt(script, number, **env):
    process = script.start(**env)
    script.wait_for("waiting", process)
    process.send_signal(number)
    ended = finish(process)
    (script.folder / "waiting").unlink()
    return ended


SIGNALS = {
    "SIGINT": (signal.SIGINT, (-signal.SIGINT, 130), "Execution was aborted by an interrupt signal."),
    "SIGTERM": (signal.SIGTERM, (143,), "Execution was aborted by a termination signal."),
}


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", SIGNALS)
@pytest.mark.parametrize("place", ["in 2", "after 2"])
def test_a_signal_is_recorded_with_its_reason_and_the_run_resumes(script, colour, name, place):
    number, codes, why = SIGNALS[name]
    write(script, colour, WAIT[colour])
    ended = interrupt(script, number, DIE=place)
    assert ended.code in codes, ended.err
    assert script.flows() == [["Running", "Crashed"]]
    assert script.why() == why
    assert script.ran() == ["step 0", "step 1", "step 2", "finally"]
    assert script.tasks("step")[2] == ["Running", "Crashed" if place == "in 2" else "Completed"]
    assert not list(script.folder.glob("runs.db-locks/*"))
    assert script.ok() == "[0, 1, 2, 3]"
    assert script.ran() == (["step 2"] if place == "in 2" else []) + ["step 3", "finally"]
    assert script.flows() == [["Running", "Crashed", "Running", "Completed"]]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_second_interruption_of_the_resumed_run_is_recorded_too(script, colour):
    write(script, colour, WAIT[colour])
    interrupt(script, signal.SIGTERM, DIE="in 1")
    interrupt(script, signal.SIGINT, DIE="in 3")
    assert script.ok() == "[0, 1, 2, 3]"
    whys = script.query("SELECT message FROM states WHERE run_kind = 'flow run' AND state = 'Crashed' ORDER BY seq")
    assert [why for (why,) in whys] == [SIGNALS["SIGTERM"][2], SIGNALS["SIGINT"][2]]
    assert script.flows() == [["Running", "Crashed", "Running", "Crashed", "Running", "Completed"]]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("place", ["in 2", "after 2"])
@pytest.mark.parametrize("code", [0, 3, "'bye'"])
def test_sys_exit_is_recorded_with_its_code_and_the_run_resumes(script, colour, place, code):
    write(script, colour, f"sys.exit({code})")
    ended = script.run(DIE=place)
    assert ended.code == (1 if code == "'bye'" else code)
    assert script.why() == f"Execution was aborted by Python system exit call (code {code})."
    assert script.flows() == [["Running", "Crashed"]]
    script.ran()
    assert script.ok() == "[0, 1, 2, 3]"
    assert script.ran() == (["step 2"] if place == "in 2" else []) + ["step 3", "finally"]


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("end", ["os._exit(5)", "os.abort()", "os.kill(os.getpid(), signal.SIGSEGV)"])
def test_a_process_that_is_simply_gone_resumes(script, colour, end):
    write(script, colour, end, setup="import resource; resource.setrlimit(resource.RLIMIT_CORE, (0, 0))")
    assert script.run(DIE="in 2").code in (5, -signal.SIGABRT, -signal.SIGSEGV)
    assert script.flows() == [["Running"]]
    script.ran()
    assert script.ok() == "[0, 1, 2, 3]"
    assert script.ran() == ["step 2", "step 3", "finally"]
    crashed = script.query("SELECT message FROM states WHERE run_kind = 'flow run' AND state = 'Crashed'")[0][0]
    assert "died" in crashed
    assert str(os.uname().nodename) in crashed


@pytest.mark.parametrize("colour", COLOURS)
def test_killed_for_its_memory_it_resumes(script, colour):
    """As the kernel does it: SIGKILL in the middle of an allocation, when the resident size passes a bound."""
    write(
        script,
        colour,
        # No more than that: who should kill it may be late.
        "hoard = [bytearray(os.urandom(1 << 20)) for _ in range(256)]; time.sleep(300)",
    )
    process = script.start(DIE="in 2")
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None:
        shown = subprocess.run(["ps", "-o", "rss=", "-p", str(process.pid)], capture_output=True, text=True).stdout
        if shown.strip().isdigit() and int(shown) > 120_000:  # KiB
            process.kill()
            break
        assert time.monotonic() < deadline
    assert finish(process).code == -9
    assert script.ran() == ["step 0", "step 1", "step 2"]
    assert script.flows() == [["Running"]]
    assert script.ok() == "[0, 1, 2, 3]"
    assert script.ran() == ["step 2", "step 3", "finally"]


def test_a_memory_error_is_an_ordinary_failure(script):
    write(script, "sync", "raise MemoryError")
    assert script.run(DIE="in 2").code == 1
    assert script.flows() == [["Running", "Failed"]]
    assert script.ok() == "[0, 1, 2, 3]"


def test_a_handler_of_the_programs_own_is_left_alone(script):
    write(
        script,
        "sync",
        WAIT["sync"],
        setup="signal.signal(signal.SIGTERM, lambda *_: (ran('own handler'), os._exit(9)))",
    )
    assert interrupt(script, signal.SIGTERM, DIE="in 2").code == 9
    assert script.ran() == ["step 0", "step 1", "step 2", "own handler"]
    assert script.ok() == "[0, 1, 2, 3]"


@pytest.mark.parametrize("colour", COLOURS)
def test_after_a_flow_the_handlers_are_those_of_before(script, colour):
    script.write(
        in_colour(
            """
            @flow
            DEF inner():
                return signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL

            @flow
            DEF job():
                return AWAIT inner(), signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL

            before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
            print(RUN(job()))
            print(before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)))
            """,
            colour,
        )
    )
    assert script.ok().split("\n") == ["(True, True)", "True"]


@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_cancels_a_gather_and_only_the_unfinished_run_again(script, name):
    number, codes, why = SIGNALS[name]
    script.write(
        """
        @task
        async def fetch(i):
            ran("fetch", i)
            for _ in range(6000 if i % 2 and asked("slow") else 0):  # as above, in short sleeps
                await asyncio.sleep(0.05)
            return i

        @flow
        async def job():
            return sum(await asyncio.gather(*[fetch(i) for i in range(20)]))

        print(asyncio.run(job()))
        """
    )
    counts = "SELECT state, count(*) FROM task_runs GROUP BY state ORDER BY state"
    process = script.start(DIE="slow")
    script.wait_for_lines(20, process)
    deadline = time.monotonic() + DEADLINE
    while script.query(counts) != [("Completed", 10), ("Running", 10)]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert finish(process).code in codes
    assert script.why() == why
    assert script.query(counts) == [("Completed", 10), ("Crashed", 10)]
    script.ran()
    assert script.ok() == "190"
    assert sorted(script.ran()) == sorted(f"fetch {i}" for i in range(1, 20, 2))


def test_sys_exit_in_one_of_many_is_recorded_as_what_stopped_the_flow(script):
    script.write(
        """
        @task
        async def fetch(i):
            ran("fetch", i)
            await asyncio.sleep(0)
            if i == 3 and asked("exit"):
                sys.exit(5)
            await asyncio.sleep(60 if asked("exit") else 0)
            return i

        @flow
        async def job():
            return sum(await asyncio.gather(*[fetch(i) for i in range(6)]))

        print(asyncio.run(job()))
        """
    )
    assert script.run(DIE="exit").code == 5
    assert script.why() == "Execution was aborted by Python system exit call (code 5)."
    assert script.tasks("fetch") == [["Running", "Crashed"]] * 6
    assert script.ok() == "15"


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("name", SIGNALS)
def test_a_signal_while_a_retry_is_waited_for(script, colour, name):
    number, codes, why = SIGNALS[name]
    script.write(
        in_colour(
            """
            @task(retries=1, retry_delay_seconds=float(os.environ.get("DELAY", "0")), on_interrupt="fail")
            DEF flaky():
                ran("flaky")
                if asked("wait"):
                    open("waiting", "w").close()
                    raise ValueError("once")
                return 1

            @flow
            DEF job():
                return AWAIT flaky()

            if __name__ == "__main__":
                print(RUN(job()))
            """,
            colour,
        )
    )
    process = script.start(DIE="wait", DELAY="60")
    script.wait_for("waiting", process)
    deadline = time.monotonic() + DEADLINE
    while script.tasks("flaky") != [["Running", "AwaitingRetry"]]:
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    assert finish(process).code in codes
    assert script.why() == why
    # It was between two attempts, not in one: nothing was cut off, so on_interrupt="fail" has nothing to refuse.
    assert script.ok() == "1"
    assert script.ran() == ["flaky", "flaky"]


def test_what_a_flow_itself_cancelled_does_not_strand_its_run(script):
    script.write(
        """
        @task
        async def slow():
            ran("slow")
            begun.set()
            await asyncio.sleep(300)

        @task
        async def quick():
            ran("quick")
            return 1

        @flow
        async def job():
            global begun
            begun = asyncio.Event()
            slowly = asyncio.ensure_future(slow())
            await begun.wait()
            slowly.cancel()
            try:
                await slowly
            except asyncio.CancelledError:
                value = await quick()
            die("end")
            return value

        print(asyncio.run(job()))
        """
    )
    script.killed("end")
    assert script.tasks("slow") == [["Running", "Crashed"]]
    assert script.ok() == "1"
    assert script.ran() == ["slow", "quick", "slow"]


@pytest.mark.parametrize("how", ["future.result()", "future.wait()", "wait([future])", "list(as_completed([future]))"])
def test_a_ctrl_c_that_does_not_end_the_wait_of_the_main_thread_is_heard(script, how):
    """As one that arrives between the look at signals and the wait: here another thread gets it."""
    script.write(
        """
        import threading
        from durable.futures import as_completed, wait
        unheard, heard = threading.Event(), threading.Event()

        @task
        def stand():
            unheard.wait(60)
            os.kill(os.getpid(), signal.SIGINT)
            if not heard.wait(60):
                print("not")

        @flow
        def job():
            future = stand.submit()
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
            unheard.set()
            try:
                HOW
            except KeyboardInterrupt:
                heard.set()
                print("heard")

        job()
        """.replace("HOW", how)
    )
    assert script.ok() == "heard"


def test_an_interrupted_task_is_never_retried_in_process(script):
    script.write(
        """
        @task(retries=5)
        def step():
            ran("step")
            if asked("raise"):
                raise KeyboardInterrupt
            return 1

        @flow
        def job():
            return step()

        print(job())
        """
    )
    script.run(DIE="raise")
    assert script.ran() == ["step"]
    assert script.tasks("step") == [["Running", "Crashed"]]
    assert script.ok() == "1"


def test_an_interrupted_flow_is_history_not_a_new_chance(script):
    """Ctrl-C is a crash: what had failed and was caught stays failed."""
    script.write(
        """
        @task
        def fail():
            ran("fail")
            raise ValueError("no")

        @flow
        def job():
            try:
                fail()
            except ValueError:
                ran("caught")
            if asked("stop"):
                raise KeyboardInterrupt
            return 1

        print(job())
        """
    )
    script.run(DIE="stop")
    script.ran()
    assert script.ok() == "1"
    assert script.ran() == ["caught"]


def test_interrupted_between_any_two_lines_the_run_still_resumes(script):
    """A SIGINT at a random moment, many times: the journal is always one that resumes to the right result."""
    script.write(
        """
        left = int(os.environ.get("STEPS", "1000"))

        @task
        def step(i):
            global left
            ran("step", i)
            left -= 1
            if not left:  # the signal is late
                for _ in range(6000):
                    time.sleep(0.05)
            return i

        @flow
        def job():
            return sum(step(i) for i in range(400))

        print(job())
        """
    )
    for lines in (3, 11, 29, 40, 77):
        before = len(script.all_ran())
        process = script.start(STEPS=str(lines + 20))
        script.wait_for_lines(before + lines, process)
        process.send_signal(signal.SIGINT if lines % 2 else signal.SIGTERM)
        finish(process)
    assert script.ok() == str(sum(range(400)))
    assert len(script.flows()) == 1
    # Nothing that completed ran again: every repetition was cut off before.
    executions = {}
    for line in script.all_ran():
        executions[line] = executions.get(line, 0) + 1
    assert sum(executions.values()) - len(executions) <= 5
    assert script.query("PRAGMA integrity_check") == [("ok",)]
