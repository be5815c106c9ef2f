"""Names of single runs, from a template or a callable. The forms are Prefect 3's."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from durable.errors import ConfigurationError

Maker = str | Callable[..., str]


def checked(where: str, option: str, value: Any) -> Maker | None:
    """Check ``task_run_name`` or ``flow_run_name``: a template, a callable, or None.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None or callable(value) or (isinstance(value, str) and value):
        return value  # type: ignore[no-any-return]  # callable() leaves Any
    raise ConfigurationError(f"{where}: {option}={value!r}: expected a template (str) or a callable that gives a str")


def rendered(where: str, maker: Maker, parameters: dict[str, Any]) -> str:
    """The name of one run.

    Args:
        where: the function with its file and line, for messages.
        maker: a template for ``str.format`` with the arguments by name; or a callable, given them as ``parameters`` if
            it has an argument of that name.
        parameters: the run's arguments by name, defaults applied.

    Raises:
        ConfigurationError: the template names what is no argument, or the callable gave no str.
    """
    if isinstance(maker, str):
        try:
            return maker.format(**parameters)
        except (LookupError, ValueError, AttributeError, TypeError) as error:
            known = ", ".join(parameters) or "none"
            raise ConfigurationError(
                f"{where}: the run name {maker!r} cannot be made ({type(error).__name__}: {error}); "
                f"its arguments are {known}"
            ) from error
    takes = inspect.signature(maker).parameters
    name = maker(parameters=parameters) if "parameters" in takes else maker()
    if not isinstance(name, str):
        raise ConfigurationError(f"{where}: the callable for its run name gave {name!r}: expected a str")
    return name
