"""Write docs/reference/: a page a public module, made from its source. It imports nothing: all Pythons give the same.

::

    python tools/_reference.py docs/reference

A signature is shown as it is written. In a docstring, which follows Google's style, a name between single backticks is
a link if it is public; between double ones it is code.
"""

from __future__ import annotations

import ast
import importlib.util
import inspect
import re
import sys
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

# Module -> its public names; None: its ``__all__``, or else every class it defines. A new public module is a line here.
MODULES: dict[str, tuple[str, ...] | None] = {
    "durable": None,
    "durable.tasks": None,
    "durable.flows": None,
    "durable.states": None,
    "durable.futures": None,
    "durable.task_runners": None,
    "durable.concurrency": None,
    "durable.annotations": None,
    "durable.cache_policies": None,
    "durable.transactions": None,
    "durable.runtime": None,
    "durable.context": None,
    "durable.logging": None,
    "durable.settings": ("configure", "temporary_settings"),
    "durable.errors": None,
}
SECTIONS = ("Args", "Attributes", "Returns", "Yields", "Raises")
ENGINE = "# What durable calls."  # what follows it in a class is not for users
NOTE = "<!-- Made by tools/docs from the docstrings; a test checks that it is current. -->\n"
Def = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
LINES: dict[ast.stmt, list[str]] = {}  # of the file a statement stands in


class Found(NamedTuple):
    """Where a name is defined: its module, its statements (overloads come first), and the name there."""

    module: str
    nodes: list[ast.stmt]
    name: str


@cache
def package() -> Path:
    """The folder of durable, wherever it is installed."""
    spec = importlib.util.find_spec("durable")
    if spec is None or spec.origin is None:
        sys.exit("durable is not to be found: run tools/docs, or set PYTHONPATH to the checkout.")
    return Path(spec.origin).parent


@cache
def read(module: str) -> ast.Module | None:
    """A module's syntax tree; None if there is no such module."""
    path = package().joinpath(*module.split(".")[1:])
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            text = file.read_text(encoding="utf-8")
            tree = ast.parse(text)
            LINES.update((node, text.splitlines()) for node in ast.walk(tree) if isinstance(node, ast.stmt))
            return tree
    return None


def source(module: str) -> ast.Module:
    """As `read`, of a module that is there."""
    found = read(module)
    if found is None:
        sys.exit(f"There is no module {module}.")
    return found


@cache
def names(module: str) -> tuple[str, ...]:
    """A module's public names."""
    given = MODULES[module]
    body = source(module).body
    if given is not None:
        return given
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "__all__":
            return tuple(ast.literal_eval(node.value))
    return tuple(node.name for node in body if isinstance(node, ast.ClassDef) and not node.name.startswith("_"))


def find(module: str, name: str) -> Found:
    """The definition of a name, through imports; a submodule has no statements."""
    nodes: list[ast.stmt] = []
    if read(f"{module}.{name}") is not None:
        return Found(f"{module}.{name}", nodes, "")
    for node in statements(module):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("durable"):
            for alias in node.names:
                if name == (alias.asname or alias.name):
                    return find(node.module or "", alias.name)
        if (isinstance(node, Def) and node.name == name) or name in assigned(node):
            nodes.append(node)
    if not nodes:
        sys.exit(f"{module} does not define {name}, nor import it.")
    return Found(module, nodes, name)


def statements(module: str) -> Iterator[ast.stmt]:
    """A module's statements, as a type checker sees them: `durable` itself shows its imports to nobody else."""
    for node in source(module).body:
        if isinstance(node, ast.If) and ast.unparse(node.test) in ("TYPE_CHECKING", "_typing.TYPE_CHECKING"):
            yield from node.body
        else:
            yield node


def assigned(node: ast.stmt) -> list[str]:
    """The names an assignment gives a value."""
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


@cache
def links() -> dict[str, str]:
    """Where each public name, method and module is explained: name -> page#anchor."""
    found = {module: f"{page(module)}#top" for module in MODULES}
    for module in list(MODULES)[1:]:
        for name in names(module):
            found.setdefault(name, f"{page(module)}#{name}")
            found[f"{module}.{name}"] = found[name]
            for method, _ in methods(find(module, name)):
                found.setdefault(f"{name}.{method}", f"{page(module)}#{name}.{method}")
    for name in names("durable"):
        found.setdefault(name, f"durable.md#{name}")
        found[f"durable.{name}"] = found[name]
    return found


def page(module: str) -> str:
    """The file name of a module's page."""
    return f"{module.removeprefix('durable.')}.md"


def methods(found: Found) -> list[tuple[str, list[ast.stmt]]]:
    """The public methods of a class, its bases' included, those of the class itself first; not those durable calls."""
    by_name, hidden = all_methods(found)
    return [(name, parts) for name, parts in by_name.items() if name not in hidden]


def all_methods(found: Found) -> tuple[dict[str, list[ast.stmt]], set[str]]:
    """The methods of a class and its bases by name, and which of them are not for users."""
    by_name: dict[str, list[ast.stmt]] = {}
    hidden: set[str] = set()
    for node in found.nodes:
        if not isinstance(node, ast.ClassDef):
            continue
        lines = enumerate(LINES[node][: node.end_lineno], 1)
        engine = [at for at, line in lines if at > node.lineno and line.strip() == ENGINE]
        for part in node.body:
            if isinstance(part, (ast.FunctionDef, ast.AsyncFunctionDef)) and shown(part.name):
                by_name.setdefault(part.name, []).append(part)
                if engine and part.lineno > engine[0]:
                    hidden.add(part.name)
        hidden |= {name for name, parts in by_name.items() if not text_of(parts)}
        for base in node.bases:
            plain = base.value if isinstance(base, ast.Subscript) else base
            if isinstance(plain, ast.Name) and defined(found.module, plain.id):
                inherited, not_shown = all_methods(find(found.module, plain.id))
                for name, parts in inherited.items():
                    by_name.setdefault(name, parts)
                hidden |= not_shown
    return by_name, hidden


def shown(name: str) -> bool:
    """Whether a method is for users."""
    return not name.startswith("_") or name in ("__call__", "__await__")


def defined(module: str, name: str) -> bool:
    """Whether a name is durable's own."""
    for node in source(module).body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            return True
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            return (node.module or "").startswith("durable")
    return False


def text_of(nodes: list[ast.stmt]) -> str:
    """The docstring of the last of some definitions."""
    return (ast.get_docstring(nodes[-1]) or "") if isinstance(nodes[-1], Def) else ""


def signature(node: ast.stmt) -> str:
    """A definition's head as it is written, decorators and what is meant for linters left out."""
    lines = LINES[node]
    if not isinstance(node, Def):
        return "\n".join(lines[node.lineno - 1 : node.end_lineno]).split("  #")[0]
    if isinstance(node, ast.ClassDef):
        head = lines[node.lineno - 1].split("  #")[0].removesuffix(":")
        head = re.sub(r"\(Struct\b.*\)$", "", head)  # how it holds its fields is nothing for users
    else:
        end = node.returns
        last = (end.end_lineno, end.end_col_offset) if end is not None else (node.lineno, None)
        whole = lines[node.lineno - 1 : last[0]]
        whole[-1] = whole[-1][: last[1]]
        head = re.sub(r"  # (type|noqa)\b.*", "", textwrap.dedent("\n".join(whole)))
    kind = any(isinstance(each, ast.Name) and each.id == "property" for each in node.decorator_list)
    return f"@property\n{head}" if kind else head


def comment(node: ast.stmt) -> str:
    """The comment of an assignment: on its line, or right above."""
    lines = LINES[node]
    after = re.search(r"  # (.*)$", lines[node.lineno - 1])
    above = re.match(r" *# (.*)$", lines[node.lineno - 2])
    return after[1] if after else above[1] if above else ""


def linked(text: str, here: str) -> str:
    """Text with code and links: from ``code`` and `name`."""

    def one(match: re.Match[str]) -> str:
        code, name = match[1], match[2]
        if code is not None:
            return f"`{code}`"
        target = links().get(name, "").removeprefix(here)
        return f"[`{name}`]({target})" if target else f"`{name}`"

    return re.sub(r"``([^`]+)``|`([^`]+)`", one, text)


def markdown(docstring: str, here: str) -> str:
    """A docstring as Markdown."""
    out: list[str] = []
    for block in re.split(r"\n\n+(?! {4})", inspect.cleandoc(docstring)):
        head, _, rest = block.partition("\n")
        if head.rstrip(":") in SECTIONS and head.endswith(":"):
            items = re.split(r"\n(?! )", textwrap.dedent(rest))
            listed = head in ("Args:", "Attributes:", "Raises:")
            out.append(f"**{head[:-1]}**\n\n" + "\n".join(item(each, here, listed=listed) for each in items))
        elif "::\n\n" in f"{block}\n\n":
            before, _, code = block.partition("::\n\n")
            shown_code = textwrap.dedent(code.rstrip())
            out.append((f"{linked(before, here)}:\n\n" if before.strip() else "") + f"```text\n{shown_code}\n```")
        else:
            out.append(linked(block, here))
    return "\n\n".join(out)


def item(text: str, here: str, *, listed: bool) -> str:
    """One line of a section: ``name: what it is``."""
    joined = " ".join(text.split())
    name, colon, what = joined.partition(": ")
    if listed and colon and " " not in name.replace(", ", ""):
        called = ", ".join(f"`{each}`" if each[0].islower() else linked(f"`{each}`", here) for each in name.split(", "))
        return f"- {called}: {linked(what, here)}"
    return f"- {linked(joined, here)}"


def entry(anchor: str, nodes: list[ast.stmt], level: int, here: str) -> Iterator[str]:
    """One name: its heading, how it is called, what it does."""
    yield f'{"#" * level} <a id="{anchor}"></a>`{anchor}`\n'
    heads = nodes[:-1] or nodes  # of an overloaded function, all but the implementation
    yield "```python\n" + "\n".join(map(signature, heads)) + "\n```\n"
    if isinstance(nodes[-1], Def):
        yield markdown(text_of(nodes), here) + "\n"
    elif comment(nodes[-1]):
        yield linked(comment(nodes[-1]), here) + "\n"
    if isinstance(nodes[-1], ast.ClassDef):
        members = [part for part in nodes[-1].body if isinstance(part, ast.Assign) and assigned(part)[0].isupper()]
        for part in members:
            about = f": {linked(comment(part), here)}" if re.search("  # ", LINES[part][part.lineno - 1]) else ""
            yield f"- `{assigned(part)[0]}`{about}" + ("\n" if part is members[-1] else "")


def made(module: str) -> str:
    """The page of a module."""
    here = page(module)
    out = [NOTE, f'# <a id="top"></a>`{module}`\n', markdown(ast.get_docstring(source(module)) or "", here) + "\n"]
    elsewhere = []
    for name in names(module):
        home, found = links()[name], find(module, name)
        about = text_of(found.nodes) if found.nodes else ast.get_docstring(source(found.module)) or ""
        if home != f"{here}#{name}":
            sentence = re.split(r"(?<=\.) |\n\n", f"{about} ")[0]
            elsewhere.append(f'- <a id="{name}"></a>[`{name}`]({home}): {linked(" ".join(sentence.split()), here)}')
        elif not found.nodes:
            out.append(f'## <a id="{name}"></a>`{found.module}`\n\n{markdown(about, here)}\n')
        else:
            out.extend(entry(name, found.nodes, 2, here))
            for method, nodes in methods(found):
                out.extend(entry(f"{name}.{method}", nodes, 3, here))
    if elsewhere:
        out.extend(["## Explained on other pages\n", *elsewhere])
    return "\n".join(out).rstrip() + "\n"


def pages() -> dict[str, str]:
    """Every page by its file name."""
    listed = [f"- [`{module}`]({page(module)})" for module in MODULES]
    index = "\n".join([NOTE, "# Reference\n", "Every public name, by the module it is imported from.\n", *listed, ""])
    return {"README.md": index} | {page(module): made(module) for module in MODULES}


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    written = pages()
    for old in folder.glob("*.md"):
        if old.name not in written:
            old.unlink()
    for name, text in written.items():
        (folder / name).write_text(text, encoding="utf-8")
