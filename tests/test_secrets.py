"""What must not be read in a journal is not in it."""

import pytest
from pydantic import BaseModel, SecretBytes, SecretStr

import durable
from durable import NotSerializable, flow, task
from durable.cache_policies import INPUTS

SECRET = "correct-horse-battery-staple"


def in_the_files(journal):
    durable.close_journals()
    return [path.name for path in journal.parent.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]


def test_arguments_are_in_the_journal_unless_told_otherwise(journal):
    task(lambda password: 1)(SECRET)
    assert in_the_files(journal) == ["runs.db"]


@pytest.mark.parametrize("policy", [None, INPUTS])
def test_record_inputs_false_keeps_only_what_identifies_the_call(policy, journal):
    calls = []

    @task(record_inputs=False, cache_policy=policy)
    def login(password, n):
        calls.append(n)
        return n

    fails = [True]

    @flow(record_inputs=False)
    def job(password):
        found = login(password, 1), login(password, 2), login(password + "!", 1)
        if fails.pop():
            fails.append(False)
            raise ValueError
        return found

    with pytest.raises(ValueError):
        job(SECRET)
    assert job(SECRET) == (1, 2, 1)
    assert calls == [1, 2, 1]
    assert in_the_files(journal) == []


class Login(BaseModel):
    name: str
    password: SecretStr


@pytest.mark.parametrize(
    "value",
    [SecretStr(SECRET), SecretBytes(SECRET.encode()), Login(name="a", password=SECRET), [{"deep": SecretStr(SECRET)}]],
    ids=["SecretStr", "SecretBytes", "in a model", "nested"],
)
def test_pydantic_secrets_are_never_written(value, journal, caplog):
    @task
    def takes(secret):
        return 1

    @task
    def gives():
        return value

    @flow
    def job(secret):
        return takes(secret)

    assert job(value) == 1
    with pytest.raises(NotSerializable):
        gives()
    assert in_the_files(journal) == []
    assert SECRET not in caplog.text
