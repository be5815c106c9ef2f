"""Named limits: never more than there are, over threads, coroutines and processes; and what cannot be meant."""

import asyncio
import json
import re
import string
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest
from crowds import LONG, Crowd, in_threads, limits_left
from hypothesis import example, given
from hypothesis import strategies as st
from scripts import finish

import durable
from durable import ConcurrencyTimeoutError, ConfigurationError, flow, task
from durable.concurrency import concurrency, rate_limit, slots
from durable.concurrency.definitions import Limit
from durable.concurrency.folder import file_name
from durable.concurrency.waiting import Patience
from durable.errors import JournalNotWritable
from durable.task_runners import ThreadPoolTaskRunner

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
