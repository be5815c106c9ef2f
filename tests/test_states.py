"""The state machine: one table, obeyed everywhere, whose numbers are in files and never change."""

import pickle
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from durable.errors import DurableError, InvalidTransition, TaskFailed, UnfinishedRun
from durable.journal import close_journals, open_journal
from durable.states import (
    BY_CODE,
    CACHED,
    CANCELLED,
    COMPLETED,
    CRASHED,
    FAILED,
    PENDING,
    RETRYING,
    RUNNING,
    STATES,
    TERMINAL_TYPES,
    TIMED_OUT,
    TRANSITIONS,
    State,
    StateType,
    check_transition,
)

# Name, type and number as they stand in journals. Lines may be added; none may change, and no number may be used again.
GOLDEN = """
1 Pending PENDING
2 NotReady PENDING
3 AwaitingRetry SCHEDULED
4 AwaitingConcurrencySlot SCHEDULED
5 Running RUNNING
6 Retrying RUNNING
7 Completed COMPLETED
8 Cached COMPLETED
9 RolledBack COMPLETED
10 Failed FAILED
11 TimedOut FAILED
12 Crashed CRASHED
13 Cancelling CANCELLING
14 Cancelled CANCELLED
"""


def test_names_types_and_numbers_are_the_recorded_ones():
    assert [f"{kind.code} {kind.name} {kind.type.value}" for kind in STATES] == GOLDEN.split("\n")[1:-1]
    assert [BY_CODE[kind.code] for kind in STATES] == list(STATES)


def test_types_are_prefects():
    names = ("SCHEDULED", "PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED", "CRASHED", "CANCELLING")
    assert {kind.value for kind in StateType} == set(names)  # Prefect 3 has PAUSED besides: durable pauses nothing
    assert all(kind.name == kind.value == kind for kind in StateType)
    assert {kind.value for kind in TERMINAL_TYPES} == {"COMPLETED", "FAILED", "CANCELLED", "CRASHED"}


def test_the_journal_explains_the_states(tmp_path):
    rows = open_journal(tmp_path / "runs.db", "power").rows("SELECT code, name, type FROM state_kind ORDER BY code")
    close_journals()
    assert rows == [(kind.code, kind.name, kind.type.value) for kind in STATES]


# The table


def test_the_table_speaks_of_every_state_and_of_no_other():
    assert set(TRANSITIONS) == {None, *STATES}
    assert set().union(*TRANSITIONS.values()) <= set(STATES)


def test_every_state_is_reachable():
    reached, front = set(), {None}
    while front:
        following = set().union(*(TRANSITIONS[state] for state in front))
        front = following - reached
        reached |= front
    assert reached == set(STATES)


def test_every_run_can_end():
    """From every state a final one can be reached: no run is stuck by the table."""
    ends = {kind for kind in STATES if kind.type in TERMINAL_TYPES}
    while True:
        more = {kind for kind in STATES if kind not in ends and TRANSITIONS[kind] & ends}
        if not more:
            break
        ends |= more
    assert ends == set(STATES)


def test_after_a_final_state_only_a_new_execution_or_an_undoing_follows():
    for kind in STATES:
        if kind.type in TERMINAL_TYPES:
            assert {after.name for after in TRANSITIONS[kind]} <= {"Running", "RolledBack", "Cancelled"}
            assert RUNNING in TRANSITIONS[kind]
    assert CANCELLED in TRANSITIONS[CRASHED], "a crashed run may be given up"
    assert CANCELLED not in TRANSITIONS[COMPLETED]


def test_retrying_follows_a_failed_attempt_only():
    assert {before.name for before in STATES if RETRYING in TRANSITIONS[before]} == {
        "Running",
        "Retrying",
        "AwaitingRetry",
    }


def test_nothing_follows_itself_but_a_retry_and_a_rollback_that_was_decided_first():
    assert [kind.name for kind in STATES if kind in TRANSITIONS[kind]] == ["NotReady", "Retrying", "RolledBack"]


@given(st.sampled_from([None, *STATES]), st.sampled_from(STATES))
def test_a_transition_is_checked_by_the_table_and_refused_by_name(before, after):
    if after in TRANSITIONS[before]:
        check_transition(before, after, "load-1")
        return
    with pytest.raises(InvalidTransition) as caught:
        check_transition(before, after, "load-1")
    was = before.name if before else "no state"
    assert str(caught.value).startswith(f"load-1: {after.name} may not follow {was}.")


class Run(RuleBasedStateMachine):
    """Any history the table allows, and the rules of durable/states.py on each."""

    def __init__(self):
        super().__init__()
        self.history = []

    @property
    def now(self):
        return self.history[-1] if self.history else None

    @rule(data=st.data())
    def goes_on(self, data):
        after = data.draw(st.sampled_from(sorted(TRANSITIONS[self.now], key=lambda kind: kind.code)))
        check_transition(self.now, after, "run")
        self.history.append(after)

    @rule(after=st.sampled_from(STATES))
    def is_refused(self, after):
        if after not in TRANSITIONS[self.now]:
            with pytest.raises(InvalidTransition):
                check_transition(self.now, after, "run")

    @precondition(lambda self: self.now is not None and self.now.type in TERMINAL_TYPES)
    @rule()
    def may_be_executed_again(self):
        check_transition(self.now, RUNNING, "run")
        self.history.append(RUNNING)

    @invariant()
    def ends_once_in_an_attempt(self):
        """Between two Running or Retrying there is at most one end of an attempt (rule 1)."""
        ended = False
        for kind in self.history:
            if kind in (RUNNING, RETRYING):
                ended = False
            elif kind in (COMPLETED, FAILED, TIMED_OUT):
                assert not ended
                ended = True


TestRun = Run.TestCase


# What users hold in their hands


def test_a_state_says_what_it_is():
    asked = ("completed", "failed", "crashed", "cancelled", "running", "pending", "scheduled", "final")
    said = {kind.name: [name for name in asked if getattr(State(kind), f"is_{name}")()] for kind in STATES}
    assert said == {
        "Pending": ["pending"],
        "NotReady": ["pending"],
        "AwaitingRetry": ["scheduled"],
        "AwaitingConcurrencySlot": ["scheduled"],
        "Running": ["running"],
        "Retrying": ["running"],
        "Completed": ["completed", "final"],
        "Cached": ["completed", "final"],
        "RolledBack": ["completed", "final"],
        "Failed": ["failed", "final"],
        "TimedOut": ["failed", "final"],
        "Crashed": ["crashed", "final"],
        "Cancelling": [],
        "Cancelled": ["cancelled", "final"],
    }


@pytest.mark.parametrize(
    ("state", "shown"),
    [
        (State(COMPLETED), "Completed()"),
        (State(FAILED, "ValueError: x"), "Failed('ValueError: x')"),
        (State(CACHED), "Cached(type=COMPLETED)"),
        (State(TIMED_OUT, "after 3 s"), "TimedOut('after 3 s', type=FAILED)"),
    ],
)
def test_a_state_is_shown_as_prefect_shows_it(state, shown):
    assert str(state) == shown
    assert state.name in repr(state)


def test_a_state_does_not_show_its_data():
    assert "secret" not in repr(State(COMPLETED, data="secret"))
    assert "secret" not in str(State(COMPLETED, data="secret"))


def test_a_completed_state_gives_its_value_whatever_that_is():
    for value in (1, None, [], ValueError("a value, not a failure")):
        assert State(COMPLETED, data=value).result() is value
        assert State(CACHED, data=value).result(raise_on_failure=False) is value


def test_a_failed_state_raises_its_exception_or_gives_it():
    error = ValueError("boom")
    for kind in (FAILED, TIMED_OUT, CRASHED, CANCELLED):
        state = State(kind, "ValueError: boom", data=error)
        with pytest.raises(ValueError, match="boom") as caught:
            state.result()
        assert caught.value is error
        assert state.result(raise_on_failure=False) is error


@pytest.mark.parametrize("kind", [FAILED, CRASHED, RUNNING, PENDING], ids=lambda kind: kind.name)
def test_a_state_without_a_value_raises_what_it_is(kind):
    state = State(kind, "the reason")
    final = kind.type in TERMINAL_TYPES
    error, said = (
        (TaskFailed, f"{kind.name}: the reason") if final else (UnfinishedRun, f"the reason .it is {kind.name}")
    )
    with pytest.raises(error, match=said):
        state.result()
    assert isinstance(state.result(raise_on_failure=False), DurableError)


def test_a_state_is_a_value():
    at = datetime(2024, 1, 1, tzinfo=timezone.utc)
    state = State(COMPLETED, "m", at, "id", 5)
    assert pickle.loads(pickle.dumps(state)) == state
    assert (state.timestamp, state.run_id, state.type, state.name) == (at, "id", StateType.COMPLETED, "Completed")
    with pytest.raises(AttributeError):
        state.message = "other"
