"""Kill the census half-way, run it again, and check with an independent count that no file was parsed twice.

Run by tools/demo, in an environment where durable is installed. The count does not trust the journal: the example
appends each file it really parses to a log of its own (CENSUS_EFFECTS), and this script only reads that log.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NoReturn

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"
CENSUS = EXAMPLES / "stdlib_census.py"
DURABLE = Path(sys.executable).with_name("durable")
PATIENCE = 60.0  # seconds until the census must have parsed a third of the files

sys.path.insert(0, str(EXAMPLES))
from stdlib_census import modules  # noqa: E402  the example is a script, found by its path


def say(line: str = "") -> None:
    """Print at once, in order with what the children print."""
    print(line, flush=True)


def fail(message: str, stderr: str = "") -> NoReturn:
    """Leave with what went wrong, and what the census said on stderr."""
    sys.exit(f"{stderr}\nDEMO FAILED: {message}")


class Demo:
    """One folder, in which the census runs twice."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.effects = folder / "effects.log"
        self.effects.touch()
        self.files = modules(sysconfig.get_path("stdlib"))
        own = {name: value for name, value in os.environ.items() if not name.startswith("DURABLE_")}
        # Nor do the settings in a user's own file count here.
        self.environment = own | {"CENSUS_EFFECTS": str(self.effects), "XDG_CONFIG_HOME": str(folder)}

    def parsed(self) -> list[str]:
        """The files parsed so far, one entry each time."""
        return self.effects.read_text(encoding="utf-8").splitlines()

    def start(self) -> subprocess.Popen[str]:
        """Run the example, as a user would."""
        say("$ python stdlib_census.py")
        return subprocess.Popen(
            [sys.executable, CENSUS],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run_and_kill(self) -> list[str]:
        """Kill the census with SIGKILL when a third of the files are parsed; return those."""
        enough = len(self.files) // 3
        census = self.start()
        deadline = time.monotonic() + PATIENCE
        while len(self.parsed()) < enough:
            if census.poll() is not None or time.monotonic() > deadline:
                census.kill()
                _, stderr = census.communicate()
                fail(f"the census ended, or hung, before it had parsed {enough} files.", stderr)
            time.sleep(0.02)
        census.send_signal(signal.SIGKILL)
        census.communicate()
        if census.returncode != -signal.SIGKILL:
            fail(f"the census had ended (exit status {census.returncode}) before it could be killed.")
        parsed = self.parsed()
        say(f"... killed with SIGKILL after {len(parsed):,} of {len(self.files):,} files: nothing could be cleaned up.")
        return parsed

    def run_to_the_end(self) -> None:
        """Run the same command again, and show what it prints."""
        census = self.start()
        stdout, stderr = census.communicate()
        if census.returncode:
            fail(f"the second run ended with exit status {census.returncode}.", stderr)
        resumed = [line for line in stderr.splitlines() if "resuming" in line]
        if not resumed:
            fail("the second run did not say that it resumes the first.", stderr)
        say("\n".join(resumed))
        say()
        say(stdout.rstrip())

    def compare(self, first: list[str]) -> None:
        """Hold the log of what was really parsed against what should have been."""
        times = Counter(self.parsed())
        twice = [path for path, count in times.items() if count > 1]
        # One task runs at a time: the only file that may be parsed again is the one in flight at the kill.
        if not set(twice) <= set(first[-1:]) or any(times[path] > 2 for path in twice):
            fail(f"{len(twice):,} files were parsed more than once, such as {twice[0]}")
        if missed := set(self.files) ^ set(times):
            fail(f"{len(missed):,} files were missed, or should not be there, such as {min(missed)}")
        again = "the one in flight at the kill" if twice else "not even the one in flight at the kill"
        after = times.total() - len(first)
        say("An independent count, from a log the example writes itself:")
        say(f"{len(first):,} files parsed before the kill, {after:,} after it; there are {len(times):,}.")
        say(f"No finished file was parsed twice. Parsed again: {len(twice)} ({again}).")

    def inspect(self) -> None:
        """Show the journal, as a user would."""
        say("$ durable inspect runs.db")
        shown = subprocess.run([DURABLE, "inspect", "runs.db"], cwd=self.folder, env=self.environment, check=False)
        if shown.returncode:
            fail(f"durable inspect ended with exit status {shown.returncode}.")


def main() -> None:
    """Run the four steps in a temporary folder."""
    parser = argparse.ArgumentParser(prog="tools/demo", description="Kill a program half-way and run it again.")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the journal behind")
    keep = parser.parse_args().keep
    folder = Path(tempfile.mkdtemp(prefix="durable-demo-"))
    try:
        demo = Demo(folder)
        first = demo.run_and_kill()
        say()
        demo.run_to_the_end()
        say()
        demo.compare(first)
        say()
        demo.inspect()
        if keep:
            say(f"\nThe journal is {folder / 'runs.db'}")
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
