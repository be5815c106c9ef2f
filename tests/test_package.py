"""The package as a user gets it: what importing costs, what it exports, what ships with it."""

import importlib.metadata
import importlib.resources
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import durable

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = Path(durable.__file__).parent
CHECKOUT = (ROOT / ".git").exists()

# Slow to import, heavy, or somebody else's business until a flow or a command asks for it.
LATE = {
    "asyncio",
    "attr",
    "attrs",
    "click",
    "cloudpickle",
    "dask",
    "distributed",
    "ctypes",
    "filelock",
    "hashlib",
    "multiprocessing",
    "numpy",
    "pandas",
    "pickle",
    "polars",
    "pyarrow",
    "pydantic",
    "queue",
    "sqlite_utils",
    "ssl",
    "tomli",
    "tomllib",
}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


def test_importing_durable_is_light():
    # Counted from where the interpreter stands already: a .pth file may have imported things of its own.
    loaded = python("import sys; before = set(sys.modules); import durable; print(*set(sys.modules) - before)")
    assert not LATE & {name.partition(".")[0] for name in loaded.split()}


def test_importing_the_task_runners_is_light_too():
    code = "import sys; before = set(sys.modules); import durable.task_runners; print(*set(sys.modules) - before)"
    found = {name.partition(".")[0] for name in python(code).split()}
    assert not (LATE - {"pickle"}) & found  # arguments are pickled for workers


def test_every_export_is_there_and_the_list_is_sorted():
    assert list(durable.__all__) == sorted(durable.__all__), "keep __all__ sorted"
    assert len(set(durable.__all__)) == len(durable.__all__)
    for name in durable.__all__:
        assert getattr(durable, name) is not None, name
    assert set(durable.__all__) <= set(dir(durable))


def test_star_import_gives_just_the_exports():
    namespace: dict[str, object] = {}
    exec("from durable import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(durable.__all__)


def test_the_version_is_the_distributions():
    assert durable.__version__ == importlib.metadata.version("durable-journal")


def test_the_command_is_installed():
    (entry,) = [e for e in importlib.metadata.entry_points(group="console_scripts") if e.name == "durable"]
    assert entry.value == "durable.cli:main"
    assert callable(entry.load())


@pytest.mark.skipif(not (ROOT / "README.md").exists(), reason="needs README.md")
def test_the_readme_is_the_description():
    described = importlib.metadata.metadata("durable-journal")["Description"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    # The title only: an editable installation keeps the README of the day it was made.
    assert (described or "").strip()[:9] == readme.strip()[:9], 'pyproject.toml needs readme = "README.md"'


def test_the_package_says_that_it_is_typed():
    assert importlib.resources.files("durable").joinpath("py.typed").is_file()


def test_the_schema_is_there():
    inside = PACKAGE / "schema"
    schema = inside if inside.is_dir() else PACKAGE.parent / "schema"
    assert (schema / "journal.sql").is_file()
    assert (schema / "views.sql").is_file()


@pytest.mark.skipif(not CHECKOUT, reason="needs the repository")
def test_the_schema_is_in_the_repository_once():
    assert (ROOT / "schema").is_dir()
    assert not (ROOT / "durable" / "schema").exists(), "schema/ is copied into the wheel, not into the source"


@pytest.mark.skipif(not CHECKOUT or not shutil.which("git"), reason="needs the repository")
def test_no_tracked_file_names_a_machine_or_a_person():
    """Nobody's home folder, and not the place of this checkout. A path in an example belongs to "you" or "me"."""
    own = {re.escape(str(place)) for place in (ROOT, Path.home()) if len(place.parts) > 2}
    someone = r"/(?:home|Users)/(?!you\b|me\b|user\b|ada\b)\w"
    named = re.compile("|".join([someone, *own]))
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    wrong = []
    for name in filter(None, listed.split("\0")):
        path = ROOT / name
        if not path.is_file():
            continue
        text = path.read_bytes().decode("utf-8", errors="replace")
        wrong += [f"{name}:{number}" for number, line in enumerate(text.splitlines(), 1) if named.search(line)]
    assert not wrong
