"""`durable inspect`: what it says about real journals, in text and JSON, and how it ends."""

import json
import re
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from inspecting import as_process, environment, in_process, live, run_script

import durable
from durable.cli import cli, main
from durable.cli.facts import has_wal_reset_bug
from durable.cli.terminal import Screen
from durable.spoken import digits_of, spoken


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("killed")
    assert run_script(folder, "die").returncode == -signal.SIGKILL
    return folder / "runs.db"


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("failed")
    assert run_script(folder, "fail").returncode == 1
    return folder / "runs.db"


@pytest.fixture(scope="module")
def resumed(tmp_path_factory):
    folder = tmp_path_factory.mktemp("resumed")
    run_script(folder, "die")
    assert run_script(folder).returncode == 0
    return folder / "runs.db"


def test_a_killed_run_is_shown_as_crashed_with_what_was_in_flight(killed, capsys):
    code, out, err = in_process(capsys, killed)
    assert code == 0 and not err
    assert re.search(r"runs\.db  .* schema 2  journal ok  1 run, 1 unfinished  SQLite", out)
    (line,) = [line for line in out.splitlines() if "nightly-etl" in line]
    run, name, flow, state, started, *_ = line.split()
    assert (flow, state) == ("nightly-etl", "Crashed") and re.fullmatch("[0-9a-f]{7}", run)
    assert digits_of(name) == run[:4]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", started)
    assert re.search(r" 30 +0 +0 +1   process \d+ on \S+ died while load\(shard=5, payload=b''\) ran$", line)
    assert "tasks outside flows: 1 done" in out
    assert out.endswith(
        "Next: re-run your script: 30 tasks will be restored, load(shard=5, payload=b'') runs again (attempt 2).\n"
    )


def test_the_hint_tells_what_the_next_run_does(tmp_path, capsys):
    run_script(tmp_path, "die")
    _, out, _ = in_process(capsys, tmp_path / "runs.db")
    promised = int(re.search(r"(\d+) tasks will be restored", out)[1])
    assert f"{promised} tasks restored" in run_script(tmp_path).stderr


def test_a_failed_run_shows_its_error_and_what_fails_again(failed, capsys):
    _, out, _ = in_process(capsys, failed)
    assert re.search(r"Failed .* 30 +0 +1 +0   RuntimeError: disk on fire\n", out)
    assert "30 tasks will be restored, 1 failed task runs again" in out
    _, out, _ = in_process(capsys, failed, "-")
    assert "  Traceback (most recent call last):\n" in out and "  RuntimeError: disk on fire\n" in out
    assert re.search(r"  failed    load\(shard=5, .*RuntimeError: disk on fire", out)


def test_ctrl_c_is_a_crash_with_its_reason(tmp_path, capsys):
    run_script(tmp_path, "interrupt")
    _, out, _ = in_process(capsys, tmp_path / "runs.db")
    assert re.search(r"Crashed .* 1   Execution was aborted by an interrupt signal\. \(while load\(shard=5", out)
    assert "load(shard=5, payload=b'') runs again (attempt 2)" in out
    _, out, _ = in_process(capsys, tmp_path / "runs.db", "-")
    assert re.search(r"\n  crashed   load\(shard=5", out)


def test_a_resumed_run_shows_both_executions_and_nothing_to_do(resumed, capsys):
    _, out, err = in_process(capsys, resumed)
    assert "Completed" in out and "Next:" not in out and not err
    _, out, _ = in_process(capsys, resumed, "-")
    assert re.search(r"execution 1  Crashed, .*\n.*\n  execution 2  Completed, ", out)
    assert re.search(r"flaky\(path='flag'\) .*\[2 attempts\]", out)
    assert "load(shard=0 .. 7, payload=b'')" in out and "[1 retried]" in out


def test_the_tree_counts_equal_siblings_and_what_they_called(killed, capsys):
    _, out, err = in_process(capsys, killed, "-")
    tree = [line.rstrip() for line in out.split("\n\n")[-1].splitlines()]
    assert [line[:10].strip() for line in tree] == ["ok"] * 7 + ["lost"]
    assert "x6  outer(x=0 .. 5)" in tree[2] and "  x12  inner(x=0 .. 105)" in tree[3]
    assert "flow sub(n=1)" in tree[4] and "  x5  inner(x=10 .. 14)" in tree[5]
    assert "x5  load(shard=0 .. 4, payload=b'')" in tree[6] and re.search(r"p50 .* p95 ", tree[6])
    assert "load(shard=5" in tree[7] and "attempt 1 began" in tree[7] and "no end recorded" in tree[7]
    assert "--all" in err


def test_all_shows_each_call_in_its_place(killed, capsys):
    _, out, err = in_process(capsys, killed, "-", "--all")
    tree = [
        line[12:].rstrip().split("  ")
        for line in out.split("\n\n")[-1].splitlines()
        if line.startswith(("  ok", "  lost"))
    ]
    assert len(tree) == 32 and not err  # 31 task runs and a subflow
    text = out[out.index("outer(x=0)") :]
    places = [
        text.index(call)
        for call in (
            "outer(x=0)",
            "  inner(x=0)",
            "  inner(x=100)",
            "outer(x=1)",
            "  inner(x=1)",
            "flow sub(n=1)",
            "  inner(x=10)",
            "load(shard=0",
        )
    ]
    assert places == sorted(places)


def test_a_run_is_found_by_the_beginning_of_its_id(killed, capsys):
    _, out, _ = in_process(capsys, killed, "-", "--json")
    document = json.loads(out)
    whole = document["run"]["id"]
    for prefix in (whole, whole[:7], whole[:9].upper()):
        code, out, _ = in_process(capsys, killed, prefix)
        assert code == 0 and whole in out
    task = document["entries"][0]["first"]["id"]
    code, out, _ = in_process(capsys, killed, task[:12])
    assert code == 0 and out.startswith(f"extract {task}  ok\n") and "in flow run  nightly-etl" in out
    code, out, err = in_process(capsys, killed, "zz")
    assert code == 3 and not out and "no flow run is called 'zz', and no id begins so" in err


def test_a_flow_run_is_found_by_what_it_is_called(killed, capsys):
    document = json.loads(in_process(capsys, killed, "-", "--json")[1])
    run = document["run"]
    for name in (run["called"], run["called"].title()):
        code, out, err = in_process(capsys, killed, name)
        assert code == 0 and "no flow run" not in err and out.startswith(f"nightly-etl {run['id']}")
        assert re.search(rf"name +{run['called']}\n", out)
    subflow = next(entry["first"] for entry in document["entries"] if entry["kind"] == "flow")
    assert f"sub {subflow['id']}" in in_process(capsys, killed, subflow["called"])[1]


def test_runs_with_names_of_their_own_are_found_by_them_and_not_by_the_words(tmp_path, capsys):
    run_script(
        tmp_path,
        script="from durable import flow\n@flow(flow_run_name='{name}')\ndef f(name): pass\n"
        "for name in ('etl of May', 'twice', 'twice', '1234'): f(name)\n",
    )
    journal = tmp_path / "runs.db"
    runs = {run["name"]: run for run in json.loads(in_process(capsys, journal, "--json")[1])["runs"]}
    assert {run["called"] for run in runs.values()} == {"etl of May", "twice", "1234"}
    for name in ("etl of May", "1234"):
        code, out, _ = in_process(capsys, journal, name)
        assert code == 0 and runs[name]["id"] in out
        assert in_process(capsys, journal, spoken(bytes.fromhex(runs[name]["id"])))[0] == 3
    code, _, err = in_process(capsys, journal, "twice")
    assert code == 3 and "several runs are called 'twice'" in err and runs["twice"]["id"][:7] in err


def test_an_ambiguous_beginning_is_refused_with_the_candidates(killed, capsys):
    db = sqlite3.connect(f"file:{killed}?mode=ro", uri=True)
    firsts = [id_[0] for (id_,) in db.execute("SELECT id FROM task_runs")]
    flows = {id_[0] for (id_,) in db.execute("SELECT id FROM flow_runs")}
    db.close()
    digit = next(d for d in firsts if firsts.count(d) > 1 and d not in flows)
    code, out, err = in_process(capsys, killed, digit)
    assert code == 3 and not out and "several runs" in err


def test_a_single_task_run_shows_error_and_nested_calls(failed, capsys):
    _, out, _ = in_process(capsys, failed, "-", "--json", "--all")
    entries = json.loads(out)["entries"]
    broken = next(entry["first"] for entry in entries if entry["status"] == "failed")
    assert broken["error"]["type"] == "RuntimeError" and "disk on fire" in broken["error"]["traceback"]
    _, out, _ = in_process(capsys, failed, broken["id"])
    assert "Traceback (most recent call last)" in out and "shard = 5" in out
    outer = next(entry["first"] for entry in entries if entry["first"].get("task") == "outer")
    _, out, _ = in_process(capsys, failed, outer["id"])
    assert "inner(x=0)" in out and "inner(x=100)" in out and "inner(x=1)" not in out


def test_json_says_what_the_text_says(killed, capsys):
    _, text, _ = in_process(capsys, killed)
    _, out, err = in_process(capsys, killed, "--json")
    document = json.loads(out)
    assert document["schema"] == 1 and not err
    (run,) = document["runs"]
    assert run["id"].startswith(re.search(r"  ([0-9a-f]{7})  \S+ +nightly", text)[1])
    assert run["called"] == spoken(bytes.fromhex(run["id"])) and run["name"] is None and run["called"] in text
    assert run["state"] == "Crashed" and run["recorded"] == "Running" and run["died"] is True
    assert run["tasks"] == {
        "total": 31,
        "completed": 30,
        "cached": 0,
        "failed": 0,
        "crashed": 0,
        "lost": 1,
        "running": 0,
        "rolled_back": 0,
        "other": 0,
    }
    assert run["note"] in text and document["next"]["text"] in text and document["next"]["run"] == run["id"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", run["started"]) and run["ended"] >= run["started"]
    assert isinstance(run["seconds"], float)
    _, out, _ = in_process(capsys, killed, "-", "--json")
    document = json.loads(out)
    assert document["run"]["parameters"] == {"day": "2026-11-22"}
    assert document["run"]["executions"][0]["process"]["command"] == ["etl.py"]
    assert [(e["depth"], e["status"], e["count"]) for e in document["entries"]] == [
        (0, "ok", 1), (0, "ok", 1), (0, "ok", 6), (1, "ok", 12), (0, "ok", 1), (1, "ok", 5), (0, "ok", 5),
        (0, "lost", 1),
    ]  # fmt: skip
    assert document["entries"][-1]["first"]["arguments"] == {"shard": 5, "payload": {"$bytes": ""}}
    assert document["entries"][0]["first"]["result_bytes"] > 0


def test_tasks_outside_flows_are_listed(killed, capsys):
    _, out, _ = in_process(capsys, killed, "outside")
    assert "tasks outside flows: 1 done" in out and "alone(x=1)" in out
    _, out, _ = in_process(capsys, killed, "outside", "--json")
    assert json.loads(out)["entries"][0]["first"]["task"] == "alone"


def test_a_live_run_is_running_and_the_script_is_not_disturbed(tmp_path, capsys):
    with live(tmp_path) as child:
        _, out, _ = in_process(capsys, tmp_path / "runs.db")
        assert re.search(rf"Running .* 30 +0 +0 +1   process {child.pid} on", out) and "Next:" not in out
        _, out, _ = in_process(capsys, tmp_path / "runs.db", "-")
        assert re.search(r"\n  running   load\(shard=5", out)
        # A copy has no lock beside it: whether the process lives cannot be told, for its pid exists.
        copy = tmp_path / "copy.db"
        for suffix in ("", "-wal"):
            (tmp_path / f"copy.db{suffix}").write_bytes((tmp_path / f"runs.db{suffix}").read_bytes())
        _, out, _ = in_process(capsys, copy)
        assert "Running?" in out and "if it still lives" in out
    _, out, _ = in_process(capsys, tmp_path / "runs.db")
    assert f"process {child.pid} on" in out and "Crashed" in out
    _, out, _ = in_process(capsys, copy)
    assert "Crashed" in out


def test_limit_newest_first_and_a_note_of_the_rest(tmp_path, capsys):
    script = "from durable import flow\n@flow\ndef f(n): pass\nfor n in range(25): f(n)\n"
    assert run_script(tmp_path, script=script).returncode == 0
    file = tmp_path / "runs.db"
    _, out, err = in_process(capsys, file)
    lines = [line.split() for line in out.splitlines() if "Completed" in line]
    assert len(lines) == 20 and "5 older runs not shown" in err
    _, out, err = in_process(capsys, file, "--all")
    every = [line.split()[0] for line in out.splitlines() if "Completed" in line]
    assert len(every) == 25 and every[:20] == [line[0] for line in lines] and not err
    _, out, _ = in_process(capsys, file, "--json", "--limit", "3")
    assert [run["id"][:7] for run in json.loads(out)["runs"]] == every[:3]
    started = [run["started"] for run in json.loads(in_process(capsys, file, "--json", "--all")[1])["runs"]]
    assert started == sorted(started, reverse=True)


def test_exit_codes(killed, resumed, tmp_path, capsys):
    assert in_process(capsys, killed, "--exit-code")[0] == 1
    assert in_process(capsys, killed, "-", "--exit-code")[0] == 1
    assert in_process(capsys, killed, "-")[0] == 0
    assert in_process(capsys, resumed, "--exit-code")[0] == 0
    assert in_process(capsys, resumed, "-", "--exit-code", "--json")[0] == 0
    assert in_process(capsys, killed, "--limit", "0")[0] == 2
    assert in_process(capsys, tmp_path / "missing.db")[0] == 3
    assert in_process(capsys, killed, "ffffffffffffffff")[0] == 3
    with pytest.raises(SystemExit) as stopped:
        main(["no-such-command"])
    assert stopped.value.code == 2


def test_a_locked_journal_is_busy(tmp_path, capsys, monkeypatch):
    run_script(tmp_path, script="from durable import flow\n@flow\ndef f(): pass\nf()\n")
    file = tmp_path / "runs.db"
    monkeypatch.setattr("durable.reader.opening.BUSY_SECONDS", 0.05)
    holder = sqlite3.connect(file, isolation_level=None)
    holder.execute("PRAGMA locking_mode = EXCLUSIVE").fetchall()
    holder.execute("BEGIN EXCLUSIVE")
    holder.execute("PRAGMA user_version = 1")
    try:
        (tmp_path / "runs.db-wal").touch()
        code, out, err = in_process(capsys, file)
    finally:
        holder.execute("ROLLBACK")
        holder.close()
    assert code == 4 and not out and "locked" in err


def test_no_argument_means_the_environments_journal_then_runs_db(killed, resumed, capsys, monkeypatch):
    monkeypatch.chdir(killed.parent)
    assert "Crashed" in in_process(capsys)[1]
    monkeypatch.setenv("DURABLE_JOURNAL", str(resumed))
    assert "Completed" in in_process(capsys)[1]


def test_nothing_from_the_journal_reaches_the_terminal_raw(tmp_path, capsys):
    script = (
        "from durable import flow, task\n"
        "@task(name='evil\\x1b]0;title\\x07')\ndef t(a): raise ValueError('\\x1b[2J\\r\\x9b31m\\u202e')\n"
        "@flow(name='flow\\x1b[31m')\ndef f(p):\n    t({'\\x1b[1m': '\\x07\\x00'})\n"
        "f('\\x1b[0m')\n"
    )
    run_script(tmp_path, script=script)
    file = tmp_path / "runs.db"
    for args in ((), ("-",), ("-", "--all"), ("--json",), ("-", "--json", "--all")):
        code, out, err = in_process(capsys, file, *args)
        assert code == 0
        assert not [c for c in out + err if c != "\n" and not c.isprintable()], args
        assert "x1b" in out or "u001b" in out


def test_colour_only_where_it_is_wanted(killed, monkeypatch):
    def colour(tty, setting="auto", **env):
        for name in ("NO_COLOR", "FORCE_COLOR", "TERM"):
            monkeypatch.delenv(name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setattr("sys.stdout.isatty", lambda: tty, raising=False)
        return Screen(setting).colour

    assert colour(True) and not colour(False)
    assert not colour(True, NO_COLOR="1") and colour(True, NO_COLOR="")
    assert not colour(True, TERM="dumb")
    assert colour(False, FORCE_COLOR="1") and not colour(False, FORCE_COLOR="1", NO_COLOR="1")
    assert colour(False, "always", NO_COLOR="1") and not colour(True, "never", FORCE_COLOR="1")
    monkeypatch.undo()
    always = as_process(killed, "--color", "always").stdout
    assert "\x1b[31mCrashed" in always
    assert re.sub(r"\x1b\[\d*m", "", always) == as_process(killed).stdout


def test_a_closed_pipe_is_no_error(killed):
    for args in ([], ["-"], ["-", "--all"], ["--json"]):
        command = [
            sys.executable,
            "-c",
            "import sys; from durable.cli import main; sys.stdout.reconfigure(write_through=True); main()",
        ]
        child = subprocess.Popen(
            [*command, "inspect", str(killed), *args], env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        child.stdout.close()
        err = child.stderr.read()
        child.stderr.close()
        assert (child.wait(120), b"Traceback" in err, b"Broken" in err) == (0, False, False), err


def test_no_module_of_the_users_is_imported_and_nothing_slow(killed):
    (killed.parent / "pickle_bomb.py").write_text("raise SystemExit('imported')")
    code = (
        "import sys\nfrom durable.cli import main\n"
        "try: main(['inspect', 'runs.db', '-', '--all'])\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=killed.parent, env=environment(), capture_output=True, text=True
    )
    loaded = set(done.stderr.split())
    assert "durable.cli.inspect" in loaded and "extract(" in done.stdout
    assert not loaded & {"etl", "sqlite_utils", "filelock", "numpy", "pandas", "polars", "pyarrow", "attr", "pydantic"}


def test_a_pickled_result_is_never_opened(tmp_path, capsys):
    script = (
        "import os\nfrom durable import flow, task\n"
        "class Bomb:\n    def __reduce__(self): return (os.mkdir, ('exploded',))\n"
        "@task(result_serializer='pickle')\ndef t(): return Bomb()\n"
        "@flow\ndef f(): t()\nf()\n"
    )
    run_script(tmp_path, script=script)
    for args in (("-",), ("-", "--all"), ("-", "--json")):
        assert in_process(capsys, tmp_path / "runs.db", *args)[0] == 0
    assert not Path("exploded").exists() and not (tmp_path / "exploded").exists()


def test_version_and_help(capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == 0 and durable.__version__ in capsys.readouterr().out
    code, out, err = in_process(capsys, "--help")
    assert code == 0 and not err
    for promised in (
        "DURABLE_JOURNAL",
        "--limit",
        '{"schema": 1',
        "\n    3  no such file or run",
        "\n    5  the journal is damaged",
    ):
        assert promised in out
    result = CliRunner().invoke(cli, ["--help"])
    assert result.exit_code == 0 and "inspect" in result.output and "Exit codes" in result.output


@pytest.mark.parametrize(
    ("version", "bug"),
    [
        ("3.6.23", False), ("3.7.0", True), ("3.40.1", True), ("3.44.5", True), ("3.44.6", False), ("3.45.0", True),
        ("3.50.6", True), ("3.50.7", False), ("3.51.2", True), ("3.51.3", False), ("3.52.0", False),
    ],
)  # fmt: skip
def test_which_sqlite_has_the_wal_reset_bug(version, bug):
    assert has_wal_reset_bug(tuple(map(int, version.split(".")))) is bug


def test_the_versions_of_a_flow_and_a_task_are_shown(journal, capsys):
    @durable.task(version="1.2")
    def load():
        return 1

    @durable.flow(version="2026-11")
    def nightly():
        return load()

    nightly()
    durable.close_journals()
    code, out, _ = in_process(capsys, journal, "-")
    assert code == 0 and "  version      2026-11\n" in out
    shown = json.loads(in_process(capsys, journal, "-", "--json")[1])
    assert shown["run"]["version"] == "2026-11"
    code, out, _ = in_process(capsys, journal, "-", "load")
    assert code == 0 and re.search(r"\n  version +1\.2\n", out)
