"""A result that cannot be given back is a loud miss for a memo and an error for a checkpoint, never a wrong value."""

import sqlite3
import textwrap
from contextlib import closing

import pytest
from scripts import Script

import durable
from durable import flow, task
from durable.cache_policies import INPUTS
from durable.errors import CodecError, JournalError

DAMAGES = {
    "another checksum": "UPDATE result SET checksum = checksum + 1",
    "cut off": "UPDATE result SET payload = substr(payload, 1, length(payload) - 1)",
    "emptied": "UPDATE result SET payload = x''",
    "a changed byte": "UPDATE result SET payload = CAST(x'00' || substr(payload, 2) AS BLOB)",
    "of another task": "UPDATE result SET payload = (SELECT payload FROM result ORDER BY id DESC LIMIT 1)",
}


def damage(journal, statement):
    """Change what nothing may change."""
    durable.close_journals()
    with closing(sqlite3.connect(journal, isolation_level=None)) as connection:
        for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            connection.execute(f"DROP TRIGGER {name}")
        assert connection.execute(statement).rowcount


@pytest.mark.parametrize("serializer", [None, "pickle"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_memo_runs_again_with_a_warning(how, serializer, journal, caplog):
    ran = []

    @task(cache_policy=INPUTS, result_serializer=serializer)
    def step(n):
        ran.append(n)
        return ["value", n]

    @task
    def other():
        return "other"

    step(1)
    other()
    damage(journal, DAMAGES[how])
    assert step(1) == ["value", 1]
    assert ran == [1, 1]
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "step (" in warning and "the cached result cannot be used" in warning and "the task runs" in warning
    # The new result is whole, and found from now on.
    assert step(1) == ["value", 1]
    assert ran == [1, 1]


@pytest.mark.parametrize("serializer", [None, "pickle"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_damaged_checkpoint_stops_the_resume_and_names_it(how, serializer, journal):
    ran = []

    @task(result_serializer=serializer)
    def step(n):
        ran.append(n)
        return ["value", n]

    @task
    def other():
        return "other"

    @flow
    def job():
        value = step(1)
        other()
        if len(ran) == 1:
            ran.append("failed")
            raise KeyError("later")
        return value

    with pytest.raises(KeyError):
        job()
    damage(journal, DAMAGES[how])
    with pytest.raises((CodecError, JournalError)) as caught:
        job()
    assert ran == [1, "failed"]
    assert "step" in str(caught.value) or str(journal) in str(caught.value)


EDITS = {
    "a field more": ("name: str", "name: str\n            size: int"),
    "a field less": ("name: str\n            size: int = 1", "name: str"),
    "a field renamed": ("name: str", "label: str"),
}


@pytest.mark.parametrize("how", EDITS)
@pytest.mark.parametrize("memo", [True, False], ids=["memo", "checkpoint"])
def test_a_class_that_changed_gives_no_half_made_value(how, memo, tmp_path):
    before, after = EDITS[how]
    text = """
        from dataclasses import dataclass
        from durable.cache_policies import DEFAULT, INPUTS

        @dataclass
        class Row:
            FIELDS

        @task(cache_policy=POLICY)
        def step():
            ran("step")
            return Row("a") if not asked("new") else Row(*("a", 2)[:len(Row.__dataclass_fields__)])

        @flow
        def job():
            row = step()
            die("here")
            print(row)

        job()
    """
    text = text.replace("POLICY", "INPUTS" if memo else "DEFAULT")
    script = Script(tmp_path)
    script.write(textwrap.dedent(text.replace("FIELDS", before)))
    script.killed("here")
    script.write(textwrap.dedent(text.replace("FIELDS", after)))
    ended = script.run(DIE="new", DURABLE_RESUME="never") if memo else script.run(DIE="new")
    if memo:
        assert ended.code == 0, ended.err
        assert "the cached result cannot be used" in ended.err
        assert script.ran() == ["step", "step"]
    else:
        assert ended.code == 1
        assert "job:Row" in ended.err or "job.Row" in ended.err
        assert script.ran() == ["step"]
