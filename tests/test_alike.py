"""Task runs counted by SQLite: the tree is that of a look at each, whatever is between and wherever a page ends."""

import os
import random
import re
import sqlite3

import pytest
from rows import begun

from durable.reader import JournalReader, alike, collapsed
from durable.reader.alike import Counting, Page, pages
from durable.reader.spread import Spread

ENDS = ((7,), (7,), (7,), (8,), (10,), (3, 6, 7), (12, 5, 7), (7, 9), (9,), (5,), (12,), (14,), (4,), ())
LONGEST = 600


def journal(file, seed, *, nested, spread=1):
    """Flow run 1 with subflows 3 and 5 (of a task run, where there are callers), and flow runs 2 and 4 between them."""
    dice = random.Random(seed)
    db = begun(file)
    for task in range(1, 5):  # the last is a newer source of the one before
        key = bytes([min(task, 3)]) * 16
        db.execute(
            "INSERT INTO task (id, key, source, name, function, tags, parts) VALUES (?, ?, ?, 't', 'm:t', '[]', '{}')",
            (task, key, bytes([task]) * 16),
        )
    for run, parent, task_run in ((1, None, None), (2, None, None), (3, 1, 4), (4, None, None), (5, 3, None)):
        caller = task_run * spread if nested and task_run is not None else None
        db.execute(
            "INSERT INTO flow_run (id, key, flow_id, parent_flow_run_id, parent_task_run_id, process_id, state, at, "
            "parameters_digest) VALUES (?, ?, 1, ?, ?, 1, 5, ?, ?)",
            (run, dice.randbytes(16), parent, caller, run, bytes(16)),
        )
    owner: dict[int, int | None] = {}
    ends, task, run = ENDS[0], 1, 1
    for i in range(1, LONGEST):
        if dice.random() < 0.1:  # what comes next is alike for a while
            ends, task, run = dice.choice(ENDS), dice.randint(1, 4), dice.choice((1, 1, 2, 3, 4, 5, None))
        row = i * spread
        near = [owned for owned in range(max(1, i - 40), i) if owner[owned] == run]
        parent = dice.choice(near[:3]) * spread if nested and near and dice.random() < 0.5 else None
        owner[i] = 1 if i == 4 else run
        odd = dice.random() < 0.05
        db.execute(
            "INSERT INTO task_run (id, key, task_id, flow_run_id, parent_id, process_id, state, at, occurrence) "
            "VALUES (?, ?, ?, ?, ?, ?, ?, ?, 1)",
            (row, dice.randbytes(16), task, owner[i], parent if i != 4 else None, 1, dice.choice((1, 5, 5, 12)), i * 9),
        )
        for seq, state in enumerate(dice.choice(ENDS) if odd else ends, 1):
            db.execute(
                "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id) VALUES (?, ?, ?, ?, ?)",
                (row, seq, state, i * 9 + dice.randint(-3, 300), dice.choice((1, 1, 1, 2))),
            )
    db.execute("COMMIT")
    db.close()
    return file


@pytest.fixture
def paged(monkeypatch):
    """Makes pages of another length."""

    def pages_of(number):
        monkeypatch.setattr(alike, "PAGE", number)
        monkeypatch.setattr(alike, "_SHORT", 4)
        monkeypatch.setattr(alike, "_PAGE", re.sub(r"LIMIT \d+\)", f"LIMIT {number})", alike._PAGE))
        monkeypatch.setattr(alike, "_NEXT", re.sub(r"OFFSET \d+", f"OFFSET {number - 1}", alike._NEXT))

    return pages_of


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("nested", "spread"), [(False, 1), (True, 1), (True, 3), (False, 50)])
def test_the_tree_is_that_of_a_look_at_each(tmp_path, monkeypatch, paged, seed, nested, spread):
    with JournalReader(journal(tmp_path / "runs.db", seed, nested=nested, spread=spread)) as reader:
        runs = [None, *map(reader.flow_run, range(1, 6))]
        with monkeypatch.context() as each:
            each.setattr(Counting, "page", lambda *_: None)
            looked = [list(collapsed(reader, run)) for run in runs]
        assert sum(node.calls for node in looked[1]) == reader.counts(runs[1]).total + 2  # and two subflows
        for number in (5, 40, 130, 1000):
            paged(number)
            found = [list(collapsed(reader, run)) for run in runs]
            for told, expected in zip(found, looked, strict=True):
                # How long a run that has no end took until now is another each time.
                assert [at_rest(node) for node in told] == [at_rest(node) for node in expected], number


def at_rest(node):
    ends = [one._replace(took=0) if hasattr(one, "flow") else one for one in (node.first, node.last)]
    return node._replace(first=ends[0], last=ends[1])


def test_pages_hold_each_task_run_once(tmp_path, paged):
    with JournalReader(journal(tmp_path / "runs.db", 0, nested=True)) as reader:
        for run in (None, 1, 2):
            rows = [row for (row,) in reader.rows("SELECT id FROM task_run WHERE flow_run_id IS ? ORDER BY id", run)]
            for number in (1, 7, len(rows), len(rows) + 1):
                paged(number)
                found = pages(reader, run)
                assert [page.number for page in found[:-1]] == [number] * (len(found) - 1)
                assert [row for page in found for row in rows if page.low <= row <= page.high] == rows
                assert sum(page.number for page in found) == len(rows)


def test_most_of_a_long_run_is_counted_without_a_look(tmp_path, paged):
    """In the shapes that long runs have: several tasks in turn, calls in calls, few retries."""
    paged(100)
    for nested in (False, True):
        file = tmp_path / f"{nested}.db"
        journal(file, 0, nested=False)
        db = sqlite3.connect(file, isolation_level=None)
        db.execute("BEGIN")
        for i in range(LONGEST, LONGEST + 1000):
            parent = i - i % 20 if nested and i % 20 else None
            db.execute(
                "INSERT INTO task_run (id, key, task_id, flow_run_id, parent_id, process_id, state, at, occurrence) "
                "VALUES (?, ?, ?, 2, ?, 1, 5, ?, 1)",
                (i, os.urandom(16), 1 + i % 3, parent, i),
            )
            for seq, state in enumerate((3, 6, 7) if i % 100 == 7 else (7,), 1):
                db.execute(
                    "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id) VALUES (?, ?, ?, ?, 1)",
                    (i, seq, state, i + 5),
                )
        db.execute("COMMIT")
        db.close()
        with JournalReader(file) as reader:
            looked = []
            asked = reader.stream

            def stream(text, *parameters, asked=asked, looked=looked):
                for row in asked(text, *parameters):
                    if "s.state" in text and row[0] >= LONGEST:
                        looked.append(row[0])
                    yield row

            reader.stream = stream
            nodes = list(collapsed(reader, reader.flow_run(2)))
            assert max(node.calls for node in nodes) > 100
            assert len(set(looked)) < 250, nested


def test_pages_are_searched_for_and_never_scanned(tmp_path, paged):
    """SQLite sorts the groups of a page, and no more."""
    paged(100)
    asked = []

    class Noting(JournalReader):
        def rows(self, text, *parameters):
            asked.append((text, parameters))
            return super().rows(text, *parameters)

        def stream(self, text, *parameters):
            asked.append((text, parameters))
            return super().stream(text, *parameters)

    for nested, spread in ((False, 1), (True, 1), (False, 50)):
        file = journal(tmp_path / f"{nested}{spread}.db", 1, nested=nested, spread=spread)
        with Noting(file) as reader:
            for run in (None, *map(reader.flow_run, (1, 2))):
                list(collapsed(reader, run))
    assert {"group_concat(t.id) FILTER", "json_each", "GROUP BY 1, 2, 3\n", "NOT INDEXED"} <= {
        part
        for part in ("group_concat(t.id) FILTER", "json_each", "GROUP BY 1, 2, 3\n", "NOT INDEXED")
        for text, _ in asked
        if part in f"{text}\n"
    }
    db = sqlite3.connect(file)
    for text, parameters in asked:
        if text in ("BEGIN", "ROLLBACK"):
            continue
        given = dict(zip("ab", parameters, strict=False)) if ":a" in text else parameters
        for *_, step in db.execute(f"EXPLAIN QUERY PLAN {text}", given):
            assert not re.match(r"SCAN (t|s|n|o|b|task_run\w*)\b", step), (step, text)
            assert "TEMP B-TREE" not in step or "GROUP BY 1, 2, 3" in text, (step, text)
    db.close()


def test_a_page_is_sparse_where_looking_between_does_not_pay():
    assert Page(1, 1000, 10).sparse and not Page(1, 100, 10).sparse


@pytest.mark.parametrize("most", [30, 10**6, 2**62])
def test_many_durations_are_counted_as_each_by_itself(most):
    dice = random.Random(most)
    durations = [int(most ** dice.random()) - 2 for _ in range(5000)] + [0, most, -1]
    together, each = Spread(), Spread()
    for part in (durations[:7], durations[7:]):
        together.add_all(list(map(str, part)))
    for duration in durations:
        each.add(duration)
    assert together.buckets == each.buckets and together.times() == each.times()
    assert (together.low, together.high) == (each.low, each.high)
