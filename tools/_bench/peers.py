"""What people would use instead, each in an environment of its own under ``.venv/peers/``, doing the same job.

A peer that cannot be installed or does not run is skipped with a line. Its job is `_bench/peer_jobs.py NAME FOLDER
TASKS`, which knows nothing of durable.
"""

from __future__ import annotations

import json
import math
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

_HERE: Final = Path(__file__).resolve().parent
_ENVIRONMENTS: Final = _HERE.parent.parent / ".venv" / "peers"
_SECONDS: Final = 900  # a peer may take to be installed, and to run
REQUIREMENTS: Final = {
    "dbos": ("dbos",),
    "prefect": ("prefect",),
    "redun": ("redun",),
    "joblib": ("joblib",),
    "diskcache": ("diskcache",),
    "huey": ("huey",),
}
_FEWER: Final = {"prefect": 20, "redun": 4}  # slow ones are given a part of the tasks

Taken = dict[str, float]  # microseconds a task: first, and replay (NaN where there is no such thing)


def measure(folder: Path, tasks: int) -> dict[str, Taken]:
    """Microseconds a task of each peer that is there."""
    found: dict[str, Taken] = {}
    for peer, requirements in REQUIREMENTS.items():
        try:
            python = _environment(peer, requirements)
            with tempfile.TemporaryDirectory(dir=folder) as scratch:
                done = subprocess.run(
                    [python, _HERE / "peer_jobs.py", peer, scratch, str(max(10, tasks // _FEWER.get(peer, 1)))],
                    check=True,
                    capture_output=True,
                    text=True,
                    timeout=_SECONDS,
                    cwd=scratch,
                )
            taken: dict[str, float | None] = json.loads(done.stdout.splitlines()[-1])
        except (subprocess.SubprocessError, OSError, ValueError, IndexError) as error:
            lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
            print(f"{peer} is skipped: {lines[-1] if lines else type(error).__name__}", file=sys.stderr)
            continue
        found[peer] = {name: math.nan if value is None else value for name, value in taken.items()}
    return found


def _environment(peer: str, requirements: tuple[str, ...]) -> Path:
    folder = _ENVIRONMENTS / peer
    python, stamp = folder / "bin" / "python", folder / "installed"
    if not stamp.exists():
        print(f"preparing {peer} ...", file=sys.stderr)
        _quietly(sys.executable, "-m", "venv", "--clear", str(folder))
        _quietly(str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *requirements)
        stamp.write_text("\n".join(requirements))
    return python


def _quietly(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
