"""Task runs counted by stretches of transitions: the numbers are those of a look at each, whatever is between."""

import os
import random
import sqlite3

import pytest
from rows import begun

from durable.reader import JournalReader, counting, sql
from durable.reader.counting import counted

OPEN, ENDED = (3, 4, 5, 6, 13), (7, 8, 9, 10, 11, 12, 14)


def journal(file, seed, *, others, spread=1):
    """Flow run 1 with subflows 3 and 5, and flow runs 2 and 4 between them, where there are `others`."""
    dice = random.Random(seed)
    db = begun(file)
    db.execute(
        "INSERT INTO task (id, key, source, name, function, tags, parts) VALUES (1, ?, ?, 't', 'm:t', '[]', '{}')",
        (bytes(16), bytes(16)),
    )
    for run, parent in ((1, None), (2, None), (3, 1), (4, None), (5, 3)):
        db.execute(
            "INSERT INTO flow_run (id, key, flow_id, parent_flow_run_id, process_id, state, at, parameters_digest) "
            "VALUES (?, ?, 1, ?, 1, 5, 0, ?)",
            (run, os.urandom(16), parent, bytes(16)),
        )
    runs = (1, 2, 3, 4, 5, None) if others else (1, 3, 5)
    for i in range(1, 400):
        first = dice.choice((5, 5, 5, 5, 1, 7, 10, 12))
        db.execute(
            "INSERT INTO task_run (id, key, task_id, flow_run_id, process_id, state, at, occurrence) "
            "VALUES (?, ?, 1, ?, ?, ?, 0, 1)",
            (i * spread, os.urandom(16), dice.choice(runs), dice.choice((1, 2)), first),
        )
        for seq in range(1, dice.choice((1, 2, 2, 2, 2, 3, 5))):
            db.execute(
                "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id) VALUES (?, ?, ?, 0, ?)",
                (i * spread, seq, dice.choice((*OPEN, *ENDED, 7, 7, 7, 7)), dice.choice((1, 2))),
            )
    db.execute("COMMIT")
    db.close()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("others", "spread"), [(False, 1), (True, 1), (True, 50)])
def test_each_stands_where_its_newest_transition_says(tmp_path, seed, others, spread):
    journal(tmp_path / "runs.db", seed, others=others, spread=spread)
    with JournalReader(tmp_path / "runs.db") as reader:
        for process in (1, 2):
            for run in (1, 3, 2, None):
                found = counted(reader.rows, run, process, None)
                query = (sql.COUNTS_OUTSIDE, None, process) if run is None else (sql.COUNTS, run, process)
                (looked,) = reader.rows(*query)
                assert found == (*(number or 0 for number in looked[:-2]), *looked[-2:], False), (run, process)
                assert others or run != 1 or found.total == 399


@pytest.mark.parametrize("others", [False, True])
def test_a_limit_counts_the_newest_and_says_that_there_are_more(tmp_path, others):
    journal(tmp_path / "runs.db", 1, others=others)
    with JournalReader(tmp_path / "runs.db") as reader:
        for run in (1, None) if others else (1,):
            whole = counted(reader.rows, run, 1, None)
            for most in (1, 7, whole.total - 1):
                part = counted(reader.rows, run, 1, most)
                assert part.total == most and part.more
                assert sum(part[1:8]) <= most
            assert counted(reader.rows, run, 1, whole.total) == whole
        ((newest,),) = reader.rows("SELECT max(id) FROM task_run WHERE flow_run_id IN (1, 3, 5)")
        states = "SELECT coalesce((SELECT state FROM task_run_state WHERE task_run_id = t.id ORDER BY seq DESC), state)"
        ((state,),) = reader.rows(f"{states} FROM task_run AS t WHERE id = ?", newest)
        part = counted(reader.rows, 1, 1, 1)
        assert part.completed == (state == 7) and part.crashed == (state == 12)


def test_an_empty_run_has_nothing_to_count(tmp_path):
    journal(tmp_path / "runs.db", 1, others=False)
    with JournalReader(tmp_path / "runs.db") as reader:
        assert counted(reader.rows, None, 1, None).total == counted(reader.rows, 4, 1, 10).total == 0


def test_a_stretch_is_searched_for_by_its_ends(tmp_path):
    journal(tmp_path / "runs.db", 1, others=True)
    asked = []

    class Noting(JournalReader):
        def rows(self, text, *parameters):
            asked.append((text, parameters))
            return super().rows(text, *parameters)

    with Noting(tmp_path / "runs.db") as reader:
        for run in (1, None):
            counted(reader.rows, run, 1, None)
            counted(reader.rows, run, 1, 20)
    assert any("EXISTS" in text for text, _ in asked) and any(text is counting.MEMBERS for text, _ in asked)
    db = sqlite3.connect(tmp_path / "runs.db")
    for text, parameters in asked:
        given = dict(zip("ab", parameters, strict=True)) if ":a" in text else parameters
        for *_, step in db.execute(f"EXPLAIN QUERY PLAN {text}", given):
            assert not step.startswith(("SCAN task_run", "SCAN t ", "SCAN n", "SCAN p", "SCAN r")), (step, text)
            assert step != "SCAN s" or "AS r WHERE r.id BETWEEN" in text, (step, text)
            assert "TEMP B-TREE" not in step, (step, text)
    db.close()
