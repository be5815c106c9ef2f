"""Plain calls counted together: what is said of a run is what a look at each of its calls says."""

import re
import sqlite3
from collections import Counter
from contextlib import closing
from itertools import islice

import pytest
from commands import command, job, lived, runs, told
from test_read_long import CALLS, two_runs

from durable.clock import clock
from durable.reader import JournalReader, plain
from durable.reader.comparing import Comparison
from durable.reader.diffing import Differ
from durable.reader.explaining import Explainer, earlier_run
from durable.reader.explaining import Several as SeveralVerdicts
from durable.reader.plain import Plain, plain_and_others
from durable.reader.planning import Facts, Order, Plan, Several

NESTED = """
from durable import flow, task
from durable.cache_policies import INPUTS
@task
def leaf(x): return x
@task
def node(x): return leaf(x)
@task(cache_policy=INPUTS)
def memo(x): return x
@task(retries=1)
def flaky(x):
    if x == 3 and not failed: raise ValueError(failed.append(x))
    return x
failed = []
@flow
def inner(n): return [leaf(i) for i in range(n)]
@flow
def job():
    for i in range(9): node(i), memo(i % 5), leaf(i), flaky(i)
    inner(7)
    raise ValueError
job()
"""


@pytest.fixture(scope="module")
def journals(tmp_path_factory):
    """A journal with a history, and one with calls in calls, memos, a retry and a subflow, run twice."""
    folders = [tmp_path_factory.mktemp(name) for name in ("history", "nested")]
    lived(folders[0])
    job(folders[1], script=NESTED, code=1)
    job(folders[1], code=1)
    return [folder / "runs.db" for folder in folders]


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    return two_runs(tmp_path_factory.mktemp("long") / "runs.db")


@pytest.fixture(params=[1, 3, 20_000])
def page(request, monkeypatch):
    """How many task runs a page has."""
    monkeypatch.setattr(plain, "PAGE_END", re.sub(r"OFFSET \d+", f"OFFSET {request.param - 1}", plain.PAGE_END))
    return request.param


def all_runs(reader):
    return [reader.flow_run(row) for (row,) in reader.rows("SELECT id FROM flow_run WHERE parent_flow_run_id IS NULL")]


def test_each_call_is_handed_out_once(journals, page):
    for journal in journals:
        with JournalReader(journal) as reader:
            for run in all_runs(reader):
                for nested in (False, True):
                    found = list(plain_and_others(reader, run.row, nested=nested))
                    number = sum(one.number if isinstance(one, Plain) else 1 for one in found)
                    assert number == reader.rows("SELECT count(*) FROM task_run WHERE flow_run_id = ?", run.row)[0][0]
                    rows = [one.row for one in found if not isinstance(one, Plain)]
                    assert len(rows) == len(set(rows)) and any(isinstance(one, Plain) for one in found) is (page > 3)


def test_a_plan_is_the_same_with_plain_calls_together(journals, page):
    for journal in journals:
        with JournalReader(journal) as reader:
            for run in all_runs(reader):
                facts = Facts(
                    lambda call: None, lambda call: call.cache_key is not None, lambda row: None, clock().now()
                )
                each, together, took = Counter(), Counter(), 0
                for step in Plan(reader, run, facts).every():
                    each[reader.task(step.call.task)[1], step.word, step.reason] += 1
                    took += step.call.took
                plan = Plan(reader, run, facts)
                for found in plan.together(Order(reader, run), None):
                    step, number = (found.step, found.number) if isinstance(found, Several) else (found, 1)
                    together[reader.task(step.call.task)[1], step.word, step.reason] += number
                    took -= found.took if isinstance(found, Several) else step.call.took
                assert together == each and took == 0 and plan.left == 0


def test_the_reasons_are_the_same_with_plain_calls_together(journals, page):
    for journal in journals:
        with JournalReader(journal) as reader:
            for run in all_runs(reader):
                explainer = Explainer(reader, run, earlier_run(reader, run), str, lambda call: None)
                each = Counter((one.call.task, one.word, one.kind) for one in explainer.every())
                together = Counter()
                for found in explainer.together(10_000):
                    one = found.verdict if isinstance(found, SeveralVerdicts) else found
                    together[one.call.task, one.word, one.kind] += getattr(found, "number", 1)
                assert together == each and explainer.left == 0


def test_a_comparison_that_ends_early_tells_what_it_left_and_nothing_twice(journals, long):
    for journal in (journals[0], long):
        with JournalReader(journal) as reader:
            old, new = all_runs(reader)[:2]
            whole = {pair.new.row: pair for pair in Comparison(reader, old.row, new.row).pairs() if pair.new}
            for most in (0, 1, 7, 13):
                comparison = Comparison(reader, old.row, new.row, most)
                pairs = list(comparison.pairs())
                assert all(pair == whole[pair.new.row] for pair in pairs if pair.new and pair.old)
                differ = Differ(reader, old.row, new.row, most)
                read = [sum(pair[side] is not None for pair in pairs) for side in (0, 1)]
                list(differ.every())
                for side, run in enumerate((old, new)):
                    assert read[side] + differ.left[side] == reader.counts(run).total, (most, side)


def test_what_is_left_is_said_and_all_leaves_nothing(long, capsys, monkeypatch):
    monkeypatch.setattr("durable.cli.diff._COMPARED", 1000)
    monkeypatch.setattr("durable.cli.why._COMPARED", 1000)
    with JournalReader(long) as reader:
        ids = [reader.flow_run(row).id for row in (1, 2)]
        late = reader.task_run(2 * CALLS - 1).id
    code, out, err = command(capsys, "diff", long, *ids)
    assert code == 0 and f"only the first 1000 calls of each run were compared, {CALLS - 1000} calls not" in err
    assert re.search(r"^  t +1000 +1000 ", out, re.MULTILINE)
    out = told(capsys, "diff", long, *ids, "--json")
    assert f'"not_compared": {{\n    "old": {CALLS - 1000},\n    "new": {CALLS - 1000}\n  }}' in out
    code, out, err = command(capsys, "diff", long, *ids, "--exit-code")
    assert code == 1 and "were compared" not in err and re.search(rf"^  t +{CALLS} +{CALLS} ", out, re.MULTILINE)
    out = told(capsys, "why", long, ids[1])
    assert re.search(rf"x{CALLS - 1000}  t\(.*\n +not compared with run {ids[0][:7]}: ", out)
    assert "not compared" not in told(capsys, "why", long, ids[1], "--all")
    assert "a new run: its policy" in told(capsys, "why", long, ids[1], late[:12]), "found by its identity at once"
    monkeypatch.setattr("durable.cli.why._TOLD", 3)
    code, out, err = command(capsys, "why", long, ids[1], "t")
    assert out.count("  t(i=") == 3 and "the first 3 are told: --all tells each" in err


def test_a_plan_of_calls_that_are_not_plain_ends_and_says_so(journals, capsys, monkeypatch):
    monkeypatch.setattr("durable.cli.plan._LOOKED_AT", 2)
    journal = journals[1]
    code, out, err = command(capsys, "plan", journal, runs(journal)[-1])
    left = int(re.search(r"(\d+) calls not looked at: --all looks at each", err)[1])
    shown = sum(int(number) for number in re.findall(r"(\d+) (?:to|may|not asked)", out))
    assert code == 0 and left + shown == 52
    assert "not looked at" not in command(capsys, "plan", journal, "-", "--exit-code")[2]


def test_pages_are_searched_for_and_never_scanned(journals):
    """SQLite sorts the groups of a page, and no more."""
    asked = []

    class Noting(JournalReader):
        def rows(self, text, *parameters):
            asked.append((text, parameters))
            return super().rows(text, *parameters)

    with Noting(journals[1]) as reader:
        for run in all_runs(reader):
            list(plain_and_others(reader, run.row))
            list(plain_and_others(reader, run.row, nested=True, without={9}))
    db = sqlite3.connect(journals[1])
    grouped = 0
    for text, parameters in asked:
        steps = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", parameters)]
        for step in steps:
            assert not re.match(r"SCAN (t|s|n|o|p|task_run\w*)\b", step), (step, text)
            assert "TEMP B-TREE" not in step or "GROUP BY 1, 2, 3" in text, (step, text)
        if "GROUP BY" in text:
            grouped += 1
            assert any(re.match(r"SEARCH s USING PRIMARY KEY \(task_run_id>\? AND task_run_id<\?\)", s) for s in steps)
    db.close()
    assert grouped


def test_a_run_that_goes_on_while_it_is_looked_at_comes_to_an_end(tmp_path):
    """What is added meanwhile is left out, however much it is."""
    job(tmp_path, script=NESTED, code=1)
    writer = sqlite3.connect(tmp_path / "runs.db")
    names = [name for _, name, *_ in writer.execute("PRAGMA table_info(task_run)")]
    with closing(writer), JournalReader(tmp_path / "runs.db") as reader:
        (run,) = all_runs(reader)
        before = sum(1 for _ in plain_and_others(reader, run.row))
        looked = plain_and_others(reader, run.row)
        found = [next(looked)]
        copied = ", ".join("randomblob(16)" if name == "key" else "NULL" if name == "id" else name for name in names)
        writer.execute(f"INSERT INTO task_run SELECT {copied} FROM task_run WHERE flow_run_id = ? LIMIT 3", (run.row,))
        writer.commit()
        found += islice(looked, before)
        assert len(found) == before
