"""Print docs/settings.md, made from the table of settings in `durable.settings`.

::

    PYTHONPATH=. python tools/_settings.py > docs/settings.md
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from durable.settings import SETTINGS, Setting

HEAD = """\
# Settings

<!-- Made by tools/_settings.py from durable/settings/table.py; a test checks that it is current. -->

What decides, highest first:

1. an argument of a decorator or call: `@task(retries=3)`
2. `with durable.temporary_settings({"log_prints": True}):`, for what the block calls, and for no other thread
3. `durable.configure(log_prints=True)`, for the process
4. the environment: `DURABLE_LOG_PRINTS=1`
5. the nearest `pyproject.toml`, from the working directory upwards; those above it are not read

   ```toml
   [tool.durable]
   journal = "var/runs.db"  # beside this file, wherever in the project a script is started
   task_default_retries = 2
   ```

6. your own file, `$XDG_CONFIG_HOME/durable/config.toml` (`~/.config` by default): `durable config set log_prints=true`
7. the default

`durable config view` shows what is set, and where. A setting that does not exist or cannot be meant is a
`ConfigurationError` wherever it stands. Files are read when a setting is first needed, and looked at again whenever a
function is decorated or a flow is called.

Retries are taken when a function is decorated, everything else when it is called; what the environment and the files
say of memos holds for a flow run from its first one on. In the environment a list is written `[1, 10, 100]`, a truth
value `true`, `1`, `yes` or `on`, and `false`, `0`, `no` or `off`; an empty variable is not set.
Prefect's spellings of a variable work too; the first one of a cell that is set decides.

| setting | environment | value | default | |
|---|---|---|---|---|
"""


def rows() -> Iterator[str]:
    """The table's rows."""
    for setting in SETTINGS.values():
        variables = ", ".join(f"`{variable}`" for variable in setting.variables)
        default = "" if setting.default is None else f"`{json.dumps(setting.default)}`"
        cells = (f"`{setting.name}`", variables, setting.kind.expected, default, setting.about + _files(setting))
        yield f"| {' | '.join(cells)} |\n"


def _files(setting: Setting) -> str:
    if setting.kept is None:
        return " Not for files, nor for `configure`."
    if setting.kept is not setting.kind:
        return f" In files and for `configure`: {setting.kept.expected}."
    return ""


if __name__ == "__main__":
    print(HEAD + "".join(rows()), end="")
