"""Finding a flow by name, as ``durable run`` and ``durable resume`` do: the only commands that import a user's code.

Rules:

1. A script is loaded as a module of its stem, without its ``if __name__ == "__main__"`` part. Everything in it then has
   the name in the journal that `python script.py` gives it.
2. What Python would have found is found: the script's folder comes first on sys.path, the working folder for a module.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import click

from durable.flows import Flow


class Place(NamedTuple):
    """Where a flow is: a script or a module, and its name there (a qualified one: ``Jobs.nightly``)."""

    script: Path | None
    module: str
    name: str


def parse(target: str) -> Place:
    """``job.py:flow`` or ``package.module:flow``.

    Raises:
        UsageError: it is neither.
    """
    source, colon, name = target.rpartition(":")
    if not colon or not source or not name:
        raise click.UsageError(f"{target!r}: expected job.py:flow or module:flow")
    if source.endswith(".py") or "/" in source or os.sep in source:
        script = Path(source).absolute()
        if not script.is_file():
            raise click.UsageError(f"{target!r}: there is no file {script}")
        return Place(script, script.stem, name)
    return Place(None, source, name)


def of_recorded(function: str, commands: list[tuple[str, str]], target: str | None) -> Place | None:
    """Where the flow of a recorded run is: as `target` says, or by its function's recorded name (``module:qualname``)
    and the commands that executed it, each with its folder. None: there is no such script, so it is a module.
    """
    module, _, name = function.partition(":")
    if target is not None:
        return parse(target if ":" in target else f"{target}:{name}")
    for command, folder in commands:
        for word in _words(command):
            source = word.rpartition(":")[0] if word.rpartition(":")[0].endswith(".py") else word
            script = Path(folder, source)
            if script.suffix == ".py" and script.stem == module and script.is_file():
                return Place(script, module, name)
    return None


def _words(command: str) -> list[str]:
    """The program of a recorded command; for `durable run` its arguments, too."""
    try:
        words = json.loads(command)
    except (ValueError, RecursionError):
        return []
    if not isinstance(words, list) or not all(isinstance(word, str) for word in words):
        return []
    return words[:1] if words and words[0].endswith(".py") and Path(words[0]).stem != "__main__" else words[1:]


def load(place: Place) -> Flow[Any, Any]:
    """Import the script or module and give the flow in it.

    Raises:
        UsageError: there is no such module, name or flow.
        Exception: whatever the user's code raises when it is imported.
    """
    module = _script(place.script, place.module) if place.script is not None else _module(place.module)
    found: Any = module
    for part in place.name.split("."):
        found = getattr(found, part, None)
    if isinstance(found, Flow):
        return found
    flows = ", ".join(sorted(name for name, value in vars(module).items() if isinstance(value, Flow))) or "none"
    what = "nothing of that name" if found is None else f"{type(found).__name__}, which is no flow"
    raise click.UsageError(f"{place.script or place.module}: found {what} at {place.name!r}; its flows: {flows}")


def _script(script: Path, name: str) -> ModuleType:
    if name in sys.modules:
        raise click.UsageError(
            f"{script}: a module named {name!r} is already imported, so the script cannot be. Rename it, or run it: "
            f"python {script}"
        )
    sys.path.insert(0, str(script.parent))
    spec = spec_from_file_location(name, script)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"{script}: it is not a Python file")
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _module(name: str) -> ModuleType:
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise
        raise click.UsageError(f"there is no module {name!r} to be found from {folder}") from None
