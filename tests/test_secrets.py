"""What must not be read in a journal is not in it."""

import base64
import functools
import logging
import pickle
from collections import defaultdict, deque
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import product
from typing import NamedTuple

import msgspec
import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, PrivateAttr, Secret, SecretBytes, SecretStr
from scripts import Script, query

import durable
from durable import NotSerializable, flow, task
from durable.cache_policies import DEFAULT, INPUTS
from durable.cli import cli
from durable.codec import canonical, decode_inert, dump, summary

SECRET = "correct-horse-battery-staple"


WRITTEN = [
    SECRET.encode(),
    SECRET.encode("utf-16-le"),
    SECRET.encode().hex().encode(),
    base64.b64encode(SECRET.encode())[:-4],
]


def holding(journal):
    """The files that hold the secret, as it is or thinly veiled."""
    files = [path for path in journal.parent.rglob("*") if path.is_file()]
    return [path.name for path in files if any(form in path.read_bytes() for form in WRITTEN)]


def in_the_files(journal):
    """Before anything is moved from the write-ahead log to the database, and after."""
    before = holding(journal)
    durable.close_journals()
    return sorted({*before, *holding(journal)})


def test_arguments_are_in_the_journal_unless_told_otherwise(journal):
    task(lambda password: 1)(SECRET)
    assert holding(journal) == ["runs.db-wal"], "this is how a leak is noticed"
    assert in_the_files(journal) == ["runs.db", "runs.db-wal"]


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


class Private(BaseModel):
    _token: SecretStr = PrivateAttr()

    def __init__(self, token):
        super().__init__()
        self._token = token


@dataclass(frozen=True)
class Account:
    name: str
    token: SecretStr


class Pair(NamedTuple):
    name: str
    token: SecretStr


class Row(msgspec.Struct):
    token: SecretStr


class Token(SecretStr):
    """One of the user's own."""


class Refusal(Exception):
    """Holds what it was given, in every place there is."""

    def __init__(self, secret):
        super().__init__("no", secret, {"nested": [secret]})
        self.secret = secret
        self.__notes__ = [f"with {secret}", f"and {secret!r}"]


HOLDERS = {
    "SecretStr": lambda: SecretStr(SECRET),
    "SecretBytes": lambda: SecretBytes(SECRET.encode()),
    "Secret": lambda: Secret(SECRET),
    "Secret[dict]": lambda: Secret({"a": [SECRET]}),
    "subclass": lambda: Token(SECRET),
    "list": lambda: [1, SecretStr(SECRET)],
    "tuple": lambda: (1, SecretStr(SECRET)),
    "dict": lambda: [{"deep": SecretStr(SECRET)}],
    "key": lambda: {SecretStr(SECRET): 1},
    "set": lambda: {SecretStr(SECRET), SecretStr("other")},
    "defaultdict": lambda: defaultdict(list, a=[SecretBytes(SECRET.encode())]),
    "deque": lambda: deque([SecretStr(SECRET)]),
    "dataclass": lambda: Account("a", SecretStr(SECRET)),
    "model": lambda: Login(name="a", password=SECRET),
    "private attribute": lambda: Private(SecretStr(SECRET)),
    "NamedTuple": lambda: Pair("a", SecretStr(SECRET)),
    "Struct": lambda: Row(SecretStr(SECRET)),
    "frame": lambda: pd.DataFrame({"token": [SecretStr(SECRET)]}),
    "object array": lambda: np.array([SecretStr(SECRET)], dtype=object),
    "exception": lambda: Refusal(SecretStr(SECRET)),
}
PATHS = {
    "list": "result[1]",
    "dict": "result[0]['deep']",
    "dataclass": "result.token",
    "model": "result.password",
    "NamedTuple": "result.token",
    "frame": "result['token'][0]",
}
ROOTS = {"Secret[dict]": "Secret", "subclass": "Token", "defaultdict": "SecretBytes", "SecretBytes": "SecretBytes"}
each_holder = pytest.mark.parametrize("holder", HOLDERS)


@pytest.fixture(autouse=True)
def all_that_is_logged(caplog):
    """Everything at all levels, and the secret in none of it."""
    with caplog.at_level(logging.DEBUG):
        yield caplog
    for record in caplog.get_records("call"):
        assert SECRET not in caplog.handler.format(record)
        assert SECRET not in repr(vars(record))


def inspected(journal, *arguments):
    shown = CliRunner().invoke(cli, ["inspect", str(journal), *arguments], catch_exceptions=False)
    assert shown.exit_code in (0, 1), shown.output
    return shown.output


@each_holder
def test_a_secret_argument_identifies_a_call_and_is_not_written(holder, journal):
    make = HOLDERS[holder]
    calls = []
    fails = [True]

    @task(task_run_name="load-{secret}-{more!r}")
    def takes(secret, *, more=None):
        calls.append(1)
        return len(calls)

    @task(cache_policy=INPUTS)
    def memo(secret):
        calls.append(1)
        return len(calls)

    @flow(flow_run_name="with {secret}", log_prints=True)
    def job(secret, more=None):
        print(secret, more)
        found = takes(secret, more=[secret]), takes(more, more=secret), memo(secret), memo(secret)
        if fails.pop():
            raise Refusal(secret)
        return found

    with pytest.raises(Refusal):
        job(make(), more={"a": make()})
    fails.append(False)
    found = job(make(), more={"a": make()})
    assert len(query(journal, "SELECT 1 FROM flow_runs")) == 1, "equal secrets are one run"
    if holder != "object array":  # which has no canonical form, so it is no memo
        assert found == (1, 2, 3, 3)
        assert len(calls) == 3
    for arguments in ([], ["--json"], ["--all"]):
        assert SECRET not in inspected(journal, *arguments)
    assert in_the_files(journal) == []


@pytest.mark.parametrize(
    ("holder", "serializer"),
    # A returned exception is recorded without what cannot be, like a raised one.
    [pair for pair in product(HOLDERS, ["durable", "pickle"]) if pair != ("exception", "durable")],
)
def test_a_secret_is_refused_as_a_result_with_its_path_and_a_remedy(holder, serializer, journal):
    @task(result_serializer=serializer, retries=2)
    def gives():
        calls.append(1)
        return HOLDERS[holder]()

    calls = []
    with pytest.raises(NotSerializable) as refused:
        gives()
    assert calls == [1], "no reason to run it again"
    text = str(refused.value)
    assert SECRET not in text
    if holder != "object array" or serializer == "pickle":  # the codec refuses all object arrays
        assert ROOTS.get(holder, "Secret") in text
        assert "a secret is never written" in text
        assert "get the secret where it is used" in text
        assert "persist_result=False" in text
        assert "result_serializer" not in text, "pickle is no way out"
    if serializer == "durable":
        assert refused.value.path == PATHS.get(holder, refused.value.path)
    assert SECRET not in inspected(journal)
    assert in_the_files(journal) == []


def test_an_exception_that_is_returned_is_recorded_without_the_secret_in_it(journal):
    @task
    def gives():
        return Refusal(SecretStr(SECRET))

    assert isinstance(gives(), Refusal)
    (payload,) = query(journal, "SELECT payload FROM result")[0]
    assert "<unrecorded exception.secret: pydantic.types.SecretStr>" in repr(durable.codec.decode(payload).__dict__)
    assert in_the_files(journal) == []


@each_holder
def test_a_flow_that_returns_a_secret_does_not_write_it(holder, journal):
    @flow
    def job():
        return HOLDERS[holder]()

    job()
    with suppress(NotSerializable):
        job.with_options(idempotency_key="k")()
    assert in_the_files(journal) == []


@each_holder
@pytest.mark.parametrize("where", ["task", "flow"])
def test_an_exception_that_holds_a_secret_does_not_write_it(holder, where, journal, clock):
    told = []

    def hook(owner, run, state):
        told.append(f"{owner} {run} {state}")

    def body(secret):
        try:
            raise KeyError(secret)
        except KeyError as error:
            raise Refusal(secret) from error

    decorate = task if where == "task" else flow
    fails = decorate(retries=2, retry_delay_seconds=[0, 1], on_failure=[hook], on_running=[hook])(body)
    secret = HOLDERS[holder]()
    with pytest.raises(Refusal) as caught:
        flow(lambda: fails(secret))()
    assert caught.value.secret is secret, "the first run hands on the original"
    assert len(told) == 4
    assert SECRET not in "".join(told)
    assert SECRET not in inspected(journal)
    assert SECRET not in inspected(journal, "--json")
    assert in_the_files(journal) == []


def test_a_recorded_exception_comes_back_and_says_what_is_missing(journal):
    """Where it held a secret there is a placeholder that tells its path."""
    secret = SecretStr(SECRET)

    @task
    def fails():
        raise Refusal(secret)

    stop = [True]

    @flow
    def job():
        try:
            fails()
        except Refusal as error:
            if stop.pop():
                raise KeyboardInterrupt from None
            return repr(error.secret), repr(error.args)
        raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        job()
    stop.append(False)
    attribute, args = job()
    assert attribute == "<unrecorded exception.secret: pydantic.types.SecretStr>"
    assert "exception.args[1]" in args
    assert in_the_files(journal) == []


def test_cut_off_calls_and_exits_do_not_write_it(journal):
    secret = SecretStr(SECRET)

    @task
    def leaves(secret):
        raise SystemExit(secret)

    with pytest.raises(SystemExit):
        flow(lambda: leaves(secret))()
    assert in_the_files(journal) == []


def test_what_hooks_and_conditions_are_told_does_not_show_it(journal):
    told = []

    def condition(owner, run, state):
        told.append(f"{run} {run.parameters} {state}")
        return False

    def key(context, parameters):
        told.append(f"{context} {parameters}")

    @task(retries=1, retry_condition_fn=condition, cache_key_fn=key)
    def fails(secret):
        told.append(f"{durable.runtime.task_run.parameters}")
        raise ValueError(secret)

    with pytest.raises(ValueError, match=r"\*{10}"):
        fails(SecretStr(SECRET))
    assert len(told) == 3
    assert SECRET not in "".join(told)
    assert in_the_files(journal) == []


def test_a_secret_that_is_left_out_leaves_nothing(journal):
    """Not even a digest, by which it could be guessed."""

    @task(cache_policy=DEFAULT - "token")
    def load(n, token):
        return n

    load(1, SecretStr(SECRET))
    (inputs,) = query(journal, "SELECT inputs FROM task_run")[0]
    assert decode_inert(inputs) == {"n": 1}


@given(st.text(), st.text())
def test_secrets_count_by_what_they_hold_and_by_their_class(one, other):
    assert (canonical(SecretStr(one), "v") == canonical(SecretStr(other), "v")) is (one == other)
    assert canonical(SecretStr(one), "v") != canonical(Token(one), "v")
    assert canonical(SecretStr(one), "v") != canonical(Secret(one), "v")
    assert canonical(SecretStr(one), "v") == canonical(SecretStr(one), "v")


def test_a_secret_is_shown_as_pydantic_shows_it():
    encoded = canonical({"token": SecretStr(SECRET)}, "v")
    assert summary(encoded) == "{'token': SecretStr('**********')}"
    assert repr(decode_inert(encoded)) == "{'token': SecretStr('**********')}"


def test_what_a_secret_holds_must_have_a_canonical_form_too():
    with pytest.raises(durable.Unhashable) as refused:
        canonical(Secret(object()), "token")
    assert refused.value.path == "token.get_secret_value()"


def test_what_pickle_pickles_without_secrets_is_what_it_always_was():
    value = [Account("a", None), {"x": (1, 2.5)}, np.arange(3), datetime(2026, 1, 2, tzinfo=timezone.utc)]
    assert dump(value) == pickle.dumps(value, protocol=5)
    with pytest.raises(NotSerializable):
        dump(functools.partial(print, Token(SECRET)))


def test_the_journal_of_a_killed_process_has_no_secret_and_the_next_process_finds_the_run(tmp_path):
    """The digest is the same in every process; the write-ahead log of a dead one is as it left it."""
    script = Script(tmp_path)
    script.write(
        """
        from pydantic import SecretStr
        SECRET = SecretStr(os.environ["TOKEN"])

        @task
        def load(token, n):
            ran("load", n)
            return n

        @flow
        def job(token):
            load(token, 1)
            die("middle")
            return load({"token": token}, 2)

        if __name__ == "__main__":
            print(job(SECRET))
        """
    )
    script.killed("middle", TOKEN=SECRET, PYTHONHASHSEED="1")
    assert holding(script.journal) == []
    assert script.ok(TOKEN=SECRET, PYTHONHASHSEED="2") == "2"
    assert script.ran() == ["load 1", "load 2"]
    assert script.ok(TOKEN="another", PYTHONHASHSEED="2") == "2"
    assert script.ran() == ["load 1", "load 2"], "another token, another run"
    assert holding(script.journal) == []
