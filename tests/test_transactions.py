"""Transactions: what is undone, in which order, what the journal says of it, and what commits."""

import asyncio
import inspect
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from contextvars import copy_context

import pytest
from scripts import histories, query

from durable import ConfigurationError, JournalFailed, NotSerializable, flow, task, transactions
from durable.cache_policies import INPUTS
from durable.transactions import (
    CommitMode,
    IsolationLevel,
    TransactionState,
    atransaction,
    get_transaction,
    transaction,
)

UNDONE = ["Running", "Completed", "RolledBack", "RolledBack"]  # decided, then its hooks have run
UNDONE_WITHOUT_HOOKS = ["Running", "Completed", "RolledBack"]
DONE = ["Running", "Completed"]

colours = pytest.mark.parametrize("colour", ["sync", "async"])


class Log(list):
    """What was called, in order. `step("a")` is a task that says so, and so do its hooks."""

    def note(self, what):
        return lambda txn: self.append(what)

    def note_later(self, what):
        async def hook(txn):
            await asyncio.sleep(0)
            self.append(what)

        return hook

    def step(self, name, *, fails=False, **options):
        options = {"on_rollback": [self.note(f"undo {name}")], "on_commit": [self.note(f"commit {name}")], **options}

        @task(name=name, **options)
        def step():
            self.append(name)
            if fails:
                raise ValueError(name)
            return name

        return step


@pytest.fixture
def log():
    return Log()


def fails():
    raise ValueError("boom")


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


# The next run.


def test_after_a_rollback_the_next_run_executes_again_with_fresh_retries_what_was_undone(journal, log, caplog):
    caplog.set_level("INFO", "durable")
    attempts = []

    @task(retries=1, on_rollback=[log.note("undo step")])
    def step():
        attempts.append(1)
        if len(attempts) % 2:
            raise ValueError
        return len(attempts)

    before, fail = log.step("before"), [True]

    @flow
    def job():
        before()
        with transaction():
            n = step()
            if fail:
                fails()
        return n

    with pytest.raises(ValueError, match="boom"):
        job()
    fail.clear()
    assert job() == 4
    assert log == ["before", "commit before", "undo step"], "what only replays commits nothing twice"
    assert "1 task restored" in caplog.text
    (history,) = histories(journal, "step")
    assert history == ["Running", "Retrying", *UNDONE[1:], "Running", "Retrying", "Completed"]


def test_what_was_undone_is_no_memos_hit(journal, log):
    memo = log.step("memo", cache_policy=INPUTS)
    with pytest.raises(ValueError, match="boom"), transaction():
        memo()
        fails()
    memo()
    memo()
    assert log == ["memo", "undo memo", "memo", "commit memo"]


def test_a_memos_hit_is_not_undone_for_its_effect_is_another_runs(journal, log):
    memo = log.step("memo", cache_policy=INPUTS)
    memo()
    with pytest.raises(ValueError, match="boom"), transaction():
        memo()
        fails()
    assert log == ["memo", "commit memo"]
    assert histories(journal, "memo") == [DONE, ["Pending", "Cached"]]


def test_a_task_called_by_a_rollback_hook_is_executed_each_time(journal, log):
    delete = log.step("delete")
    step = log.step("step", on_rollback=[lambda txn: delete()])
    fail = [1, 2]

    @flow
    def job():
        with transaction():
            step()
            if fail:
                fail.pop()
                fails()

    for _ in range(2):
        with pytest.raises(ValueError, match="boom"):
            job()
    job()
    assert log == ["step", "delete", "commit delete"] * 2 + ["step", "commit step"]


# Keys.


def test_a_value_staged_under_a_key_is_found_by_the_next_block(journal, log):
    with transaction("day 1") as txn:
        assert not txn.is_committed()
        assert txn.read() is None
        rows = [1, (2, 3)]
        txn.stage(rows, on_commit_hooks=[log.note("commit")])
        rows.append(4)
    assert txn.read() == [1, (2, 3)]

    @flow
    def job():
        with transaction("day 1") as txn:
            if not txn.is_committed():
                txn.stage("another", on_commit_hooks=[log.note("again")])
        return txn.read()

    assert job() == [1, (2, 3)]
    assert log == ["commit"]
    with transaction("day 2") as txn:
        assert not txn.is_committed()
    with transaction("day 2") as txn:
        assert txn.is_committed()
        assert txn.read() is None
    with transaction("day 1", overwrite=True) as txn:
        assert not txn.is_committed()
        txn.stage("new")
    with transaction("day 1") as txn:
        assert txn.read() == "new"
    names = query(journal, "SELECT task, name, state FROM task_runs ORDER BY task_run_row")
    assert names == [("transaction", f"day {n}", "Completed") for n in (1, 2, 1)]


def test_when_the_journal_has_failed_nothing_is_undone(journal, log):
    with pytest.raises(JournalFailed), transaction() as txn:
        log.step("a")()
        raise JournalFailed(str(journal), "the disk is full")
    assert log == ["a"]
    assert txn.is_active()
    assert histories(journal, "a") == [DONE]


def test_a_block_that_fails_or_may_not_write_leaves_its_key_free(journal):
    with pytest.raises(ValueError, match="boom"), transaction("key") as txn:
        txn.stage(1)
        fails()
    with transaction("key", write_on_commit=False) as txn:
        txn.stage(1)
    with pytest.raises(NotSerializable, match="transaction 'key'"), transaction("key") as txn:
        txn.stage(lambda: 1)
    with transaction("key") as txn:
        assert not txn.is_committed()


def test_a_nested_key_is_recorded_when_the_outermost_block_commits(journal):
    with pytest.raises(ValueError, match="boom"), transaction():
        with transaction("lazy") as txn:
            txn.stage(1)
        with transaction("eager", commit_mode=CommitMode.EAGER) as txn:
            txn.stage(1)
        fails()
    with transaction("lazy") as lazy, transaction("eager") as eager:
        assert (lazy.is_committed(), eager.is_committed()) == (False, True)


@pytest.mark.parametrize("key", ["", 1, b"x"])
def test_a_key_that_is_no_text_is_refused(key):
    with pytest.raises(ConfigurationError, match="non-empty str"):
        transaction(key)


@colours
def test_serializable_blocks_with_one_key_come_one_after_another(colour, journal):
    journal_lock = threading.Lock()
    inside, order = [], []

    def enter(txn):
        with journal_lock:
            inside.append(1)
            order.append((len(inside), txn.is_committed(), txn.read()))
        if not txn.is_committed():
            txn.stage(len(order))
        with journal_lock:
            inside.pop()

    level = {"isolation_level": IsolationLevel.SERIALIZABLE}

    def block():
        with transaction("key", **level) as txn:
            enter(txn)

    async def block_async():
        async with atransaction("key", **level) as txn:
            await asyncio.sleep(0)
            enter(txn)

    async def main():
        await asyncio.gather(*(block_async() for _ in range(4)))

    if colour == "sync":
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: block(), range(4)))
    else:
        asyncio.run(main())
    assert order == [(1, False, None), *[(1, True, 1)] * 3]
    assert not list(journal.parent.glob("*locks/transaction*"))


def test_a_serializable_block_does_not_wait_for_itself(journal):
    level = {"isolation_level": IsolationLevel.SERIALIZABLE}
    with transaction("key", **level):
        with transaction("key", **level):
            pass
        with transaction("other", **level):
            pass
        with transaction("other"):
            pass
    with transaction("other", **level) as txn:
        assert txn.is_committed()
    with pytest.raises(KeyboardInterrupt), transaction():
        with transaction("third", **level):
            pass
        raise KeyboardInterrupt
    assert not list(journal.parent.glob("*locks/transaction*"))


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
