"""What users may rely on: the list of names, and that each of them explains itself and the errors it raises."""

import ast
import inspect
import textwrap
from types import FunctionType

import pytest

import durable
from durable import cache_policies, task_runners

# A name that leaves this list breaks somebody's program; one that joins it is a promise.
PUBLIC = """
CancelledRun CodecError ConcurrencyTimeoutError ConfigurationError CorruptPayload DurableError Flow FlowRunCancelled
FlowRunInProgress FlowRunTimeoutError Future GeneratorDiverged InvalidTransition JournalBusy JournalError
JournalFailed JournalNotFound JournalNotWritable MappingError MissingContextError NewerJournal NotAJournal
NotSerializable NothingToResume ParameterBindError ParameterTypeError RunAbandoned RunFailed State StateType
SubmittedTaskFailed Task TaskFailed TaskInterrupted TaskRunTimeoutError TerminationSignal UnfinishedRun Unhashable
UnresolvedClass UnsupportedFilesystem WorkerDied __version__ allow_failure close_journals configure flow
get_run_logger quote register runtime tags task temporary_settings unmapped
""".split()
OPTIONS = {
    "task": "name description tags task_run_name retries retry_delay_seconds retry_jitter_factor retry_condition_fn "
    "timeout_seconds on_running on_completion on_failure on_rollback on_commit persist_result on_interrupt "
    "cache_policy cache_key_fn cache_expiration refresh_cache result_serializer cache_result_in_memory version "
    "log_prints record_inputs",
    "flow": "name description flow_run_name resume resume_within idempotency_key journal retries retry_delay_seconds "
    "timeout_seconds validate_parameters on_running on_completion on_failure on_cancellation on_crashed log_prints "
    "record_inputs persist_result task_runner version",
}
OBJECTS = [getattr(durable, name) for name in PUBLIC if name != "__version__"]
FUNCTIONS = [value for value in OBJECTS if isinstance(value, FunctionType)]
CLASSES = [value for value in OBJECTS if isinstance(value, type)]


def methods(cls):
    """A class's public methods and properties, those of its bases of ours included."""
    for base in cls.__mro__:
        if not base.__module__.startswith("durable"):
            continue
        for name, value in vars(base).items():
            function = value.fget if isinstance(value, property) else getattr(value, "__func__", value)
            if isinstance(function, FunctionType) and (not name.startswith("_") or name == "__call__"):
                yield name, function


METHODS = [(f"{cls.__name__}.{name}", function) for cls in CLASSES for name, function in methods(cls)]
CALLABLES = [(function.__name__, function) for function in FUNCTIONS] + METHODS


def test_the_list_of_names_is_the_promised_one():
    assert list(durable.__all__) == PUBLIC == sorted(PUBLIC)


def test_nothing_private_leaks_into_the_package():
    """Besides the list there are only submodules."""
    others = {name for name in vars(durable) if not name.startswith("_")} - set(PUBLIC)
    assert all(inspect.ismodule(getattr(durable, name)) for name in others), others


@pytest.mark.parametrize("value", OBJECTS, ids=lambda value: value.__name__)
def test_every_name_has_a_docstring_that_begins_with_a_sentence(value):
    text = inspect.getdoc(value)
    assert text
    assert text[0].isupper() or text[0] == "`"
    assert "." in text or ":" in text


@pytest.mark.parametrize(("name", "function"), METHODS, ids=[name for name, _ in METHODS])
def test_every_public_method_has_a_docstring(name, function):
    assert inspect.getdoc(function), name


def raised_in(function):
    """The names of the errors a function raises itself."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    for node in ast.walk(tree):
        if isinstance(node, ast.Raise) and node.exc is not None:
            target = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
            name = getattr(target, "id", "")
            if name[:1].isupper() and name != "NotImplementedError":  # a base's method that every kind overrides
                yield name


@pytest.mark.parametrize(("name", "function"), CALLABLES, ids=[name for name, _ in CALLABLES])
def test_a_docstring_tells_the_errors_that_are_raised(name, function):
    missing = [error for error in raised_in(function) if error not in (inspect.getdoc(function) or "")]
    assert not missing, f"{name} raises {missing} and does not say so"


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (durable.task, "ConfigurationError"),
        (durable.flow, "ConfigurationError"),
        (durable.configure, "ConfigurationError"),
        (durable.register, "TypeError"),
        (durable.Task.__call__, "ParameterBindError NotSerializable JournalError"),
        (
            durable.Flow.__call__,
            "ParameterBindError ParameterTypeError FlowRunInProgress NothingToResume TaskInterrupted JournalError",
        ),
        (durable.Task.with_options, "ConfigurationError"),
        (durable.Flow.with_options, "ConfigurationError"),
        (durable.State.result, "TaskFailed"),
    ],
    ids=lambda value: getattr(value, "__qualname__", ""),
)
def test_a_docstring_tells_the_errors_that_reach_its_caller(function, error):
    text = inspect.getdoc(function)
    assert "Raises:" in text
    after = text.partition("Raises:")[2]
    assert [name for name in error.split() if name not in after] == []


@pytest.mark.parametrize(("decorator", "options"), OPTIONS.items())
def test_a_decorators_options_are_the_promised_ones_and_each_is_documented(decorator, options):
    function, cls = getattr(durable, decorator), getattr(durable, decorator.title())
    assert cls.options == frozenset(options.split())
    documented = inspect.getdoc(function)
    for option in options.split():
        assert f"\n    {option}: " in documented, option
    typed = ast.parse(inspect.getsource(inspect.getmodule(function)))
    overloads = [node for node in typed.body if isinstance(node, ast.FunctionDef) and node.name == decorator]
    (with_parentheses,) = [node for node in overloads if node.args.kwonlyargs]
    assert [argument.arg for argument in with_parentheses.args.kwonlyargs] == options.split()


def test_the_policies_module_is_public_as_well():
    assert inspect.getdoc(cache_policies)
    assert set(cache_policies.__all__ if hasattr(cache_policies, "__all__") else dir(cache_policies)) >= {
        *("DEFAULT", "FLOW_PARAMETERS", "INPUTS", "NONE", "RUN_ID", "TASK_SOURCE"),
    }


def test_the_task_runners_module_is_public_as_well():
    assert inspect.getdoc(task_runners)
    assert task_runners.__all__ == sorted(
        ["TaskRunner", *(f"{kind}TaskRunner" for kind in ("Dask", "Executor", "ProcessPool", "ThreadPool"))]
    )
    for name in task_runners.__all__:
        runner = getattr(task_runners, name)
        assert inspect.getdoc(runner)
        assert name == "TaskRunner" or "Args:" in inspect.getdoc(runner)


def test_a_decorated_function_still_looks_like_itself():
    def original(a, b: int = 2) -> str:
        """Its docstring."""

    for decorator in (durable.task, durable.flow):
        decorated = decorator(original)
        assert decorated.__name__ == "original"
        assert decorated.__doc__ == "Its docstring."
        assert decorated.__module__ == __name__
        assert decorated.__wrapped__ is original
        assert inspect.signature(decorated) == inspect.signature(original)
        assert "original" in repr(decorated)
