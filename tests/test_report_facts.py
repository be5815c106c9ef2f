"""What a report is made of, and the command that writes it: sums that are right, and a file that is written whole."""

import json
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import report_journals
from hypothesis import given
from hypothesis import strategies as st
from inspecting import environment, everything, run_script, tampered
from report_journals import BREAKS_OUT, SCRIPT, Written, long, with_workers
from scripts import DEADLINE, FakeClock, Script, finish

from durable.cli import main
from durable.cli.page.axis import BINS, UNITS, Axis, Coverage, Density
from durable.cli.page.gather import INDIVIDUALS, Profile
from durable.cli.page.room import Room
from durable.clock import use_clock
from durable.journal import close_journals
from durable.reader import JournalReader, sql
from durable.reader.spans import Span, Stretches, spans_of, stretches_of

GOLDEN = Path(__file__).parent / "golden" / "journal-1" / "runs.db"
LIMIT = 3_000_000


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    return report_journals.resumed(tmp_path_factory.mktemp("resumed"))


@pytest.fixture(scope="module")
def clean(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clean")
    run_script(folder, "fail")
    return folder / "runs.db"


def report(capsysbinary, *args):
    """Run the command here: exit code, the page or nothing, what was said."""
    with pytest.raises(SystemExit) as stopped:
        main(["report", *map(str, args)])
    out, err = capsysbinary.readouterr()
    return stopped.value.code, out.decode(), err.decode()


def data_of(page: str) -> dict:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    return json.loads(found[1])


# The axis.

moments = st.integers(0, 10_000)
spans = st.lists(st.tuples(moments, moments).map(lambda ends: tuple(sorted(ends))), max_size=30)


def test_an_interruption_is_a_gap_however_long_it_was():
    axis = Axis(Stretches([(0, 100), (1_000_000, 1_000_300)]))
    assert axis.at(0) == 0 and axis.at(1_000_300) == UNITS
    assert axis.at(50) == pytest.approx(axis.at(100) / 2)
    assert axis.at(500_000) == axis.at(100), "a moment at which nobody executed is where the work had stopped"
    (first, second) = axis.parts
    assert 0.005 * UNITS < second.left - first.right < 0.02 * UNITS
    assert (second.right - second.left) / (first.right - first.left) == pytest.approx(3)


@given(st.lists(st.tuples(moments, st.integers(0, 500)), min_size=1, max_size=60), st.lists(moments, max_size=20))
def test_time_never_runs_backwards_on_the_axis(stretches, asked):
    axis = Axis(Stretches([(begin, begin + length) for begin, length in stretches]))
    positions = [axis.at(moment) for moment in sorted(asked)]
    assert positions == sorted(positions)
    assert all(0 <= position <= UNITS + 1e-6 for position in positions)


@given(spans)
def test_the_density_is_what_counting_gives(some):
    density = Density()
    for begin, end in some:
        density.add(begin * 10, end * 10)
    width = UNITS / BINS
    for i, level in enumerate(density.levels()):
        low, high = i * width, (i + 1) * width
        assert level == pytest.approx(
            sum(max(0, min(e * 10, high) - max(b * 10, low)) for b, e in some) / width, abs=1e-6
        )


@given(spans, spans)
def test_coverage_is_the_length_of_the_union(known, called):
    coverage = Coverage(known)
    for begin, end in sorted(called):
        coverage.add(_span(begin, [(begin, end)]))
    points = sorted({point for ends in [*known, *called] for point in ends})
    union = sum(
        high - low
        for low, high in zip(points, points[1:], strict=False)
        if any(begin <= low and high <= end for begin, end in [*known, *called])
    )
    assert coverage.total() == union


def _span(started, attempts):
    return Span(1, None, 1, None, 1, "ok", started, True, tuple(attempts), attempts[-1], len(attempts), 0, 0)


# The pass over the task runs.


def test_spans_tell_attempts_waits_and_queues_apart(tmp_path):
    with use_clock(FakeClock()) as clock:
        written = Written(tmp_path / "runs.db")
        written.clock = clock
        start = clock.seconds
        row = written.begin_flow()
        first = written.call("a", {"x": 1}, 2, begin=start + 1, worker="w1", queued=1)
        written.call("b", {"x": 2}, 3, begin=start + 5, attempts=3, failed=ValueError("no"), upstream=((first, "x"),))
        written.end_flow(start + 20)
        close_journals()
        with JournalReader(tmp_path / "runs.db") as reader:
            run = reader.flow_run(row)
            one, two = spans_of(reader, run, stretches_of(reader, run, clock.now()))
            profile = Profile(reader, run, 2)
    at = lambda seconds: int((start + seconds) * 1e6)
    assert one.worker == "w1" and one.started == at(1) and one.attempts == ((at(2), at(4)),)
    assert two.worker is None and two.attempts == ((at(5), at(8)), (at(8.5), at(11.5)), (at(12), at(15)))
    assert (two.tries, two.busy, two.waited, two.status, two.ended) == (3, 9_000_000, 1_000_000, "failed", True)
    assert (profile.covered, profile.took, profile.retried) == (11_000_000, 20_000_000, 1)
    b = next(kind for kind in profile.kinds.values() if kind.name == "b")
    assert (b.total, b.failed_time, b.retried, b.waited) == (9_000_000, 9_000_000, 1, 1_000_000)
    assert b.upstream == {("a", "x"): 1}
    assert profile.lane_of(one) == "w1" and set(profile.lanes) == {"w1", "flow process"}


def test_an_attempt_that_was_cut_off_ended_with_its_process_not_with_the_next_one(resumed):
    with JournalReader(resumed, lambda *_: False) as reader:
        (run,) = reader.flow_runs(1)
        stretches = stretches_of(reader, run, 0)
        (cut,) = [
            span
            for span in spans_of(reader, run, stretches)
            if span.tries == 2 and not span.waited and span.parent is None and reader.task(span.task)[1] == "load"
        ]
    (_, died), (again, _) = stretches.spans
    assert cut.attempts[0][1] == died < again <= cut.attempts[1][0]


def test_own_time_is_without_what_was_called(resumed):
    with JournalReader(resumed, lambda *_: False) as reader:
        (run,) = reader.flow_runs(1)
        profile = Profile(reader, run, 27)
        nested = sum(s.busy for s in profile.chosen.values() if s.parent is not None)
    kinds = {kind.name: kind for kind in profile.kinds.values()}
    assert nested > 0 and kinds["clean"].own == kinds["clean"].total - nested
    sums, parse = kinds["sums"], kinds["parse"]
    assert sums.is_flow and parse.calls == 11 and parse.own == parse.total
    assert sums.own == sums.total - (parse.total - nested), "the other calls of parse were made by the subflow"
    assert profile.covered <= profile.took < profile.elapsed


def test_a_run_longer_than_the_limit_is_summed_in_flat_memory(tmp_path):
    peaks = {}
    for calls in (10_000, 40_000):
        file = long(tmp_path / f"{calls}.db", calls)
        with JournalReader(file) as reader:
            (run,) = reader.flow_runs(1)
            tracemalloc.start()
            try:
                profile = Profile(reader, run, calls)
                peaks[calls] = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
            assert profile.total == calls and not profile.whole
            assert len(profile.chosen) < INDIVIDUALS
            assert {s.status for s in profile.chosen.values()} == {"ok", "failed"}
            assert sum(s.tries > 1 for s in profile.chosen.values()) == profile.retried == calls // 1000
    assert peaks[40_000] < 1.3 * peaks[10_000] < 8e6


def test_the_reports_queries_scan_and_sort_nothing(resumed):
    db = sqlite3.connect(f"file:{resumed}?mode=ro", uri=True)
    for text in (sql.SPANS, sql.SPANS_OF_FORMAT_1, sql.REASON, sql.HISTORY, sql.UPSTREAM, sql.DEPENDENCIES):
        for row in db.execute(f"EXPLAIN QUERY PLAN {text}", (1,) * text.count("?")):
            assert not row[3].startswith("SCAN") and "TEMP B-TREE" not in row[3], (row[3], text)
    db.close()


def test_room_runs_out_for_good_measure():
    room = Room(100)
    assert room.line("a\x1b[2J\nb") == "a\\x1b[2J\\nb"
    assert room.line("x" * 50, 10) == "x" * 9 + "…"
    assert room.line("<" * 20) == "…" and room.full, "each would become six bytes"
    assert Room().lines("one\ntwo\x07", 100) == "one\ntwo\\x07"
    assert Room().lines("x" * 50, 10) == "…\n" + "x" * 10


# The command.


def test_the_page_goes_to_a_file_all_at_once(clean, tmp_path, capsysbinary):
    target = tmp_path / "page.html"
    target.write_text("an older page")
    os.link(target, tmp_path / "reader")
    code, out, err = report(capsysbinary, clean, "-o", target)
    assert (code, out) == (0, "") and re.fullmatch(rf"durable: wrote {re.escape(str(target))} \(\d+ kB\)\n", err)
    assert (tmp_path / "reader").read_text() == "an older page", "whoever reads the old page goes on reading it"
    assert target.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "reader"]
    mask = os.umask(0)
    os.umask(mask)
    assert target.stat().st_mode & 0o777 == 0o666 & ~mask


def test_the_default_is_a_page_in_this_folder_and_a_dash_is_standard_output(clean, tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DURABLE_JOURNAL", str(clean))
    assert report(capsysbinary)[0] == 0
    code, out, err = report(capsysbinary, "-o", "-")
    assert code == 0 and not err and data_of(out) == data_of(Path("report.html").read_text(encoding="utf-8"))


def test_no_journal_is_ever_overwritten(clean, tmp_path, capsysbinary):
    file = Path(shutil.copy(clean, tmp_path / "runs.db"))
    other = tmp_path / "other.db"
    sqlite3.connect(other).execute("CREATE TABLE t (x)").connection.close()
    (tmp_path / "link.html").symlink_to(file)
    os.link(file, tmp_path / "hard.html")
    before = everything(tmp_path)
    for name in (
        "runs.db",
        "runs.db-wal",
        "runs.db-shm",
        "link.html",
        "hard.html",
        "other.db",
        ".",
        "no/such/folder/x.html",
    ):
        code, out, err = report(capsysbinary, file, "-o", tmp_path / name)
        assert (code, out, err.count("\n")) == (2, "", 1), (name, err)
        assert ("that is the journal" in err) is (name.startswith(("runs", "link", "hard"))), (name, err)
    assert report(capsysbinary, file, "-o", "/dev/null")[0] == 2
    assert everything(tmp_path) == before


def test_looking_changes_nothing(tmp_path, capsysbinary):
    script = Script(tmp_path)
    script.write(SCRIPT)
    script.killed("load")
    before = everything(tmp_path)
    assert report(capsysbinary, script.journal, "-o", "-")[0] == 0
    assert everything(tmp_path) == before
    script.ok()


def test_a_run_is_chosen_by_its_id_or_that_of_a_task_in_it(clean, capsysbinary):
    with JournalReader(clean) as reader:
        (run,) = reader.flow_runs(1)
        task = reader.task_runs(run.row, 1)[0]
        alone = reader.task_runs(None, 1)[0]
    pages = [report(capsysbinary, clean, each, "-o", "-") for each in (run.id[:9], "-", task.id)]
    assert [code for code, _, _ in pages] == [0, 0, 0]
    assert all(run.id in page and 'id="runs"' not in page for _, page, _ in pages)
    code, out, err = report(capsysbinary, clean, "-o", "-")
    assert 'id="runs"' in out and "this page" in out
    code, _, err = report(capsysbinary, clean, alone.id, "-o", "-")
    assert code == 3 and f"{alone.id[:7]} is a task run outside any flow" in err and "`durable inspect` shows it" in err
    assert report(capsysbinary, clean, "ffffffff", "-o", "-")[0] == 3
    assert report(capsysbinary, clean.with_name("missing.db"), "-o", "-")[0] == 3


def test_many_runs_are_listed_newest_first_and_bounded(tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    with use_clock(FakeClock()) as clock:
        written = Written(tmp_path / "runs.db")
        written.clock = clock
        for i in range(30):
            written.begin_flow(f"flow-{i}")
            written.end_flow(clock.seconds + 1)
        close_journals()
        _, out, _ = report(capsysbinary, "runs.db", "-o", "-")
    assert re.findall(r"<td>(flow-\d+)</td>", out) == [f"flow-{i}" for i in range(29, 4, -1)]
    assert "5 older runs not shown" in out and "flow-29 <span" in out


def test_a_journal_without_flow_runs_says_so(tmp_path, capsysbinary):
    file = long(tmp_path / "runs.db", 3)
    db = sqlite3.connect(file)
    for trigger in ("flow_run_no_delete", "flow_run_state_no_delete", "task_run_no_update"):
        db.execute(f"DROP TRIGGER {trigger}")
    db.execute("UPDATE task_run SET flow_run_id = NULL")
    db.execute("DELETE FROM flow_run_state")
    db.execute("DELETE FROM flow_run")
    db.commit()
    db.close()
    code, out, _ = report(capsysbinary, file, "-o", "-")
    assert code == 0 and "It holds 3 task runs outside any flow" in out and data_of(out) == {}


def test_journals_of_older_and_newer_durables(clean, tmp_path, capsysbinary):
    code, out, err = report(capsysbinary, shutil.copy(GOLDEN, tmp_path / "old.db"), "-o", "-")
    assert code == 0 and data_of(out)["runs"] and "fork" not in err
    file = tampered(
        clean,
        tmp_path,
        "PRAGMA user_version = 7",
        "ALTER TABLE flow_run RENAME COLUMN parameters TO arguments",
        "ALTER TABLE task_run RENAME TO task_call",
    )
    code, out, err = report(capsysbinary, file, "-o", "-")
    assert code == 0 and "by its public views only" in err and "nightly-etl" in out and "disk on fire" in out
    assert "extract" in out and 'id="tasks"' in out
    assert report(capsysbinary, file, "ffffffff", "-o", "-")[0] == 3


def test_a_live_run_is_shown_as_far_as_it_is(tmp_path, capsysbinary):
    script = Script(tmp_path)
    script.write(SCRIPT.replace('if n == 3: die("load")', 'if n == 3: signal_files("load")'))
    child = script.start()
    script.wait_for("load.here", child)
    code, out, err = report(capsysbinary, script.journal, "-o", "-")
    script.go("load")
    assert finish(child).code == 0
    assert code == 0 and 'class="badge live">Running' in out
    assert [run["status"] for run in data_of(out)["runs"] if run["status"] != "ok"] == ["running"]


def test_a_run_that_may_or_may_not_live_is_shown_up_to_its_last_record(tmp_path):
    with use_clock(FakeClock()) as clock:
        written = Written(tmp_path / "runs.db")
        written.clock = clock
        row = written.begin_flow()
        written.call("a", {"x": 1}, 2, begin=clock.seconds + 1)
        close_journals()
        clock.seconds += 1e6
        spans = []
        for live in (None, True):
            with JournalReader(tmp_path / "runs.db", lambda *_, live=live: live) as reader:
                ((begin, end),) = stretches_of(reader, reader.flow_run(row), clock.now()).spans
                spans.append((end - begin) / 1e6)
    assert spans == [3, 1e6 + 3]


def test_attempts_by_the_thousand_stay_in_bounds(tmp_path, capsysbinary):
    """Each of as many task runs as are shown one by one has failed many times, with long things to say."""
    file = long(tmp_path / "runs.db", INDIVIDUALS, names=50, text=BREAKS_OUT * 8)
    db = sqlite3.connect(file)
    db.execute("DROP TRIGGER task_run_state_no_delete")
    db.execute("DELETE FROM task_run_state")
    db.executemany(
        "INSERT INTO task_run_state (task_run_id, seq, state, at, process_id, message) "
        "SELECT id, ?, ?, at + ?, 1, ? FROM task_run",
        [(seq, (3, 6)[(seq + 1) % 2], seq * 1000, BREAKS_OUT * 8) for seq in range(1, 60)],
    )
    db.commit()
    db.close()
    code, out, _ = report(capsysbinary, file, "-o", "-")
    assert code == 0 and 1_000_000 < len(out.encode()) < LIMIT
    assert len(data_of(out)["runs"]) == INDIVIDUALS


STATEMENTS = [
    "UPDATE flow_run SET parent_flow_run_id = id",
    "UPDATE task_run SET parent_id = id",
    "UPDATE task_run SET parent_id = 999999",
    "UPDATE task_run SET parent_id = id - 1 WHERE id > 1",
    "UPDATE flow_run_state SET state = 99",
    "UPDATE flow_run SET process_id = 99",
    "UPDATE task_run SET at = 9223372036854775807",
    "UPDATE task_run_state SET at = -9223372036854775808",
    "UPDATE flow_run SET at = -9223372036854775808",
    "UPDATE flow_run_state SET at = 9223372036854775807",
    "UPDATE task_run SET inputs = zeroblob(5000000)",
    "UPDATE task_run SET worker = id || char(27) || '<script>' || hex(zeroblob(2000))",
    "UPDATE task_run SET reason = hex(zeroblob(1000000)), version = char(0)",
    "UPDATE result SET payload = x'ff00'",
    "UPDATE process SET command = '{', host = char(27) || '[2J<script>', pid = -1",
    "UPDATE process SET command = '[[[' || hex(zeroblob(1000000))",
    "DELETE FROM task",
    "DELETE FROM flow",
    "DELETE FROM task_run",
    "UPDATE state_kind SET name = char(27) || '</style>' || code",
    "INSERT INTO task_run_dependency SELECT id, id, '<script>' FROM task_run",
    "INSERT INTO task_run_dependency SELECT id, 31337, '<script>' FROM task_run",
    "UPDATE flow_run SET name = '</title><script>', idempotency_key = '<script>' || id",
]


@pytest.mark.parametrize("statement", STATEMENTS)
def test_facts_that_cannot_be_are_refused_or_shown(clean, tmp_path, capsysbinary, statement):
    file = tampered(clean, tmp_path, "PRAGMA foreign_keys = OFF", statement)
    for args in ([], ["-"]):
        code, out, err = report(capsysbinary, file, *args, "-o", "-")
        assert code in (0, 5) or (code == 3 and args), err
        assert "has a bug" not in err, err
        harmless(code, out, err)


def test_every_text_of_a_journal_is_escaped(clean, tmp_path, capsysbinary):
    """Whatever column a text is in, and whatever part of the page shows it."""
    db = sqlite3.connect(clean)
    columns = [
        (table, column)
        for (table,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        for _, column, kind, *_ in db.execute(f"PRAGMA table_info({table})")
        if kind == "TEXT" and (table, column) not in {("process", "durability"), ("state_kind", "type")}
    ]
    db.close()
    changes = [f"UPDATE {table} SET {column} = '<b id=pwn>' || coalesce({column}, '')" for table, column in columns]
    assert len(changes) > 20
    file = tampered(clean, tmp_path, *changes)
    for args in ([], ["-"]):
        code, out, err = report(capsysbinary, file, *args, "-o", "-")
        assert code == 0, err
        assert "<b id" not in out and out.count("&lt;b id=pwn&gt;") > 10 and out.count("\\u003cb id=pwn") > 10
    newer = tampered(clean, tmp_path, *changes, "PRAGMA user_version = 7", "ALTER TABLE task_run RENAME TO task_call")
    code, out, err = report(capsysbinary, newer, "-o", "-")
    assert code == 0 and "views only" in err and "<b id" not in out and out.count("&lt;b id=pwn&gt;") > 10


def harmless(code, out, err):
    assert "Traceback (most" not in err and (code == 0 or err)
    assert not [c for c in out + err if c != "\n" and not c.isprintable()]
    assert len(out) < LIMIT
    if out:
        assert out.count("<script") == 2 and out.count("<style") == 1 and out.count("</title>") == 1


@pytest.mark.parametrize("seed", range(10))
def test_changed_bytes_are_never_a_traceback(resumed, tmp_path, capsysbinary, seed, monkeypatch):
    if seed % 2:
        monkeypatch.setattr("durable.reader.journal._CHECKED_BYTES", 0)
    whole, dice = resumed.read_bytes(), random.Random(seed)
    for case in range(8):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 8, 64))):
            data[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
        if case == 7:
            page = 4096 * dice.randrange(len(data) // 4096)
            data[page : page + 4096] = dice.randbytes(4096)
        file = tmp_path / f"{case}.db"
        file.write_bytes(data)
        code, out, err = report(capsysbinary, file, "-o", "-")
        assert code in (0, 3, 5), (seed, case, err)
        harmless(code, out, err)


def test_calls_nested_deeper_than_python_recurses(tmp_path, capsysbinary):
    file = long(tmp_path / "runs.db", 1900)
    db = sqlite3.connect(file)
    db.execute("DROP TRIGGER task_run_no_update")
    db.execute("UPDATE task_run SET parent_id = id - 1 WHERE id > 1")
    db.commit()
    db.close()
    code, out, _ = report(capsysbinary, file, "-o", "-")
    assert code == 0 and data_of(out)["cut"] and len(data_of(out)["nodes"]) >= 60


def test_the_real_command(tmp_path):
    with_workers(tmp_path / "runs.db", 20)
    done = subprocess.run(
        [sys.executable, "-X", "utf8", "-m", "durable", "report", "runs.db", "-o", "-"],
        cwd=tmp_path, env=environment(), capture_output=True, timeout=DEADLINE,
    )  # fmt: skip
    assert done.returncode == 0 and done.stdout.startswith(b"<!DOCTYPE html>") and not done.stderr
