"""``durable config``: the settings, and the user's file of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from durable.cli.exits import WRONG_USAGE, Stopped
from durable.cli.terminal import Screen, note
from durable.errors import ConfigurationError
from durable.phrases import safe
from durable.settings import SETTINGS, find, layers, lookup, user_path
from durable.settings.files import parsed, read
from durable.settings.userfile import change, toml

_BEGINS = re.compile(r"\s*(\w+)\s*=(.*)", re.DOTALL)


@click.group(name="config")
def config() -> None:
    """Show the settings, and set them for all your scripts.

    What decides, highest first: a decorator's argument, the program (durable.configure), the environment,
    [tool.durable] in the nearest pyproject.toml, your own file (this command), the default.
    """


@config.command(name="set", context_settings={"ignore_unknown_options": True})
@click.argument("words", metavar="NAME=VALUE...", nargs=-1, required=True, type=click.UNPROCESSED)
def set_(words: tuple[str, ...]) -> None:
    """Keep settings in your own file.

    It is XDG_CONFIG_HOME/durable/config.toml, by default in ~/.config. NAME is a setting's name or its environment
    variable, in capitals or not. A list is written [1, 10, 100]; blanks around = and in a list need no quotes, but some
    shells want them around brackets. Nothing is written unless every value can be meant.

    \b
      durable config set DURABLE_TASK_DEFAULT_RETRIES=2
      durable config set task_default_retry_delay_seconds = [1, 10, 100]
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    changes: dict[str, Any] = {}
    for spelling, text in assignments(words):
        setting = find(spelling)
        if setting.name in changes:
            raise ConfigurationError(f"{setting.name} is given twice")
        where = f"{spelling}={text!r}"
        changes[setting.name] = setting.filed(setting.read(text, where), where)
    path = change(changes)
    for name, value in changes.items():
        note(f"{name} = {toml(value)} in {path}")
        found = lookup(name)
        if found.source != "user file":
            note(f"but here {found.where} decides: {name} is {toml(found.value)}")


@config.command()
@click.argument("names", metavar="NAME...", nargs=-1, required=True)
def unset(names: tuple[str, ...]) -> None:
    """Remove settings from your own file. Names as for `set`."""
    path = user_path()
    # A name that no setting has, or has no longer, can be removed too, if it is there: the file is an error until then.
    there = parsed(path, read(path)) if path is not None and Path(path).exists() else {}
    wanted = [name if name in there else find(name).name for name in names]
    if any(name in there for name in wanted):
        change(dict.fromkeys(wanted))
    for name in wanted:
        note(f"{name} is no longer set in {path}" if name in there else f"{name} was not set in {path}")


@config.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON document; its shape is told below.")
def view(*, as_json: bool) -> None:
    """Show every setting, its value here, and what says so.

    \b
    JSON (--json), on standard output:
      {"schema": 1, "user_file": path | null,
       "settings": [{"name", "value", "default", "source", "where",
                     "variables", "about"}]}
      source is "environment", "pyproject", "user file" or "default";
      where is the environment variable or the file, else null.
    """  # noqa: D301 - see above
    found = [(setting, lookup(setting.name)) for setting in SETTINGS.values()]
    path = user_path()
    screen = Screen()
    if as_json:
        rows = [
            {
                "name": setting.name,
                "value": value,
                "default": setting.default,
                "source": source,
                "where": where or None,
                "variables": list(setting.variables),
                "about": setting.about,
            }
            for setting, (value, source, where) in found
        ]
        document = {"schema": 1, "user_file": path, "settings": rows}
        screen.line(json.dumps(document, indent=2))
        return
    shown = [(setting.name, "-" if value is None else safe(toml(value))) for setting, (value, _, _) in found]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for (name, value), (_, (_, source, where)) in zip(shown, found, strict=True):
        origin = screen.paint("quiet", source) if source == "default" else safe(f"{source} {where}")
        screen.line(f"{name.ljust(widths[0])}  {value.ljust(widths[1])}  {origin}")
    if path is not None and not any(layer.source == "user file" for layer in layers()):
        note(f"your own file would be {path}")


def assignments(words: Iterable[str]) -> list[tuple[str, str]]:
    """The assignments in a command line's words, as (name, text).

    A word ``NAME=...`` begins one, and so does a word before one that begins with ``=``. Another word belongs to the
    value before it if that is still empty, or a list that is not closed.

    Raises:
        Stopped: a word that is part of none.
    """
    found: list[tuple[str, str]] = []
    pending = list(words)
    while pending:
        word = pending.pop(0)
        if pending and pending[0].startswith("=") and word.isidentifier():
            found.append((word, pending.pop(0)[1:].strip()))
            continue
        begins = _BEGINS.fullmatch(word)
        if begins is not None:
            found.append((begins[1], begins[2].strip()))
            continue
        name, value = found[-1] if found else ("", "complete")
        if value and (not value.startswith("[") or value.endswith("]")):
            raise Stopped(WRONG_USAGE, f"expected NAME=VALUE, found {word!r}")
        found[-1] = name, f"{value} {word}".strip()
    return found
