"""docs/cli.md and the README show what the commands print, up to what no two runs have in common.

``python tests/test_cli_docs.py`` writes the output anew, after a screen has changed.
"""

import difflib
import os
import platform
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import durable
from durable.spoken import ADJECTIVES, NOUNS

ROOT = Path(__file__).resolve().parent.parent
CLI, README = ROOT / "docs" / "cli.md", ROOT / "README.md"
_SPOKEN = re.compile(rf"\b({'|'.join(ADJECTIVES)})-({'|'.join(NOUNS)})\b")
_BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)


def replayed(text, folder, preamble=()):
    """`text` with the output of every `durable` command it shows as it is today. The script is its first one."""
    (folder / "etl.py").write_text(re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0], encoding="utf-8")
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("DURABLE_", "NO_", "FORCE_"))
    }
    environment |= {"PYTHONPATH": str(Path(durable.__file__).resolve().parent.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    for command in preamble:
        subprocess.run(command, shell=True, cwd=folder, env=environment, capture_output=True, check=False)

    def block(match):
        told = []
        for line in match[1].splitlines():
            if line.startswith("$ "):
                command = _filled(line[2:], folder)
                told += [f"$ {command}", *_output(command, folder, environment)]
        return "```console\n" + "\n".join(told) + "\n```"

    return _BLOCK.sub(block, text)


def _output(command, folder, environment):
    """What a command prints. Of a script, and of other programs, nothing is shown."""
    python = shlex.quote(sys.executable)
    line = re.sub(r"(^| )python ", rf"\1{python} ", command)
    line = re.sub(r"^durable ", f"{python} -m durable ", line)
    ended = subprocess.run(line, shell=True, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if not command.startswith("durable"):
        return []
    assert ended.returncode == 0, ended.stderr
    out = (ended.stdout + ended.stderr).replace(str(folder.resolve()), "/srv/etl").replace(platform.node(), "web-3")
    return out.rstrip("\n").split("\n")


def _filled(command, folder):
    """A command with the ids that stand in it: a page shows them, a test has others."""
    from durable.reader import JournalReader

    if not re.search(r"\b[0-9a-f]{7}\b", command):
        return command
    with JournalReader(folder / "runs.db") as reader:
        runs = [run.id[:7] for run in reversed(reader.flow_runs(9))]
        (load,) = reader.rows(
            "SELECT lower(hex(key)) FROM task_run WHERE occurrence = 1 AND task_id = "
            "(SELECT id FROM task WHERE name = 'load') ORDER BY id LIMIT 1 OFFSET 4"
        )[0]
    if " diff " in command:
        return re.sub(r"(\S+ diff \S+) \S+ \S+", rf"\1 {runs[0]} {runs[1]}", command)
    return re.sub(r"\S+$", load[:7], command)


def alike(text):
    """`text` without what no two runs have in common."""
    text = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "TIME", text)
    text = re.sub(r"\b(?=[0-9a-f]*\d)[0-9a-f]{32}\b|\b(?=\d*[a-f])[0-9a-f]{7,8}\b|\b\d{7,8}\b", "ID", text)
    text = re.sub(r"\b\d+(\.\d+)? (µs|ms|s)\b|\b\d+m\d\ds\b", "TOOK", text)
    text = re.sub(r"\b(process|pid) \d+", r"\1 PID", text)
    text = re.sub(r"\b(Python|durable|SQLite) \d[\w.+]*( \(WAL-reset bug[^)]*\))?", r"\1 VERSION", text)
    text = re.sub(r"\b\d+(\.\d+)? [kM]B\b", "SIZE", text)
    text = re.sub(r"(/srv/etl|/\S+)/(runs\.db|etl\.py)", r"/\2", text)
    text = _SPOKEN.sub("NAME", text)
    return re.sub(r"[ \t]+", " ", text)


def check(file, today):
    shown = file.read_text(encoding="utf-8")
    difference = difflib.unified_diff(
        alike(shown).splitlines(), alike(today).splitlines(), "shown", "today", lineterm=""
    )
    assert alike(shown) == alike(today), "\n".join(["run `python tests/test_cli_docs.py`", *difference])


def test_the_command_line_is_documented_with_what_it_prints(tmp_path):
    check(CLI, replayed(CLI.read_text(encoding="utf-8"), tmp_path))


def test_the_readme_shows_what_the_commands_print(tmp_path):
    check(README, readme_today(tmp_path))


def readme_today(folder):
    """The README, with the part between its marks as it is today: the example, killed on its 26th day."""
    text = README.read_text(encoding="utf-8")
    start, end = text.index("## What happened?"), text.index("## Which run is continued")
    code = re.findall(r"```python\n(.*?)```", text, re.DOTALL)[0]
    kill = "    import os\n    os.environ.get('DIE') == str(day) and os.kill(os.getpid(), 9)\n"
    script = code.replace("    print(f", f"{kill}    print(f")
    preamble = [f"DIE=26 {shlex.quote(sys.executable)} etl.py"]
    part = replayed(f"```python\n{script}```\n{text[start:end]}", folder, preamble)
    return text[:start] + part[part.index("## What happened?") :] + text[end:]


def test_every_command_has_a_section():
    from durable.cli import cli

    told = set(re.findall(r"^## durable (\w+)$", CLI.read_text(encoding="utf-8"), re.MULTILINE))
    here = {"inspect", "why", "diff", "result", "plan", "completion"}
    assert told >= here and set(cli.list_commands(None)) >= told


if __name__ == "__main__":
    for page, make in ((CLI, lambda folder: replayed(CLI.read_text(encoding="utf-8"), folder)), (README, readme_today)):
        with tempfile.TemporaryDirectory() as scratch:
            written = make(Path(scratch))
        page.write_text(written, encoding="utf-8")
