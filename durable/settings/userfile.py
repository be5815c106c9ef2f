"""Writing the user's file of settings: what ``durable config set`` and ``unset`` do."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from durable.errors import ConfigurationError
from durable.settings.files import checked, parsed, read, refresh, user_path

_HEADER: Final = "# Written by `durable config set`. What there is: `durable config view`.\n"


def change(changes: Mapping[str, Any]) -> str:
    """Set and remove settings in the user's file: all of them or, where one cannot be meant, none.

    Comments and order are kept. Two processes that change the file at once both succeed.

    Args:
        changes: values by name; None removes.

    Returns:
        The file.

    Raises:
        ConfigurationError: a value that cannot be meant, or a file that cannot be read or written.
    """
    from filelock import FileLock

    given = user_path()
    if given is None:
        raise ConfigurationError("there is no home folder to keep settings in: set XDG_CONFIG_HOME")
    path = Path(os.path.realpath(given))  # somebody's link to the place where they keep such files stays a link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            old = read(str(path)) if path.exists() else b""
            before = parsed(str(path), old)
            kept = {name: value for name, value in before.items() if name not in changes}
            wanted = kept | {name: value for name, value in changes.items() if value is not None}
            if wanted != kept:
                checked(str(path), wanted)
            text = _text(path, old.decode(), changes, wanted).encode()
            if text != old:
                _replace(path, text)
    except OSError as error:
        raise ConfigurationError(f"{path}: the settings cannot be written: {error.strerror or error}") from None
    except UnicodeEncodeError:
        raise ConfigurationError(f"{path}: expected values that are text; a TOML file can hold nothing else") from None
    refresh()
    return given


def toml(value: Any) -> str:
    """A setting's value as TOML."""
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for one character that JSON leaves as it is.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, dict):
        return "{" + ", ".join(f"{toml(name)} = {toml(each)}" for name, each in value.items()) + "}"
    return json.dumps(value, default=str)


def _text(path: Path, old: str, changes: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The file's new text.

    Lines are replaced one by one. Where that says something else than `wanted` (values of several lines, say), all is
    written anew.
    """
    lines = old.split("\n")
    for name, value in changes.items():
        is_name = re.compile(rf"""\s*(["']?){re.escape(name)}\1\s*=""").match
        places = [number for number, line in enumerate(lines) if is_name(line)]
        line = [] if value is None else [f"{name} = {toml(value)}"]
        if places:
            lines[places[0] : places[0] + 1] = line
        elif line:
            lines[-1:] = [*filter(None, lines[-1:]), *line, ""]
    edited = "\n".join(lines) if old else _HEADER + "\n".join(lines)
    anew = _HEADER + "".join(f"{name} = {toml(value)}\n" for name, value in wanted.items())
    for text in (edited, anew):
        if _says(text, wanted):
            return text
    raise ConfigurationError(f"{path}: it holds more than settings, so it is not changed: edit it by hand")


def _says(text: str, wanted: Mapping[str, Any]) -> bool:
    try:
        said = parsed("", text.encode())
    except ConfigurationError:
        return False
    # Equal also in type: 1 is not True.
    return sorted(map(repr, said.items())) == sorted(map(repr, wanted.items()))


def _replace(path: Path, text: bytes) -> None:
    """Write the file whole, or not at all."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    new = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, new)
        new.replace(path)
    except BaseException:
        new.unlink()
        raise
