"""Source as it stands in its file now, compared with a recorded fingerprint. Nothing is imported: the file is parsed.

What `durable.source` sees of a live function cannot all be seen here. A component is

* *the same* or *changed*, where the file has exactly one definition of that name, or a constant is one literal;
* *gone*, where its module's file has no such definition;
* *unknown* otherwise: lambdas, functions that several definitions or a factory make, computed constants, modules whose
  file is not found. A class or function of another module is found beside the script, as a script's own imports are.
"""

from __future__ import annotations

import ast
import io
import textwrap
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from durable.errors import Unhashable
from durable.source import constant_digest, reduce, syntax_digest

SAME: Final = "same"
CHANGED: Final = "changed"
GONE: Final = "gone"
UNKNOWN: Final = "unknown"

_LONGEST: Final = 4 << 20  # bytes of a file that is parsed
_LOCALS: Final = "<locals>"
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class Compared(NamedTuple):
    """A recorded component and what became of it: `SAME`, `CHANGED`, `GONE` or `UNKNOWN`."""

    name: str
    verdict: str


class Files:
    """The files of a project, each parsed once.

    Args:
        script: the script itself, which is recorded by its stem.
        folders: where the modules it imports may lie.
    """

    def __init__(self, script: Path, folders: Iterable[Path]) -> None:
        self.script = script
        self._folders = list(dict.fromkeys([script.parent, *folders]))
        self._modules: dict[str, _Module | None] = {}

    def compare(self, parts: Mapping[str, str]) -> list[Compared]:
        """Each component of a recorded fingerprint with the file it is defined in."""
        return [Compared(name, self._verdict(name, parts)) for name in sorted(parts)]

    def _verdict(self, name: str, parts: Mapping[str, str]) -> str:
        owner = self._constant_owner(name, parts)
        module_name, _, qualname = (owner or name).partition(":")
        module = self._module(module_name)
        if module is None or not qualname or "#" in qualname or "<lambda>" in qualname:
            return UNKNOWN
        if owner is not None:
            return module.constant(name[len(owner) + 1 :], parts[name], self)
        return module.definition(qualname, parts[name])

    def _constant_owner(self, name: str, parts: Mapping[str, str]) -> str | None:
        """The function that refers to a constant: components are called ``module:function`` and
        ``module:function.CONSTANT``, and methods have dots in their names too.
        """
        owner = name
        while "." in owner.partition(":")[2]:
            owner = owner.rpartition(".")[0]
            if owner in parts:
                return owner if not self._is_definition(name) else None
        return None

    def _is_definition(self, name: str) -> bool:
        module_name, _, qualname = name.partition(":")
        module = self._module(module_name)
        return module is not None and bool(module.found(qualname))

    def module_constant(self, name: str, attribute: str) -> ast.expr | None:
        """The literal that ``name.attribute`` is, of a module of the project."""
        module = self._module(name)
        return module.literal(attribute) if module is not None else None

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            self._modules[name] = next(filter(None, map(_parsed, self._places(name))), None)
        return self._modules[name]

    def _places(self, name: str) -> Iterator[Path]:
        if name == self.script.stem or (self.script.stem == "__main__" and name == self.script.parent.name):
            yield self.script
            return
        path = name.replace(".", "/")
        if not path or ".." in name or "/" in name or "\0" in name:
            return
        for folder in self._folders:
            yield folder / f"{path}.py"
            yield folder / path / "__init__.py"


class _Module:
    """One file."""

    def __init__(self, text: str, tree: ast.Module) -> None:
        self.lines = list(io.StringIO(text))  # as the parser counts: a form feed ends no line
        self.tree = tree

    def found(self, qualname: str) -> list[ast.AST]:
        """The definitions of that name."""
        scopes: list[ast.AST] = [self.tree]
        for part in (part for part in qualname.split(".") if part != _LOCALS):
            scopes = [node for scope in scopes for node in _defined_in(scope) if getattr(node, "name", None) == part]
        return [scope for scope in scopes if scope is not self.tree]

    def definition(self, qualname: str, recorded: str) -> str:
        """What became of a function or class."""
        found = self.found(qualname)
        if not found:
            return GONE
        digests = {self._digest(node) for node in found}
        if recorded in digests:
            return SAME if len(found) == 1 else UNKNOWN
        return CHANGED if None not in digests else UNKNOWN

    def _digest(self, node: ast.AST) -> str | None:
        """As a live function's: of its own lines, which begin with its decorators."""
        if not isinstance(node, _DEFINITIONS):
            return None
        first = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])
        try:
            tree = ast.parse(textwrap.dedent("".join(self.lines[first - 1 : node.end_lineno])))
        except (SyntaxError, ValueError):
            return None
        reduce(tree)
        return syntax_digest(tree)

    def constant(self, name: str, recorded: str, files: Files) -> str:
        """What became of a constant that a function refers to."""
        alias, _, attribute = name.partition(".")
        expression = files.module_constant(self._imported(alias), attribute) if attribute else self.literal(name)
        if expression is None:
            return UNKNOWN
        try:
            return SAME if constant_digest(ast.literal_eval(expression), name) == recorded else CHANGED
        except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError, Unhashable):
            return UNKNOWN

    def _imported(self, alias: str) -> str:
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for name in node.names:
                    if (name.asname or name.name) == alias:
                        return name.name
        return ""

    def literal(self, name: str) -> ast.expr | None:
        """The one expression that is assigned to a name in the module's body; None: none, or several."""
        found = []
        for node in ast.walk(self.tree):
            targets: list[ast.expr] = []
            if isinstance(node, ast.Assign):
                targets = node.targets
            elif isinstance(node, (ast.AnnAssign, ast.AugAssign, ast.For, ast.AsyncFor, ast.NamedExpr)):
                targets = [node.target]
            if any(isinstance(target, ast.Name) and target.id == name for target in targets):
                found.append(node)
        if len(found) != 1 or found[0] not in self.tree.body or not isinstance(found[0], (ast.Assign, ast.AnnAssign)):
            return None
        return found[0].value


def _defined_in(scope: ast.AST) -> Iterator[ast.AST]:
    """The functions and classes defined in a scope, under conditions too, and not in scopes within."""
    todo = list(ast.iter_child_nodes(scope))
    while todo:
        node = todo.pop()
        if isinstance(node, _DEFINITIONS):
            yield node
        else:
            todo += ast.iter_child_nodes(node)


def _parsed(path: Path) -> _Module | None:
    try:
        if not path.is_file() or path.stat().st_size > _LONGEST:
            return None
        data = path.read_bytes()
        tree = ast.parse(data)
        return _Module(_decoded(data), tree)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _decoded(data: bytes) -> str:
    encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
    return io.TextIOWrapper(io.BytesIO(data), encoding).read()
