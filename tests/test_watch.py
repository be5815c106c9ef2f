"""`durable tail` and `durable watch`: what a running job does, from another process, and without being in its way."""

import json
import os
import pty
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest
from operating import durable, in_process
from scripts import DEADLINE, Script, finish, stop

from durable.reader import JournalReader
from durable.reader.following import Follower

JOB = """
@task
def step(n):
    ran("step", n)
    if n == 1:
        signal_files("one")
    die(f"step{n}")
    return n

@task
def bad():
    raise ValueError("no\\x1b[31m")

@flow
def inner():
    step(7)

@flow
def job():
    for n in range(3):
        step(n)
    inner()
    try:
        bad()
    except ValueError:
        pass
    signal_files("end")

if __name__ == "__main__":
    job()
"""


@pytest.fixture
def script(tmp_path):
    made = Script(tmp_path)
    made.write(JOB)
    return made


def read_until(process, wanted):
    """Lines of a process that goes on, up to the first with `wanted` in it."""
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError((lines, process.stderr.read()))


def interrupted(process):
    process.send_signal(signal.SIGINT)
    return finish(process)


def test_what_is_recorded_is_told_while_a_job_runs(script):
    job = script.start()
    script.wait_for("one.here", job)
    following = in_process(script, "tail", "runs.db", "--json", "--follow")
    lines = read_until(following, '"Running"')
    lines += read_until(following, '"Running"')
    script.go("one")
    lines += read_until(following, '"Failed"')
    script.go("end")
    assert finish(job).code == 0
    lines += read_until(following, '"name": "job"')
    ended = interrupted(following)
    assert (ended.code, ended.err) == (130, "")
    told = [json.loads(line) for line in lines]
    assert [(each["kind"], each["name"], each["state"]) for each in told] == [
        ("flow_run", "job", "Running"),
        ("task_run", "step", "Running"),
        ("task_run", "step", "Completed"),
        ("task_run", "step", "Running"),
        ("task_run", "step", "Completed"),
        ("task_run", "step", "Running"),
        ("task_run", "step", "Completed"),
        ("flow_run", "inner", "Running"),
        ("task_run", "step", "Running"),
        ("task_run", "step", "Completed"),
        ("flow_run", "inner", "Completed"),
        ("task_run", "bad", "Running"),
        ("task_run", "bad", "Failed"),
        ("flow_run", "job", "Completed"),
    ]
    runs = {flow: run for run, flow in script.query("SELECT id, flow FROM flow_runs")}
    assert {each["flow_run"] for each in told} == set(runs.values())
    assert "\x1b" not in "".join(lines)
    assert set(told[0]) == {
        "schema", "kind", "id", "name", "flow_run", "seq", "state", "type", "at", "message", "pid", "host"
    }  # fmt: skip


def test_the_newest_are_told_without_following(script):
    script.go("one")
    script.go("end")
    script.ok()
    ended = durable(script, "tail", "-n", "3")
    lines = ended.out.splitlines()
    assert [line.split()[1:3] for line in lines] == [["Running", "bad()"], ["Failed", "bad()"], ["Completed", "flow"]]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z  Running", lines[0])
    assert "\x1b" not in ended.out
    assert len(durable(script, "tail", "--lines", "1000").out.splitlines()) == 14
    assert durable(script, "tail", "-n", "0").out == ""
    assert durable(script, "tail", "nothing.db").code == 3


def test_a_run_that_is_resumed_is_followed_in_its_old_rows(script):
    script.go("one")
    script.killed("step2")
    following = in_process(script, "tail", "-f", "-n", "0", "--json")
    script.go("end")
    # The first look has been made once something of a second run is told.
    deadline = time.monotonic() + DEADLINE
    while not select.select([following.stdout], [], [], 0)[0]:
        assert time.monotonic() < deadline, stop(following)
        script.run(DURABLE_RESUME="never", DIE="step0")
    read_until(following, '"step"')
    ((run,), *_) = script.query("SELECT id FROM flow_runs ORDER BY flow_run_row")
    script.ok(DURABLE_RESUME=run)
    told = [json.loads(line) for line in read_until(following, '"bad", "flow_run": "' + run)]
    interrupted(following)
    states = [(each["name"], each["seq"], each["state"]) for each in told if each["flow_run"] == run]
    assert states[:6] == [
        ("job", 1, "Crashed"),
        ("job", 2, "Running"),
        ("step", 1, "Crashed"),
        ("step", 2, "Running"),
        ("step", 3, "Completed"),
        ("step", 0, "Running"),
    ] or states[:5] == [
        ("job", 1, "Crashed"),
        ("job", 2, "Running"),
        ("step", 1, "Crashed"),
        ("step", 2, "Running"),
        ("step", 3, "Completed"),
    ]


def test_every_transition_is_told_once_however_the_looks_fall(script):
    script.write("""
        from durable.cache_policies import NONE

        @task(retries=2)
        def step(n):
            if n % 3 == 0 and not os.path.exists(f"seen{n}"):
                open(f"seen{n}", "w").close()
                raise ValueError("again")

        @task(cache_policy=NONE)
        def always():
            pass

        @flow(retries=1)
        def job():
            for n in range(20):
                step(n)
                always()
            if not os.path.exists("once"):
                open("once", "w").close()
                raise ValueError("once")

        for _ in range(3):
            job()
    """)
    job = script.start()
    follower, told = Follower(), []
    script.wait_for("runs.db", job)
    with JournalReader(script.journal) as reader:
        told += follower.begin(reader, 1000)
    running = True
    while running:
        running = job.poll() is None
        with JournalReader(script.journal) as reader:
            told += follower.poll(reader, changed=True, whole=not running) or []
    with JournalReader(script.journal) as reader:
        told += follower.poll(reader, changed=True, whole=True)
    assert finish(job).code == 0
    found = [("flow_run" if each.kind == "flow_run" else "task_run", each.row, each.seq) for each in told]
    assert len(found) == len(set(found)), "none twice"
    recorded = script.query("SELECT replace(run_kind, ' ', '_'), run_row, seq FROM states")
    assert set(found) == set(recorded)


def test_nothing_is_held_open_so_checkpoints_go_on(script):
    job = script.start()
    script.wait_for("one.here", job)
    following = in_process(script, "tail", "-f")
    read_until(following, "step")
    with closing(sqlite3.connect(script.journal, isolation_level=None)) as connection:
        connection.execute("PRAGMA busy_timeout = 60000")
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(RESTART)").fetchone()
    script.go("one")
    script.go("end")
    assert busy == 0
    assert finish(job).code == 0
    interrupted(following)


def test_a_watched_run_ends_with_a_line_and_its_exit_code(script):
    job = script.start()
    script.wait_for("one.here", job)
    watching = in_process(script, "watch", "runs.db", "--exit-code")
    first = watching.stdout.readline()
    script.go("one")
    script.go("end")
    assert finish(job).code == 0
    ended = finish(watching)
    assert ended.code == 0, ended
    assert re.match(r"job [0-9a-f]{7}  Running ", first)
    lines = ended.out.splitlines()
    assert "flow inner()" in ended.out
    assert re.match(r"job [0-9a-f]{7}  Completed .*  4 done, 1 failed$", lines[-1]), lines
    assert durable(script, "watch", "runs.db", "-").out.splitlines()[-1].endswith("4 done, 1 failed")


def test_a_watched_run_whose_process_dies_ends_as_crashed(script):
    job = script.start(DIE="step1")
    script.wait_for("one.here", job)
    watching = in_process(script, "watch", "runs.db", "-", "--exit-code")
    watching.stdout.readline()
    script.go("one")
    assert finish(job).code == -9
    ended = finish(watching)
    assert ended.code == 1
    assert "Crashed" in ended.out.splitlines()[-1]


def test_ctrl_c_stops_watching_and_not_the_job(script):
    job = script.start()
    script.wait_for("one.here", job)
    watching = in_process(script, "watch")
    watching.stdout.readline()
    ended = interrupted(watching)
    assert (ended.code, ended.err) == (130, "")
    script.go("one")
    script.go("end")
    assert finish(job).code == 0


def test_on_a_terminal_the_picture_is_redrawn(script):
    job = script.start()
    script.wait_for("one.here", job)
    ours, theirs = pty.openpty()
    watching = subprocess.Popen(
        [sys.executable, "-m", "durable", "watch", "runs.db"],
        cwd=script.folder,
        env=script.environment(TERM="xterm", COLUMNS="100", LINES="30"),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    deadline = time.monotonic() + DEADLINE
    while shown.count(b"step(n=1)") < 2:
        assert time.monotonic() < deadline, (shown, watching.kill())
        shown += os.read(ours, 10_000)
    script.go("one")
    script.go("end")
    assert finish(job).code == 0
    while True:
        try:
            more = os.read(ours, 10_000)
        except OSError:  # the other side is closed
            break
        if not more:
            break
        shown += more
    os.close(ours)
    assert watching.wait(DEADLINE) == 0
    text = shown.decode()
    assert re.search(r"\x1b\[\d+F\x1b\[J", text)
    assert "1 done, 1 in flight" in text
    assert text.rstrip().endswith("4 done, 1 failed")
