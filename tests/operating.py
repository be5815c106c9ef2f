"""The command line in a process of its own, in the folder of a script."""

import subprocess
import sys

from scripts import Ended, Script, finish


def in_process(script: Script, *arguments: str, folder=None, **env: str) -> "subprocess.Popen[str]":
    """Start ``durable ...`` as a user would, in the script's folder or another one."""
    return subprocess.Popen(
        [sys.executable, "-m", "durable", *arguments],
        cwd=folder or script.folder,
        env=script.environment(**env),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def durable(script: Script, *arguments: str, folder=None, **env: str) -> Ended:
    """Run ``durable ...`` to its end."""
    return finish(in_process(script, *arguments, folder=folder, **env))
