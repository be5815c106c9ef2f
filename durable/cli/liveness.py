"""Whether a run's process is alive, asked of its lock without taking anything from it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from durable.ownership import RunLock, is_held
from durable.reader import Alive


def alive_for(journal: str | os.PathLike[str]) -> Alive:
    """What tells a reader of `journal` who lives."""

    def alive(run: bytes, host: str, pid: int) -> bool | None:
        file = Path(os.path.realpath(Path(journal).expanduser()))
        held = is_held(file, run)
        if held is not False or RunLock(file, run).path.exists():
            return held
        # No lock file: an owner that died leaves its own behind, so this is a copy, a task outside any flow, or a run
        # that gave its lock up without being able to record why. Then only a pid that is gone says something for sure.
        return False if host == platform.node() and not exists(pid) else None

    return alive


def exists(pid: int) -> bool:
    """Whether this machine has a process of that id, or could have one."""
    if os.name != "posix" or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
