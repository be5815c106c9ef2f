"""Cache policies: the algebra of + and -, and that a key depends on exactly what the policy names."""

import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import cache_policies, policies, task
from durable.errors import ConfigurationError
from durable.policies import DEFAULT, FLOW_PARAMETERS, INPUTS, NO_CACHE, NONE, RUN_ID, TASK_SOURCE, CachePolicy

ATOMS = {"inputs": INPUTS, "task_source": TASK_SOURCE, "run_id": RUN_ID, "flow_parameters": FLOW_PARAMETERS}
FACTS = {"inputs": b"inputs", "source": b"s" * 16, "run": b"r" * 16, "flow_parameters": b"p" * 16}
FACT_OF = {"inputs": "inputs", "task_source": "source", "run_id": "run", "flow_parameters": "flow_parameters"}


def joined(atoms):
    policy = NONE
    for atom in atoms:
        policy = policy + atom
    return policy


constants = st.sampled_from([*ATOMS.values(), DEFAULT, NONE])
any_policy = st.lists(constants, max_size=4).map(joined)
any_policy = st.builds(
    lambda policy, left_out: policy_without(policy, left_out), any_policy, st.lists(st.sampled_from("abc"))
)
memos = st.lists(st.sampled_from([*ATOMS.values()]), min_size=1, max_size=4).map(joined)


def policy_without(policy, arguments):
    for argument in arguments:
        policy = policy - argument
    return policy


def key(policy, task_key=b"t" * 16, **changed):
    return policy.key(task_key, **{**FACTS, **changed})


# The algebra


@given(any_policy, any_policy, any_policy)
def test_joining_is_associative_and_commutative_and_idempotent(one, two, three):
    assert (one + two) + three == one + (two + three)
    assert one + two == two + one
    assert one + one == one


@given(any_policy)
def test_none_changes_nothing_when_joined(policy):
    assert policy + NONE == NONE + policy == policy


@given(any_policy, st.sampled_from("abc"), st.sampled_from("abc"))
def test_leaving_out_is_idempotent_and_commutes(policy, one, two):
    assert policy - one - two == policy - two - one
    assert policy - one - one == policy - one


@given(any_policy, any_policy, st.sampled_from("abc"))
def test_leaving_out_before_or_after_joining_is_the_same(one, two, argument):
    assert (one - argument) + two == (one + two) - argument


@given(any_policy)
def test_what_contains_default_stays_a_checkpoint(policy):
    assert (policy + DEFAULT).checkpoint
    assert not (policy + DEFAULT).is_memo
    assert (policy + DEFAULT - "x").checkpoint


@given(any_policy)
def test_a_policy_is_a_checkpoint_a_memo_or_reuses_nothing(policy):
    assert [policy.checkpoint, policy.is_memo, not policy.reuses].count(True) == 1


@given(any_policy)
def test_a_policy_is_a_value(policy):
    assert hash(policy) == hash(pickle.loads(pickle.dumps(policy)))
    assert pickle.loads(pickle.dumps(policy)) == policy
    with pytest.raises(AttributeError):
        policy.checkpoint = False


def test_inputs_and_run_id_joined_by_hand_are_a_memo_not_the_default():
    assert (INPUTS + RUN_ID).is_memo
    assert INPUTS + RUN_ID != DEFAULT


@pytest.mark.parametrize("other", [1, None, "inputs", {"inputs"}, b"a"])
def test_only_a_policy_joins_and_only_a_name_is_left_out(other):
    with pytest.raises(TypeError):
        INPUTS + other
    if not isinstance(other, str):
        with pytest.raises(ConfigurationError, match="expected the name of an argument"):
            INPUTS - other


# Keys


@given(memos)
def test_a_key_depends_on_its_components_and_on_nothing_else(policy):
    for component, fact in FACT_OF.items():
        changed = key(policy, **{fact: b"other".ljust(16)})
        assert (changed != key(policy)) == (component in policy.components)
    assert key(policy, task_key=b"u" * 16) != key(policy)


@given(memos, memos)
def test_two_policies_share_a_key_only_if_they_ask_for_the_same(one, two):
    assert (key(one) == key(two)) == (one.components == two.components)


@given(memos)
def test_a_memo_without_a_fact_it_asks_for_has_no_key(policy):
    for component, fact in FACT_OF.items():
        assert (key(policy, **{fact: None}) is None) == (component in policy.components)


def test_equal_bytes_in_two_places_are_two_keys():
    same = {"source": b"x" * 16, "run": b"x" * 16, "flow_parameters": b"x" * 16}
    assert len({key(TASK_SOURCE, **same), key(RUN_ID, **same), key(FLOW_PARAMETERS, **same)}) == 3


def test_a_checkpoint_needs_a_key_only_for_what_it_asks_beyond_the_call():
    assert key(DEFAULT) is None
    assert key(DEFAULT + INPUTS + RUN_ID) is None
    assert key(DEFAULT - "x") is None
    extra = key(DEFAULT + TASK_SOURCE)
    assert len(extra) == 16
    assert extra == key(DEFAULT + TASK_SOURCE, inputs=b"other", run=None)
    assert extra != key(DEFAULT + TASK_SOURCE, source=b"other".ljust(16))
    assert extra != key(TASK_SOURCE), "a checkpoint's result is not found by a memo"


def test_none_never_has_a_key():
    assert key(NONE) is None
    assert not NONE.reuses
    assert NO_CACHE is NONE


# How it looks


@pytest.mark.parametrize(
    ("policy", "shown"),
    [
        (NONE, "NONE"),
        (DEFAULT, "DEFAULT"),
        (INPUTS, "INPUTS"),
        (RUN_ID + INPUTS, "INPUTS + RUN_ID"),
        (TASK_SOURCE + DEFAULT, "DEFAULT + TASK_SOURCE"),
        (DEFAULT - "conn", "DEFAULT - 'conn'"),
        (INPUTS - "b" - "a", "INPUTS - 'a' - 'b'"),
        (FLOW_PARAMETERS + TASK_SOURCE + DEFAULT - "x", "DEFAULT + TASK_SOURCE + FLOW_PARAMETERS - 'x'"),
    ],
)
def test_a_policy_looks_like_the_code_that_makes_it(policy, shown):
    assert repr(policy) == shown
    assert eval(shown, vars(policies)) == policy


@given(any_policy)
def test_the_code_that_a_policy_shows_makes_it(policy):
    assert eval(repr(policy), vars(policies)) == policy


# On a task


def test_a_policy_that_leaves_out_an_unknown_argument_is_refused():
    with pytest.raises(ConfigurationError, match=r"load \(.*test_policies.py:\d+\).*'pth'.*path, mode"):

        @task(cache_policy=INPUTS - "pth")
        def load(path, mode):
            pass


@pytest.mark.parametrize("policy", ["INPUTS", 1, "NONE", object()])
def test_what_is_no_policy_is_refused(policy):
    with pytest.raises(ConfigurationError, match="cache_policy="):
        task(cache_policy=policy)(lambda: None)


def test_the_module_for_users_has_every_constant():
    assert {name for name in dir(cache_policies) if name.isupper()} == {
        *("DEFAULT", "FLOW_PARAMETERS", "INPUTS", "NONE", "NO_CACHE", "RUN_ID", "TASK_SOURCE"),
    }
    assert cache_policies.CachePolicy is CachePolicy
