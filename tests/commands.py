"""The read commands, run in this process, and a journal that has something for each of them to tell."""

import json
import signal
import sqlite3
import subprocess
import sys

import pytest
from inspecting import environment

from durable.cli import main
from durable.journal import schema

JOB = """
import os, signal, sys
from durable import flow, task
from durable.cache_policies import DEFAULT, INPUTS, TASK_SOURCE

RATE = 2

def clean(x):
    return x * RATE

@task
def extract(day): return list(range(4))

@task(cache_policy=INPUTS)
def price(x): return x * 2.5

@task(cache_policy=DEFAULT + TASK_SOURCE)
def normalize(x): return clean(x)

@task
def inner(x): return x

@task
def outer(x): return inner(x) + inner(x + 100)

@task(retries=1)
def load(shard, scale=3):
    how = os.environ.get("HOW")
    if shard == 3 and how == "die": os.kill(os.getpid(), signal.SIGKILL)
    if shard == 3 and how == "fail": raise ValueError("boom")
    return {"shard": shard, "rows": [1, 2, scale]}

@task(persist_result=False)
def connect(): return object()

@flow
def sub(n): return inner(n)

@flow
def etl(day="2026-11-22"):
    connect()
    for x in extract(day):
        price(x); normalize(x); outer(x); sub(x)
        load(x, int(os.environ.get("SCALE", 3)))
    return day

if __name__ == "__main__":
    etl(*sys.argv[1:])
"""


def command(capsys, *args):
    """Run a command here: exit code, standard output, standard error."""
    with pytest.raises(SystemExit) as stopped:
        main([*map(str, args)])
    out, err = capsys.readouterr()
    return stopped.value.code, out, err


def told(capsys, *args):
    """What a command that succeeds prints."""
    code, out, err = command(capsys, *args)
    assert code == 0, err
    return out


def job(folder, *args, script=None, code=0, **env):
    """Run the script (or write it anew first) in `folder`."""
    if script is not None or not (folder / "job.py").exists():
        (folder / "job.py").write_text(script or JOB, encoding="utf-8")
    ended = subprocess.run(
        [sys.executable, "job.py", *args],
        cwd=folder,
        env=environment(PYTHONDONTWRITEBYTECODE="1", **env),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == code, ended.stderr
    return ended


def lived(folder):
    """A journal with a history; the ids of its runs of `etl`, oldest first.

    0 was killed and resumed, 1 has another day and scale, 2 failed, 3 another RATE, 4 is the same as 3 and was killed.
    """
    job(folder, code=-signal.SIGKILL, HOW="die")
    job(folder)
    job(folder, "2026-11-23", SCALE="4")
    job(folder, "2026-11-24", code=1, HOW="fail")
    job(folder, "2026-11-25", script=JOB.replace("RATE = 2", "RATE = 3"))
    job(folder, "2026-11-26", code=-signal.SIGKILL, HOW="die")
    return runs(folder / "runs.db")


def in_one_file(journal):
    """The journal, with nothing left beside its file."""
    db = sqlite3.connect(journal, isolation_level=None)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    db.execute("PRAGMA journal_mode = DELETE").fetchall()
    db.close()
    return journal


def runs(journal):
    out = subprocess.run(
        [sys.executable, "-m", "durable", "inspect", str(journal), "--json", "--all"],
        env=environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return [run["id"] for run in reversed(json.loads(out)["runs"])]


def task_run(journal, run, task, **arguments):
    """The id of a task run of a run, by its task and some of its arguments."""
    from durable.reader import JournalReader, TaskRun, every

    with JournalReader(journal) as reader:
        for node in every(reader, reader.find(run)[0]):
            found = node.first
            if isinstance(found, TaskRun) and found.task == task:
                given = reader.arguments(found) or {}
                if all(given.get(name) == value for name, value in arguments.items()):
                    return found.id
    raise AssertionError(f"no {task}({arguments})")


# A validator of as much JSON Schema as schema/cli uses. Stricter in one thing: what is not documented is refused.

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def documented(name):
    """One of schema/cli's schemas."""
    return json.loads((schema.FOLDER / "cli" / name).read_text(encoding="utf-8"))


def wrong(value, rule, path="$"):
    """What of a value its schema does not allow."""
    if "$ref" in rule:
        name, _, place = rule["$ref"].partition("#/")
        target = documented(name)
        for part in place.split("/"):
            target = target[part]
        return wrong(value, target, path)
    if "anyOf" in rule:
        found = [wrong(value, one, path) for one in rule["anyOf"]]
        return [] if not all(found) else min(found, key=len)
    if "const" in rule and value != rule["const"]:
        return [f"{path}: {value!r} is not {rule['const']!r}"]
    if "enum" in rule and value not in rule["enum"]:
        return [f"{path}: {value!r} is none of {rule['enum']}"]
    types = rule.get("type", [])
    types = [types] if isinstance(types, str) else types
    if types and not any(
        isinstance(value, _TYPES[one]) and (one == "boolean" or not isinstance(value, bool)) for one in types
    ):
        return [f"{path}: {value!r} is no {types}"]
    if isinstance(value, list):
        return [error for i, item in enumerate(value) for error in wrong(item, rule.get("items", {}), f"{path}[{i}]")]
    if isinstance(value, dict) and "object" in types:
        known, more = rule.get("properties", {}), rule.get("additionalProperties", False)
        errors = [f"{path}: {name!r} is missing" for name in rule.get("required", []) if name not in value]
        for name, item in value.items():
            if name in known:
                errors += wrong(item, known[name], f"{path}.{name}")
            elif more is False:
                errors.append(f"{path}.{name}: not documented")
            elif more is not True:
                errors += wrong(item, more, f"{path}.{name}")
        return errors
    return []
