"""A script whose journal is looked at, ``durable inspect`` itself, and what tells or makes a change of a journal."""

import os
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest

import durable
from durable.cli import main

SCRIPT = """
import os, signal, sys, time
from durable import flow, task

HOW = os.environ.get("HOW", "")

@task
def extract(day): return list(range(8))

@task(retries=2)
def flaky(path):
    if not os.path.exists(path):
        open(path, "w").close()
        raise ValueError("not yet \\x1b[31mred\\x07\\nsecond line")
    return path

@task
def inner(x): return x

@task
def outer(x): return inner(x) + inner(x + 100)

@task
def load(shard, payload=b""):
    if shard == 5 and HOW == "die": os.kill(os.getpid(), signal.SIGKILL)
    if shard == 5 and HOW == "fail": raise RuntimeError("disk on fire")
    if shard == 5 and HOW == "interrupt": raise KeyboardInterrupt
    if shard == 5 and HOW == "wait":
        print("waiting", flush=True)
        time.sleep(600)
    return "x" * 300

@flow
def sub(n): return [inner(n * 10 + i) for i in range(5)]

@flow
def nightly_etl(day="2026-11-22"):
    rows = extract(day)
    flaky("flag")
    for i in range(6): outer(i)
    sub(1)
    for shard in rows: load(shard)

@task
def alone(x): return x

if __name__ == "__main__":
    alone(1)
    nightly_etl()
"""


def environment(**more):
    """The children's: with this durable, however the tests found it."""
    plain = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR", "TERM")}
    return {**plain, "PYTHONPATH": str(Path(durable.__file__).parent.parent), **more}


def run_script(folder, how="", script=SCRIPT):
    """Run the example script in `folder`; its journal is runs.db there."""
    (folder / "etl.py").write_text(script, encoding="utf-8")
    return subprocess.run(
        [sys.executable, "etl.py"], cwd=folder, env=environment(HOW=how), capture_output=True, text=True, timeout=120
    )


@contextmanager
def live(folder):
    """The script in `folder`, in a process that stands in the midst of its run until the block ends, and is killed."""
    (folder / "etl.py").write_text(SCRIPT, encoding="utf-8")
    child = subprocess.Popen(
        [sys.executable, "etl.py"],
        cwd=folder,
        env=environment(HOW="wait"),
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert child.stdout.readline() == "waiting\n"
        yield child
    finally:
        child.kill()
        child.communicate()


def in_process(capsys, *args):
    """Run the command here: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stopped:
        main(["inspect", *map(str, args)])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def as_process(*args, **more):
    """Run the command as a user does."""
    return subprocess.run(
        [sys.executable, "-m", "durable", "inspect", *map(str, args)],
        env=environment(**more),
        capture_output=True,
        text=True,
        timeout=120,
    )


def everything(folder):
    """Every file and folder: name, bytes, time of change, mode, owner.

    Not the inode's ctime: for root, SQLite sets the log's owner to what it is, which the kernel counts as a change.
    """
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.stat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(folder))] = (
            content,
            status.st_mtime_ns,
            status.st_mode,
            status.st_uid,
            status.st_gid,
        )
    return found


def tampered(journal, folder, *statements):
    """A copy of a journal, as its owner would not have written it."""
    file = folder / "tampered.db"
    file.write_bytes(journal.read_bytes())
    db = sqlite3.connect(file, isolation_level=None)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    for statement in statements:
        db.execute(*statement) if isinstance(statement, tuple) else db.execute(statement)
    db.close()
    for suffix in ("-wal", "-shm"):
        file.with_name(file.name + suffix).unlink(missing_ok=True)
    return file
