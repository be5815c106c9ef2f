"""Make or refresh one of this checkout's virtual environments, and print its interpreter's path.

::

    python _venv.py run              .venv/3.11.7-run      the project, as a user has it
    python _venv.py test             .venv/3.11.7-test     and everything the tests need
    python _venv.py test --lowest    .venv/3.11.7-lowest   the same, each dependency at its lower bound
    python _venv.py test --sqlite    .venv/3.11.7-sqlite   as test, and `import sqlite3` gives a current SQLite
    python _venv.py audit            .venv/3.11.7-audit    pip-audit, without the project

The project is installed editable. An environment is made once. A changed pyproject.toml or version is installed into it
again; a moved checkout or a vanished interpreter makes it anew. Only `venv` and `pip`; quiet unless something fails.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parent.parent


AUDITOR = "pip-audit>=2.7"
# pysqlite3 is the standard library's module, with an SQLite of its own. Python reads a .pth file at each start.
DRIVER = "pysqlite3>=0.6"
IN_ITS_PLACE = (
    "import sys, pysqlite3, pysqlite3.dbapi2; "
    "sys.modules.update({'sqlite3': pysqlite3, 'sqlite3.dbapi2': pysqlite3.dbapi2})\n"
)


def fail(message: str, output: str = "") -> NoReturn:
    """Leave with what went wrong on stderr."""
    sys.exit("\n".join(filter(None, [output.strip(), message])))


def run(*command: str | Path, failing: str) -> None:
    """Run `command` in silence; if it fails, show all it said and leave."""
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    if done.returncode:
        fail(failing, done.stdout)


def lower_bounds(pyproject: str) -> str:
    """The project's own dependencies, pinned to their lower bounds, as a pip constraints file."""
    block = re.search(r"^dependencies = \[$(.*?)^\]$", pyproject, re.MULTILINE | re.DOTALL)
    pins = re.findall(r'^ *"([\w.-]+)>=([\w.]+)(; [^"]+)?"', block[1], re.MULTILINE) if block else []
    if not pins:
        fail("pyproject.toml: expected `dependencies = [`, then one name>=version a line.")
    return "".join(f"{name}=={version}{marker}\n" for name, version, marker in pins)


def make(folder: Path) -> Path:
    """Create an empty environment at `folder` and return its interpreter."""
    shutil.rmtree(folder, ignore_errors=True)
    run(
        *(sys.executable, "-m", "venv", folder),
        failing=f"{sys.executable} -m venv failed. On Debian and Ubuntu: apt install python3-venv.",
    )
    return folder / "bin" / "python"


def install(python: Path, *arguments: str | Path) -> None:
    """Run pip in the environment of `python`."""
    run(
        *(python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments),
        failing=f"pip could not install the project into {python.parent.parent}.",
    )


def starts(python: Path) -> bool:
    """Whether the environment's interpreter is there and is the one we run on."""
    try:
        command: list[str | Path] = [python, "-c", "import platform; print(platform.python_version())"]
        found = subprocess.run(command, capture_output=True, check=False)
    except OSError:
        return False
    return found.stdout.decode().strip() == platform.python_version()


def replace_sqlite(python: Path) -> None:
    """Have `import sqlite3` give the driver's in an environment."""
    install(python, "--upgrade", "--only-binary", ":all:", DRIVER)
    (packages,) = (python.parent.parent / "lib").glob("python*/site-packages")
    (packages / "sqlite3_in_its_place.pth").write_text(IN_ITS_PLACE)


def ready(kind: str, *, lowest: bool, sqlite: bool) -> Path:
    """The interpreter of an environment that agrees with pyproject.toml as it is now."""
    name = "lowest" if lowest else "sqlite" if sqlite else kind
    folder = ROOT / ".venv" / f"{platform.python_version()}-{name}"
    python, stamp = folder / "bin" / "python", folder / "installed"
    pyproject = (ROOT / "pyproject.toml").read_bytes()
    version = (ROOT / "durable" / "version.py").read_bytes()
    wanted = [str(ROOT), hashlib.sha256(pyproject + version).hexdigest()]

    found = stamp.read_text().splitlines() if stamp.exists() else []
    if found == wanted and starts(python):
        return python
    print(f"preparing {folder.relative_to(ROOT)} ...", file=sys.stderr)
    if found[:1] != wanted[:1] or not starts(python):
        make(folder)
    if kind == "audit":
        install(python, "--upgrade", AUDITOR)
        stamp.write_text("\n".join(wanted))
        return python
    project = f"{ROOT}[test]" if kind == "test" else str(ROOT)
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as constraints:
        constraints.write(lower_bounds(pyproject.decode()) if lowest else "")
        constraints.flush()
        install(python, "--upgrade", "--constraint", constraints.name, "--editable", project)
    if sqlite:
        replace_sqlite(python)
    stamp.write_text("\n".join(wanted))  # Last: an interrupted installation is not taken for a finished one.
    return python


def main() -> None:
    """Read the command line, prepare the environment under a lock, print its interpreter."""
    parser = argparse.ArgumentParser(description="Make or refresh a virtual environment of this checkout.")
    parser.add_argument("kind", choices=["run", "test", "audit"])
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--lowest", action="store_true", help="pin each dependency to its lower bound")
    how.add_argument("--sqlite", action="store_true", help="put a current SQLite in the place of the interpreter's")
    options = parser.parse_args()
    (ROOT / ".venv").mkdir(exist_ok=True)
    with (ROOT / ".venv" / "lock").open("w") as lock:
        # Two commands at once must not install into one folder.
        fcntl.flock(lock, fcntl.LOCK_EX)
        print(ready(options.kind, lowest=options.lowest, sqlite=options.sqlite))


if __name__ == "__main__":
    main()
