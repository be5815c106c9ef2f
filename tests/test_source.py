"""The fingerprint of a function: what changes its meaning changes it and is named, what does not leaves it alone."""

import ast
import functools
import importlib
import json
import os
import subprocess
import sys
import sysconfig
from itertools import count
from pathlib import Path

import pytest

from durable import source
from durable.source import fingerprint, syntax_digest

_folders = count()


@pytest.fixture
def load(tmp_path, monkeypatch):
    """Import a project of some modules, anew each time, and give the module `job`."""

    def importing(job, **modules):
        folder = tmp_path / str(next(_folders))
        folder.mkdir()
        for name, text in {"job": job, **modules}.items():
            (folder / f"{name}.py").write_text(text, encoding="utf-8")
        for name in ["job", "helpers", "deeper"]:
            sys.modules.pop(name, None)
        monkeypatch.syspath_prepend(str(folder))
        importlib.invalidate_caches()
        return importlib.import_module("job")

    yield importing
    for name in ["job", "helpers", "deeper"]:
        sys.modules.pop(name, None)


def changed(before, after):
    """The names of the components that differ; the digest must agree with them."""
    names = before.parts.keys() | after.parts.keys()
    found = sorted(name for name in names if before.parts.get(name) != after.parts.get(name))
    assert bool(found) == (before.digest != after.digest)
    return found


ORIGINAL = '''
LIMIT = 3

def helper(x):
    """Helps."""
    return x + 1

def f(a, b=2):
    """Does it."""
    # a comment
    return helper(a) * b < LIMIT
'''


@pytest.mark.parametrize(
    "text",
    [
        ORIGINAL,
        ORIGINAL.replace("# a comment", "# another\n\n    # two of them"),
        ORIGINAL.replace('    """Does it."""\n', ""),
        ORIGINAL.replace('"""Helps."""', '"""Helps more."""'),
        ORIGINAL.replace("helper(a) * b < LIMIT", "(helper( a )*b   <   LIMIT)  # same"),
        ORIGINAL.replace("def f(a, b=2):", "def f(\n    a,\n    b=2,\n):"),
        "import os, sys\n\n\n\n" + ORIGINAL + "\n\ndef unrelated():\n    pass\n",
        ORIGINAL.replace("LIMIT = 3", "LIMIT = 1 + 2\nOTHER = 9"),
    ],
    ids=[
        "same",
        "comment",
        "docstring removed",
        "helper's docstring",
        "whitespace",
        "line breaks",
        "moved",
        "computed",
    ],
)
def test_what_does_not_change_the_meaning_changes_nothing(load, text):
    assert changed(fingerprint(load(ORIGINAL).f), fingerprint(load(text).f)) == []


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("* b <", "/ b <", ["job:f"]),
        ("b=2", "b=3", ["job:f"]),
        ("def f(a, b=2)", "def f(a, b: int = 2)", ["job:f"]),
        ("x + 1", "x + 2", ["job:helper"]),
        ("LIMIT = 3", "LIMIT = 4", ["job:f.LIMIT"]),
        ("LIMIT = 3", "LIMIT = 3.0", ["job:f.LIMIT"]),
        ("LIMIT = 3", "LIMIT = True", ["job:f.LIMIT"]),
        ("def f(a, b=2)", "async def f(a, b=2)", ["job:f"]),
    ],
)
def test_what_changes_the_meaning_is_named(load, old, new, named):
    assert changed(fingerprint(load(ORIGINAL).f), fingerprint(load(ORIGINAL.replace(old, new)).f)) == named


DECORATED = "from durable import flow, task\nimport durable\n{}\ndef f(x):\n    return x\n"


def test_our_decorators_and_their_options_do_not_count(load):
    plain = fingerprint(load(DECORATED.format("")).f)
    for decorator in (
        "@task",
        "@task()",
        "@task(retries=3, name='other')",
        "@durable.task",
        "@flow",
        "@durable.flow(resume='never')",
    ):
        assert changed(plain, fingerprint(load(DECORATED.format(decorator)).f)) == [], decorator


def test_other_decorators_count_with_their_own_source(load):
    text = """
import functools
def twice(function):
    @functools.wraps(function)
    def wrapper(*args):
        return function(*args) * 2
    return wrapper

@twice
def f(x):
    return x
"""
    before = fingerprint(load(text).f)
    assert changed(before, fingerprint(load(text.replace("* 2", "* 3")).f)) == ["job:twice"]
    assert changed(before, fingerprint(load(text.replace("@twice\n", "")).f)) == ["job:f", "job:twice"]


# What a function refers to


def test_helpers_are_followed_through_modules_and_named_by_their_own(load):
    job = """
import helpers
from helpers import clean as tidy
def f(x):
    return tidy(x) + helpers.scale(x) + helpers.RATE
"""
    helpers = """
import deeper
RATE = 2
UNUSED = 1
def clean(x):
    return deeper.bottom(x)
def scale(x):
    return x
def unused():
    return 1
"""
    deeper = "def bottom(x):\n    return x\n"
    before = fingerprint(load(job, helpers=helpers, deeper=deeper).f)
    assert set(before.parts) == {"job:f", "helpers:clean", "helpers:scale", "deeper:bottom", "job:f.helpers.RATE"}
    for old, new, named in [
        ("return x\n", "return x * 2\n", ["helpers:scale"]),
        ("RATE = 2", "RATE = 3", ["job:f.helpers.RATE"]),
        ("UNUSED = 1", "UNUSED = 2", []),
        ("def unused():\n    return 1", "def unused():\n    return 2", []),
    ]:
        after = fingerprint(load(job, helpers=helpers.replace(old, new), deeper=deeper).f)
        assert changed(before, after) == named
    after = fingerprint(load(job, helpers=helpers, deeper=deeper.replace("x\n", "-x\n")).f)
    assert changed(before, after) == ["deeper:bottom"]


def test_other_tasks_that_are_called_are_helpers(load):
    text = "from durable import task\n@task\ndef inner(x):\n    return x\n\n@task\ndef f(x):\n    return inner(x)\n"
    before = fingerprint(load(text).f)
    assert set(before.parts) == {"job:f", "job:inner"}
    assert changed(before, fingerprint(load(text.replace("return x\n\n", "return -x\n\n")).f)) == ["job:inner"]


def test_classes_that_are_used_count_whole(load):
    text = """
class Point:
    '''A point.'''
    def norm(self):
        return 1

def f():
    return Point().norm()
"""
    before = fingerprint(load(text).f)
    assert changed(before, fingerprint(load(text.replace("return 1", "return 2")).f)) == ["job:Point"]
    assert changed(before, fingerprint(load(text.replace("A point.", "Two.")).f)) == []


def test_closures_count(load):
    text = """
def make(factor):
    def helper(x):
        return x
    def f(x):
        return helper(x) * factor
    return f
f, g = make(2), make(3)
"""
    job = load(text)
    assert changed(fingerprint(job.f), fingerprint(job.g)) == ["job:make.<locals>.f.factor"]
    after = fingerprint(load(text.replace("return x\n", "return x + 1\n")).f)
    assert changed(fingerprint(job.f), after) == ["job:make.<locals>.helper"]


def test_what_a_nested_function_refers_to_counts(load):
    text = """
LIMIT = 1
def helper():
    return 1
def f():
    def inner():
        return helper() + LIMIT
    return inner()
"""
    before = fingerprint(load(text).f)
    assert set(before.parts) == {"job:f", "job:f.LIMIT", "job:helper"}


def test_methods_and_what_they_refer_to_count(load):
    text = """
def helper():
    return 1
class Loader:
    def f(self):
        return helper()
    def other(self):
        return 1
"""
    before = fingerprint(load(text).Loader.f)
    assert set(before.parts) == {"job:Loader.f", "job:helper"}
    assert changed(before, fingerprint(load(text.replace("other", "another")).Loader.f)) == []
    assert fingerprint(load(text).Loader().f).digest == before.digest, "bound or not"


@pytest.mark.parametrize(
    "text",
    [
        "def f(n):\n    return f(n - 1) if n else 0\n",
        "def f(n):\n    return g(n)\ndef g(n):\n    return f(n)\n",
        """
class A:
    def other(self):
        return B()
class B:
    def other(self):
        return A()
def f():
    return A, B, f
""",
        "def f():\n    return f\nf.__wrapped__ = f\n",
    ],
)
def test_circles_end(load, text):
    assert fingerprint(load(text).f).digest == fingerprint(load(text).f).digest


def test_libraries_do_not_count(load):
    text = """
import json, os.path
from dataclasses import dataclass
from hypothesis import given
import pytest
from durable import task
def f(x):
    return json.dumps(x), os.path.join("a", "b"), given, pytest.raises, task, dataclass, print, len
"""
    assert set(fingerprint(load(text).f).parts) == {"job:f"}


@pytest.mark.parametrize(
    "file",
    [
        *(sysconfig.get_path(name) + "/thing/__init__.py" for name in ("stdlib", "purelib")),
        "/usr/lib/python3/dist-packages/numpy/__init__.py",
        "/opt/base/lib/python3.11/site-packages/numpy/__init__.py",
        source.__file__,
        None,
    ],
)
def test_an_installed_package_is_no_project_file(file):
    """Wherever it is installed: beside the interpreter, by the system, for one user, under a venv's base."""
    assert not source._is_project_file(file)


def test_a_folder_that_only_begins_like_a_librarys_is_the_projects(tmp_path):
    own = Path(source.__file__).parent
    for library in (sysconfig.get_path("stdlib"), own):
        if {"site-packages", "dist-packages"} & set(Path(library).parts):
            continue  # installed, as its neighbours are
        assert source._is_project_file(f"{os.path.realpath(library)}_jobs/helpers.py")


# What has no source file


def test_lambdas_have_fingerprints(load):
    one, two = load("f = lambda x: x + 1\n"), load("f = lambda x: x + 2\n")
    assert fingerprint(one.f).digest == fingerprint(load("f = lambda x: x + 1\n").f).digest
    assert fingerprint(one.f).digest != fingerprint(two.f).digest


@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_change_of_a_lambda_in_the_middle_of_something_is_seen(load, number):
    text = "fs = [\n    (lambda x: x + 1), (lambda x: x + 2),\n    lambda x: (\n        x + 3\n    ),\n]\n"
    before = fingerprint(load(text).fs[number])
    assert fingerprint(load(text).fs[number]).digest == before.digest
    assert fingerprint(load(text.replace(f"+ {number + 1}", "+ 9")).fs[number]).digest != before.digest


def test_a_helper_with_the_name_of_its_caller_counts(load):
    text = "helper = lambda x: x + 1\nf = lambda x: helper(x)\n"
    assert fingerprint(load(text).f).digest != fingerprint(load(text.replace("+ 1", "+ 2")).f).digest


def made_by_exec(text):
    namespace = {"__name__": "job"}
    exec(text, namespace)
    return namespace["f"]


def test_functions_made_by_exec_have_fingerprints():
    one = fingerprint(made_by_exec("def f(x):\n    return x + 1"))
    assert one.digest == fingerprint(made_by_exec("def f(x):\n    return x + 1")).digest
    assert one.digest != fingerprint(made_by_exec("def f(x):\n    return x + 2")).digest
    inner = "def f(x):\n    def g():\n        return {}\n    return g"
    assert fingerprint(made_by_exec(inner.format(1))).digest != fingerprint(made_by_exec(inner.format(2))).digest


@pytest.mark.parametrize(
    "odd", [len, print, dict, functools.partial(print, 1), type("Made", (), {})], ids=lambda odd: type(odd).__name__
)
def test_anything_callable_has_a_fingerprint(odd):
    assert len(fingerprint(odd).digest) == 16


# The same in every process


def digests_of_many():
    """Fingerprints that must be the same in every process: with and without source, with sets."""
    by_exec = made_by_exec('def f(x):\n    return x in {"a", "b", "c", "d", "e"} or x in ("a", "b")')
    return json.dumps([fingerprint(function).digest.hex() for function in (by_exec, of_many_kinds)])


NAMES = frozenset({"alpha", "beta", "gamma", "delta"})


def of_many_kinds(x):
    """Syntax that is written back differently if anything is."""
    text = f"{x['a']!r:>{10}} {'nested' + str({1: 2}[1])}" + "it's" + 'a "quote"' + b"\x00\xff".decode("latin-1")
    pairs = [(a, b) for a, b in zip(text, text[1:], strict=False) if a in NAMES]
    first, *rest = (yield_ := lambda *args, key=1.5e300, **more: (args, key, -(2**-2), not more))(x)
    with open(text) as one, open(text) as two:  # noqa: PTH123 - only its syntax counts
        for key, (left, right) in {**pairs, "a": (1, 2)}.items():  # noqa: B007
            del left
    return pairs, first, rest, yield_, one, two, key, right, 0x10, 1_000, 1e-5, 1j, ..., x[1:2, ::3], (lambda: (yield))


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_fingerprints_do_not_depend_on_the_hash_seed(seed):
    code = "import test_source; print(test_source.digests_of_many())"
    here = str(Path(__file__).parent)
    environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join([here, *sys.path])}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == digests_of_many()


def test_fingerprints_are_the_recorded_ones_on_every_python(load):
    """An upgrade of Python must not make every task with TASK_SOURCE run again."""
    assert fingerprint(load(ORIGINAL).f).digest.hex() == "d313550fa153a863c20a2ff08c297662"
    # By its qualified name, so that a wheel's tests and a checkout's agree.
    assert fingerprint(of_many_kinds).parts["test_source:of_many_kinds"] == "1d1a1a12a1ed96a25141645d40dfe48c"


def test_an_f_string_is_the_recorded_one_on_every_python():
    """Python 3.12 has a parser of its own for them, which cuts their text up elsewhere and leaves empty pieces."""
    texts = [
        "f'{x!r:>{10}}'",
        "f'{x:{a}{b}}' '' f''",
        "f'{x = !r:^{w}.{p}}'",
        "f'a{{b}}c{x}d' 'e' f'{y}'",
        "f''",
        "f'{x:}{x:%H:%M}{x:{{}}}'",
        r"f'\N{DIGIT ONE}{x}\n\x00' rf'\d{x}\d{{2}}'",
        "f'''a\n{x}\n  {y:>\n}'''",
        "f'{x=:{w}}{(lambda: 1)()}{ {1: 2}[1] }'",
    ]
    assert [syntax_digest(ast.parse(text))[:8] for text in texts] == [
        "e28b12fe",
        "67ae7a8b",
        "70fce4b8",
        "cdbb8a8e",
        "b158052c",
        "5ae2da43",
        "3cdff07e",
        "4896695e",
        "fdd77d8e",
    ]
