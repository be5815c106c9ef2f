"""What others wrote is read as data: nothing is imported or executed, nothing hangs or grows without bound.

Payloads with lies in them are `hostile`'s; damaged files are test_inspect_damaged's and test_read_damaged's. Here also
journals whose hostile values have their right checksums, and files of settings.
"""

import os
import random
import resource
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import hostile
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from scripts import Script

from durable.errors import ConfigurationError
from durable.journal.facts import checksum_of
from durable.settings import files
from durable.settings.table import SETTINGS

HERE = Path(__file__).parent
EXAMPLES = "2000" if os.environ.get("HYPOTHESIS_PROFILE") == "thorough" else "100"


@pytest.mark.parametrize("libraries", ["plain", "libraries"])
def test_no_payload_imports_executes_hangs_or_grows_without_bound(tmp_path, libraries):
    environment = Script(tmp_path).environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE), environment["PYTHONPATH"]])
    command = [sys.executable, str(HERE / "hostile.py"), EXAMPLES, libraries]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


COMMANDS = ["inspect", "inspect - --all", "result - read", "why -", "check", "export", "tail", "plan"]


def limited():
    resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (120, 120))


@pytest.mark.parametrize("seed", range(2))
def test_a_journal_of_hostile_values_with_right_checksums_is_shown(tmp_path, seed):
    script = Script(tmp_path)
    shutil.copy(HERE / "golden" / "journal-2" / "runs.db", tmp_path)
    dice = random.Random(seed)
    payloads = [*hostile.named(), *hostile.shapes(dice), b"", b"\xc1", dice.randbytes(50)]
    with closing(sqlite3.connect(script.journal, isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for (row,) in db.execute("SELECT id FROM result").fetchall():
            payload = dice.choice(payloads)
            db.execute("UPDATE result SET payload = ?, checksum = ? WHERE id = ?", (payload, checksum_of(payload), row))
        for table, column in (("task_run", "inputs"), ("flow_run", "parameters")):
            for (row,) in db.execute(f"SELECT id FROM {table}").fetchall():
                db.execute(f"UPDATE {table} SET {column} = ? WHERE id = ?", (dice.choice(payloads), row))
        db.execute("UPDATE task SET tags = ?, parts = ?", ("[" * 100_000, '{"a":' * 100_000))
        db.execute("UPDATE process SET command = ?", ('["\\u001b]0;x\\u0007",' * 1000,))
    before = script.journal.read_bytes()
    for line in COMMANDS:
        first, *words = line.split()
        done = subprocess.run(
            [sys.executable, "-m", "durable", first, "runs.db", *words],
            cwd=tmp_path,
            env=script.environment(),
            preexec_fn=limited,
            capture_output=True,
            check=False,
        )
        said = done.stderr.decode()
        assert done.returncode in (0, 1, 3, 5), (line, said[-2000:])
        assert "has a bug" not in said and "Traceback" not in said, (line, said[-2000:])
        shown = (done.stdout + done.stderr).decode(errors="replace")
        assert not [c for c in shown if c not in "\n\t" and not c.isprintable()], line
    assert script.journal.read_bytes() == before


# Files of settings.

ODD = ["os.system('x')", "!!python/object", "${HOME}", "\x1b[31m", "../../x", "auto", "1s"]
LITERALS = ["true", "inf", "-nan", "1979-05-27T07:32:00Z", "0xffffffffffffffffffffff", "1e400", '"""\n"""', "''"]


def table(parts):
    return "{" + ", ".join(f"k{number} = {part}" for number, part in enumerate(parts)) + "}"


toml = st.recursive(
    st.sampled_from(LITERALS) | st.integers().map(str) | st.sampled_from(ODD).map(repr),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: f"[{', '.join(parts)}]") | st.lists(inner, max_size=3).map(table)
    ),
    max_leaves=6,
)
names = st.sampled_from([*SETTINGS, "nothing", "a.b", '""'])
lines = st.builds("{} {} {}".format, names, st.sampled_from(["=", "=", "=", "", "=="]), toml)
texts = st.one_of(st.binary(max_size=200), st.lists(lines, max_size=3).map(lambda found: "\n".join(found).encode()))


@pytest.fixture
def place(tmp_path, monkeypatch):
    (tmp_path / "durable").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    files.refresh()


@given(text=texts, own=st.booleans())
@example(b"journal = " + b"[" * 100_000, True)
@example(b"journal = " + b"[" * 400 + b"]" * 400, True)
@example(b"journal = " + b"{a = " * 300 + b"1" + b"}" * 300, True)
@example(b"a." * 2000 + b"b = 1", True)
@example(b"\xff\xfe\0", True)
@example(b"[tool.durable]\njournal = 1" + b"0" * 5000, False)
@example(b"[[tool.durable]]", False)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_of_settings_gives_settings_or_says_what_is_wrong(place, text, own):
    modules = set(sys.modules)
    user, project = place / "durable" / "config.toml", place / "pyproject.toml"
    user.write_bytes(text if own else b"")
    project.write_bytes(b"# durable\n" + (b"" if own else text))
    files.refresh()
    files._parsed.clear()
    try:
        for layer in files.layers():
            assert layer.values.keys() <= SETTINGS.keys()
    except ConfigurationError as error:
        assert str(user if own else project) in str(error)
    assert not {name for name in set(sys.modules) - modules if not name.startswith(("tomllib", "tomli", "durable"))}


@pytest.mark.parametrize("kind", ["pipe", "endless", "folder", "link to itself", "sparse"])
def test_what_is_no_file_of_settings_keeps_no_program_from_starting(place, kind):
    file = place / "durable" / "config.toml"
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "endless":
        file.symlink_to("/dev/zero")
    elif kind == "folder":
        file.mkdir()
    elif kind == "link to itself":
        file.symlink_to(file)
    else:
        with file.open("wb") as sparse:
            sparse.truncate(1 << 40)
    command = [sys.executable, "-c", "from durable import task; print(task(print).name)"]
    environment = {**Script(place).environment(), "XDG_CONFIG_HOME": str(place)}
    done = subprocess.run(
        command,
        cwd=place,
        env=environment,
        preexec_fn=limited,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    if kind in ("endless", "folder", "sparse"):
        assert done.returncode == 1
        assert f"ConfigurationError: {file}: expected a file of settings" in done.stderr
    else:
        assert (done.returncode, done.stdout) == (0, "print\n"), done.stderr
