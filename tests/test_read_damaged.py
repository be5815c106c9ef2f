"""The read commands on files that are damaged or hostile: one clear line, no traceback, no escape, no writing."""

import itertools
import random
import tracemalloc

import pytest
from commands import command, in_one_file, lived, task_run
from inspecting import everything, tampered

from durable.reader import JournalReader, queries
from durable.reader.comparing import pairs


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    ids = lived(folder)
    journal = in_one_file(folder / "runs.db")
    failed = task_run(journal, ids[2], "load", shard=3)
    again = task_run(journal, ids[0], "load", shard=3)
    screens = [
        ("inspect", ids[0], again),
        ("inspect", ids[2], failed, "--json"),
        ("why", ids[0], "--all"),
        ("why", ids[1], "--json"),
        ("why", ids[3], "load"),
        ("diff", ids[0], ids[1], "--all"),
        ("diff", ids[2], ids[3], "--json"),
        ("result", again, "--json"),
        ("result", failed),
        ("plan", ids[4]),
        ("plan", ids[2], "--json", "--all"),
    ]
    return journal, screens


def looked_at(capsys, file, screens):
    """Each screen's exit code, having checked that it ended as it should."""
    for name, *words in screens:
        code, out, err = command(capsys, name, file, *words)
        assert code in (0, 3, 5), (name, words, err)
        assert "Traceback (most" not in err and "has a bug: Attribute" not in err and "has a bug: Index" not in err, err
        assert code == 0 or err.count("\n") >= 1
        assert not [c for c in out + err if c != "\n" and not c.isprintable()], (name, words)
        yield code


@pytest.mark.parametrize("seed", range(12))
def test_changed_bytes_are_never_a_traceback(history, tmp_path, capsys, seed):
    journal, screens = history
    whole, dice = journal.read_bytes(), random.Random(seed)
    for case in range(4):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 1, 8, 64, 400))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if case == 3:
            page = 4096 * dice.randrange(len(data) // 4096)
            data[page : page + 4096] = dice.randbytes(4096)
        file = tmp_path / f"{case}.db"
        file.write_bytes(data)
        assert list(looked_at(capsys, file, screens))


def test_a_truncated_journal_is_said_to_be(history, tmp_path, capsys):
    journal, screens = history
    whole = journal.read_bytes()
    for length in (0, 100, 4096, len(whole) // 2, len(whole) - 1):
        file = tmp_path / f"{length}.db"
        file.write_bytes(whole[:length])
        assert set(looked_at(capsys, file, screens)) <= {3, 5}


DEEP = "x'" + "91" * 100_000 + "00'"  # a list in a list in a list ...
HUGE = "x'dd7fffffff'"  # a list that claims two thousand million items
HOSTILE = [
    "UPDATE task_run SET parent_id = id",
    "UPDATE task_run SET parent_id = (SELECT max(id) FROM task_run) - id + 1",
    "UPDATE task_run SET parent_id = 999999",
    "UPDATE flow_run SET parent_flow_run_id = 3 - id",
    "UPDATE flow_run SET parent_task_run_id = 1, parent_flow_run_id = 1 WHERE id > 1",
    "UPDATE flow_run SET forked_from_id = id",
    f"UPDATE task_run SET inputs = {DEEP}",
    f"UPDATE task_run SET inputs = {HUGE}",
    "UPDATE task_run SET inputs = zeroblob(3000000)",
    "UPDATE task_run SET occurrence = -1",
    "UPDATE task_run SET occurrence = 9223372036854775807",
    "UPDATE task_run SET reason = char(27) || '[2J' || char(10) || 'x', name = char(155)",
    "UPDATE task_run SET worker = char(7), version = char(0)",
    "UPDATE task SET name = char(27) || ']0;t' || char(7)",
    'UPDATE task SET tags = \'[[[\', parts = \'{"a": 1, "\\u001b": "\\u001b"}\'',
    "UPDATE task SET parts = '[1]', tags = '5'",
    "UPDATE task SET parts = '" + "[" * 50_000 + "'",
    "UPDATE task SET function = '../../../etc/passwd:x', parts = '{\"../../../etc/passwd:x\": \"0\"}'",
    "UPDATE task_run_state SET message = char(27) || '[31m', task_id = 999999",
    "UPDATE task_run_state SET state = 99",
    "UPDATE task_run_state SET result_id = 999999",
    "UPDATE task_run_state SET at = 9223372036854775807",
    "UPDATE task_run_state SET at = -9223372036854775808",
    f"UPDATE result SET payload = {DEEP}",
    f"UPDATE result SET payload = {HUGE}",
    "UPDATE result SET payload = x'', expires_at = -9223372036854775808",
    "UPDATE result SET format = 3",
    "UPDATE result SET task_run_id = 999999",
    "UPDATE process SET command = '[', folder = char(0)",
    "UPDATE process SET command = '[\"/dev/zero.py\"]', folder = '/dev'",
    "UPDATE process SET command = '[{}]', folder = '" + "x" * 10_000 + "'",
    "INSERT INTO task_run_yield SELECT id, 1, 0, 1, 1 FROM task_run",
    "INSERT INTO task_run_dependency SELECT id, id, char(27) FROM task_run",
    "DELETE FROM task",
    "DELETE FROM process",
    "DELETE FROM result",
    "DELETE FROM flow_run WHERE id > 1",
]


@pytest.mark.parametrize("statement", HOSTILE)
def test_facts_that_cannot_be_are_refused_or_shown(history, tmp_path, capsys, statement):
    journal, screens = history
    file = tampered(journal, tmp_path, "PRAGMA foreign_keys = OFF", "PRAGMA ignore_check_constraints = ON", statement)
    payloads = [("result", screens[0][2]), ("result", screens[0][2], "--format", "json")]
    tracemalloc.start()
    try:
        assert list(looked_at(capsys, file, [*screens, *payloads]))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 60_000_000, peak


def test_looking_changes_nothing(history, capsys):
    journal, screens = history
    before = everything(journal.parent)
    assert set(looked_at(capsys, journal, screens)) == {0}
    assert everything(journal.parent) == before


def test_matching_holds_no_more_than_what_waits(history, tmp_path, monkeypatch):
    """Two runs that have nothing in common, read side by side: what waits for a match is let go of in time."""
    journal, _ = history
    monkeypatch.setattr("durable.reader.comparing.WAITING", 2)
    with JournalReader(journal) as reader:
        old, new = (run.row for run in itertools.islice(reversed(reader.flow_runs(10)), 2))
        found = list(pairs(reader, old, new))
        calls = [(pair.old and pair.old.row, pair.new and pair.new.row) for pair in found]
        for side, flow in ((0, old), (1, new)):
            rows = sorted(pair[side] for pair in calls if pair[side] is not None)
            members = [
                row for member in reader.family(flow) for (row, *_) in reader.rows(queries.CALLS_OF, member, 0, 999)
            ]
            assert rows == sorted(members), "each call once, whatever is let go of"
