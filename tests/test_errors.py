"""The errors: one tree, drawn as it is, whose members cross process borders and say what they are about."""

import copy
import inspect
import pickle
import re

import pytest

import durable
from durable import errors

ALL = [value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, BaseException)]
ARGUMENTS = {
    "path": "runs.db",
    "reason": "it is read-only. Make it writable",
    "type_name": "sqlite3.Connection",
    "function": "load (job.py:12)",
    "parameter": "days[3]",
    "expected": "list[int]",
    "detail": "which is none of its values",
    "module": "job",
    "qualname": "Loader.Row",
    "flow_name": "nightly",
    "run_id": "0123456789abcdef0123456789abcdef",
    "owner": "process 12 on host",
    "task_name": "send_mail",
    "started": "2024-01-01 02:14:00",
    "message": "boom",
    "traceback_text": "Traceback ...",
    "code": 143,
    "number": 3,
    "found": "ended",
    "name": "task run 'load-3f2'",
    "count": 2,
    "first": "load-3f2: ValueError: boom",
}


def made(cls):
    """An instance, with an argument for each of its constructor's parameters."""
    parameters = inspect.signature(cls.__init__).parameters
    names = [name for name, parameter in parameters.items() if parameter.kind is parameter.POSITIONAL_OR_KEYWORD][1:]
    return cls(*(ARGUMENTS[name] for name in names)) if names else cls("what happened")


def drawn():
    """The tree in the module's docstring, as ``{name: parent}``."""
    parents, above = {}, {}
    for line in errors.__doc__.splitlines():
        found = re.match(r"^    ([│├└─ ]*)([A-Z]\w+)(?:\s|$)", line)
        if found:
            depth = len(found[1]) // 4
            parents[found[2]] = above.get(depth - 1) if depth else None
            above[depth] = found[2]
    return parents


def test_the_tree_is_drawn_as_it_is():
    real = {}
    for cls in ALL:
        bases = [base.__name__ for base in cls.__bases__ if base in ALL]
        assert len(bases) <= 1
        real[cls.__name__] = bases[0] if bases else None
    assert drawn() == real


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_the_drawing_names_the_builtin_it_is_as_well(cls):
    (line,) = [line for line in errors.__doc__.splitlines() if re.match(rf"^    [│├└─ ]*{cls.__name__}(?:\s|$)", line)]
    builtin = [base.__name__ for base in cls.__bases__ if base.__module__ == "builtins" and base is not Exception]
    also = re.findall(r"\((?:also )?a (\w+)\)", line)
    assert also == builtin


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickle(cls, protocol):
    before = made(cls)
    before.seen_by = "a handler"
    after = pickle.loads(pickle.dumps(before, protocol))
    for one in (after, copy.copy(before), copy.deepcopy(before)):
        assert type(one) is cls
        assert one.args == before.args
        assert str(one) == str(before)
        assert vars(one) == vars(before)


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_a_message_names_everything_it_was_told(cls):
    error = made(cls)
    shown = str(error)
    for name, value in vars(error).items():
        if name == "traceback_text":
            continue  # for those who ask; a message is one line
        expected = value[:7] if name == "run_id" else str(value)
        assert expected in shown, f"{cls.__name__} does not say its {name}"
    assert "\n" not in shown


@pytest.mark.parametrize("cls", ALL, ids=lambda cls: cls.__name__)
def test_every_error_is_exported_and_explained(cls):
    assert cls.__name__ in durable.__all__
    assert getattr(durable, cls.__name__) is cls
    assert cls.__doc__ and cls.__doc__.strip()[-1] in ".`" or "Args:" in cls.__doc__
    for name in inspect.signature(cls.__init__).parameters:
        if name in ARGUMENTS and cls.__init__ in vars(cls).values() and name != "code":
            assert f"{name}:" in cls.__doc__ or "Arguments as in" in cls.__doc__, f"{cls.__name__}: {name}"


def test_catching_durables_error_never_catches_a_users_or_an_exit():
    assert not issubclass(errors.TerminationSignal, Exception)
    assert not issubclass(errors.FlowRunCancelled, Exception)
    assert errors.TerminationSignal().code == 128 + 15
    assert all(issubclass(cls, errors.DurableError) for cls in ALL if issubclass(cls, Exception))


def test_what_only_a_person_can_decide_says_how():
    assert "DURABLE_ON_INTERRUPT=retry" in str(made(errors.TaskInterrupted))
    assert "Wait for it to end, or stop that process" in str(made(errors.FlowRunInProgress))
