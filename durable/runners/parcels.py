"""What is sent to a worker: a function, its arguments, and what its body may ask about its run.

A function is sent by name, as pickle does, but a task's name stands for the task; so it is looked up there. What has no
name (closures, lambdas) is sent by value where the runner can (Dask, with cloudpickle), and refused elsewhere.
"""

from __future__ import annotations

import dataclasses
import importlib
import os
import pickle
import sys
from collections.abc import Callable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durable.errors import ConfigurationError, NotSerializable
from durable.logs import task_log
from durable.views import TaskRun

if TYPE_CHECKING:
    from durable.call import Call

HERE: Final = os.urandom(8)  # tells this interpreter from every other; a forked child has another pid
_STEPS: Final = 10  # decorators on one function, at most


class Reference(NamedTuple):
    """Where a function is found: in a module, by a qualified name, behind what decorates it."""

    module: str
    qualname: str
    steps: tuple[str, ...]

    def found(self) -> Any:
        """The function, in this process.

        Raises:
            ConfigurationError: it is not there.
        """
        try:
            # Not from sys.modules: another thread of the worker may be in the middle of importing it.
            value: Any = importlib.import_module(self.module)
            for part in (*self.qualname.split("."), *self.steps):
                value = getattr(value, part)
        except (ImportError, AttributeError) as error:
            raise ConfigurationError(
                f"a worker process cannot find {self.module}:{self.qualname} ({error}). It imports the function by "
                "name: define it at the top level of a module that workers can import"
            ) from error
        return value


def reference(fn: Any) -> Reference | None:
    """Where a plain function is found, or None if it cannot be found by name."""
    module, qualname = fn.__module__, fn.__qualname__
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = getattr(found, part, None)
    steps: list[str] = []
    while found is not None and found is not fn and len(steps) < _STEPS:
        step = "fn" if hasattr(found, "fn") else "__wrapped__"
        steps.append(step)
        found = getattr(found, step, None)
    return Reference(module, qualname, tuple(steps)) if found is fn else None


class Parcel:
    """One body to be executed elsewhere.

    Attributes:
        call: the call itself, which never leaves the driver.
        fn, args, kwargs: what to call.
        is_async: it is a coroutine function.
        where: the function with its file and line, for messages.
        task_run: what the body may ask about its run.
        flow_run: the flow run, pickled; None outside any.
        flow_name: its name, and the flow's.
        log_prints: what it prints is logged.
        level: from which level on durable's loggers log.
        timeout: seconds it may run, where the worker keeps the time.
        home: the interpreter and process of the driver.
        journal: the journal's file, beside which limits are kept.
    """

    __slots__ = (
        "args",
        "call",
        "flow_name",
        "flow_run",
        "fn",
        "home",
        "is_async",
        "journal",
        "kwargs",
        "level",
        "log_prints",
        "task_run",
        "timeout",
        "where",
    )

    call: Call | None
    fn: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    is_async: bool
    where: str
    task_run: TaskRun
    flow_run: bytes | None
    flow_name: tuple[str, str]
    log_prints: bool
    level: int
    timeout: float | None
    home: tuple[bytes, int]
    journal: str

    @classmethod
    def of(cls, call: Call, flow_run: bytes | None, *, keeps_time: bool) -> Parcel:
        """The body of a call. `keeps_time`: the worker ends it when its time is up."""
        made, definition, run = cls(), call.definition, call.flow_run
        made.call, made.fn, made.args, made.kwargs = call, definition.fn, call.args, call.kwargs
        made.is_async, made.where, made.task_run = definition.is_async, definition.where, call.view()
        made.flow_run, made.flow_name = flow_run, (run.name, run.flow_name) if run is not None else ("", "")
        made.log_prints, made.level = call.log_prints, task_log.getEffectiveLevel()
        made.timeout = definition.options.timeout if keeps_time else None
        made.home, made.journal = (HERE, os.getpid()), str(call.journal.path)
        return made

    def packed(self, dumps: Callable[[Any], bytes], *, by_value: bool = False) -> bytes:
        """The parcel as bytes.

        Args:
            dumps: what pickles it.
            by_value: it pickles functions that have no name, and those of the script.

        Raises:
            ConfigurationError: the function has no name that a worker could import.
            NotSerializable: an argument cannot be pickled; it is named.
        """
        fn: Any = self.fn
        if isinstance(fn, FunctionType):
            found = reference(fn)
            if found is not None and not (by_value and found.module == "__main__"):
                fn = found
            elif not by_value:
                raise ConfigurationError(
                    f"{self.where}: a worker process imports a task's function by name, and this one cannot be found "
                    "under its own: it is a closure or a lambda, or was replaced. Define it at the top level of a "
                    "module, or use ThreadPoolTaskRunner"
                )
        facts = [getattr(self, name) for name in _FACTS]
        try:
            return dumps((fn, self.args, self.kwargs, facts))
        except Exception as error:
            raise self._refused(dumps, fn, error) from error

    def _refused(self, dumps: Callable[[Any], bytes], fn: Any, error: Exception) -> Exception:
        """What exactly cannot be pickled."""
        for name, value in self.task_run.parameters.items():
            try:
                dumps(value)
            except Exception as refused:  # noqa: BLE001 - a value's pickling may raise anything
                reason = (
                    f"pickle refuses it, so no worker process can have it ({type(refused).__name__}: {refused}). "
                    "Pass what it is made of, or use ThreadPoolTaskRunner"
                )
                return NotSerializable(f"{self.where}: argument {name!r}", type(value).__qualname__, reason)
        return ConfigurationError(f"{self.where}: {fn!r} cannot be pickled for a worker process: {error}")

    @classmethod
    def unpacked(cls, data: bytes) -> Parcel:
        """The parcel, in the worker.

        Raises:
            ConfigurationError: the function is not found there.
        """
        made = cls()
        fn, made.args, made.kwargs, facts = pickle.loads(data)  # noqa: S301 - from the driver
        for name, value in zip(_FACTS, facts, strict=True):
            setattr(made, name, value)
        made.call, made.fn = None, fn.found() if isinstance(fn, Reference) else fn
        return made

    def __reduce__(self) -> Any:
        """An executor pickles it, if it pickles at all. It arrives as bytes: no import may fail on the way."""
        return bytes, (self.packed(pickle.dumps),)


_FACTS: Final = (
    "flow_name",
    "flow_run",
    "home",
    "is_async",
    "journal",
    "level",
    "log_prints",
    "task_run",
    "timeout",
    "where",
)


def flow_facts(call: Call, dumps: Callable[[Any], bytes]) -> bytes | None:
    """A call's flow run as its bodies are told of it, pickled; without the parameters that cannot be."""
    if call.flow_run is None:
        return None
    view = call.flow_run.view()
    try:
        return dumps(view)
    except Exception:  # noqa: BLE001 - a value's pickling may raise anything
        return dumps(dataclasses.replace(view, parameters=dict(_sendable(view.parameters, dumps))))


def _sendable(parameters: dict[str, Any], dumps: Callable[[Any], bytes]) -> list[tuple[str, Any]]:
    found = []
    for name, value in parameters.items():
        try:
            dumps(value)
        except Exception:  # noqa: BLE001, S112 - it is left out, as documented
            continue
        found.append((name, value))
    return found
