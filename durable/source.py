"""The fingerprint of a function's source: what TASK_SOURCE compares, and how an edited task is noticed.

It covers the function and, one by one, what it refers to in the same project: functions, classes and constants, also
through a module (``helpers.clean``) and in closures. Each is reduced to its syntax without comments, docstrings and our
own decorators, so that only a change of meaning changes it. Components are kept apart, by name, to name the one that
changed.
"""

from __future__ import annotations

import ast
import dis
import functools
import inspect
import sys
import textwrap
from collections.abc import Iterator
from itertools import chain, count
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any, Final

from msgspec import Struct

from durable.codec import canonical
from durable.errors import Unhashable
from durable.keys import digest, function_name
from durable.locks import ProcessLock

_parsing: Final = ProcessLock()
_CONSTANTS: Final = (int, float, complex, str, bytes, bool, tuple, frozenset)
_DECORATORS: Final = ("task", "flow")
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})
_OWN: Final = Path(__file__).resolve().parent
_SPELLING: Final = frozenset(
    {"kind", "type_comment"}
)  # fields of syntax that say how it was written, not what it means


class Source(Struct, frozen=True):
    """A fingerprint.

    Attributes:
        digest: 16 bytes over all components.
        parts: each component's name and the hex digest of its syntax.
    """

    digest: bytes
    parts: dict[str, str]


def fingerprint(function: Any) -> Source:
    """The fingerprint of `function` and of what it refers to in its own project."""
    parts: dict[str, str] = {}
    # One thread at a time: parsing in two has raised SystemError on 3.10 to 3.12 (python/cpython#106905).
    with _parsing:
        _add(function, parts, set())
    return Source(digest("source", *[[name, value] for name, value in sorted(parts.items())]), parts)


def _add(obj: Any, parts: dict[str, str], seen: set[int]) -> None:
    function = _unwrapped(obj)
    if not isinstance(function, (FunctionType, type)):
        function = type(function)
    if id(function) in seen:
        return
    seen.add(id(function))
    # Lambdas, and closures of one factory, share a name.
    own = function_name(function)
    name = next(name for name in chain([own], (f"{own}#{n}" for n in count(2))) if name not in parts)
    tree = _syntax(function)
    code = getattr(function, "__code__", None)
    if tree is None:
        parts[name] = digest("code", _code_text(code)).hex() if code else digest("opaque", name).hex()
        return
    parts[name] = syntax_digest(tree)
    for referred, value in _references(function, tree):
        if isinstance(value, _CONSTANTS) or value is None:
            try:
                parts[f"{name}.{referred}"] = constant_digest(value, referred)
            except Unhashable:
                continue
        elif callable(value) and _same_project(value):
            _add(value, parts, seen)


def closed_over(function: Any) -> list[tuple[str, bytes]]:
    """The constants a function closes over, by name, in canonical bytes; not those that it assigns itself."""
    code, found = getattr(function, "__code__", None), []
    for name, value in _cells(function):
        if isinstance(value, _CONSTANTS) and not _assigns(code, name):
            try:
                found.append((name, canonical(value, name)))
            except Unhashable:
                continue
    return found


def _cells(function: Any) -> Iterator[tuple[str, Any]]:
    names = getattr(getattr(function, "__code__", None), "co_freevars", ())
    for name, cell in zip(names, getattr(function, "__closure__", None) or (), strict=False):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not assigned yet
            continue


def _assigns(code: CodeType | None, name: str) -> bool:
    return code is not None and any(
        step.opname == "STORE_DEREF" and step.argval == name for step in dis.get_instructions(code)
    )


def _shape(node: Any) -> Any:
    """Syntax as plain data, the same on every Python: `ast.dump` and `ast.unparse` each change from one to the next."""
    if isinstance(node, ast.AST):
        if isinstance(node, ast.JoinedStr):
            node = ast.JoinedStr(_joined(node.values))
        fields = ((name, getattr(node, name, None)) for name in node._fields if name not in _SPELLING)
        return type(node).__name__, *((name, _shape(value)) for name, value in fields if value not in (None, []))
    return [_shape(part) for part in node] if isinstance(node, list) else repr(node)


def _joined(values: list[ast.expr]) -> list[ast.expr]:
    """The parts of an f-string, with its text between two values whole: Python 3.12 cuts it up, and adds empty text."""
    joined: list[ast.expr] = []
    for value in values:
        before = joined[-1] if joined else None
        if isinstance(value, ast.Constant) and isinstance(before, ast.Constant):
            joined[-1] = ast.Constant(str(before.value) + str(value.value))
        elif not isinstance(value, ast.Constant) or value.value != "":
            joined.append(value)
    return joined


def _unwrapped(obj: Any) -> Any:
    """The plain function or class inside tasks and flows (they have `fn`), partials and wrapping decorators."""
    seen: set[int] = set()
    while id(obj) not in seen:
        seen.add(id(obj))
        if isinstance(obj, functools.partial):
            obj = obj.func
        elif not isinstance(obj, (FunctionType, type)) and callable(getattr(obj, "fn", None)):
            obj = obj.fn
        elif hasattr(obj, "__wrapped__"):
            obj = obj.__wrapped__
        elif hasattr(obj, "__func__"):
            obj = obj.__func__
    return obj


def _syntax(function: Any) -> ast.AST | None:
    """The syntax of a function or class; None where there is no source that is surely its own."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError, ValueError):
        return None  # typed at a prompt, made by exec, or a lambda in the middle of an expression
    if not any(_defines(node, function.__name__) for node in ast.walk(tree)):
        return None  # the lines of another function: the file was edited, or shares its name with one that was not
    reduce(tree)
    return tree


def reduce(tree: ast.AST) -> None:
    """Drop what does not count of some syntax: docstrings and our own decorators."""
    for node in ast.walk(tree):
        if not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            continue
        node.decorator_list = [decorator for decorator in node.decorator_list if not _is_ours(decorator)]
        if ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:] or [ast.Pass()]


def syntax_digest(tree: ast.AST) -> str:
    """The hex digest of a component: of reduced syntax."""
    return digest("syntax", repr(_shape(tree))).hex()


def constant_digest(value: Any, name: str) -> str:
    """The hex digest of a component: of a constant. Raises `Unhashable` where it has no canonical form."""
    return digest("constant", canonical(value, name)).hex()


def _defines(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Lambda) if name == "<lambda>" else getattr(node, "name", None) == name


def _is_ours(decorator: ast.expr) -> bool:
    target = decorator.func if isinstance(decorator, ast.Call) else decorator
    name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
    return name in _DECORATORS or name.startswith("on_")


def _references(function: Any, tree: ast.AST) -> Iterator[tuple[str, Any]]:
    """The global and closure names a function reads, with their values; ``module.name`` for project modules."""
    scope: dict[str, Any] = dict(
        getattr(function, "__globals__", None) or vars(sys.modules.get(function.__module__, object))
    )
    scope.update(_cells(function))
    own = getattr(function, "__name__", None)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = scope.get(node.value.id)
            if isinstance(module, ModuleType) and _is_project_file(getattr(module, "__file__", None)):
                yield f"{node.value.id}.{node.attr}", getattr(module, node.attr, ...)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in scope and node.id != own:
            yield node.id, scope[node.id]


def _same_project(value: Any) -> bool:
    value = _unwrapped(value)
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return isinstance(value, (FunctionType, type)) and _is_project_file(getattr(module, "__file__", None))


@functools.cache
def _library() -> frozenset[Path]:
    """The folders of what is installed."""
    import sysconfig  # with the build's configuration, for those who use something of another module

    kinds = ("stdlib", "platstdlib", "purelib", "platlib")
    return frozenset(Path(path).resolve() for name, path in sysconfig.get_paths().items() if name in kinds)


def _is_project_file(file: str | None) -> bool:
    """Whether a module's file is the user's own: not the standard library's, not an installed package's."""
    if not file:
        return False
    path = Path(file).resolve()
    if _INSTALLED & set(path.parts):
        return False
    return not any(path.is_relative_to(folder) for folder in (*_library(), _OWN))


def _code_text(code: CodeType) -> str:
    return repr(
        (code.co_code.hex(), code.co_names, code.co_varnames, [_constant_text(part) for part in code.co_consts])
    )


def _constant_text(constant: Any) -> str:
    if isinstance(constant, CodeType):
        return _code_text(constant)
    if isinstance(constant, frozenset):  # its order is the hash seed's
        return f"frozenset({sorted(map(_constant_text, constant))})"
    return f"({[*map(_constant_text, constant)]})" if isinstance(constant, tuple) else repr(constant)
