"""The layers: imports point to a lower layer only, there is no cycle, and no file outgrows a reader.

Every import counts, also one inside a function or under TYPE_CHECKING, and import_module("durable...").
"""

import ast
import graphlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

PACKAGE = "durable"
LONGEST = 400

# Module or folder -> (layer, order within it). A folder is one unit. An import goes to a strictly smaller pair, so two
# units with the same pair do not know each other.
LAYERS = {
    # nouns
    "errors": (0, 0),
    "clock": (0, 0),
    "counts": (0, 0),
    "dialect": (0, 0),
    "locks": (0, 0),
    "names": (0, 0),
    "phrases": (0, 0),
    "spoken": (0, 0),
    "version": (0, 0),
    "views": (0, 0),
    "states": (0, 1),
    # values
    "annotations": (1, 0),
    "verdicts": (1, 0),
    "upstream": (1, 1),
    "feeding": (1, 0),
    "retries": (1, 0),
    "runnames": (1, 0),
    "tagging": (1, 0),
    "options": (1, 1),
    "callbacks": (1, 0),
    "codec": (1, 0),
    "settings": (1, 1),
    "ownership": (1, 0),
    "logs": (1, 2),
    # facts
    "filesystem": (2, 0),
    "keys": (2, 0),
    "source": (2, 1),
    "sourcefile": (2, 2),
    "validation": (2, 1),
    "policies": (2, 2),
    "journal": (2, 1),
    "reader": (2, 2),
    "outcomes": (2, 2),
    "definitions": (2, 3),
    # a run
    "ahead": (3, 0),
    "blocks": (3, 0),
    "crashes": (3, 0),
    "interrupts": (3, 0),
    "timeouts": (3, 0),
    "runs": (3, 1),
    "context": (3, 2),
    "resume": (3, 1),
    "cancelling": (3, 2),
    "forks": (3, 2),
    "reasons": (3, 2),
    "recall": (3, 3),
    "output": (3, 2),
    "progress": (3, 2),
    "transactions": (3, 2),
    "telling": (3, 3),
    # a call
    "rests": (4, 0),
    "execution": (4, 0),
    "call": (4, 1),
    "settling": (4, 1),
    "flowcall": (4, 2),
    "generation": (4, 2),
    # colour
    "driven": (5, 0),
    "drivers": (5, 1),
    # fan-out
    "futures": (6, 0),
    "concurrency": (6, 1),
    "runners": (6, 1),
    # face
    "cache_policies": (7, 0),
    "task_runners": (7, 0),
    "logging": (7, 0),
    "decorated": (7, 0),
    "runtime": (7, 1),
    "submitting": (7, 1),
    "tasks": (7, 2),
    "flows": (7, 3),
    "face": (7, 4),
    "__init__": (7, 5),
    "cli": (7, 6),
    "__main__": (7, 7),
}


class Import(NamedTuple):
    """One import of our own: from which file and line, to which file; paths relative to the package."""

    source: str
    line: int
    target: str


def files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))


def unit(file: str) -> str:
    """The row of the table that `file` belongs to."""
    return file.partition("/")[0].removesuffix(".py")


def module_file(root: Path, parts: list[str]) -> str | None:
    """The file of the module `durable.<parts>`, or None if there is no such module."""
    path = "/".join(parts)
    for candidate in (f"{path}.py", f"{path}/__init__.py" if path else "__init__.py"):
        if (root / candidate).is_file():
            return candidate
    return None


def names_imported(node: ast.AST, file: str) -> Iterator[tuple[list[str], list[str]]]:
    """(module, names taken from it) of each absolute name `node` imports; `file` resolves the relative ones."""
    match node:
        case ast.Import(names=aliases):
            yield from ((alias.name.split("."), []) for alias in aliases)
        case ast.ImportFrom(module=module, names=aliases, level=level):
            # Level 1 is the package the file is in, whether the file is a module of it or its __init__.
            package = [PACKAGE, *file.split("/")[:-1]]
            base = package[: len(package) - level + 1] if level else []
            yield [*base, *(module.split(".") if module else [])], [alias.name for alias in aliases]
        case ast.Call(
            func=ast.Name(id="import_module" | "__import__") | ast.Attribute(attr="import_module"),
            args=[ast.Constant(value=str(name)), *_],
        ):
            if name.startswith("."):
                pytest.fail(f"{PACKAGE}/{file}:{node.lineno}: import_module with a relative name; write it in full")
            yield name.split("."), []


def imports(root: Path) -> list[Import]:
    """Every import of our own modules, by our own modules."""
    found = set()
    for file in files(root):
        for node in ast.walk(ast.parse((root / file).read_bytes(), file)):
            for module, names in names_imported(node, file):
                if module[0] != PACKAGE:
                    continue
                home = module_file(root, module[1:])
                # `from durable.codec import encoder` imports a module if there is one of that name.
                targets = {module_file(root, [*module[1:], name]) or home for name in names} or {home}
                # What is imported does not exist, or is an attribute: then the longest module that does is meant.
                while None in targets and len(module) > 1:
                    module = module[:-1]
                    targets = (targets - {None}) | {module_file(root, module[1:])}
                found |= {Import(file, node.lineno, target) for target in targets if target and target != file}
    return sorted(found)


def upward(root: Path, layers: dict[str, tuple[int, int]]) -> list[str]:
    """The imports that do not go to a lower layer, as `file:line: what and why`."""
    wrong = []
    for source, line, target in imports(root):
        here, there = unit(source), unit(target)
        if here == there or here not in layers or there not in layers:
            continue
        if layers[there] >= layers[here]:
            why = "a lower layer only" if layers[there] != layers[here] else "another place in the order only"
            wrong.append(
                f"{PACKAGE}/{source}:{line}: {here} {layers[here]} imports {there} {layers[there]}; imports go to {why}"
            )
    return wrong


def cycle(root: Path) -> list[str]:
    """The imports that make up one cycle, in order; empty if there is none."""
    lines = {(source, target): line for source, line, target in imports(root)}
    sorter = graphlib.TopologicalSorter()
    for source, target in lines:
        sorter.add(source, target)
    try:
        sorter.prepare()
    except graphlib.CycleError as error:
        around = error.args[1][::-1]
        return [
            f"{PACKAGE}/{source}:{lines[source, target]}: part of an import cycle, imports {PACKAGE}/{target}"
            for source, target in zip(around, around[1:], strict=False)
        ]
    return []


def too_long(root: Path, longest: int = LONGEST) -> list[str]:
    counted = ((file, len((root / file).read_bytes().splitlines())) for file in files(root))
    return [
        f"{PACKAGE}/{file}:{longest + 1}: {count} lines; a file has at most {longest}, make it a folder"
        for file, count in counted
        if count > longest
    ]


def unknown(root: Path, layers: dict[str, tuple[int, int]]) -> list[str]:
    return [f"{PACKAGE}/{file}:1: not in the table LAYERS" for file in files(root) if unit(file) not in layers]


@pytest.fixture(scope="module")
def installed() -> Path:
    """The package as it is installed here, found without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    assert spec is not None and spec.origin is not None, f"{PACKAGE} is not installed, and not on sys.path"
    return Path(spec.origin).parent


def check(wrong: list[str]) -> None:
    assert not wrong, "\n" + "\n".join(wrong)


def test_every_module_is_in_the_table(installed):
    check(unknown(installed, LAYERS))


def test_imports_point_to_a_lower_layer(installed):
    check(upward(installed, LAYERS))


def test_there_is_no_import_cycle(installed):
    check(cycle(installed))


def test_files_stay_short(installed):
    check(too_long(installed))


# The checks themselves, on a package made up to break the rules.


def made_up(tmp_path: Path, **sources: str) -> Path:
    root = tmp_path / PACKAGE
    for name, source in sources.items():
        path = root / f"{name.replace('__in__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source, encoding="utf-8")
    return root


@pytest.mark.parametrize(
    "source",
    [
        "import durable.high",
        "from durable import high",
        "from durable.high import thing",
        "from . import high",
        "from .high import thing",
        "def f():\n    from durable.high import thing",
        "if TYPE_CHECKING:\n    import durable.high as high",
        "importlib.import_module('durable.high')",
        "from durable.high import *",
        "from durable.high.missing import thing",
    ],
)
def test_an_upward_import_is_seen_however_it_is_written(tmp_path, source):
    root = made_up(tmp_path, __init__="", low=source, high="thing = 1")
    layers = {"__init__": (9, 0), "low": (0, 0), "high": (1, 0)}
    (line,) = upward(root, layers)
    assert line.startswith(f"durable/low.py:{source.count(chr(10)) + 1}: low (0, 0) imports high (1, 0)")
    assert upward(root, {**layers, "high": (0, 0)}), "the same place in the order is refused too"
    assert not upward(root, {**layers, "low": (1, 1)}), "a later place in the same layer may import an earlier one"


def test_importing_an_attribute_of_the_package_means_its_init(tmp_path):
    root = made_up(tmp_path, __init__="thing = 1", low="from durable import thing")
    (line,) = upward(root, {"__init__": (9, 0), "low": (0, 0)})
    assert "low (0, 0) imports __init__ (9, 0)" in line


def test_a_cycle_is_seen_also_inside_a_folder_and_when_lazy(tmp_path):
    root = made_up(
        tmp_path,
        codec__in____init__="from durable.codec import encoder",
        codec__in__encoder="from .scalars import f",
        codec__in__scalars="def f():\n    from durable.codec import encode",
    )
    assert sorted(line.split(":")[0] for line in cycle(root)) == [
        "durable/codec/__init__.py",
        "durable/codec/encoder.py",
        "durable/codec/scalars.py",
    ]
    (root / "codec/scalars.py").write_text("", encoding="utf-8")
    assert cycle(root) == []


def test_a_long_file_and_an_unknown_one_are_named(tmp_path):
    root = made_up(tmp_path, long="\n" * 401, short="\n" * 400)
    assert too_long(root) == ["durable/long.py:401: 401 lines; a file has at most 400, make it a folder"]
    assert unknown(root, {"short": (0, 0)}) == ["durable/long.py:1: not in the table LAYERS"]
