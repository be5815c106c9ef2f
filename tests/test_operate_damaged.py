"""The commands that look at a whole journal, on files that are damaged or hostile: they end, in bounded memory, with
what they found or one clear line; no traceback, no control character."""

import random
import re
import tracemalloc

import pytest
from commands import command, in_one_file, lived
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from inspecting import tampered
from scripts import FakeClock
from test_read_damaged import HOSTILE

from durable.clock import use_clock

ESCAPES = "\x1b[2J\x1b]0;t\x07\x9b31m\x7f\r\u202e"
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
MORE = [
    f"UPDATE task SET name = '{ESCAPES}', function = '{ESCAPES}'",
    f"UPDATE flow SET name = '{ESCAPES}', function = '{ESCAPES}'",
    f"UPDATE flow_run SET name = '{ESCAPES}', idempotency_key = '{ESCAPES}' || id, version = '{ESCAPES}'",
    f"UPDATE process SET host = '{ESCAPES}', python = '{ESCAPES}', folder = '{ESCAPES}'",
    f"UPDATE task_run SET worker = '{ESCAPES}', version = '{ESCAPES}', tags = '{ESCAPES}'",
    f"UPDATE flow_run_state SET message = '{ESCAPES}'",
    f"UPDATE state_kind SET name = '{ESCAPES}' WHERE code = 7",
    "UPDATE task SET name = printf('%.*c', 100000, 'x')",
    "UPDATE process SET host = printf('%.*c', 100000, 'x')",
    "UPDATE flow_run_state SET message = printf('%.*c', 100000, 'x')",
    "UPDATE flow_run SET parameters = zeroblob(3000000)",
    "UPDATE task_run SET worker = printf('%.*c', 100000, 'x')",
    "UPDATE task_run SET worker = 'w' || id",
    "UPDATE flow_run SET parent_flow_run_id = id",
    "UPDATE flow_run SET at = 9223372036854775807",
    "UPDATE flow_run SET at = -9223372036854775808",
    "UPDATE task_run SET at = 9223372036854775807, state = 7",
    "UPDATE task_run SET process_id = 999999",
    "UPDATE flow_run_state SET process_id = 999999, state = 5",
    "UPDATE flow_run_state SET at = -1, state = 3",
    "DELETE FROM state_kind",
    "DELETE FROM flow",
    "DELETE FROM flow_run",
    "DELETE FROM task_run",
    *(
        f"INSERT INTO task_run SELECT {row}, randomblob(16), task_id, flow_run_id, parent_id, process_id, state, at, "
        "occurrence, inputs, name, tags, version, reason, worker FROM task_run LIMIT 1"
        for row in (9223372036854775807, -5)
    ),
]


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    ids = lived(folder)
    return in_one_file(folder / "runs.db"), ids


def screens(ids):
    yield from (("inspect",), ("why", ids[1]), ("plan", ids[4]), ("tail", "-n", "100"), ("tail", "--json"))
    yield from (("watch",), ("watch", ids[1][:8]), ("check", "--full"), ("export",), ("report", "-o", "-"))
    yield from (("export", "--format", "csv"), ("export", "--format", "csv", "--view", "states"))


class Impatient(FakeClock):
    """What a person does whose journal says that a run goes on for ever: Ctrl-C at the tenth look."""

    looks = 0

    def sleep(self, seconds):
        self.looks += 1
        if self.looks > 10:
            raise KeyboardInterrupt
        super().sleep(seconds)


def looked_at(capsys, file, ids):
    """Each screen's exit code, having checked that it ended as it should."""
    for name, *words in screens(ids):
        place = (file, *words) if name != "check" else (*words, file)
        with use_clock(Impatient()):
            code, out, err = command(capsys, name, *place)
        assert code in ((0, 3, 5, 130) if name == "watch" else (0, 3, 5)), (name, words, err)
        assert "Traceback (most" not in err and "has a bug: Attribute" not in err and "has a bug: Index" not in err, err
        assert code in (0, 130) or err.count("\n") >= 1, (name, words)
        told = err if "csv" in words or name == "report" else out + err  # a page and a table hold what they hold
        assert not (found := CONTROL.search(told)), (name, words, told[max(found.start() - 80, 0) : found.end()])
        if name == "report":
            assert "\x1b" not in out and "\x9b" not in out
        yield code


@pytest.mark.parametrize("statement", [*HOSTILE, *MORE])
def test_facts_that_cannot_be_are_told_or_refused(history, tmp_path, capsys, statement):
    journal, ids = history
    file = tampered(journal, tmp_path, "PRAGMA foreign_keys = OFF", "PRAGMA ignore_check_constraints = ON", statement)
    tracemalloc.start()
    try:
        assert list(looked_at(capsys, file, ids))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 120_000_000, peak


@given(st.data())
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bytes_are_never_a_traceback(history, tmp_path, capsys, data):
    journal, ids = history
    content = bytearray(journal.read_bytes())
    dice = random.Random(data.draw(st.integers(0, 1 << 32)))
    for _ in range(data.draw(st.sampled_from((1, 1, 8, 64, 400)))):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    if data.draw(st.booleans()):
        page = 4096 * dice.randrange(len(content) // 4096)
        content[page : page + 4096] = dice.randbytes(4096)
    file = tmp_path / "flipped.db"
    file.write_bytes(content)
    assert list(looked_at(capsys, file, ids))


@given(st.integers(0, 1 << 32))
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_journal_cut_short_is_told(history, tmp_path, capsys, length):
    journal, ids = history
    content = journal.read_bytes()
    file = tmp_path / "cut.db"
    file.write_bytes(content[: length % len(content)])
    assert set(looked_at(capsys, file, ids)) <= {3, 5}
