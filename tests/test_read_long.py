"""`why`, `diff` and `plan` on long runs: every call is told, in memory that does not grow with their number."""

import os
import sqlite3
import time
import tracemalloc
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pytest

from durable.cli import main
from durable.codec import canonical_items, encode
from durable.journal import schema
from durable.journal.facts import checksum_of
from durable.reader import JournalReader
from durable.reader.calls import identity
from durable.reader.diffing import Differ

CALLS = 12_000
TASK = bytes(16)


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("long") / "runs.db")


def two_runs(file):
    """Two flow runs of many calls, written with SQL. Of the second's, every tenth has other arguments, every seventh
    another result."""
    now = int(time.time() * 1e6)
    db = sqlite3.connect(file, isolation_level=None)
    db.execute("PRAGMA synchronous = OFF")
    db.execute("BEGIN")
    schema.create(db)
    db.execute("INSERT INTO process VALUES (1, 1, 'h', ?, '3', '0', '3', 'power', '[\"job.py\"]', '/none')", (now,))
    db.execute("INSERT INTO flow (id, key, name, function) VALUES (1, ?, 'f', 'm:f')", (os.urandom(16),))
    db.execute(
        "INSERT INTO task (id, key, source, name, function, tags, parts) VALUES (1, ?, ?, 't', 'm:t', '[]', '{}')",
        (TASK, TASK),
    )
    for run in (1, 2):
        key = os.urandom(16)
        db.execute(
            "INSERT INTO flow_run (id, key, flow_id, process_id, state, at, parameters_digest) "
            "VALUES (?, ?, 1, 1, 5, ?, ?)",
            (run, key, now, bytes(16)),
        )
        db.execute(
            "INSERT INTO flow_run_state (flow_run_id, seq, state, at, process_id) VALUES (?, 1, 10, ?, 1)", (run, now)
        )
        for i in range(1, CALLS + 1):
            row = (run - 1) * CALLS + i
            inputs = canonical_items(("i",), (i if i % 10 else i + run * 1_000_000,))
            payload = encode(i if i % 7 else -i * run)
            db.execute(
                "INSERT INTO task_run (id, key, task_id, flow_run_id, process_id, state, at, occurrence, inputs) "
                "VALUES (?, ?, 1, ?, 1, 5, ?, 1, ?)",
                (row, identity(key, TASK, inputs, 1), run, now + i, inputs),
            )
            db.execute(
                "INSERT INTO result (id, format, checksum, payload) VALUES (?, 1, ?, ?)",
                (row, checksum_of(payload), payload),
            )
            db.execute(
                "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, result_id) "
                "VALUES (?, 1, 7, ?, 1, ?)",
                (row, now + i, row),
            )
    db.execute("COMMIT")
    db.close()
    return file


@pytest.mark.parametrize(
    "screen", ["why -", "why - --all", "diff 1 2", "diff 1 2 --all --json", "plan -", "plan - --all"]
)
def test_memory_is_flat_and_every_call_is_told(long, tmp_path, screen):
    with JournalReader(long) as reader:
        words = {str(row): reader.flow_run(row).id for row in (1, 2)}
    name, *rest = screen.split()
    shown = tmp_path / "out"
    with shown.open("w") as out, Path(os.devnull).open("w") as nothing, redirect_stdout(out), redirect_stderr(nothing):
        tracemalloc.start()
        try:
            with pytest.raises(SystemExit) as stopped:
                main([name, str(long), *(words.get(word, word) for word in rest)])
            peak = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    text = shown.read_text()
    assert stopped.value.code == 0 and peak < 6_000_000, peak
    if "--all" not in screen:
        assert len(text) < 10_000
        assert name == "diff" or f"x{CALLS * 9 // 10 if name == 'why' else CALLS}  t(i=1 .. " in text
    elif name != "diff":
        assert text.count("t(i=") == CALLS


def test_each_call_of_both_runs_is_matched_once(long):
    with JournalReader(long) as reader:
        changes = list(Differ(reader, 1, 2).every())
    assert len(changes) == CALLS, "those with other arguments by position"
    assert sum("inputs" in one.kinds for one in changes) == CALLS // 10
    assert sum("result" in one.kinds for one in changes) == CALLS // 7
    assert all(one.pair.new.row - one.pair.old.row == CALLS for one in changes)
