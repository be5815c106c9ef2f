"""Generator tasks that are found again, in one process: what is on record is given again and not made again."""

import asyncio

from generating import consumed, made
from scripts import histories, query

from durable import flow
from durable.cache_policies import INPUTS


def test_in_a_retried_flow_an_exhausted_generator_is_not_started_again(journal, colour):
    started = []

    def body(n):
        started.append(n)
        return range(n)

    numbers = made(colour, body)
    runs = []
    if colour == "sync":

        @flow(retries=1)
        def job():
            got = list(numbers(3))
            runs.append(got)
            assert len(runs) > 1
            return got

        assert job() == [0, 1, 2]
    else:

        @flow(retries=1)
        async def job():
            got = [value async for value in numbers(3)]
            runs.append(got)
            assert len(runs) > 1
            return got

        assert asyncio.run(job()) == [0, 1, 2]
    assert started == [3]
    assert histories(journal, "numbers") == [["Running", "Completed"]]


def test_one_that_was_closed_is_started_again_only_if_more_is_asked(journal):
    started, wanted = [], iter([2, 2, 4])

    def body(n):
        started.append(n)
        return range(n)

    numbers = made("sync", body)

    @flow(retries=2)
    def job():
        got = consumed(numbers(5), limit=next(wanted))
        assert len(got) == 4
        return got

    assert job() == [0, 1, 2, 3]
    assert started == [5, 5], "the second attempt was served from the record"
    assert histories(journal, "numbers") == [["Running", "Completed", "Running", "Completed"]]
    messages = query(
        journal, "SELECT message FROM states WHERE run_kind = 'task run' AND state = 'Running' AND seq > 0"
    )
    assert messages == [("closed early: its consumer now asks for more",)]


def test_recorded_values_come_before_a_recorded_failure(journal):
    started = []

    def body(n):
        started.append(n)
        yield from [1, 2]
        yield ValueError("boom")

    numbers = made("sync", body)
    seen = []

    @flow(retries=1)
    def job():
        got = []
        try:
            got.extend(numbers(0))
        except ValueError:
            got.append("failed")
        seen.append(got)
        assert len(seen) > 1

    job()
    # A failed flow gives its failed tasks a new chance; the values are those the consumer had.
    assert seen == [[1, 2, "failed"]] * 2
    assert len(started) == 2


def test_a_memo_serves_the_values_of_another_run(journal, colour):
    started = []

    def body(n):
        started.append(n)
        return range(n)

    numbers = made(colour, body, cache_policy=INPUTS)
    assert consumed(numbers(3)) == [0, 1, 2]
    assert consumed(numbers(3)) == [0, 1, 2]
    assert started == [3]
    assert histories(journal, "numbers") == [["Running", "Completed"], ["Pending", "Cached"]]


def test_a_memo_with_a_hole_runs_again(journal):
    started = []

    def body(n):
        started.append(n)
        yield from [1, lambda: 2]

    numbers = made("sync", body, cache_policy=INPUTS)
    assert consumed(numbers(3))[0] == 1
    assert consumed(numbers(3))[1]() == 2
    assert started == [3, 3]
    assert query(journal, "SELECT reason FROM task_runs ORDER BY task_run_row") == [
        (None,),
        ("not kept: persist_result=False",),
    ]


def test_without_persist_result_nothing_is_recorded_of_its_values(journal):
    attempts = []

    def body(n):
        attempts.append(n)
        yield from [1, 2]
        if len(attempts) == 1:
            yield ValueError("boom")
        yield 3

    numbers = made("sync", body, persist_result=False, retries=1)
    assert consumed(numbers(0)) == [1, 2, 3]
    assert query(journal, "SELECT count(*) FROM yields") == [(0,)]
