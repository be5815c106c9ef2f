"""Named limits: never more than there are, over threads, coroutines and processes; and what ends a wait."""

import asyncio
import json
import os
import re
import signal
import string
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from crowds import LONG, Crowd, in_threads
from hypothesis import example, given
from hypothesis import strategies as st
from scripts import finish, stop

import durable
from durable import ConcurrencyTimeoutError, ConfigurationError, DurableError, FlowRunCancelled, flow, task
from durable.concurrency import concurrency, rate_limit, slots
from durable.concurrency.definitions import Limit
from durable.concurrency.folder import file_name
from durable.concurrency.waiting import Patience
from durable.errors import JournalNotWritable
from durable.ownership import Cancellation
from durable.task_runners import ThreadPoolTaskRunner


def limits_left(journal):
    return sorted(path.name for path in journal.parent.glob("runs.db-limits/*"))


# Never more than there are


def test_threads_never_hold_more_than_there_are(journal):
    crowd, full = Crowd(), threading.Barrier(3)

    def body():
        for number in range(20):
            with concurrency("api", limit=3, timeout_seconds=LONG), crowd:
                if number == 0:
                    with suppress(threading.BrokenBarrierError):
                        full.wait(LONG)  # three are in at once

    in_threads(*[body] * 6)
    assert (crowd.most, crowd.passed, crowd.inside) == (3, 120, 0)
    assert not journal.with_name("runs.db-limits").exists(), "nothing is left behind"


def test_coroutines_never_hold_more_than_there_are_and_the_loop_goes_on(journal):
    crowd, turns = Crowd(), []

    async def body(number):
        async with concurrency("api", occupy=2, limit=5, timeout_seconds=LONG):
            with crowd:
                await asyncio.sleep(0)
                turns.append(number)

    async def main():
        await asyncio.gather(*map(body, range(50)))

    asyncio.run(main())
    assert (crowd.most, crowd.passed) == (2, 50)
    assert turns == list(range(50)), "first come, first served"


def test_threads_and_coroutines_count_together(journal):
    crowd = Crowd()

    def plain():
        for _ in range(20):
            with concurrency("api", limit=2, timeout_seconds=LONG), crowd:
                time.sleep(0)

    def coroutines():
        async def body():
            async with concurrency("api", limit=2, timeout_seconds=LONG):
                with crowd:
                    await asyncio.sleep(0)

        async def main():
            await asyncio.gather(*(body() for _ in range(20)))

        asyncio.run(main())

    in_threads(plain, plain, coroutines, coroutines)
    assert crowd.passed == 80 and crowd.most <= 2


def test_submitted_tasks_of_a_flow_keep_the_limit(journal):
    crowd = Crowd()

    @task
    def call(n):
        with concurrency("api", limit=2), crowd:
            return n

    @task
    async def acall(n):
        async with concurrency("api", limit=2):
            with crowd:
                await asyncio.sleep(0)
                return n

    @flow(task_runner=ThreadPoolTaskRunner(8))
    def job():
        return sum(call.map(range(20)).result()) + sum(acall.map(range(20)).result())

    assert job() == 380
    assert crowd.passed == 40 and crowd.most <= 2


PROCESSES = """
from durable.concurrency import concurrency

@task
def call(n):
    with concurrency("api", occupy=OCCUPY):
        ran("in", os.getpid())
        time.sleep(0.001)
        ran("out", os.getpid())

@flow(resume="never")
def job():
    call.map(range(15)).result()

job()
"""


@pytest.mark.parametrize(("occupy", "most"), [(1, 3), (2, 1)])
def test_processes_that_share_a_journal_never_hold_more_than_there_are(script, occupy, most):
    script.write(PROCESSES.replace("OCCUPY", str(occupy)))
    processes = [script.start(DURABLE_CONCURRENCY_LIMITS='{"api": 3}') for _ in range(3)]
    for process in processes:
        ended = finish(process)
        assert ended.code == 0, ended.err
    inside = highest = 0
    lines = script.all_ran()
    for line in lines:
        inside += 1 if line.startswith("in") else -1
        highest = max(highest, inside)
    assert len(lines) == 90 and inside == 0
    assert 1 <= highest <= most
    assert not (script.folder / "runs.db-limits").exists()


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(0, 2), st.integers(1, 4)),
        st.tuples(st.just("give"), st.integers(0, 99)),
        st.tuples(st.just("die"), st.integers(0, 2)),
    ),
    max_size=25,
)


@given(limit=st.integers(1, 4), operations=OPERATIONS)
@example(limit=2, operations=[("take", 0, 1), ("take", 1, 1), ("die", 0), ("take", 2, 1), ("take", 2, 1)])
def test_whatever_is_taken_given_back_and_killed_exactly_what_is_free_can_be_had(tmp_path_factory, limit, operations):
    """Three processes, each simulated by what a process remembers; their entries meet in one folder."""
    folder = tmp_path_factory.mktemp("limits")
    remembered, held = [{}, {}, {}], []
    with durable.temporary_settings({"journal": folder / "runs.db"}), pytest.MonkeyPatch.context() as patch:
        for operation, *arguments in operations:
            if operation == "take":
                process, occupy = arguments
                patch.setattr(slots, "_here", remembered[process])
                wanted = concurrency("api", min(occupy, limit), 0, limit=limit)
                free = limit - sum(number for _, number, _ in held)
                try:
                    wanted.__enter__()
                except ConcurrencyTimeoutError:
                    assert free < min(occupy, limit)
                else:
                    assert free >= min(occupy, limit)
                    held.append((process, min(occupy, limit), wanted))
            elif operation == "give" and held:
                process, _, wanted = held.pop(arguments[0] % len(held))
                patch.setattr(slots, "_here", remembered[process])
                wanted.__exit__(None, None, None)
            elif operation == "die":
                for each in remembered[arguments[0]].values():
                    each.forget()  # the kernel closes its files
                remembered[arguments[0]].clear()
                held = [one for one in held if one[0] != arguments[0]]
        for process, _, wanted in held:
            patch.setattr(slots, "_here", remembered[process])
            wanted.__exit__(None, None, None)
        with concurrency("api", limit, 0, limit=limit):
            pass
    assert not (folder / "runs.db-limits").exists()


def test_between_processes_whoever_has_waited_longer_goes_first_unless_it_has_stopped_looking(journal, clock):
    def asks(process):
        """The steps of a call in a process, up to its first look."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slots, "_here", remembered[process])
            ticket = slots.Ticket(journal, Limit("api", 1, None), 1)
            steps = ticket.steps(Patience(None))
            next(steps, None)
        return ticket, steps

    def looks(process, call):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(slots, "_here", remembered[process])
            next(call[1], None)
        return call[0].holds

    remembered = [{}, {}]
    holder = asks(0)
    assert holder[0].holds
    other = asks(1)
    clock.seconds += 1
    own = asks(0)
    holder[0].undo()
    assert looks(1, other) is True, "the other process has waited longer"
    other[0].undo()
    assert looks(0, own) is True
    other = asks(1)
    clock.seconds += 1
    late = asks(0)
    own[0].undo()
    assert looks(0, late) is False, "it leaves the slot to the other one"
    clock.seconds += 3  # the other has been stopped
    assert looks(0, late) is True
    late[0].undo()
    other[1].close()


@given(st.lists(st.text(st.characters(), min_size=1), unique=True, max_size=20))
@example(["a/b", "a b", "../a", ".", "a\0b", "A", "a", "\ud800", "x" * 500])
def test_any_name_has_files_of_its_own(names):
    files = [file_name(name) for name in names]
    assert len({file.lower() for file in files}) == len(names), "also where the file system ignores case"
    assert all(set(file) <= {*string.ascii_letters, *string.digits, *"-_"} and len(file) < 80 for file in files)


def test_a_limits_name_may_hold_anything(journal):
    for name in ("a/b", "../../etc", "a\0b", "ü " * 300, "\ud800"):
        with (
            concurrency(name, limit=1),
            pytest.raises(ConcurrencyTimeoutError),
            concurrency(name, timeout_seconds=0, limit=1),
        ):
            pass
    assert sorted(path.name for path in journal.parent.iterdir()) == []


# Who died


HOLDER = """
from durable.concurrency import concurrency

with concurrency("api", occupy=2):
    if os.environ.get("FORK") and os.fork() == 0:
        signal_files("child")
        os._exit(0)
    signal_files("inside")
"""
THREE = {"DURABLE_CONCURRENCY_LIMITS": '{"api": 3}'}


def test_the_slots_of_a_killed_process_are_free_at_once(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(HOLDER)
    process = script.start(**THREE)
    script.wait_for("inside.here", process)
    with concurrency("api", timeout_seconds=0, limit=3):
        pass
    with pytest.raises(ConcurrencyTimeoutError, match=rf"2 of 3 are held, by process {process.pid} \(2\)"):
        concurrency("api", 2, timeout_seconds=0, limit=3).__enter__()
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    with concurrency("api", 3, timeout_seconds=0, limit=3):
        pass
    assert not Path("runs.db-limits").exists(), "nothing of the dead process is left"


def test_who_waits_for_a_process_goes_on_when_it_is_killed(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(HOLDER)
    process = script.start(**THREE)
    script.wait_for("inside.here", process)
    waits, passed = threading.Event(), []

    def wait():
        waits.set()
        with concurrency("api", 3, timeout_seconds=LONG, limit=3):
            passed.append(1)

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()
    waits.wait()
    assert passed == []
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    waiter.join(LONG)
    assert passed == [1]


def test_a_forked_child_keeps_no_slots_of_a_dead_parent(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(HOLDER)
    process = script.start(FORK="1", **THREE)
    try:
        script.wait_for("child.here", process)
        script.wait_for("inside.here", process)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        with concurrency("api", 3, timeout_seconds=0, limit=3):
            pass
    finally:
        script.go("child")
        stop(process)


def test_a_forked_child_that_leaves_its_parents_block_gives_nothing_back(script, monkeypatch):
    monkeypatch.chdir(script.folder)
    script.write(
        """
        from durable.concurrency import concurrency
        with concurrency("api"):
            child = os.fork()
            if child:
                os.waitpid(child, 0)
                signal_files("inside")
        if not child:
            with concurrency("api", 2):
                ran("child")
        """
    )
    process = script.start(**THREE)
    script.wait_for("inside.here", process)
    assert script.ran() == ["child"]
    with pytest.raises(ConcurrencyTimeoutError, match="1 of 3"):
        concurrency("api", 3, timeout_seconds=0, limit=3).__enter__()
    script.go("inside")
    assert finish(process).code == 0


# What ends a wait


def test_a_wait_that_takes_too_long_says_for_what_and_who_has_it(journal):
    with concurrency("api", 2, limit=2):
        with pytest.raises(TimeoutError) as caught, concurrency("api", timeout_seconds=0.01, limit=2):
            pass
        assert isinstance(caught.value, DurableError)
        assert str(caught.value).startswith(
            "no slot of 'api' within 0.01 second(s): 2 of 2 are held, by this process (2)."
        )
        with pytest.raises(ConcurrencyTimeoutError):
            asyncio.run(concurrency("api", timeout_seconds=0.01, limit=2).__aenter__())


def test_a_wait_for_several_limits_that_fails_gives_back_what_it_had(journal):
    with concurrency("b", limit=1):
        with pytest.raises(ConcurrencyTimeoutError, match="'b'"), concurrency(["b", "a"], 1, 0, limit=1):
            pass
        with concurrency("a", timeout_seconds=0, limit=1):
            pass
    with concurrency(["b", "a", "b"], timeout_seconds=0, limit=1):
        for name in "ab":
            with pytest.raises(ConcurrencyTimeoutError), concurrency(name, timeout_seconds=0, limit=1):
                pass


def test_a_timeout_is_a_tasks_failure_like_others_and_is_retried(journal):
    attempts = []

    @task(retries=2)
    def call():
        attempts.append(1)
        with concurrency("api", timeout_seconds=0, limit=1):
            return "done"

    @flow
    def job():
        with ExitStack() as held:
            held.enter_context(concurrency("api", limit=1))
            state = call(return_state=True)
        return state.name, call()

    assert job() == ("TimedOut", "done")
    assert len(attempts) == 4


def test_an_exception_gives_the_slots_back(journal):
    for error in (ValueError, KeyboardInterrupt, SystemExit):
        with pytest.raises(error), concurrency("api", timeout_seconds=0, limit=1):
            raise error


def test_a_cancelled_coroutine_leaves_the_line_and_the_next_one_gets_the_slot(journal):
    order = []

    async def want(name):
        async with concurrency("api", limit=1):
            order.append(name)

    async def main():
        async with concurrency("api", limit=1):
            first, second = (asyncio.create_task(want(name)) for name in ("first", "second"))
            await asyncio.sleep(0)
            first.cancel()
            with pytest.raises(asyncio.CancelledError):
                await first
        await asyncio.wait_for(second, LONG)

    asyncio.run(main())
    assert order == ["second"]
    assert limits_left(journal) == []


INTERRUPTED = """
from durable.concurrency import concurrency
from durable.task_runners import ThreadPoolTaskRunner

@task
DEF call(n):
    ran("begins", n)
    WITH concurrency("api", limit=1):
        ran("has it", n)
    return n

@flow(task_runner=ThreadPoolTaskRunner(2))
DEF job():
    if os.environ["HOW"] == "called":
        return AWAIT call(0)
    futures = call.map(range(4))
    AWAIT futures.result() if "DEF" == "def " else AWAIT futures

RUN(job())
"""


@pytest.mark.parametrize("how", ["called", "mapped"])
@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_ends_a_wait_at_once_and_a_resume_goes_on(script, monkeypatch, colour, how):
    monkeypatch.chdir(script.folder)
    is_async = colour == "async"
    text = INTERRUPTED.replace('AWAIT futures.result() if "DEF" == "def " else AWAIT futures', "GET")
    for word, plain, coloured in (
        ("DEF ", "def ", "async def "),
        ("AWAIT ", "", "await "),
        ("WITH ", "with ", "async with "),
        ("GET", "return futures.result()", "return await futures"),
        ("RUN(", "(", "asyncio.run("),
    ):
        text = text.replace(word, coloured if is_async else plain)
    script.write(text)
    with concurrency("api", limit=1):
        process = script.start(HOW=how)
        script.wait_for_lines(1 if how == "called" else 2, process)
        process.send_signal(signal.SIGINT)
        ended = finish(process)
        assert ended.code != 0 and "KeyboardInterrupt" in ended.err
        assert not [line for line in script.ran() if "has it" in line]
    assert {states[-1] for states in script.tasks("call")} <= {"Crashed", "Cancelled"}
    script.ok(HOW=how)
    assert len([line for line in script.ran() if "has it" in line]) == (1 if how == "called" else 4)


@pytest.mark.parametrize("submitted", [False, True])
def test_cancelling_the_run_ends_a_wait(journal, submitted):
    @task
    def call():
        run = durable.runtime.flow_run.id
        Cancellation(journal, bytes.fromhex(run)).ask()
        with concurrency("api", limit=1):
            pass

    @flow
    def job():
        return call.submit().result() if submitted else call()

    with concurrency("api", limit=1), pytest.raises(FlowRunCancelled):
        job()
    assert limits_left(journal) == []


def test_who_waits_does_not_lock_up_a_pool_whose_places_the_holder_needs(journal):
    """Two places. The holder waits for a task behind others, which wait for the slot."""
    holds, crowded = threading.Event(), threading.Event()

    @task
    def wants(n):
        crowded.set()
        with concurrency("api", limit=1):
            return n

    @task
    def plain():
        return 100

    @task
    def holder():
        with concurrency("api", limit=1):
            holds.set()
            crowded.wait(LONG)
            return plain.submit().result(LONG)

    @task
    def others():
        holds.wait(LONG)
        return sum(wants.map(range(5)).result())

    @flow(task_runner=ThreadPoolTaskRunner(2))
    def job():
        first, second = holder.submit(), others.submit()
        return first.result(LONG) + second.result(LONG)

    assert job() == 110


# What cannot be meant


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: concurrency("apj"), r"concurrency\('apj'\): no such limit is defined; there are 'api', 'slow'"),
        (lambda: concurrency("api", 6), "occupy=6 can never be had: the limit is 5"),
        (lambda: concurrency("api", 0), "occupy=0: expected a whole number, 1 or more"),
        (lambda: concurrency("api", True), "occupy=True"),
        (lambda: concurrency("x", limit=0), "limit=0: expected a whole number, 1 or more"),
        (lambda: concurrency("api", timeout_seconds=-1), "timeout_seconds=-1: expected seconds"),
        (lambda: concurrency(""), "expected a limit's name"),
        (lambda: concurrency(["api", 3]), "expected a limit's name"),
        (lambda: concurrency(None), "expected a limit's name"),
        (lambda: rate_limit("api"), "is no rate: .*slot_decay_per_second"),
        (lambda: rate_limit("slow", 31), "occupy=31 can never be had: the limit is 30"),
        (lambda: rate_limit("x", limit=3), "is no rate"),
        (lambda: rate_limit("x", limit=3, slot_decay_per_second=-1), "slot_decay_per_second=-1: expected a number"),
        (lambda: rate_limit("slwo"), "no such limit is defined"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_waits(journal, make, told):
    known = {"api": 5, "slow": {"limit": 30, "slot_decay_per_second": 0.5}}
    with (
        durable.temporary_settings({"concurrency_limits": known}),
        pytest.raises(ConfigurationError, match=told),
        make(),
    ):
        pass
    assert list(journal.parent.iterdir()) == []


def test_an_undefined_limit_may_pass_where_that_is_meant_and_is_told_once(journal, caplog):
    for _ in range(2):
        with concurrency("once", strict=False), concurrency("once", strict=False):
            rate_limit("once", strict=False)
    (record,) = caplog.records
    assert "concurrency('once')" in record.getMessage() and record.levelname == "WARNING"


def test_a_limit_said_in_the_call_decides(journal):
    with (
        durable.temporary_settings({"concurrency_limits": {"api": 1}}),
        concurrency("api", limit=2),
        concurrency("api", timeout_seconds=0, limit=2),
        pytest.raises(ConcurrencyTimeoutError, match="2 of 1"),
        concurrency("api", timeout_seconds=0),
    ):
        pass


def test_no_names_limit_nothing(journal):
    with concurrency([]):
        rate_limit([])
    assert list(journal.parent.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs.db-limits").write_text("a file")
    with pytest.raises(JournalNotWritable, match="runs.db-limits"), concurrency("api", limit=1):
        pass
    with (
        durable.temporary_settings({"journal": "no/such/runs.db"}),
        pytest.raises(JournalNotWritable),
        concurrency("api", limit=1),
    ):
        pass


def test_a_flows_limits_are_its_journals_and_elsewhere_the_default_ones(journal, tmp_path):
    @flow(journal=tmp_path / "other.db")
    def job():
        with concurrency("api", timeout_seconds=0, limit=1):
            return sorted(path.name for path in tmp_path.glob("*-limits"))

    with concurrency("api", limit=1):
        assert not journal.exists(), "no journal is made for a limit"
        assert job() == ["other.db-limits", "runs.db-limits"]


def test_one_object_may_be_used_again_and_by_several_at_once(journal):
    api, crowd = concurrency("api", limit=2, timeout_seconds=LONG), Crowd()

    def body():
        for _ in range(10):
            with api, crowd:
                time.sleep(0)

    in_threads(*[body] * 4)
    assert crowd.passed == 40 and crowd.most <= 2
    assert limits_left(journal) == []


# The settings


def test_limits_are_defined_in_the_projects_file(script):
    (script.folder / "pyproject.toml").write_text(
        "[tool.durable.concurrency_limits]\n'github api' = 2\nslow = { limit = 1, slot_decay_per_second = 0.001 }\n"
    )
    script.write(
        """
        from durable.concurrency import concurrency, rate_limit
        from durable.errors import ConcurrencyTimeoutError
        with concurrency("github api", 2):
            rate_limit("slow")
            for again in (lambda: concurrency("github api", timeout_seconds=0).__enter__(),
                          lambda: rate_limit("slow", timeout_seconds=1)):
                try:
                    again()
                except ConcurrencyTimeoutError as error:
                    print(error)
        """
    )
    assert [line[:20] for line in script.ok().splitlines()] == ["no slot of 'github a", "no slot of 'slow' wi"]


def test_the_example_of_the_page_runs_with_the_limits_of_the_page(script):
    page = (Path(__file__).resolve().parent.parent / "docs" / "concurrency.md").read_text(encoding="utf-8")
    settings, program = re.search(r"```toml\n(.*?)```\n\n```python\n(.*?)```", page, re.DOTALL).groups()
    (script.folder / "pyproject.toml").write_text(settings)
    (script.folder / "job.py").write_text(program)
    assert sorted(script.ok().splitlines()) == [
        "3",
        "the issues of click",
        "the issues of durable",
        "the issues of sqlite-utils",
    ]
    assert [path.suffix for path in script.folder.glob("runs.db-limits/*")] == [".rate"]


def test_the_environment_takes_json(monkeypatch, journal):
    monkeypatch.setenv("DURABLE_CONCURRENCY_LIMITS", json.dumps({"api": 1}))
    with (
        concurrency("api"),
        pytest.raises(ConcurrencyTimeoutError, match="1 of 1"),
        concurrency("api", timeout_seconds=0),
    ):
        pass
