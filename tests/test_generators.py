"""Generator tasks: each value is on record before it is consumed, and a retry goes on where the consumer was."""

import asyncio
import gc
import logging

import pytest
from generating import consumed, made
from scripts import histories, query

import durable
from durable import GeneratorDiverged, flow, task
from durable.generation import SYNC_EVERY
from durable.journal import open_journal

# What is recorded


def test_every_value_is_recorded_and_the_run_completes_when_exhausted(journal, colour):
    numbers = made(colour, range)
    assert consumed(numbers(3)) == [0, 1, 2]
    assert histories(journal, "numbers") == [["Running", "Completed"]]
    assert query(journal, "SELECT number, bytes > 0 FROM yields ORDER BY number") == [(1, 1), (2, 1), (3, 1)]
    assert query(journal, "SELECT yielded FROM task_runs") == [(3,)]


def test_a_value_is_on_record_before_its_consumer_has_it(journal):
    numbers = made("sync", range)
    for number, _ in enumerate(numbers(5), 1):
        assert query(journal, "SELECT count(*) FROM yields") == [(number,)]
        assert histories(journal, "numbers") == [["Running"]]


def test_one_fsync_in_so_many_values(journal):
    numbers = made("sync", range)
    opened = open_journal("runs.db", "power")
    before = opened.syncs
    count = SYNC_EVERY * 3 + 1
    assert consumed(numbers(count)) == list(range(count))
    assert opened.syncs - before == 3 + 1, "and one for the end"


def test_a_generator_that_is_never_advanced_is_not_recorded(journal):
    numbers = made("sync", range)
    numbers(3)
    numbers(4).close()
    gc.collect()
    assert consumed(numbers(1)) == [0]
    assert histories(journal, "numbers") == [["Running", "Completed"]]


def test_what_it_returns_is_what_yield_from_gives(journal):
    @task
    def numbers():
        yield 1
        return "the end"

    @task
    def outer():
        return (yield from numbers())

    @flow
    def job():
        got = []
        generator = outer()
        while True:
            try:
                got.append(next(generator))
            except StopIteration as stop:
                return got, stop.value

    assert job() == ([1], "the end")


def test_a_call_that_is_handed_a_value_depends_on_the_generator(journal, colour):
    numbers = made(colour, lambda n: [object_of(i) for i in range(n)])

    @task
    def consumer(x, other=None):
        return x

    if colour == "sync":

        @flow
        def job():
            for value in numbers(2):
                consumer(value)
            consumer(["not it"])

        job()
    else:

        @flow
        async def job():
            async for value in numbers(2):
                consumer(value)
            consumer(["not it"])

        asyncio.run(job())
    found = query(
        journal,
        "SELECT t.task, u.task, d.argument FROM dependencies d JOIN task_runs t ON t.id = d.task_run_id "
        "JOIN task_runs u ON u.id = d.upstream_task_run_id",
    )
    assert found == [("consumer", "numbers", "x")] * 2


def object_of(i):
    return {"number": i}


def test_calls_in_its_body_are_made_in_it(journal, colour):
    @task
    def inner(x):
        return x * 10

    numbers = made(colour, lambda n: (inner(i) for i in range(n)))
    assert consumed(numbers(2)) == [0, 10]
    parents = query(journal, "SELECT parent_task_run_row FROM task_runs WHERE task = 'inner'")
    (generator,) = query(journal, "SELECT task_run_row FROM task_runs WHERE task = 'numbers'")
    assert parents == [generator, generator]


def test_between_two_values_the_current_run_is_the_consumers(journal):
    @task
    def numbers():
        yield durable.runtime.task_run.task_name
        yield durable.runtime.task_run.task_name

    @flow
    def job():
        return [(value, durable.runtime.task_run.task_name) for value in numbers()]

    assert job() == [("numbers", None)] * 2


# Stopping early, failing, retrying


def test_a_consumer_that_stops_early_completes_it_without_a_result(journal, colour):
    ended = []

    def body(n):
        try:
            yield from range(n)
        finally:
            ended.append(True)

    numbers = made(colour, body)
    assert consumed(numbers(10), limit=2) == [0, 1]
    assert ended == [True]
    assert query(journal, "SELECT state, message, result_bytes, yielded FROM task_runs") == [
        ("Completed", "Closed by its consumer.", None, 2)
    ]


def test_leaving_a_for_loop_closes_it(journal):
    numbers = made("sync", range)
    for value in numbers(10):
        if value == 1:
            break
    gc.collect()
    assert histories(journal, "numbers") == [["Running", "Completed"]]


def test_a_failure_is_raised_after_what_was_yielded_and_recorded(journal, colour):
    numbers = made(colour, lambda n: [1, 2, ValueError("boom")])
    got = []
    with pytest.raises(ValueError, match="boom"):
        collect_into(got, numbers(1))
    assert got == [1, 2]
    assert histories(journal, "numbers") == [["Running", "Failed"]]


def collect_into(got, generator):
    if hasattr(generator, "__next__"):
        for value in generator:
            got.append(value)
        return

    async def collect():
        async for value in generator:
            got.append(value)

    asyncio.run(collect())


def test_a_retry_goes_on_after_what_the_consumer_has(journal, clock, colour):
    attempts = []

    def body(n):
        attempts.append(n)
        yield from [1, 2]
        if len(attempts) < 3:
            yield ValueError("not yet")
        yield 3

    numbers = made(colour, body, retries=2, retry_delay_seconds=5)
    assert consumed(numbers(0)) == [1, 2, 3]
    assert len(attempts) == 3
    assert clock.slept == [5, 5]
    assert histories(journal, "numbers") == [
        ["Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    ]
    assert query(journal, "SELECT count(*) FROM yields") == [(3,)]


def test_a_retry_that_yields_something_else_is_told(journal, colour):
    attempts = []

    def body(n):
        attempts.append(n)
        yield from [1, len(attempts)]
        yield ValueError("boom")

    numbers = made(colour, body, retries=3)
    got = []
    with pytest.raises(
        GeneratorDiverged, match=r"numbers .* yielded something else where value 2 is on record"
    ) as error:
        collect_into(got, numbers(0))
    assert got == [1, 1]
    assert len(attempts) == 2, "an error of durable's own is no reason to try again"
    assert "DURABLE_RESUME=never" in str(error.value)


def test_a_retry_that_ends_earlier_is_told(journal, colour):
    attempts = []

    def body(n):
        attempts.append(n)
        yield 1
        if len(attempts) == 1:
            yield 2
            yield ValueError("boom")

    numbers = made(colour, body, retries=1)
    with pytest.raises(GeneratorDiverged, match="ended where value 2 is on record"):
        consumed(numbers(0))


def test_send_and_throw_reach_the_body_and_are_given_again_by_a_retry(journal):
    log = []

    @task(retries=1)
    def echo():
        log.append("begin")
        got = yield "ready"
        while True:
            try:
                got = yield f"got {got}"
            except KeyError as error:
                got = f"threw {error}"
            if got == "fail" and log.count("begin") == 1:
                raise ValueError

    generator = echo()
    assert next(generator) == "ready"
    assert generator.send("a") == "got a"
    assert generator.throw(KeyError("k")) == "got threw 'k'"
    assert generator.send("fail") == "got fail"
    assert log == ["begin", "begin"]
    generator.close()


def test_asend_and_athrow_reach_the_body(journal):
    @task
    async def echo():
        got = yield "ready"
        while True:
            try:
                got = yield f"got {got}"
            except KeyError as error:
                got = f"threw {error}"

    async def talk():
        generator = echo()
        return [
            await anext(generator),
            await generator.asend("a"),
            await generator.athrow(KeyError("k")),
            await generator.aclose(),
        ]

    assert asyncio.run(talk()) == ["ready", "got a", "got threw 'k'", None]
    assert histories(journal, "echo") == [["Running", "Completed"]]


def test_what_a_consumer_throws_and_the_body_lets_through_fails_the_run(journal):
    numbers = made("sync", range)
    generator = numbers(5)
    next(generator)
    with pytest.raises(KeyError):
        generator.throw(KeyError("k"))
    assert histories(journal, "numbers") == [["Running", "Failed"]]


def test_an_error_while_it_is_closed_is_the_tasks(journal, colour):
    if colour == "sync":

        @task
        def numbers():
            try:
                yield 1
            finally:
                raise ValueError("on the way out")
    else:

        @task
        async def numbers():
            try:
                yield 1
            finally:
                raise ValueError("on the way out")

    with pytest.raises(ValueError, match="on the way out"):
        consumed(numbers(), limit=1)
    assert histories(journal, "numbers") == [["Running", "Failed"]]


def test_the_bodys_time_counts_not_the_consumers(journal, colour):
    import time

    numbers = made(colour, range, timeout_seconds=1.5)
    if colour == "sync":
        for _ in numbers(3):
            time.sleep(0.6)  # real: a limit is on what the machine does
    else:

        async def slowly():
            async for _ in numbers(3):
                await asyncio.sleep(0.6)

        asyncio.run(slowly())
    assert histories(journal, "numbers") == [["Running", "Completed"]]


def test_a_body_that_takes_too_long_is_timed_out(journal, colour):
    if colour == "sync":
        import time

        @task(timeout_seconds=0.2)
        def numbers():
            yield 1
            time.sleep(30)
            yield 2
    else:

        @task(timeout_seconds=0.2)
        async def numbers():
            yield 1
            await asyncio.sleep(30)
            yield 2

    got = []
    with pytest.raises(durable.TaskRunTimeoutError, match=r"exceeded timeout of 0.2 second"):
        collect_into(got, numbers())
    assert got == [1]
    assert histories(journal, "numbers") == [["Running", "TimedOut"]]


# What cannot be recorded


def test_a_value_that_cannot_be_recorded_is_handed_over_with_one_warning(journal, colour, caplog):
    numbers = made(colour, lambda n: [1, lambda: 2, lambda: 3])
    with caplog.at_level(logging.WARNING, "durable"):
        got = consumed(numbers(0))
    assert got[0] == 1
    assert got[1]() == 2
    assert [record.message for record in caplog.records if "is not recorded" in record.message].__len__() == 1
    assert query(journal, "SELECT number, bytes > 0 FROM yields ORDER BY number") == [(1, 1), (2, None), (3, None)]


def test_a_generator_returned_by_a_plain_task_is_a_list(journal, colour):
    def source():
        yield from [1, 2, 3]

    if colour == "sync":

        @task
        def f():
            return source()

        assert f() == [1, 2, 3]
    else:

        @task
        async def f():
            async def asource():
                for value in source():
                    yield value

            return asource()

        assert asyncio.run(f()) == [1, 2, 3]


def test_the_state_of_a_generator_is_refused(journal):
    numbers = made("sync", range)
    with pytest.raises(
        durable.ConfigurationError, match=r"numbers .*: a generator task gives what it yields, no state"
    ):
        numbers(1, return_state=True)


def test_hooks_are_told_once(journal, colour):
    told = []
    numbers = made(
        colour,
        range,
        on_running=[lambda t, r, s: told.append(s.name)],
        on_completion=[lambda t, r, s: told.append(s.name)],
    )
    consumed(numbers(3))
    consumed(numbers(4), limit=1)
    assert told == ["Running", "Completed"] * 2


def test_submitted_it_ends_in_a_list(journal, colour):
    numbers = made(colour, range)

    @flow
    def job():
        future = numbers.submit(3)
        return future.result(), numbers.map([1, 2])

    assert job() == ([0, 1, 2], [[0], [0, 1]])


def test_memory_stays_flat(journal):
    import tracemalloc

    numbers = made("sync", lambda n: (b"x" * 1000 for _ in range(n)))
    sum(1 for _ in numbers(200))
    tracemalloc.start()
    sum(1 for _ in numbers(5000))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1_500_000, "5 MB went through"
