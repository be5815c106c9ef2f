"""Settings in files: ``[tool.durable]`` of the nearest pyproject.toml, and the user's own file.

The nearest pyproject.toml is the first one from the working directory upwards. A file is read when a setting is asked
for that nobody nearer has set, and again when it has changed. Whether it has is looked at after `refresh` and after a
change of the working directory, not at every question: a task call asks too.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Final, Literal, NamedTuple

from durable.errors import ConfigurationError
from durable.settings.table import SETTINGS, unknown

PYPROJECT: Final = "pyproject.toml"
_TABLE: Final = "[tool.durable]"
_LONGEST: Final = 16 << 20  # bytes of a file that is read


class Layer(NamedTuple):
    """The settings of one file.

    Attributes:
        source: which of the two it is.
        path: the file.
        values: by name, checked.
    """

    source: Literal["pyproject", "user file"]
    path: str
    values: dict[str, Any]


_Stamp = tuple[int, int, int]
_parsed: dict[str, tuple[_Stamp, Layer | None]] = {}
_current: tuple[str | None, tuple[Layer, ...]] | None = None


def refresh() -> None:
    """Look for the files anew when a setting is next asked for."""
    global _current  # noqa: PLW0603 - the process has one working directory and one user
    _current = None


def layers() -> tuple[Layer, ...]:
    """The settings in files, nearest first.

    Raises:
        ConfigurationError: a file that cannot be read, is no TOML, or holds what is no setting.
    """
    global _current  # noqa: PLW0603 - see `refresh`
    try:
        folder = os.getcwd()
    except OSError:  # it was deleted
        folder = None
    known = _current
    if known is None or known[0] != folder:
        nearest = None if folder is None else _nearest(folder)
        found = (_layer("pyproject", nearest), _layer("user file", user_path()))
        known = _current = folder, tuple(layer for layer in found if layer is not None)
    return known[1]


def user_path() -> str | None:
    """The user's file, which may not exist: ``durable/config.toml`` in XDG_CONFIG_HOME, by default ``~/.config``. None
    where the user has no home.
    """
    folder = os.environ.get("XDG_CONFIG_HOME") or ""
    if not os.path.isabs(folder):  # then it is to be ignored, says the XDG base directory specification
        folder = os.path.expanduser("~/.config")
        if not os.path.isabs(folder):
            return None
    return os.path.join(folder, "durable", "config.toml")


def read(path: str) -> bytes:
    """What a file holds.

    Raises:
        ConfigurationError: it cannot be read, or is no file of settings by its length.
    """
    try:
        # A pipe that nobody writes to, or a device without an end, must not keep a program from starting.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            text = file.read(_LONGEST + 1) or b""
    except OSError as error:
        raise ConfigurationError(f"{path}: expected a file of settings; it cannot be read: {error.strerror}") from None
    if len(text) > _LONGEST:
        raise ConfigurationError(f"{path}: expected a file of settings; it is longer than {_LONGEST >> 20} MB")
    return text


def parsed(path: str, text: bytes) -> dict[str, Any]:
    """What TOML says.

    Raises:
        ConfigurationError: it is none.
    """
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        return tomllib.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{path}: expected a TOML file, found a mistake in it: {error}") from None


def checked(path: str, table: Any, within: str = "") -> dict[str, Any]:
    """The settings in a table of a file.

    Args:
        within: where in the file, with a space after it; for messages.

    Raises:
        ConfigurationError: a name that no setting has, or a value that cannot be meant.
    """
    if not isinstance(table, dict):
        raise ConfigurationError(f"{path}: {within}expected a table of settings, found {table!r}")
    values = {}
    for name, value in table.items():
        if name not in SETTINGS:
            raise unknown(f"{path}: {within}", name)
        values[name] = SETTINGS[name].filed(value, f"{path}: {within}{name} = {value!r}")
    return values


def _nearest(folder: str) -> str | None:
    while not os.path.isfile(path := os.path.join(folder, PYPROJECT)):
        parent = os.path.dirname(folder)
        if parent == folder:
            return None
        folder = parent
    return path


def _layer(source: Literal["pyproject", "user file"], path: str | None) -> Layer | None:
    if path is None:
        return None
    try:
        status = os.stat(path)
    except OSError:  # not there, or in a folder that is not ours to search: another user's home, after sudo
        return None
    stamp = status.st_mtime_ns, status.st_size, status.st_ino
    known = _parsed.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    text = read(path)
    values = _of_pyproject(path, text) if source == "pyproject" else checked(path, parsed(path, text))
    layer = None if values is None else Layer(source, path, values)
    _parsed[path] = stamp, layer
    return layer


def _of_pyproject(path: str, text: bytes) -> dict[str, Any] | None:
    if b"durable" not in text:
        return None  # other tools' file: importing a parser for it would cost more than all the rest of a decoration
    tool = parsed(path, text).get("tool")
    if not isinstance(tool, dict) or "durable" not in tool:
        return None
    values = checked(path, tool["durable"], f"{_TABLE} ")
    if "journal" in values:
        # The project's journal is one file, wherever in the project a script is started.
        values["journal"] = os.path.join(os.path.dirname(path), os.path.expanduser(values["journal"]))
    return values
