"""Running a job under a shim that sees every call that changes its files, and kills or fails it at a chosen one.

This process preloads the shim (it compiles shim.c and starts itself again) and imports durable once; each trial is a
forked child, which takes milliseconds, so that thousands of them fit in a minute. A trial's folder holds ``job.py``,
the journal and ``ran.log``, an independent log of what was executed, written with O_APPEND and fsynced.
"""

from __future__ import annotations

import atexit
import ctypes
import errno
import os
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any, Final, NamedTuple, NoReturn

HERE: Final = Path(__file__).resolve().parent
DEADLINE: Final = 120.0  # seconds until a trial counts as hung
_ROOM: Final = 512 << 20  # bytes of free memory that are enough for the trials

UNAVAILABLE: Final = 5  # exit code: this machine has not got what tools/prove needs

_ASKED: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

NOTHING, KILL_BEFORE, KILL_AFTER, FAIL, SHORT = range(5)
OPEN, WRITE, SYNC, TRUNCATE, UNLINK, RENAME, MKDIR, RMDIR, LOCK, UNLOCK, LINK = range(1, 12)
EVERY: Final = sum(1 << kind for kind in range(OPEN, LINK + 1))
WRITES: Final = 1 << WRITE | 1 << TRUNCATE
SYNCS: Final = 1 << SYNC

KIT: Final = """
import asyncio, os, sys, time
import durable
from durable import flow, task

def ran(*words):
    descriptor = os.open(os.environ["PROOF_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(descriptor, (" ".join(map(str, words)) + "\\\\n").encode())
    os.fsync(descriptor)
    os.close(descriptor)

def done(word):
    with open(os.environ["PROOF_LOG"]) as log:
        return log.read().split("\\\\n").count(word)

def command(*words):
    from durable.cli import main
    try:
        main(list(map(str, words)))
    except SystemExit as leaving:
        assert not leaving.code, f"durable {words[0]} ended with {leaving.code}"
""".replace("\\\\n", "\\n")


class Shim:
    """The preloaded library, as this process sees it."""

    def __init__(self) -> None:
        self._library = ctypes.CDLL(os.environ["LD_PRELOAD"])

    def arm(self, folder: Path, arm: Arm) -> None:
        """Begin to watch a folder."""
        self._library.proof_arm(
            str(folder).encode(),
            ctypes.c_long(arm.at),
            arm.action,
            arm.error,
            int(arm.forever),
            arm.kinds,
            str(arm.record or "").encode(),
        )

    def seen(self) -> int:
        """How many calls were numbered."""
        function = self._library.proof_seen
        function.restype = ctypes.c_long
        return int(function())


class Arm(NamedTuple):
    """What to do to a trial: at the `at`th call of the given kinds (bits), and from then on if `forever`."""

    at: int = 0
    action: int = NOTHING
    error: int = errno.EIO
    forever: bool = False
    kinds: int = EVERY
    record: Path | None = None


class Ended(NamedTuple):
    """How a trial ended: its exit code (below 0: the signal), what it printed, and how many calls were numbered."""

    code: int
    out: str
    err: str
    seen: int

    @property
    def killed(self) -> bool:
        """Whether it was killed."""
        return self.code == -signal.SIGKILL


class Hung(Exception):
    """A trial did not end."""


def preloaded(arguments: list[str]) -> None:
    """Start this process again with the shim preloaded, unless it is.

    Raises:
        SystemExit: there is no C compiler.
    """
    if "proof-shim" in os.environ.get("LD_PRELOAD", ""):
        return
    compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
    if compiler is None or not sys.platform.startswith("linux"):
        _unavailable("there is none" if sys.platform.startswith("linux") else f"this is {sys.platform}")
    folder = Path(tempfile.mkdtemp(prefix="proof-shim-"))
    library = folder / "proof-shim.so"
    command = [compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(HERE / "shim.c"), "-ldl", "-lpthread"]
    compiled = subprocess.run(command, check=False, capture_output=True, text=True)
    if compiled.returncode:
        shutil.rmtree(folder)
        _unavailable(f"{compiler} failed:\n{compiled.stderr}")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
    proof = subprocess.Popen([sys.executable, *arguments], env=environment | {"LD_PRELOAD": str(library)})
    for number in _ASKED:  # it ends as the proof does, which tidies up
        signal.signal(number, lambda number, _: proof.send_signal(number))
    done = proof.wait()
    shutil.rmtree(folder, ignore_errors=True)
    sys.exit(done if done >= 0 else 128 - done)


def leave_on_signals() -> None:
    """End by an exception when asked to, so that no folder and no process of a trial stays."""

    def leave(number: int, _: object) -> NoReturn:
        for each in _ASKED:
            signal.signal(each, signal.SIG_IGN)
        sys.exit(128 + number)

    for each in _ASKED:
        signal.signal(each, leave)


def _unavailable(why: str) -> NoReturn:
    told = "tools/prove needs Linux and a C compiler with its headers (Debian: apt-get install gcc libc6-dev)"
    print(f"{told}; {why}", file=sys.stderr)
    sys.exit(UNAVAILABLE)


def scratch() -> Path:
    """A folder for the trials: in memory if there is room, for the shim knows what a disk would have, and it is fast.

    Not a TemporaryDirectory: a trial runs what is registered for the exit, and would remove it.
    """
    memory = Path("/dev/shm")  # noqa: S108 - the folder made in it has a name of its own
    roomy = False
    if "TMPDIR" not in os.environ and memory.is_dir() and os.access(memory, os.W_OK):
        found = os.statvfs(memory)
        roomy = found.f_bavail * found.f_frsize > _ROOM
    return Path(tempfile.mkdtemp(prefix="proof-", dir=memory if roomy else None))


class Job:
    """One folder with a job in it, to be run, killed and run again."""

    def __init__(self, base: Path, text: str) -> None:
        self.base = base
        self.folder = base / "work"
        self.log = base / "ran.log"
        self.journal = self.folder / "runs.db"
        self.folder.mkdir(parents=True)
        self.log.touch()
        self.write(text)

    def write(self, text: str) -> None:
        """(Re)write the job."""
        (self.folder / "job.py").write_text(KIT + text, encoding="utf-8")

    def copy(self, base: Path) -> Job:
        """The same in another folder, as it stands."""
        shutil.copytree(self.base, base)
        made = object.__new__(Job)
        made.base, made.folder, made.log = base, base / "work", base / "ran.log"
        made.journal = made.folder / "runs.db"
        return made

    def ran(self) -> Counter[str]:
        """What was executed so far, by line."""
        return Counter(self.log.read_text(encoding="utf-8").splitlines())

    def run(self, arm: Arm | None = None, **environment: str) -> Ended:
        """Run the job to its end, or to the shim's.

        Raises:
            Hung: it did not end.
        """
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(reading)
            _child(self, arm or Arm(), writing, environment)
        os.close(writing)
        code = _waited(pid)
        with os.fdopen(reading, "rb") as pipe:
            seen = int(pipe.read() or b"0")
        return Ended(code, _read(self.base / "out"), _read(self.base / "err"), seen)


def _child(job: Job, arm: Arm, writing: int, environment: dict[str, str]) -> None:
    """The forked child: be a fresh process as far as a job can tell, and never return."""
    code = 1
    try:
        for number in _ASKED:
            signal.signal(number, signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        os.environ.update({"PROOF_LOG": str(job.log), **environment})
        for standard, name in ((1, "out"), (2, "err")):
            descriptor = os.open(job.base / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.dup2(descriptor, standard)
            os.close(descriptor)
        os.chdir(job.folder)
        sys.argv[:] = ["job.py"]
        SHIM.arm(job.folder, arm)
        code = _run_as_script()
        threading._shutdown()  # type: ignore[attr-defined]  # what the interpreter does at its end
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(writing, str(SHIM.seen()).encode())
    finally:
        os._exit(code)


def _run_as_script() -> int:
    try:
        runpy.run_path("job.py", run_name="__main__")
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 0 if leaving.code is None else 1
    except BaseException:  # noqa: BLE001 - as the interpreter does
        traceback.print_exc()
        return 1
    return 0


def _waited(pid: int) -> int:
    end = time.monotonic() + DEADLINE
    pause = 0.0005
    try:
        while True:
            found, status = os.waitpid(pid, os.WNOHANG)
            if found:
                return os.waitstatus_to_exitcode(status)
            if time.monotonic() > end:
                break
            time.sleep(pause)
            pause = min(pause * 1.5, 0.01)
    except BaseException:  # this process is asked to end
        os.kill(pid, signal.SIGKILL)
        raise
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    raise Hung(f"a trial did not end within {DEADLINE} s")


def _read(file: Path) -> str:
    return file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""


SHIM: Any = Shim() if "proof-shim" in os.environ.get("LD_PRELOAD", "") else None
