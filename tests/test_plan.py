"""`durable plan`: what it promises is what the next run does; what it compares, it does not import."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
import textwrap

import pytest
from commands import JOB, command, job, lived, told
from inspecting import environment

from durable.source import fingerprint
from durable.sourcefile import CHANGED, GONE, SAME, UNKNOWN, Files


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    return folder / "runs.db", lived(folder)


def planned(capsys, *args):
    document = json.loads(told(capsys, "plan", *args, "--json"))
    steps = {}
    for entry in document["entries"]:
        steps.setdefault(entry["first"]["task"], {})[entry["step"]] = entry["count"]
    return document, steps


LOGGED = JOB.replace("import os, signal, sys", "import os, signal, sys\nran = lambda *a: print('ran', *a)").replace(
    "    how = os", "    ran('load', shard)\n    how = os"
)


@pytest.mark.parametrize(("how", "code"), [("die", -signal.SIGKILL), ("fail", 1)])
def test_what_it_promises_is_what_the_next_run_does(tmp_path, capsys, how, code):
    job(tmp_path, script=LOGGED, code=code, HOW=how)
    document, steps = planned(capsys, tmp_path / "runs.db", "-")
    assert document["continues"]
    assert steps["load"] == {"run": 1, "replay": 3} and steps["connect"] == {"run": 1}
    assert steps["extract"] == {"replay": 1} and steps["price"] == {"replay": 4} and steps["normalize"] == {"replay": 4}
    assert steps["inner"] == {"inside": 4 + 8} or steps["inner"]["inside"] in (4, 8)
    again = job(tmp_path)
    assert again.stdout.split("\n")[:-1] == ["ran load 3"]
    restored = int(re.search(r"(\d+) tasks? restored", again.stderr)[1])
    assert restored == document["totals"]["replay"] + document["totals"]["inside"] + 1, "and the value that is not kept"


def test_a_failure_before_a_crash_is_history(tmp_path, capsys):
    script = """
    import os, signal
    from durable import flow, task
    @task
    def fails(): raise ValueError("no")
    @task
    def dies():
        if os.environ.get("HOW"): os.kill(os.getpid(), signal.SIGKILL)
    @flow
    def f():
        try: fails()
        except ValueError: print("caught")
        dies()
    f()
    """
    job(tmp_path, script=textwrap.dedent(script), code=-signal.SIGKILL, HOW="1")
    _, steps = planned(capsys, tmp_path / "runs.db", "-")
    assert steps == {"fails": {"raise": 1}, "dies": {"run": 1}}
    assert job(tmp_path).stdout == "caught\n"


def test_a_completed_run_is_not_continued_and_memos_are_found(history, capsys):
    journal, ids = history
    document, steps = planned(capsys, journal, ids[3])
    assert not document["continues"] and "begins a new run" in document["how"]
    assert steps["price"] == {"replay": 4} and steps["load"] == {"run": 4}
    assert steps["normalize"] == {"run": 4}, "its policy reuses within one run only"
    assert command(capsys, "plan", journal, ids[3], "--exit-code")[0] == 1


def test_a_changed_source_is_named_and_reruns_what_counts_it(tmp_path, capsys):
    job(tmp_path, code=-signal.SIGKILL, HOW="die")
    edited = JOB.replace("return x * RATE", "return RATE * x").replace("return x * 2.5", "return x * 2.50  # the same")
    (tmp_path / "job.py").write_text(edited.replace("def extract(day): return", "def extract(day): return 0 or"))
    document, steps = planned(capsys, tmp_path / "runs.db", "-")
    parts = {one["task"]: one["parts"] for one in document["sources"]}
    assert parts["normalize"] == {"job:clean": "changed", "job:clean.RATE": "same", "job:normalize": "same"}
    assert parts["price"] == {"job:price": "same"} and parts["extract"] == {"job:extract": "changed"}
    assert steps["normalize"] == {"run": 4} and steps["extract"] == {"replay": 1}
    out = told(capsys, "plan", tmp_path / "runs.db", "-")
    assert re.search(r"extract +changed: extract; 1 completed run is replayed all the same", out)
    assert re.search(r"run +x4  normalize\(.*source changed, which its policy counts", out)
    ended = job(tmp_path)
    assert "source changed" in ended.stderr
    db = sqlite3.connect(tmp_path / "runs.db")
    attempts = dict(db.execute("SELECT task, max(attempts) FROM task_runs GROUP BY task"))
    db.close()
    assert (attempts["normalize"], attempts["extract"]) == (2, 1), "as planned"


def test_a_script_means_its_own_newest_run(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    job(tmp_path)
    (tmp_path / "other.py").write_text("from durable import flow\n@flow\ndef f(): pass\nf()\n")
    subprocess.run([sys.executable, "other.py"], cwd=tmp_path, env=environment(), check=True, capture_output=True)
    assert planned(capsys, "job.py")[0]["run"]["flow"] == "etl"
    assert planned(capsys, "other.py")[0]["run"]["flow"] == "f"
    assert planned(capsys, "-")[0]["run"]["flow"] == "f"
    assert command(capsys, "plan", "none.py")[0] == 3
    (tmp_path / "never.py").touch()
    assert command(capsys, "plan", "never.py")[0] == 3


def test_nothing_is_imported_or_executed(tmp_path, capsys):
    job(tmp_path, code=-signal.SIGKILL, HOW="die")
    bomb = JOB + "\nopen('exploded', 'w')\nraise SystemExit('imported')\n"
    (tmp_path / "job.py").write_text(bomb)
    assert planned(capsys, tmp_path / "runs.db", "-")[0]["sources"]
    assert not (tmp_path / "exploded").exists() and "job" not in sys.modules


ORDERED = """
import os, signal, sys
from durable import flow, task
@task
def step(x):
    if x == os.environ.get("DIE"): os.kill(os.getpid(), signal.SIGKILL)
    return x
@flow
def f():
    for x in open("calls").read().split(): step(x)
f()
"""


def test_the_first_departure_from_the_recorded_order_is_told(tmp_path, capsys):
    (tmp_path / "calls").write_text("a b c")
    job(tmp_path, script=ORDERED, code=-signal.SIGKILL, DIE="b")
    assert planned(capsys, tmp_path / "runs.db", "-")[0]["divergence"] is None
    (tmp_path / "calls").write_text("a x c d")
    job(tmp_path, code=-signal.SIGKILL, DIE="d")
    divergence = planned(capsys, tmp_path / "runs.db", "-")[0]["divergence"]
    assert divergence["task"]["arguments"] == {"x": "b"} and "execution 2 did not make it again" in divergence["text"]
    assert "Order: first divergence at step(x='b')" in told(capsys, "plan", tmp_path / "runs.db", "-")
    (tmp_path / "calls").write_text("a b x c d")
    job(tmp_path)
    assert planned(capsys, tmp_path / "runs.db", "-")[0]["divergence"] is None


# Source by its file, against the fingerprint of the living function.

MODULE = '''
"""A module."""
import functools, helpers
LIMIT: int = 10
RATE = 1.5
COMPUTED = 2 * 3
SHAPE = ("a", 1)

def used(x):
    """Documented."""
    return x + LIMIT + RATE + COMPUTED + helpers.BASE + helpers.scale(x) + len(SHAPE)

class Thing:
    size = 3

    @staticmethod
    def make(x):
        text = """several
        lines"""
        return used(x), text

    class Inner:
        def go(self):
            return LIMIT

def factory(n):
    def made(x):
        return x * n
    return made

made = factory(2)
'''
HELPERS = "BASE = 7\ndef scale(x): return x * BASE\n"


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A living module, and its files."""
    import importlib

    (tmp_path / "subject.py").write_text(MODULE)
    (tmp_path / "helpers.py").write_text(HELPERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    for name in ("subject", "helpers"):
        sys.modules.pop(name, None)
    yield importlib.import_module("subject"), tmp_path
    for name in ("subject", "helpers"):
        sys.modules.pop(name, None)


def compared(folder, parts):
    return {found.name: found.verdict for found in Files(folder / "subject.py", []).compare(parts)}


@pytest.mark.parametrize("name", ["used", "Thing", "Thing.make", "Thing.Inner.go", "factory", "made"])
def test_an_unchanged_file_has_the_fingerprint_of_its_functions(module, name):
    living, folder = module
    function = living
    for part in name.split("."):
        function = getattr(function, part)
    parts = fingerprint(function).parts
    verdicts = compared(folder, parts)
    unsure = {"subject:used.COMPUTED", "subject:factory.<locals>.made.n"}
    assert verdicts and {part: verdict for part, verdict in verdicts.items() if verdict != SAME} == {
        part: UNKNOWN for part in parts if part in unsure
    }


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("return x + LIMIT", "return x - LIMIT", {"subject:used": CHANGED}),
        ("LIMIT: int = 10", "LIMIT: int = 11", {"subject:used.LIMIT": CHANGED}),
        ("RATE = 1.5", "RATE = 1.5 # a comment\n", {}),
        ('"""Documented."""', '"""Documented better."""', {}),
        ("def used(x):", "def used(x):\n    # a comment\n", {}),
        ("COMPUTED = 2 * 3", "COMPUTED = 6", {"subject:used.COMPUTED": SAME}),
        ("def used(x):", "def renamed(x):", {"subject:used": GONE}),
        ("RATE = 1.5", "RATE = 1.5\nRATE = 2", {"subject:used.RATE": UNKNOWN}),
        ("RATE = 1.5", "if True:\n    RATE = 2", {"subject:used.RATE": UNKNOWN}),
        ("def used(x):", "def used(x): return 1\ndef used(x):", {"subject:used": UNKNOWN}),
        ("def used", "def used(:", None),
    ],
)
def test_an_edit_is_seen_where_it_matters(module, old, new, changed):
    living, folder = module
    parts = fingerprint(living.used).parts
    (folder / "subject.py").write_text(MODULE.replace(old, new, 1))
    before, after = dict.fromkeys(parts, SAME) | {"subject:used.COMPUTED": UNKNOWN}, compared(folder, parts)
    if changed is None:
        assert {verdict for name, verdict in after.items() if name.startswith("subject:")} == {UNKNOWN}
    else:
        assert after == before | changed


def test_the_file_of_another_module_is_looked_at_too(module):
    living, folder = module
    parts = fingerprint(living.used).parts
    (folder / "helpers.py").write_text(HELPERS.replace("7", "8"))
    found = compared(folder, parts)
    assert found["subject:used.helpers.BASE"] == CHANGED and found["helpers:scale.BASE"] == CHANGED
    assert found["helpers:scale"] == SAME
    (folder / "helpers.py").unlink()
    assert compared(folder, parts)["helpers:scale"] == UNKNOWN


def test_hostile_names_and_files_are_only_unknown(tmp_path):
    file = tmp_path / "subject.py"
    file.write_text("(" * 5000)
    names = ["subject:f", "../../etc/passwd:f", "a\0b:f", "", ":", "x:", "subject:<lambda>", "subject:f#2", "/etc:f"]
    assert {found.verdict for found in Files(file, []).compare(dict.fromkeys(names, "00"))} == {UNKNOWN}


def test_usage(history, capsys):
    journal, ids = history
    assert command(capsys, "plan", journal, "-", "more")[0] == 2
    assert command(capsys, "plan", journal, "ffffffffff")[0] == 3
    assert told(capsys, "plan", journal) == told(capsys, "plan", journal, ids[4])
