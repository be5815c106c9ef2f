"""What annotations make of a flow's arguments before its run begins, and what a refusal is to its caller."""

from __future__ import annotations

import asyncio
import logging
from datetime import date

import pydantic
import pytest
from scripts import query

import durable
from durable import ParameterBindError, ParameterTypeError, State, flow, task


def rows(journal):
    durable.close_journals()
    return query(journal, "SELECT count(*) FROM flow_runs")[0][0] if journal.exists() else 0


def test_the_body_gets_what_was_made_and_the_run_is_that_of_it(journal):
    """f("5") and f(5) are the same run."""
    got = []
    fails = [True]

    @flow(flow_run_name="day {day!r}")
    def job(day: int, *, dates: list[date] = ()):
        got.append((day, dates))
        if fails.pop():
            raise OSError
        return durable.runtime.flow_run.parameters

    with pytest.raises(OSError):
        job("5", dates=("2026-11-25",))
    fails.append(False)
    assert job(5, dates=[date(2026, 11, 25)]) == {"day": 5, "dates": [date(2026, 11, 25)]}
    assert got == [(5, [date(2026, 11, 25)])] * 2
    assert rows(journal) == 1
    assert query(journal, "SELECT name FROM flow_runs") == [("day 5",)]


def test_a_refused_call_begins_no_run_and_the_message_names_function_and_file(journal):
    @flow
    def job(day: int):
        raise AssertionError

    with pytest.raises(
        ParameterTypeError, match=r"job \(.*test_validation_flows\.py:\d+\): parameter day: expected int"
    ):
        job("SECRET")
    with pytest.raises(TypeError):
        job(day="SECRET")
    with pytest.raises(ParameterBindError):
        job()
    with pytest.raises(ParameterBindError):
        job("SECRET", 2)
    assert rows(journal) == 0


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_with_return_state_it_is_a_failed_state_and_no_row(colour, journal):
    told = []

    def body(day: int):
        raise AssertionError

    async def coroutine(day: int):
        raise AssertionError

    job = flow(on_failure=[lambda *facts: told.append(facts)])(body if colour == "sync" else coroutine)
    state = job("x", return_state=True)
    if colour == "async":
        with pytest.raises(ParameterTypeError):
            job("x")
        state = asyncio.run(_awaited(state))
    assert isinstance(state, State)
    assert state.is_failed()
    assert state.name == "Failed"
    assert state.run_id is None
    assert state.timestamp is not None
    assert state.message.startswith("ParameterTypeError: ")
    with pytest.raises(ParameterTypeError):
        state.result()
    assert told == []
    assert rows(journal) == 0


async def _awaited(it):
    return await it


def test_a_refused_subflow_fails_its_parent_or_is_a_state_there_and_takes_no_number(journal):
    ran = []

    @flow
    def child(n: int):
        ran.append(n)
        return n

    @flow
    def parent(how):
        if how == "state":
            return child("x", return_state=True).name, child("1"), child(1)
        return child("x")

    assert parent("state") == ("Failed", 1, 1)
    with pytest.raises(ParameterTypeError):
        parent("raise")
    assert ran == [1, 1]
    assert sorted(query(journal, "SELECT flow, state FROM flow_runs")) == [
        ("child", "Completed"),
        ("child", "Completed"),
        ("parent", "Completed"),
        ("parent", "Failed"),
    ]


def test_off_leaves_everything_alone(journal):
    @flow(validate_parameters=False)
    def job(day: int, more: Nowhere = None):  # noqa: F821
        return day

    assert job("five") == "five"
    assert job.with_options(validate_parameters=None).definition.options.validate_parameters
    with pytest.raises(ParameterTypeError):
        job.with_options(validate_parameters=True)("five")
    with pytest.raises(durable.ConfigurationError):
        job.with_options(validate_parameters="no")


def test_methods_keep_their_instance(journal):
    class Job:
        @flow
        def plain(self, n: int):
            return self, n

        @flow
        def annotated(self: Job, n: int):
            return self is not None, n

        @classmethod
        @flow
        def of_class(cls: type[Job], n: int):
            return cls.__name__, n

        @staticmethod
        @flow
        def of_none(n: int):
            return n

    job = Job()
    state = job.plain("5", return_state=True)
    assert state.data[0] is job
    assert state.data[1] == 5
    assert job.annotated("5") == (True, 5)
    assert Job.of_none("5") == 5
    with pytest.raises(ParameterTypeError, match="parameter n"):
        job.plain("x")


def test_a_flow_keeps_its_callers_list(journal):
    @flow
    def job(found: list[int]):
        found.append(3)

    mine = [1, 2]
    job(mine)
    assert mine == [1, 2, 3]


def test_a_task_is_not_validated(journal):
    @task
    def one(n: int):
        return n

    assert one("five") == "five"


def test_a_secret_parameter_given_as_text_is_not_in_the_journal(journal, caplog):
    """The annotation makes it a secret before anything is recorded."""

    @flow
    def login(token: pydantic.SecretStr):
        return len(token.get_secret_value())

    with caplog.at_level(logging.DEBUG):
        assert login("correct-horse") == 13
    durable.close_journals()
    assert b"correct-horse" not in journal.read_bytes()
    assert "correct-horse" not in caplog.text
