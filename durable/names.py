"""How a function or class is named in the journal, so that the next process finds it again.

`__main__` is replaced by the script's stem: ``python job.py``, ``python -m job`` and an import of ``job`` then agree on
the name of everything defined there. So does a worker process, where it is `__mp_main__` besides.
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from types import ModuleType


def main_name() -> str:
    """The name `__main__` goes by in the journal: its script's stem; ``"__main__"`` where there is no script."""
    # While a worker process imports the script, that is `__mp_main__` alone.
    files = (getattr(sys.modules.get(name), "__file__", None) for name in ("__main__", "__mp_main__"))
    file = next(filter(None, files), None)
    if not file:
        return "__main__"
    path = PurePath(file)
    # `python -m package` runs package/__main__.py, which everybody calls by the package's name.
    return path.parent.name if path.stem == "__main__" else path.stem


def recorded_module(module: str | None) -> str:
    """The name under which `module` is recorded (str, never empty)."""
    if module in {"__main__", "__mp_main__"}:
        return main_name()
    return module or "builtins"


def live_module(recorded: str) -> ModuleType | None:
    """The already imported module a recorded name stands for, or None. Never imports anything."""
    found = sys.modules.get(recorded)
    if found is None and recorded == main_name():
        return sys.modules.get("__main__")
    return found


def qualified_name(obj: type | object) -> str:
    """``module.QualName`` of a class (or of an object's class), for messages."""
    cls = obj if isinstance(obj, type) else type(obj)
    module = recorded_module(cls.__module__)
    return cls.__qualname__ if module == "builtins" else f"{module}.{cls.__qualname__}"


def is_being_started() -> bool:
    """Whether this is a process that multiprocessing starts, which imports the script before anything else."""
    process = sys.modules.get("multiprocessing.process")
    return process is not None and bool(getattr(process.current_process(), "_inheriting", False))
