"""Transactions around calls of every kind: tasks that call tasks, subflows, generators and what was submitted."""

import asyncio
from contextlib import aclosing

import pytest
from scripts import histories, query
from undoing import DONE, UNDONE, UNDONE_WITHOUT_HOOKS, fails

from durable import flow, task
from durable.transactions import (
    atransaction,
    transaction,
)

colours = pytest.mark.parametrize("colour", ["sync", "async"])


# Tasks that call tasks.


def test_what_a_failed_task_called_is_undone_if_it_has_a_hook_and_kept_if_not(journal, log):
    undone, kept = log.step("undone"), log.step("kept", on_rollback=None, on_commit=None)

    @task(retries=1)
    def outer():
        log.append("outer")
        undone()
        kept()
        fails()

    with pytest.raises(ValueError, match="boom"):
        outer()
    assert log == ["outer", "undone", "kept", "outer", "undo undone"], "a retry keeps what completed"
    assert histories(journal, "undone") == [UNDONE]
    assert histories(journal, "kept") == [DONE]


def test_what_a_failed_task_called_in_a_block_is_undone_hooks_or_not(journal, log):
    kept = log.step("kept", on_rollback=None)

    @task
    def outer():
        with transaction():
            kept()
        fails()

    with pytest.raises(ValueError, match="boom"):
        outer()
    assert histories(journal, "kept") == [UNDONE_WITHOUT_HOOKS]


def test_a_task_that_is_undone_takes_with_it_what_it_called(journal, log):
    inner, plain = log.step("inner"), log.step("plain", on_rollback=None)

    @task(on_rollback=[log.note("undo outer")])
    def outer():
        inner()
        plain()

    with pytest.raises(ValueError, match="boom"), transaction():
        outer()
        fails()
    assert log == ["inner", "plain", "undo outer", "undo inner"]
    assert histories(journal, "inner") == histories(journal, "outer") == [UNDONE]
    assert histories(journal, "plain") == [UNDONE_WITHOUT_HOOKS]


def test_a_retry_does_not_undo_a_call_twice(journal, log):
    inner = log.step("inner")

    @task(retries=2)
    def outer():
        inner()
        log.append("outer")
        if log.count("outer") < 3:
            fails()

    with transaction():
        outer()
    assert log == ["inner", "outer", "outer", "outer", "commit inner"]
    with pytest.raises(ValueError, match="boom"), transaction():
        outer()
        fails()
    assert log[5:] == ["inner", "outer", "undo inner"]


def test_a_subflow_is_undone_as_a_whole_and_runs_again(journal, log):
    inner = log.step("inner")
    fail = [True]

    @flow
    def sub():
        log.append("sub")
        return inner()

    @flow
    def job():
        with transaction():
            sub()
            if fail:
                fails()

    with pytest.raises(ValueError, match="boom"):
        job()
    assert log == ["sub", "inner", "undo inner"]
    fail.clear()
    job()
    assert log[3:] == ["sub", "inner", "commit inner"]
    rows = query(journal, "SELECT state FROM states WHERE run_kind = 'flow run' AND run_row = 2 ORDER BY seq")
    assert [state for (state,) in rows] == ["Running", "Completed", "RolledBack", "Running", "Completed"]


@pytest.mark.parametrize("key", [None, "once"])
def test_a_flow_called_in_a_block_outside_any_flow_is_undone_and_continued_by_the_next_call(key, journal, log):
    inner = log.step("inner")

    @flow(idempotency_key=key)
    def job():
        assert list(journal.parent.glob("*locks/*")), "it has its lock"
        return inner()

    with pytest.raises(ValueError, match="boom"), transaction():
        job()
        fails()
    assert job() == "inner"
    assert log == ["inner", "undo inner", "inner", "commit inner"]
    assert query(journal, "SELECT count(*) FROM flow_runs") == [(1,)]


def test_a_result_given_for_an_idempotency_key_is_not_undone(journal, log):
    inner = log.step("inner")

    @flow(idempotency_key="once")
    def job():
        return inner()

    job()
    with pytest.raises(ValueError, match="boom"), transaction():
        assert job() == "inner"
        fails()
    assert log == ["inner", "commit inner"]
    assert histories(journal, "inner") == [DONE]


def test_a_hooked_task_in_a_subflow_of_a_failing_task_is_undone(journal, log):
    inner = log.step("inner")

    @flow
    def sub():
        inner()

    @task
    def outer():
        sub()
        fails()

    @flow
    def job():
        outer()

    with pytest.raises(ValueError, match="boom"):
        job()
    assert log == ["inner", "undo inner"]


# Generators and futures.


@colours
@pytest.mark.parametrize("early", [False, True])
def test_a_generator_belongs_to_the_transaction_however_it_ends(colour, early, journal, log):
    hooks = {"on_rollback": [log.note("undo")], "on_commit": [log.note("commit")]}
    if colour == "sync":

        @task(name="rows", **hooks)
        def rows():
            yield 1
            yield 2

        def block():
            with transaction() as txn:
                for _ in rows():
                    if early:
                        break
                if txn.get("fail"):
                    fails()
    else:

        @task(name="rows", **hooks)
        async def rows():
            yield 1
            yield 2

        async def consume(txn):
            async with aclosing(rows()) as values:
                async for _ in values:
                    if early:
                        break
            if txn.get("fail"):
                fails()

        def block():
            async def main():
                async with atransaction() as txn:
                    await consume(txn)

            asyncio.run(main())

    with transaction() as outer:
        outer.set("fail", False)
        block()
    with pytest.raises(ValueError, match="boom"), transaction() as outer:
        outer.set("fail", True)
        block()
    assert log == ["commit", "undo"]
    assert histories(journal, "rows") == [DONE, UNDONE]


def test_a_submitted_task_belongs_to_the_transaction_it_was_submitted_in(journal, log):
    a, b = log.step("a"), log.step("b")

    @flow
    def job():
        with transaction():
            futures = [a.submit(), b.submit()]
            for future in futures:
                future.result()
            fails()

    with pytest.raises(ValueError, match="boom"):
        job()
    assert sorted(log) == ["a", "b", "undo a", "undo b"]
    assert histories(journal, "a") == histories(journal, "b") == [UNDONE]


def test_what_never_ran_in_a_block_is_not_undone(journal, log):
    failing, after = log.step("failing", fails=True), log.step("after")

    @flow
    def job():
        with transaction():
            log.step("a")()
            after.submit(wait_for=[failing.submit()]).wait()
            fails()

    with pytest.raises(ValueError, match="boom"):
        job()
    assert log == ["a", "failing", "undo a"]


def test_a_flow_whose_parameters_are_refused_has_no_part_in_the_block(journal, log):
    @flow(on_failure=[lambda *_: log.append("told")])
    def job(n: int):
        return n

    with transaction():
        assert job("x", return_state=True).is_failed()
    assert log == []
