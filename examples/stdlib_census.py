"""A census of Python's standard library that survives being killed.

Parses every module with `ast`, one task a file, and prints the largest and the most complex packages::

    python stdlib_census.py

Press Ctrl-C, kill it, or pull the plug while it runs; then run the same command again. Files already parsed are not
parsed twice: their results come out of the journal, `runs.db`. `durable inspect runs.db` shows what happened.
"""

import ast
import os
import sysconfig
import warnings
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from durable import flow, task

BRANCHES = (ast.If, ast.IfExp, ast.For, ast.AsyncFor, ast.While, ast.ExceptHandler, ast.comprehension, ast.match_case)
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
NOT_STDLIB = {"site-packages", "dist-packages", "__pycache__"}


@dataclass(frozen=True)
class Census:
    """What was counted in one module, or in several together."""

    modules: int = 0
    lines: int = 0
    imports: int = 0
    definitions: int = 0
    documented: int = 0
    branches: int = 0
    unreadable: int = 0

    def __add__(self, other: "Census") -> "Census":
        return Census(*(mine + theirs for mine, theirs in zip(vars(self).values(), vars(other).values(), strict=True)))


@task
def parse(path: str) -> Census:
    """Count one module. Its result is in the journal before the flow sees it."""
    log_effect(path)
    source = Path(path).read_bytes()
    try:
        tree = ast.parse(source)
    except SyntaxError:  # some test data is broken on purpose
        return Census(modules=1, lines=source.count(b"\n"), unreadable=1)
    nodes = list(ast.walk(tree))
    definitions = [node for node in nodes if isinstance(node, DEFINITIONS)]
    return Census(
        modules=1,
        lines=source.count(b"\n"),
        imports=sum(len(node.names) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))),
        definitions=len(definitions),
        documented=sum(ast.get_docstring(node, clean=False) is not None for node in definitions),
        branches=sum(isinstance(node, BRANCHES) for node in nodes),
    )


@flow(name="stdlib-census")
def take_census(root: str) -> dict[str, Census]:
    """Parse every module under `root` and add the counts up by package."""
    packages: defaultdict[str, Census] = defaultdict(Census)
    for path in modules(root):
        packages[package(path, root)] += parse(path)
    return dict(packages)


def modules(root: str) -> list[str]:
    """Every Python file of the standard library at `root`, in the same order each time."""
    return sorted(str(path) for path in Path(root).rglob("*.py") if not NOT_STDLIB & set(path.parts))


def package(path: str, root: str) -> str:
    """The top-level package or module that `path` belongs to."""
    return Path(path).relative_to(root).parts[0].removesuffix(".py")


def table(title: str, rows: Iterable[tuple[str, Census]]) -> str:
    """The first ten `rows`, as text."""
    lines = [f"{title:20}{'modules':>9}{'lines':>9}{'imports':>9}{'defs':>8}{'with doc':>10}{'branches/def':>14}"]
    for name, c in list(rows)[:10]:
        share = c.documented / max(c.definitions, 1)
        lines.append(
            f"{name:20}{c.modules:9,}{c.lines:9,}{c.imports:9,}{c.definitions:8,}{share:10.0%}{density(c):14.2f}"
        )
    return "\n".join(lines)


def density(census: Census) -> float:
    """Branch points a definition: how hard the code is to follow."""
    return census.branches / max(census.definitions, 1)


def log_effect(path: str) -> None:
    """Append `path` to the file CENSUS_EFFECTS names, so that a test can count what really ran."""
    if log := os.environ.get("CENSUS_EFFECTS"):
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{path}\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore", SyntaxWarning)  # the library's own, about the code it tests
    packages = take_census(sysconfig.get_path("stdlib"))
    large = {name: census for name, census in packages.items() if census.lines >= 1000}
    print(table("LARGEST", sorted(packages.items(), key=lambda row: -row[1].lines)))
    print()
    print(table("MOST COMPLEX", sorted(large.items(), key=lambda row: -density(row[1]))))
    print()
    print(table("TOTAL", [("standard library", sum(packages.values(), start=Census()))]))
