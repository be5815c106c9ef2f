"""The package as a user gets it: what importing costs, what it exports, what ships with it."""

import ast
import importlib.metadata
import importlib.resources
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import durable
import durable.face

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
    "fractions",
    "hashlib",
    "multiprocessing",
    "numpy",
    "pandas",
    "pickle",
    "polars",
    "pyarrow",
    "pydantic",
    "queue",
    "random",
    "sqlite_utils",
    "ssl",
    "sysconfig",
    "tomli",
    "tomllib",
    "zoneinfo",
}


def python(code: str) -> str:
    """What a fresh interpreter prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout


# What the list of a journal's runs takes of durable, and what of the above and beyond it does without.
LISTING = "cli clock dialect errors ownership phrases reader retries settings spoken states version".split()
NOT_FOR_LISTING = LATE - {"click"} | {"logging", "msgspec", "xxhash"}

# Submodules that were attributes of durable after a plain `import durable` when it still imported all it has.
REACHABLE = """
annotations call callbacks cancelling clock codec context counts crashes decorated definitions driven drivers
errors execution feeding filesystem flowcall flows forks futures generation interrupts journal keys logs names
options outcomes output ownership phrases policies progress reasons recall rests resume retries runnames
runners runs runtime settings settling source spoken states submitting tagging tasks telling timeouts
transactions upstream validation verdicts version views
""".split()


def loaded(code: str) -> set[str]:
    """The modules that code imports in a fresh interpreter, but for those a .pth file had imported already."""
    return set(python(f"import sys; before = set(sys.modules); {code}; print(*set(sys.modules) - before)").split())


# What a script does without that runs a flow and a task of it, and hands native values about: each comes with the first
# use of what it is for.
UNUSED = """
driven futures generation runners runtime timeouts transactions validation
codec.arrays codec.callables codec.containers codec.counting codec.decoder codec.exceptions codec.frames codec.inert
codec.leaves codec.objects codec.scalars codec.secrets codec.storing codec.summaries codec.tables
concurrency context journal.maintenance journal.pruning reader settings.userfile sourcefile views
""".split()
MOST_OF_ITS_OWN = 75  # modules, each of which has to be found, read and executed


def test_importing_durable_is_light():
    found = loaded("from durable import flow, task")
    assert not (LATE | {"array"}) & {name.partition(".")[0] for name in found}
    assert not {f"durable.{name}" for name in UNUSED} & found
    assert len([name for name in found if name.partition(".")[0] == "durable"]) <= MOST_OF_ITS_OWN


def test_a_script_that_submits_nothing_imports_no_more_of_it(tmp_path):
    job = f"""
import sys
before = set(sys.modules)
from durable import flow, task
at_first = set(sys.modules)
flow(journal={str(tmp_path / "runs.db")!r})(lambda: task(len)([1, {{"a": "b"}}]))()
print(*(name for name in set(sys.modules) - at_first if name.partition(".")[0] == "durable"))
"""
    assert python(job).split() == []


def test_importing_durable_alone_imports_nothing_of_it():
    assert {name for name in loaded("import durable") if name.startswith("durable.")} == {"durable.version"}


def test_every_export_and_submodule_is_an_attribute_however_it_is_come_by():
    code = """
import importlib, json, sys, durable
each = json.loads(sys.argv[1])
known = {name: getattr(durable, name) for name in each}
assert all(vars(durable)[name] is value for name, value in known.items())
assert durable.runtime is sys.modules["durable.runtime"] and durable.Task is sys.modules["durable.tasks"].Task
"""
    for order in (REACHABLE + durable.__all__, durable.__all__ + REACHABLE):
        subprocess.run([sys.executable, "-c", code, json.dumps(order)], check=True, cwd=ROOT)


@pytest.mark.parametrize("name", ["flwo", "__wrapped__", "no.such", "codec.no_such", ""])
def test_what_there_is_not_is_an_attribute_error(name):
    with pytest.raises(AttributeError, match="has no attribute"):
        getattr(durable, name)
    assert not hasattr(durable, name)


def test_a_submodule_that_cannot_be_imported_says_why(tmp_path, monkeypatch):
    (tmp_path / "broken.py").write_text("import no_such_library")
    monkeypatch.setattr(durable, "__path__", [*durable.__path__, str(tmp_path)])
    with pytest.raises(ModuleNotFoundError, match="no_such_library"):
        _ = durable.broken


def test_what_a_test_puts_in_place_of_an_export_stays(monkeypatch):
    monkeypatch.setattr(durable, "task", None)
    vars(durable).pop("flow", None)
    assert durable.flow is durable.flows.flow, "it is asked for again"
    assert durable.task is None


def test_type_checkers_are_told_what_there_is():
    """The imports under TYPE_CHECKING are those of durable.face and what is imported apart from it, and give all of
    __all__ but what is there already.
    """

    def imported(body: list[ast.stmt]) -> list[tuple[str | None, list[str]]]:
        return [
            (node.module, [alias.name for alias in node.names]) for node in body if isinstance(node, ast.ImportFrom)
        ]

    (checked,) = [
        node
        for node in ast.parse((PACKAGE / "__init__.py").read_bytes()).body
        if isinstance(node, ast.If) and ast.unparse(node.test) == "_typing.TYPE_CHECKING"
    ]
    given = imported(checked.body)
    apart = [("durable", ["runtime"]), ("durable.futures", ["Future"])]
    assert [one for one in given if one not in apart] == imported(ast.parse((PACKAGE / "face.py").read_bytes()).body)
    assert {name for _, names in apart for name in names} == {*durable._APART, *durable._SUBMODULES}
    assert {name for _, names in given for name in names} | {"__version__"} == set(durable.__all__)


def test_importing_the_task_runners_is_light_too():
    found = {name.partition(".")[0] for name in loaded("import durable.task_runners")}
    assert not (LATE - {"pickle"}) & found  # arguments are pickled for workers


@pytest.mark.parametrize("json_too", [[], ["--json"]])
def test_a_list_of_runs_imports_only_what_reads_a_journal(tmp_path, json_too):
    file = str(tmp_path / "runs.db")
    job = "import sys; from durable import flow, task; flow(journal=sys.argv[1])(lambda: task(len)('12'))()"
    subprocess.run([sys.executable, "-c", job, file], check=True, cwd=ROOT, capture_output=True)
    inspect = f"""
from durable.cli import main
try:
    main({["inspect", file, *json_too]!r})
except SystemExit as leaving:
    assert not leaving.code
print()
"""
    found = python(f"import sys; before = set(sys.modules){inspect}print(*set(sys.modules) - before)").splitlines()
    assert any("Completed" in line for line in found[:-1])
    names = found[-1].split()
    assert {name.split(".")[1] for name in names if name.startswith("durable.")} == set(LISTING)
    assert not NOT_FOR_LISTING & {name.partition(".")[0] for name in names}


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


def test_what_the_codec_imports_late_is_there_by_every_name_it_exports():
    code = "from durable import codec; print(*(name for name in codec.__all__ if not hasattr(codec, name)))"
    assert python(code).split() == []
