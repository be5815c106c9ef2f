"""The read model: verdicts, counts, trees, pages; quick and flat in memory however long a run is."""

import itertools
import math
import os
import shutil
import sqlite3
import time
import tracemalloc
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspecting import live, run_script

from durable import flow
from durable.codec import canonical_items, encode, encode_exception
from durable.dialect import bound
from durable.errors import JournalNotFound, NotAJournal
from durable.journal import schema
from durable.reader import JournalReader, TaskRun, calls_of, collapsed, every, queries, sql
from durable.reader.failures import arguments_of, failure_of
from durable.reader.spread import Spread

LONG = 60_000


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    run_script(folder, "die")
    return folder / "runs.db"


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failed")
    run_script(folder, "fail")
    return folder / "runs.db"


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """One flow run of many calls, written with SQL: the engine would take minutes."""
    file = tmp_path_factory.mktemp("long") / "runs.db"
    now = int(time.time() * 1e6)
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    schema.create(db)
    db.execute("INSERT INTO process VALUES (1, 1, 'h', ?, '3', '0', '3', 'power', '[]', '/')", (now,))
    db.execute("INSERT INTO flow (id, key, name, function) VALUES (1, ?, 'f', 'm:f')", (os.urandom(16),))
    db.execute(
        "INSERT INTO task (id, key, source, name, function, tags, parts) VALUES (1, ?, ?, 't', 'm:t', '[]', '{}')",
        (bytes(16), bytes(16)),
    )
    db.execute(
        "INSERT INTO flow_run (id, key, flow_id, process_id, state, at, parameters_digest) "
        "VALUES (1, ?, 1, 1, 5, ?, ?)",
        (os.urandom(16), now, bytes(16)),
    )
    db.executemany(
        "INSERT INTO task_run (id, key, task_id, flow_run_id, process_id, state, at, occurrence, inputs) "
        "VALUES (?, ?, 1, 1, 1, 5, ?, 1, ?)",
        ((i, i.to_bytes(16, "big"), now + i * 10, canonical_items(("i",), (i,))) for i in range(1, LONG + 1)),
    )
    db.executemany(
        "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id) VALUES (?, 1, 7, ?, 1)",
        ((i, now + i * 10 + i % 1000) for i in range(1, LONG)),
    )
    db.execute("COMMIT")
    db.close()
    return file


def copied(file, folder, *statements):
    """A copy of a journal, gone on with by hand."""
    for suffix in ("", "-wal"):
        if file.with_name(file.name + suffix).exists():
            shutil.copy(f"{file}{suffix}", folder / f"runs.db{suffix}")
    db = sqlite3.connect(folder / "runs.db", isolation_level=None)
    for statement in statements:
        db.execute(statement)
    db.close()
    return folder / "runs.db"


@pytest.mark.parametrize(
    ("live", "state", "died", "status", "lost", "running"),
    [
        (True, "Running", False, "running", 0, 1),
        (False, "Crashed", True, "lost", 1, 0),
        (None, "Running?", False, "running?", 0, 1),
    ],
)
def test_whether_a_run_is_running_is_the_owners_to_say(killed, live, state, died, status, lost, running):
    asked = []

    def alive(run, host, pid):
        asked.append((run.hex(), pid))
        return live

    with JournalReader(killed, alive) as reader:
        (run,) = reader.flow_runs(20)
        assert (run.state, run.died, run.recorded, run.live) == (state, died, "Running", live)
        assert (run.ended is None) is (live is not False)
        counts = reader.counts(run)
        assert (counts.lost, counts.running, counts.completed) == (lost, running, 30)
        *_, last = collapsed(reader, run)
        assert (last.status, last.first.task) == (status, "load")
        assert set(asked) == {(run.id, run.process.pid)} and len(asked) == 1
        (execution,) = reader.executions(run)
        assert execution.state == state


def test_a_task_of_a_process_that_was_followed_by_another_is_lost_though_the_run_lives(killed, tmp_path):
    file = copied(
        killed,
        tmp_path,
        "INSERT INTO process SELECT id + 100, pid + 1, host, started_at, python, durable, sqlite, durability, command, "
        "folder FROM process",
        "INSERT INTO flow_run_state SELECT id, 1, 12, at + 9000000, process_id + 100, NULL, 'died' FROM flow_run "
        "WHERE parent_flow_run_id IS NULL",
        "INSERT INTO flow_run_state SELECT id, 2, 5, at + 9000000, process_id + 100, NULL, NULL FROM flow_run "
        "WHERE parent_flow_run_id IS NULL",
    )
    with JournalReader(file, lambda *_: True) as reader:
        (run,) = reader.flow_runs(20)
        assert (run.state, run.executions) == ("Running", 2)
        counts = reader.counts(run)
        assert (counts.lost, counts.running) == (1, 0)
        assert [node.status for node in collapsed(reader, run)][-1] == "lost"
        first, second = reader.executions(run)
        assert (first.state, second.state) == ("Crashed", "Running") and second.process.pid == first.process.pid + 1
        # The first ended when it last recorded something, not when the second found out.
        assert first.ended < first.started + 8_000_000 < second.started
    with JournalReader(file, lambda *_: False) as reader:
        assert reader.counts(reader.flow_runs(1)[0]).lost == 1


def test_a_run_that_ends_while_it_is_looked_at_did_not_crash(killed, tmp_path):
    file = copied(killed, tmp_path)
    writer = sqlite3.connect(file, isolation_level=None)
    writer.execute("PRAGMA journal_mode = wal").fetchall()
    writer.execute("CREATE TABLE IF NOT EXISTS keeps_the_log (x)")

    def ends(run, host, pid):
        writer.execute(
            "INSERT INTO flow_run_state SELECT id, 1, 7, at + 5, process_id, NULL, NULL FROM flow_run WHERE key = ?",
            (run,),
        )
        return False

    with JournalReader(file, ends) as reader:
        (run,) = reader.flow_runs(20)
        assert (run.state, run.died) == ("Completed", False) and run.completed
    writer.close()


def test_a_task_left_running_in_a_run_that_ended_is_lost(killed, tmp_path):
    file = copied(
        killed,
        tmp_path,
        "INSERT INTO flow_run_state SELECT id, 1, 10, at + 5, process_id, NULL, 'gone' FROM flow_run "
        "WHERE parent_flow_run_id IS NULL",
    )
    with JournalReader(file, lambda *_: pytest.fail("an ended run has no owner to ask for")) as reader:
        (run,) = reader.flow_runs(20)
        assert run.state == "Failed" and reader.counts(run).lost == 1


def test_the_counts_are_what_the_views_count(failed):
    db = sqlite3.connect(failed)
    states = Counter(state for (state,) in db.execute("SELECT state FROM task_runs WHERE flow_run_row IS NOT NULL"))
    db.close()
    with JournalReader(failed) as reader:
        counts = reader.counts(reader.flow_runs(1)[0])
        assert (counts.completed, counts.failed) == (states["Completed"], states["Failed"])
        assert counts.total == sum(states.values())
        assert reader.counts(None).total == 1


def test_both_trees_tell_the_same(failed):
    with JournalReader(failed) as reader:
        (run,) = reader.flow_runs(1)
        together, each = Counter(), Counter()
        for nodes, found in ((collapsed(reader, run), together), (every(reader, run), each)):
            for node in nodes:
                name = node.first.task if isinstance(node.first, TaskRun) else node.first.flow
                found[name, node.status, node.depth] += node.calls
        assert together == each and sum(each.values()) == reader.counts(run).total + 1
        outer = next(
            node.first for node in every(reader, run) if isinstance(node.first, TaskRun) and node.first.task == "outer"
        )
        assert [node.first.task for node in calls_of(reader, outer)] == ["inner", "inner"]


def test_what_a_task_led_to_is_shown_with_it_and_nothing_else(tmp_path):
    script = """
from durable import flow, task
@task
def leaf(x): return x
@task
def node(x): return leaf(x)
@flow
def inside(x): return node(x)
@task
def top(x): return [node(x), inside(x), leaf(-x)]
@flow
def f():
    for i in range(3): top(i)
f()
"""
    run_script(tmp_path, script=script)
    with JournalReader(tmp_path / "runs.db") as reader:
        tops = [node.first for node in every(reader, reader.latest()) if node.depth == 0]
        assert len(tops) == 3
        for number, top in enumerate(tops):
            nodes = list(calls_of(reader, top))
            told = [(each.depth, each.first.task if isinstance(each.first, TaskRun) else "inside") for each in nodes]
            assert told == [(0, "node"), (1, "leaf"), (0, "inside"), (1, "node"), (2, "leaf"), (0, "leaf")]
            assert reader.arguments(nodes[-1].first) == {"x": -number}


@pytest.mark.parametrize(("calls", "lines"), [(3, [1, 1, 1]), (4, [4]), (5, [5])])
def test_four_equal_siblings_are_shown_together(tmp_path, calls, lines):
    script = f"""
from durable import flow, task
@task
def leaf(x): return x
@task
def node(x): return [leaf(i) for i in range(x % 2 + 1)]
@flow
def f():
    for i in range({calls}): node(i)
f()
"""
    run_script(tmp_path, script=script)
    with JournalReader(tmp_path / "runs.db") as reader:
        nodes = list(collapsed(reader, reader.latest()))
        assert [node.calls for node in nodes if node.depth == 0] == lines
        assert sum(node.calls for node in nodes if node.depth == 1) == sum(i % 2 + 1 for i in range(calls))
        together = [node for node in nodes if node.calls > 1 and node.depth == 0]
        for node in together:
            assert reader.arguments(node.first) == {"x": 0} and reader.arguments(node.last) == {"x": calls - 1}


def test_pages_meet_without_gap_or_overlap(killed, failed, tmp_path):
    run_script(
        tmp_path,
        script="from durable import flow, task\n@task\ndef t(x): pass\n"
        "@flow\ndef f(n):\n    for i in range(n): t(i)\nfor n in range(12): f(n)\n",
    )
    with JournalReader(tmp_path / "runs.db") as reader:
        whole = reader.flow_runs(100)
        pages, before = [], None
        while page := reader.flow_runs(5, before):
            pages += page
            before = page[-1].row
        assert [run.id for run in pages] == [run.id for run in whole] and len(whole) == 12
        tasks, after = [], 0
        while page := reader.task_runs(whole[0].row, 3, after):
            tasks += page
            after = page[-1].row
        assert [reader.arguments(task)["x"] for task in tasks] == list(range(11))


def test_no_query_scans_or_sorts_task_runs(killed):
    """Each costs what it shows, not what the journal holds."""
    db = sqlite3.connect(killed)
    big = ("task_run", "task_run_state", "result", "t", "s", "o", "b")
    seen = 0
    for text in (*sql.ALL, *queries.ALL):
        nothing = bound(text, (None,) * (2 if ":a" in text else text.count("?")))
        plan = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", nothing)]
        for step in plan:
            words = step.split()
            # "SCAN t" in LAST_RECORD is of the hundred rows its subquery t holds.
            if words[0] == "SCAN" and words[1] in big and text != sql.LAST_RECORD:
                pytest.fail(f"{step}\n{text}")
            assert "TEMP B-TREE" not in step, (step, text)
        seen += 1
    db.close()
    assert seen > 40


def test_a_long_run_is_counted_and_folded_in_flat_memory(long):
    with JournalReader(long, lambda *_: False) as reader:
        (run,) = reader.flow_runs(1)
        assert (reader.counts(run).completed, reader.counts(run).lost) == (LONG - 1, 1)
        tracemalloc.start()
        try:
            nodes = list(collapsed(reader, run))
            folded = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
            began = list(itertools.islice(every(reader, run), 2000))
            paged = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [(node.calls, node.status) for node in nodes] == [(LONG - 1, "ok"), (1, "lost")]
        assert folded < 2_000_000, folded  # a page of them as text
        assert paged < 6_000_000 and [reader.arguments(node.first)["i"] for node in began[:3]] == [1, 2, 3]
        times = nodes[0].times
        assert abs(times.p50 - 500) < 25 and abs(times.p95 - 950) < 35


def test_the_first_page_of_a_long_run_does_not_wait_for_the_last(long):
    reads = []
    with JournalReader(long, lambda *_: False) as reader:
        run = reader.flow_runs(1)[0]
        asked = reader.task_runs
        reader.task_runs = lambda *args: reads.append(args) or asked(*args)
        assert len(list(itertools.islice(every(reader, run), 10))) == 10
    assert len(reads) == 1


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300), st.lists(st.integers(0, 10**9), max_size=50))
def test_percentiles_are_right_to_three_percent(durations, more):
    spread, other = Spread(), Spread()
    for duration in durations:
        spread.add(duration)
    for duration in more:
        other.add(duration)
    spread.merge(other)
    ordered = sorted(durations + more)
    times = spread.times()
    assert times.total == sum(ordered)
    for share, told in ((0.5, times.p50), (0.95, times.p95)):
        exact = ordered[math.ceil(share * len(ordered)) - 1]
        assert abs(told - exact) <= 0.03 * exact + 1


def test_nothing_is_found_by_what_is_no_id(killed):
    with JournalReader(killed) as reader:
        for prefix in ("", "g", "0" * 33, "%", "_", "'", "٣"):
            assert reader.find(prefix) == []
        (run,) = reader.flow_runs(1)
        assert [found.id for found in reader.find(run.id)] == [run.id]


def test_exceptions_and_arguments_are_looked_at_without_being_rebuilt():
    class Mine(Exception):
        def __init__(self, a, b):
            super().__init__(f"{a} and {b}")

    try:
        raise Mine(1, 2) from KeyError("cause")
    except Mine as error:
        failure = failure_of(encode_exception(error))
    assert failure.type_name.endswith("Mine") and failure.message == "1 and 2"
    assert "KeyError: 'cause'" in failure.traceback and "raise Mine(1, 2)" in failure.traceback
    assert failure_of(encode_exception(ValueError("x"))).type_name == "ValueError"
    assert "not an exception" in failure_of(encode([1])).message
    assert "damaged" in failure_of(b"\xc1").message
    assert arguments_of(None) is None and arguments_of(b"\xc1") is None and arguments_of(encode([1])) is None
    assert arguments_of(canonical_items(("a", "b"), (1, (2,)))) == {"a": 1, "b": (2,)}


def test_a_flow_that_is_first_run_while_the_journal_is_read_is_no_damage(journal):
    """`durable watch`, once in many thousand looks: the runs were read, and then the run of another flow."""
    flow(lambda: 1, name="first")()
    with JournalReader(journal) as reader:
        assert [run.flow for run in reader.flow_runs(5)] == ["first"]
        flow(lambda: 2, name="second")()
        assert [run.flow for run in reader.flow_runs(5)] == ["second", "first"]


def test_what_cannot_be_opened_is_an_error_of_durables(tmp_path):
    with pytest.raises(JournalNotFound, match="no such file"):
        JournalReader(tmp_path / "none.db")
    (tmp_path / "text.db").write_text("hello")
    with pytest.raises(NotAJournal):
        JournalReader(tmp_path / "text.db")


def test_a_writer_that_comes_while_an_unchanging_file_is_read_is_noticed(failed, tmp_path):
    file = copied(failed, tmp_path)
    with JournalReader(file) as reader:
        assert not reader.changed()
        db = sqlite3.connect(file, isolation_level=None)
        db.execute("CREATE TABLE later (x)")
        assert reader.changed()
        db.close()


def test_a_writer_that_dies_in_the_middle_of_the_index_is_read_past(tmp_path):
    """It is read-only here, so it cannot be mended; a connection that is opened then builds one of its own."""
    with live(tmp_path) as process:
        reader = JournalReader(tmp_path / "runs.db")
        (run,) = reader.flow_runs(2)
        process.kill()
        process.wait()
    index = tmp_path / "runs.db-shm"
    with index.open("r+b") as file:  # its header is there twice, and the two differ while it is written
        file.seek(8)
        byte = file.read(1)
        file.seek(8)
        file.write(bytes([byte[0] ^ 1]))
    assert reader.flow_runs(2)[0].id == run.id
    assert reader.notes == ()
    reader.close()
    with JournalReader(tmp_path / "runs.db") as other:
        assert other.flow_runs(2)[0].id == run.id
