"""Transactions: what is undone, in which order, what the journal says of it, and what commits."""

import asyncio
import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from scripts import histories, query
from undoing import DONE, UNDONE, fails

from durable import ConfigurationError, JournalFailed, flow, task, transactions
from durable.transactions import (
    CommitMode,
    TransactionState,
    atransaction,
    get_transaction,
    transaction,
)

colours = pytest.mark.parametrize("colour", ["sync", "async"])


# The block by itself.


def test_the_names_are_the_promised_ones_and_each_explains_itself():
    assert transactions.__all__ == [
        *("CommitMode", "IsolationLevel", "Transaction", "TransactionState"),
        *("atransaction", "get_transaction", "transaction"),
    ]
    for name in transactions.__all__:
        assert inspect.getdoc(getattr(transactions, name)), name


def test_a_transaction_goes_through_its_states():
    txn = transaction()
    assert txn.is_pending()
    with txn:
        assert txn.is_active()
        assert get_transaction() is txn
        txn.stage(1)
        assert txn.is_staged()
    assert txn.is_committed()
    assert get_transaction() is None
    with pytest.raises(ValueError, match="boom"), transaction() as txn:
        fails()
    assert txn.is_rolled_back()
    assert txn.state is TransactionState.ROLLED_BACK
    with pytest.raises(RuntimeError, match="make another"):
        txn.__enter__()


def test_values_are_copied_out_and_seen_from_within():
    with transaction() as outer:
        outer.set("rows", [1])
        outer.get("rows").append(2)
        assert outer.get("rows") == [1]
        with transaction() as inner:
            assert inner.get("rows") == [1]
            inner.set("rows", [3])
        assert outer.get("rows") == [1]
        assert outer.get("missing", None) is None
        with pytest.raises(ValueError, match="missing"):
            outer.get("missing")
        assert inner.get_parent() is outer


@pytest.mark.parametrize(
    ("outer_mode", "inner_mode", "inner_at_its_end", "both_at_the_end"),
    [
        (None, None, "ACTIVE", "COMMITTED"),
        (CommitMode.EAGER, None, "COMMITTED", "COMMITTED"),
        (CommitMode.LAZY, CommitMode.EAGER, "COMMITTED", "COMMITTED"),
        (CommitMode.LAZY, CommitMode.OFF, "ACTIVE", "COMMITTED"),
        (CommitMode.OFF, None, "ACTIVE", "ROLLED_BACK"),
    ],
)
def test_a_block_commits_as_its_mode_says(outer_mode, inner_mode, inner_at_its_end, both_at_the_end):
    with transaction(commit_mode=outer_mode) as outer:
        with transaction(commit_mode=inner_mode) as inner:
            pass
        assert inner.state.name == inner_at_its_end
    assert {outer.state.name, inner.state.name} == {both_at_the_end}


def test_with_mode_off_a_block_that_was_committed_by_hand_stays_so():
    with transaction(commit_mode=CommitMode.OFF) as txn:
        assert txn.commit()
        assert not txn.rollback()
    assert txn.is_committed()


def test_a_rollback_by_hand_goes_up_through_the_blocks():
    with transaction() as outer, transaction() as inner:
        with transaction() as nested:
            assert nested.rollback()
        assert inner.is_rolled_back()
    assert outer.is_rolled_back()


def test_a_nested_block_that_fails_rolls_back_the_one_around_it_even_if_that_goes_on(journal, log):
    with transaction() as outer:
        log.step("a")()
        with pytest.raises(ValueError, match="boom"), transaction():
            fails()
        assert outer.is_rolled_back()
        assert log == ["a", "undo a"]
        log.step("b")()
    assert log[2:] == ["b", "undo b"]


def test_staged_hooks_run_in_reverse_and_those_of_the_block_before_what_is_in_it(log):
    with pytest.raises(ValueError, match="boom"), transaction() as outer:
        outer.stage(1, on_rollback_hooks=[log.note("outer 1"), log.note("outer 2")])
        for name in "ab":
            with transaction() as inner:
                inner.stage(1, on_rollback_hooks=[log.note(f"{name} 1"), log.note(f"{name} 2")])
        fails()
    assert log == ["outer 2", "outer 1", "b 2", "b 1", "a 2", "a 1"]


@pytest.mark.parametrize("option", ["commit_mode", "isolation_level"])
def test_a_mode_that_is_none_is_refused(option):
    with pytest.raises(ConfigurationError, match=option):
        transaction(**{option: "LAZY"})


# Tasks in a block.


@colours
@pytest.mark.parametrize("where", ["in a flow", "by itself"])
def test_what_completed_in_a_block_that_fails_is_undone_the_last_first(colour, where, journal, log):
    options = {"on_rollback": [log.note("1st"), log.note_later("2nd, later")]}
    if colour == "sync":
        a, b = log.step("a"), log.step("b", **options)

        def body():
            with transaction():
                a()
                b()
                fails()
    else:

        @task(on_rollback=[log.note("undo a")])
        async def a():
            log.append("a")

        @task(**options)
        async def b():
            log.append("b")

        async def body():
            async with atransaction():
                await a()
                await b()
                fails()

    call = body if where == "by itself" else flow(body)
    with pytest.raises(ValueError, match="boom"):
        call() if colour == "sync" else asyncio.run(call())
    assert log == ["a", "b", "2nd, later", "1st", "undo a"]
    assert histories(journal, "a") == histories(journal, "b") == [UNDONE]
    assert {message for (message,) in query(journal, "SELECT message FROM task_runs")} == {
        "Rolled back as part of a transaction."
    }


def test_a_block_that_ends_well_commits_in_call_order(journal, log):
    with transaction() as txn:
        txn.stage(None, on_commit_hooks=[log.note("commit block")])
        log.step("a")()
        with transaction():
            log.step("b", on_commit=[log.note("commit b"), log.note_later("commit b, later")])()
        assert log == ["a", "b"]
    assert log[2:] == ["commit a", "commit b", "commit b, later", "commit block"]
    assert histories(journal, "a") == [DONE]


def test_an_eager_block_commits_each_task_as_it_completes_and_undoes_none(journal, log):
    with pytest.raises(ValueError, match="boom"), transaction(commit_mode=CommitMode.EAGER):
        log.step("a")()
        assert log == ["a", "commit a"]
        fails()
    assert log == ["a", "commit a"]
    assert histories(journal, "a") == [DONE]


def test_outside_of_any_block_a_task_commits_when_it_has_completed(journal, log):
    outer_log = log

    @task(on_commit=[log.note("commit outer")], on_completion=[lambda *_: log.append("outer is told")])
    def outer():
        outer_log.step("inner")()

    outer()
    assert log == ["inner", "commit inner", "commit outer", "outer is told"]


def test_the_task_that_fails_is_not_undone_and_a_caught_failure_undoes_nothing(journal, log):
    with transaction() as txn:
        log.step("a")()
        with pytest.raises(ValueError):
            log.step("b", fails=True)()
        log.step("c", fails=True)(return_state=True)
    assert txn.is_committed()
    assert log == ["a", "b", "c", "commit a"]
    with pytest.raises(ValueError), transaction():
        log.step("d")()
        log.step("e", fails=True)()
    assert log[4:] == ["d", "e", "undo d"]


def test_a_rollback_hook_that_raises_is_logged_and_the_others_run(journal, log, caplog):
    def bad(txn):
        raise RuntimeError("a bug in the hook")

    async def bad_later(txn):
        raise RuntimeError("a later bug")

    with pytest.raises(ValueError, match="boom"), transaction():
        log.step("a")()
        log.step("b", on_rollback=[log.note("undo b"), bad, bad_later])()
        fails()
    assert log == ["a", "b", "undo b", "undo a"]
    assert "a bug in the hook" in caplog.text
    assert "a later bug" in caplog.text
    assert histories(journal, "b") == [UNDONE]


@pytest.mark.parametrize("later", [False, True])
def test_a_commit_hook_that_raises_rolls_back_the_task_it_belongs_to(later, journal, log, caplog):
    def bad(txn):
        raise RuntimeError("a bug in the hook")

    async def bad_later(txn):
        raise RuntimeError("a bug in the hook")

    with transaction() as txn:
        log.step("a")()
        log.step("b", on_commit=[bad_later if later else bad, log.note("commit b")])()
        log.step("c")()
    assert txn.is_committed()
    assert log == ["a", "b", "c", "commit a", "undo b", "commit c"]
    assert "a bug in the hook" in caplog.text
    assert [histories(journal, name) for name in "abc"] == [[DONE], [UNDONE], [DONE]]


def test_a_hook_is_handed_the_transaction_of_its_task_with_values_and_result(journal):
    seen = []

    @task(on_rollback=[lambda txn: seen.append((txn.get("path"), txn.get("id"), txn.read()))])
    def create(n):
        get_transaction().set("id", n)
        return n * 10

    with pytest.raises(ValueError, match="boom"), transaction() as txn:
        txn.set("path", "/there")
        create(1)
        create(2)
        fails()
    assert seen == [("/there", 2, 20), ("/there", 1, 10)]


def test_hooks_can_be_added_by_decorators(journal, log):
    @task
    def step():
        return 1

    assert step.on_rollback(hook := log.note("undo")) is hook
    step.on_commit(log.note("commit"))
    assert step.with_options(name="other").definition.options.hooks == step.definition.options.hooks
    with transaction():
        step()
    with pytest.raises(ValueError, match="boom"), transaction():
        step()
        fails()
    assert log == ["commit", "undo"]


def test_a_hook_that_is_not_callable_is_refused():
    with pytest.raises(ConfigurationError, match="on_rollback holds 1"):
        task(on_rollback=[1])(lambda: None)


def test_a_task_without_hooks_outside_any_transaction_has_no_part_in_one(journal):
    from durable.call import Call

    made = []
    original = Call.close

    @task
    def plain():
        return 1

    @flow
    def job():
        return plain()

    def close(self):
        made.append(self.unit)
        original(self)

    Call.close = close
    try:
        job()
    finally:
        Call.close = original
    assert made == [None]


# Threads, interruptions, forks.


def test_tasks_on_threads_belong_to_the_transaction_of_the_context_they_were_given(journal, log):
    inside, outside = log.step("inside"), log.step("outside")
    with ThreadPoolExecutor(4) as pool, pytest.raises(ValueError, match="boom"), transaction():
        for future in [pool.submit(copy_context().run, inside) for _ in range(8)]:
            future.result()
        thread = threading.Thread(target=outside)
        thread.start()
        thread.join()
        fails()
    assert log.count("undo inside") == 8
    assert "undo outside" not in log
    assert histories(journal, "inside") == [UNDONE] * 8
    assert histories(journal, "outside") == [DONE]


def test_coroutines_at_once_belong_to_their_own_blocks(journal, log):
    @task(on_rollback=[lambda txn: log.append(("undo", txn.read()))])
    async def step(n):
        await asyncio.sleep(0)
        return n

    async def block(n):
        async with atransaction():
            await step(n)
            await step(n + 1)
            if n == 10:
                fails()

    async def main():
        return await asyncio.gather(block(0), block(10), block(20), return_exceptions=True)

    first, second, third = asyncio.run(main())
    assert (first, third) == (None, None)
    assert isinstance(second, ValueError)
    assert log == [("undo", 11), ("undo", 10)]


@pytest.mark.parametrize("fail", [False, True])
def test_a_task_that_outlives_its_block_ends_as_the_block_did(fail, journal, log):
    begun, go = threading.Event(), threading.Event()

    @task(on_rollback=[log.note("undo")], on_commit=[log.note("commit")])
    def slow():
        begun.set()
        go.wait(60)

    with ThreadPoolExecutor(1) as pool:
        try:
            with transaction():
                future = pool.submit(copy_context().run, slow)
                assert begun.wait(60)
                if fail:
                    fails()
        except ValueError:
            pass
        go.set()
        future.result()
    assert log == (["undo"] if fail else ["commit"])


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
def test_an_interruption_undoes_nothing(interruption, journal, log):
    with pytest.raises(interruption), transaction() as txn:
        log.step("a")()
        raise interruption
    assert log == ["a"]
    assert txn.is_active()
    assert get_transaction() is None


def test_when_the_journal_has_failed_nothing_is_undone(journal, log):
    with pytest.raises(JournalFailed), transaction() as txn:
        log.step("a")()
        raise JournalFailed(str(journal), "the disk is full")
    assert log == ["a"]
    assert txn.is_active()
    assert histories(journal, "a") == [DONE]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_has_no_part_in_the_transaction_and_ends_none(journal, log):
    with transaction() as txn:
        log.step("a")()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                assert get_transaction() is None
                log.step("b")()
                txn.__exit__(ValueError, ValueError(), None)
                code = 0 if log == ["a", "b", "commit b"] else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert log == ["a", "commit a"]
