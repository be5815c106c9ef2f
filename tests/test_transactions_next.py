"""What a transaction leaves for the next one: what was undone is executed again, and what a key was given is found."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from scripts import histories, query
from undoing import DONE, UNDONE, fails

from durable import ConfigurationError, NotSerializable, flow, task
from durable.cache_policies import INPUTS
from durable.transactions import (
    CommitMode,
    IsolationLevel,
    atransaction,
    transaction,
)

colours = pytest.mark.parametrize("colour", ["sync", "async"])


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
