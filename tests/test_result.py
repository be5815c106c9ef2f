"""`durable result`: the value that was recorded, without its classes, never unpickled, whole or not at all."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from commands import command, job, task_run, told
from inspecting import environment, tampered

from durable.codec import encode
from durable.journal.facts import checksum_of

SCRIPT = """
import dataclasses, datetime, decimal, enum
from durable import flow, task

class Colour(enum.Enum):
    RED = 1

@dataclasses.dataclass
class Row:
    name: str
    sizes: tuple

class Bomb:
    def __reduce__(self):
        import os
        return (os.mkdir, ("exploded",))

@task
def value(kind):
    return {
        "plain": {"a": [1, 2.5, None, True], "b": "text"},
        "rich": {"t": (1, 2), "s": {3}, "f": frozenset({4}), "b": b"\\x00\\xff", "big": 10**40, "nan": float("nan"),
                 "row": Row("x", (1,)), "colour": Colour.RED, 7: "key", "d": decimal.Decimal("1.50"),
                 "when": datetime.date(2026, 11, 22), "$bytes": "not bytes"},
        "dollar": {"$bytes": "not bytes"},
        "text": "two\\nlines \\x1b[31m",
        "none": None,
    }[kind]

@task(result_serializer="pickle")
def pickled(): return Bomb()

@task(persist_result=False)
def unkept(): return 1

@task
def broken(): raise ValueError("\\x1b[2Jboom")

@flow
def job():
    for kind in ("plain", "rich", "dollar", "text", "none"): value(kind)
    pickled(); unkept()
    try: broken()
    except ValueError: pass
    return "done"

job()
"""


@pytest.fixture(scope="module")
def journal(tmp_path_factory):
    folder = tmp_path_factory.mktemp("values")
    job(folder, script=SCRIPT)
    return folder / "runs.db"


def value(capsys, journal, kind):
    document = json.loads(
        told(capsys, "result", journal, task_run(journal, _run(journal), "value", kind=kind), "--json")
    )
    return document["value"]


def _run(journal):
    db = sqlite3.connect(f"file:{journal}?mode=ro", uri=True)
    (id_,) = db.execute("SELECT id FROM flow_runs").fetchone()
    db.close()
    return id_


def test_what_json_has_is_itself(journal, capsys):
    assert value(capsys, journal, "plain") == {"a": [1, 2.5, None, True], "b": "text"}
    assert value(capsys, journal, "none") is None
    document = json.loads(told(capsys, "result", journal, "-", "--json"))
    assert (document["kind"], document["value"], document["format"]) == ("flow", "done", "durable")


def test_what_json_does_not_have_is_told_by_its_kind(journal, capsys):
    pairs = value(capsys, journal, "rich")["$dict"]
    found = {key if isinstance(key, (str, int)) else str(key): item for key, item in pairs}
    assert found["t"] == {"$tuple": [1, 2]} and found["s"] == {"$set": [3]} and found["f"] == {"$frozenset": [4]}
    assert (
        found["b"] == {"$bytes": "AP8="} and found["big"] == {"$int": str(10**40)} and found["nan"] == {"$float": "nan"}
    )
    assert found["row"] == {"$object": "job.Row", "fields": {"name": "x", "sizes": {"$tuple": [1]}}}
    assert found["colour"] == {"$enum": "job.Colour", "name": "RED"} and found[7] == "key"
    assert found["d"] == {"$repr": "Decimal('1.50')"} and found["when"] == {"$repr": "datetime.date(2026, 11, 22)"}
    assert value(capsys, journal, "dollar") == {"$dict": [["$bytes", "not bytes"]]}, "not to be taken for bytes"


def test_text_is_for_people_and_moves_no_cursor(journal, capsys):
    run = _run(journal)
    assert told(capsys, "result", journal, task_run(journal, run, "value", kind="text")) == "two\nlines \\x1b[31m\n"
    out = told(capsys, "result", journal, task_run(journal, run, "broken"))
    assert out.startswith("Traceback (most recent call last):\n") and out.endswith("boom\n") and "\x1b" not in out
    assert "Row(name='x', sizes=(1,))" in told(capsys, "result", journal, task_run(journal, run, "value", kind="rich"))


def test_a_pickled_result_is_never_unpickled_and_given_raw(journal, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    id_ = task_run(journal, _run(journal), "pickled")
    for form in ("text", "json"):
        code, out, err = command(capsys, "result", journal, id_, "--format", form)
        assert (code, out) == (3, "") and "pickled" in err and "raw" in err
    out_file = tmp_path / "bomb.pickle"
    assert command(capsys, "result", journal, id_, "--format", "raw", "-o", out_file)[0] == 0
    assert b"mkdir" in out_file.read_bytes() and not (tmp_path / "exploded").exists()
    code, _, _ = command(capsys, "result", journal, id_, "--json", "-o", out_file)
    assert code == 3 and b"mkdir" in out_file.read_bytes(), "a file is replaced by a whole result or not at all"
    assert [path.name for path in tmp_path.iterdir()] == ["bomb.pickle"]


def test_raw_bytes_go_to_a_file_or_a_pipe(journal, tmp_path):
    id_ = task_run(journal, _run(journal), "value", kind="plain")
    raw = subprocess.run(
        [sys.executable, "-m", "durable", "result", str(journal), id_, "--format", "raw"],
        env=environment(), capture_output=True, check=True,
    ).stdout  # fmt: skip
    assert raw == encode({"a": [1, 2.5, None, True], "b": "text"})
    if sys.platform.startswith("linux"):
        import pty

        child, terminal = pty.fork()
        if child == 0:
            os.execve(sys.executable, [sys.executable, "-m", "durable", "result", str(journal), id_, "--format", "raw"],
                      environment())  # fmt: skip
        said = b""
        try:
            while part := os.read(terminal, 4096):
                said += part
        except OSError:
            pass
        _, status = os.waitpid(child, 0)
        os.close(terminal)
        assert os.waitstatus_to_exitcode(status) == 2 and b"not for a terminal" in said


def test_what_was_not_kept_is_said_to_be_missing(journal, capsys):
    code, out, err = command(capsys, "result", journal, task_run(journal, _run(journal), "unkept"))
    assert (code, out) == (3, "") and "no recorded result" in err and "persist_result=False" in err


def test_the_journal_is_not_written_over(journal, capsys, tmp_path):
    before = journal.read_bytes()
    id_ = task_run(journal, _run(journal), "value", kind="plain")
    (tmp_path / "link").symlink_to(journal)
    for target in (journal, f"{journal}-wal", tmp_path / "link"):
        assert command(capsys, "result", journal, id_, "-o", target)[0] == 2
    assert command(capsys, "result", journal, id_, "-o", tmp_path / "none" / "x")[0] == 1
    assert command(capsys, "result", journal, id_, "-o", "/dev/null")[0] == 0
    assert journal.read_bytes() == before and Path("/dev/null").is_char_device()


def test_bytes_that_do_not_match_their_checksum_are_refused(journal, capsys, tmp_path):
    id_ = task_run(journal, _run(journal), "value", kind="plain")
    file = tampered(journal, tmp_path, "UPDATE result SET checksum = checksum + 1")
    for form in ("text", "json", "raw"):
        code, _, err = command(capsys, "result", file, id_, "--format", form, "-o", tmp_path / "out")
        assert code == 5 and "checksum" in err and not (tmp_path / "out").exists()


def test_a_result_that_is_too_long_to_decode_is_given_raw(journal, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("durable.reader.payloads.LONGEST", 10)
    id_ = task_run(journal, _run(journal), "value", kind="plain")
    code, out, err = command(capsys, "result", journal, id_)
    assert (code, out) == (3, "") and "decoded" in err
    assert command(capsys, "result", journal, id_, "--format", "raw", "-o", tmp_path / "x")[0] == 0


def generator(journal, folder, *, returned):
    """A task run that yielded, as the engine records it."""
    rows = [(90_000 + n, 1, checksum_of(encode(n * n)), encode(n * n)) for n in range(1, 1201)]
    statements = [("INSERT INTO result (id, format, checksum, payload) VALUES (?, ?, ?, ?)", row) for row in rows]
    statements += [
        ("INSERT INTO task_run_yield SELECT id, ?, at, process_id, ? FROM task_run WHERE id = 1", (n, 90_000 + n))
        for n in range(1, 1201)
    ]
    statements += ["INSERT INTO task_run_yield SELECT id, 1201, at, process_id, NULL FROM task_run WHERE id = 1"]
    if not returned:
        statements += ["UPDATE task_run_state SET result_id = NULL WHERE task_run_id = 1"]
    return tampered(journal, folder, *statements)


def test_what_a_generator_yielded_is_given_in_order(journal, capsys, tmp_path):
    file = generator(journal, tmp_path, returned=True)
    id_ = task_run(journal, _run(journal), "value", kind="plain")
    document = json.loads(told(capsys, "result", file, id_, "--json"))
    assert [one["value"] for one in document["yielded"][:1200]] == [n * n for n in range(1, 1201)]
    assert document["yielded"][1200] == {"number": 1201, "recorded": False, "value": None}
    assert document["value"] == {"a": [1, 2.5, None, True], "b": "text"}
    lines = told(capsys, "result", file, id_).splitlines()
    assert lines[2] == "yielded 3: 9" and lines[1200] == "yielded 1201: (could not be recorded)"
    assert lines[1201].startswith("returned: {'a'")
    assert told(capsys, "result", file, id_, "--yield", "7") == "49\n"
    assert command(capsys, "result", file, id_, "--yield", "2000")[0] == 3
    assert command(capsys, "result", file, id_, "--yield", "7", "--format", "raw", "-o", tmp_path / "x")[0] == 0
    assert (tmp_path / "x").read_bytes() == encode(49)
    out = told(capsys, "inspect", file, id_)
    assert "Yielded 1201 values" in out and "1181 more" in out


def test_a_generator_that_was_closed_early_has_what_it_yielded(journal, capsys, tmp_path):
    file = generator(journal, tmp_path, returned=False)
    id_ = task_run(journal, _run(journal), "value", kind="plain")
    document = json.loads(told(capsys, "result", file, id_, "--json"))
    assert (document["format"], document["value"], len(document["yielded"])) == (None, None, 1201)
    assert "returned" not in told(capsys, "result", file, id_)


def test_usage(journal, capsys):
    assert command(capsys, "result", journal)[0] == 2
    assert command(capsys, "result", journal, "-", "value", "more")[0] == 2
    code, _, err = command(capsys, "result", journal, "-", "value")
    assert code == 3 and "may be" in err and "value(kind='plain')" in err
    assert command(capsys, "result", journal, "-", "nothing")[0] == 3
