"""Options that cannot be meant are refused when the decorator runs, naming the function, its place and the option."""

from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import Flow, Task, cache_policies, configure, flow, settings, task
from durable.errors import ConfigurationError, DurableError
from durable.options import DEFAULT_RESUME_WITHIN, TaskOptions
from durable.retries import Retries

NAN, INF = float("nan"), float("inf")


def victim(path):
    """A docstring."""


LINE = victim.__code__.co_firstlineno
PLACE = f"victim ({__file__}:{LINE})"

BAD_TASK = [
    *[("name", value) for value in ("", "  ", 5, b"name", ["name"])],
    *[("description", value) for value in (5, b"text", ["a"])],
    *[("tags", value) for value in ("abc", b"abc", [1], ["a", None], 5, 1.5)],
    *[("retries", value) for value in (-1, 1.0, "3", True, NAN, [1])],
    *[
        ("retry_delay_seconds", value)
        for value in (-1, "3", NAN, INF, [1, -1], [1, "2"], [None], True, {1: 2}, [1] * 51)
    ],
    *[("retry_jitter_factor", value) for value in (-0.1, "1", NAN, INF, True, [1])],
    *[("retry_condition_fn", value) for value in (1, "fn", [print])],
    *[(hook, value) for hook in ("on_running", "on_completion", "on_failure") for value in (print, 5, [1], ["fn"])],
    *[("persist_result", value) for value in (1, 0, "yes", [])],
    *[("on_interrupt", value) for value in ("ignore", "", 0, False, "RETRY", [])],
    *[("cache_policy", value) for value in ("INPUTS", "", 0, False, object())],
    *[("result_serializer", value) for value in ("json", "", 0, "Pickle")],
    *[
        (option, value)
        for option in ("timeout_seconds", "cache_expiration")
        for value in (0, 0.0, -1, True, "1", NAN, INF)
    ],
    *[("timeout_seconds", value) for value in (timedelta(0), [1])],
    *[("cache_key_fn", value) for value in ("key", 5)],
    *[("task_run_name", value) for value in ("", 5, ["name"])],
    *[(flag, value) for flag in ("refresh_cache", "log_prints", "record_inputs") for value in (1, 0, "yes")],
]
BAD_FLOW = [
    *[("name", value) for value in ("", "\t", 5)],
    *[("description", value) for value in (5, b"text")],
    *[("resume", value) for value in ("always", "", False, 0, True, "Auto")],
    *[("resume_within", value) for value in (-1, "12h", NAN, INF, True, [1], timedelta(seconds=-1))],
    *[("idempotency_key", value) for value in ("", 5, b"key", [])],
    *[("journal", value) for value in (5, "", b"runs.db", ["runs.db"])],
    *[("retries", value) for value in (-1, 1.0, "3", True)],
    *[("retry_delay_seconds", value) for value in (-1, "3", [1, -1])],
    *[(hook, value) for hook in ("on_cancellation", "on_crashed") for value in (print, [1])],
    *[("timeout_seconds", value) for value in (0, -1, "1", True, timedelta(0))],
    *[("flow_run_name", value) for value in ("", 5)],
    *[(flag, value) for flag in ("log_prints", "record_inputs") for value in (1, "yes")],
]


def ids(cases):
    return [f"{option}={value!r}".partition(" at 0x")[0][:30] for option, value in cases]


def refused(decorate, option, value):
    with pytest.raises(ConfigurationError) as caught:
        decorate(**{option: value})
    assert PLACE in str(caught.value)
    assert option in str(caught.value)
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(("option", "value"), BAD_TASK, ids=ids(BAD_TASK))
def test_a_task_option_that_cannot_be_meant_is_refused(option, value):
    refused(lambda **options: task(**options)(victim), option, value)
    refused(task(victim).with_options, option, value)


@pytest.mark.parametrize(("option", "value"), BAD_FLOW, ids=ids(BAD_FLOW))
def test_a_flow_option_that_cannot_be_meant_is_refused(option, value):
    refused(lambda **options: flow(**options)(victim), option, value)
    refused(flow(victim).with_options, option, value)


GOOD_TASK = [
    *[("name", value) for value in (None, "x", "Two words", "ünï")],
    *[("description", value) for value in (None, "", "text")],
    *[("tags", value) for value in (None, [], {"a"}, ("a", "b"), frozenset("a"), iter(["a"]))],
    *[("retries", value) for value in (None, 0, 1, 10**6)],
    *[("retry_delay_seconds", value) for value in (None, 0, 1.5, [], [1, 2.5], (0.1,), [1] * 50)],
    *[("persist_result", value) for value in (None, True, False)],
    *[("on_interrupt", value) for value in (None, "retry", "fail")],
    *[("cache_policy", value) for value in (None, cache_policies.NONE, cache_policies.DEFAULT - "path")],
    *[("result_serializer", value) for value in (None, "durable", "pickle")],
]
GOOD_FLOW = [
    *[("name", value) for value in (None, "x")],
    *[("description", value) for value in (None, "text")],
    *[("resume", value) for value in (None, "auto", "never", "require")],
    *[("resume_within", value) for value in (None, 0, 1.5, 10**9, timedelta(days=2))],
    *[("idempotency_key", value) for value in (None, "key", " ")],
    *[("journal", value) for value in (None, "x.db", Path("x.db"), "~/x.db")],
]


@pytest.mark.parametrize(("option", "value"), GOOD_TASK, ids=ids(GOOD_TASK))
def test_a_task_option_that_can_be_meant_is_accepted(option, value):
    assert isinstance(task(**{option: value})(victim), Task)


@pytest.mark.parametrize(("option", "value"), GOOD_FLOW, ids=ids(GOOD_FLOW))
def test_a_flow_option_that_can_be_meant_is_accepted(option, value):
    assert isinstance(flow(**{option: value})(victim), Flow)


# What does not exist


@pytest.mark.parametrize("value", ["json", "compressed/json", "compressed/pickle"])
def test_a_serializer_of_prefects_is_refused_with_what_to_do(value):
    with pytest.raises(
        ConfigurationError, match=r"step \(.*test_options.py:\d+\): .*leave it out.*durable result --json"
    ):

        @task(result_serializer=value)
        def step(): ...


@pytest.mark.parametrize("decorate", [task, flow])
def test_an_option_that_does_not_exist_is_refused_with_those_that_do(decorate):
    for refuse in (
        decorate(retires=3),
        lambda fn: decorate(fn, retires=3),
        lambda fn: decorate(fn).with_options(retires=3),
    ):
        with pytest.raises(ConfigurationError, match=r"unknown option 'retires'; there are .*name") as caught:
            refuse(victim)
        assert PLACE in str(caught.value)


@pytest.mark.parametrize("decorate", [task, flow])
def test_what_is_no_hook_is_refused_where_it_is_added(decorate):
    made = decorate(victim)
    for add in (made.on_running, made.on_completion, made.on_failure):
        with pytest.raises(ConfigurationError, match="expected callables") as caught:
            add("no hook")
        assert PLACE in str(caught.value)
    assert not made.definition.options.hooks.any


def test_an_argument_left_out_that_does_not_exist_is_refused():
    with pytest.raises(ConfigurationError, match="leaves out 'folder', but its parameters are path") as caught:
        task(cache_policy=cache_policies.DEFAULT - "folder")(victim)
    assert PLACE in str(caught.value)


@pytest.mark.parametrize("name", ["return_state", "wait_for"])
@pytest.mark.parametrize("decorate", [task, task(retries=1), flow, flow(resume="never")])
def test_a_parameter_that_is_an_argument_of_every_call_is_refused(decorate, name):
    namespace = {}
    exec(f"def victim(a, *, {name}=None): pass", namespace)
    with pytest.raises(ConfigurationError, match=rf"victim \(<string>:1\).*{name!r}.*Rename it"):
        decorate(namespace["victim"])


@pytest.mark.parametrize("decorate", [task, flow])
@pytest.mark.parametrize("value", [5, "path", [victim]])
def test_what_cannot_be_called_is_not_decorated(decorate, value):
    with pytest.raises(ConfigurationError, match="expected a function"):
        decorate(value)


# What they are when nothing is said


def test_the_defaults():
    one = task(victim)
    assert one.definition.options == TaskOptions()
    assert (one.name, one.description, one.tags) == ("victim", "A docstring.", frozenset())
    assert one.definition.policy is cache_policies.DEFAULT
    other = flow(victim).definition.options
    assert (other.resume, other.resume_within, other.idempotency_key, other.journal) == (None, 12 * 3600, None, None)
    assert DEFAULT_RESUME_WITHIN == 43200


def test_a_flows_name_has_dashes_and_a_tasks_has_not():
    def two_words():
        pass

    assert flow(two_words).name == "two-words"
    assert task(two_words).name == "two_words"


@pytest.mark.parametrize("decorate", [task, flow])
def test_with_options_changes_only_what_it_is_told_and_makes_a_new_object(decorate):
    first = decorate(name="first", description="d")(victim)
    second = first.with_options(name="second")
    assert (first.name, second.name) == ("first", "second")
    assert second.description == "d"
    assert second.fn is first.fn
    assert second.with_options(name=None).name == "victim"
    assert type(second) is type(first)


def test_options_are_frozen():
    with pytest.raises(AttributeError):
        task(victim).definition.options.retries = 3
    with pytest.raises(AttributeError):
        flow(victim).definition.options.resume = "never"


@given(st.lists(st.floats(0, 1e6), max_size=5), st.integers(0, 10))
def test_a_short_list_of_delays_repeats_its_last(delays, number):
    retries = Retries(delays=tuple(delays))
    expected = ([*delays] + [delays[-1]] * 11)[number] if delays else 0.0
    assert retries.delay(number) == expected


# The process-wide settings


@pytest.fixture
def clean_settings(monkeypatch):
    monkeypatch.setattr(settings, "_configured", {})


@pytest.mark.parametrize("value", ["", "fast", "POWER", 1])
def test_a_durability_that_does_not_exist_is_refused(clean_settings, monkeypatch, value):
    with pytest.raises(ConfigurationError, match="'power' or 'process'"):
        configure(durability=value)
    assert settings.durability() == "power"


def test_a_setting_in_the_environment_that_cannot_be_meant_is_refused_by_its_name(clean_settings, monkeypatch):
    monkeypatch.setenv("DURABLE_DURABILITY", "fast")
    with pytest.raises(ConfigurationError, match="DURABLE_DURABILITY"):
        settings.durability()
    monkeypatch.setenv("DURABLE_ON_INTERRUPT", "maybe")
    with pytest.raises(ConfigurationError, match="DURABLE_ON_INTERRUPT"):
        settings.interrupted_may_run()


def test_an_argument_wins_over_configure_over_the_environment_over_the_default(clean_settings, monkeypatch):
    assert settings.journal_path() == "runs.db"
    monkeypatch.setenv("DURABLE_JOURNAL", "environment.db")
    assert settings.journal_path() == "environment.db"
    configure(journal=Path("configured.db"))
    assert settings.journal_path() == "configured.db"
    assert settings.journal_path("own.db") == "own.db"
    assert settings.durability() == "power"
    monkeypatch.setenv("DURABLE_DURABILITY", "process")
    assert settings.durability() == "process"
    configure(durability="power")
    assert settings.durability() == "power"


def test_every_refusal_is_durables_and_a_value_error():
    assert issubclass(ConfigurationError, DurableError)
    assert issubclass(ConfigurationError, ValueError)
