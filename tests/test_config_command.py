"""``durable config``: what is set is what is shown, and a mistake changes nothing."""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner
from hypothesis import example, given
from hypothesis import strategies as st

import durable
from durable import settings
from durable.cli import cli
from durable.cli.config import assignments
from durable.cli.exits import Stopped
from durable.settings import SETTINGS, lookup
from durable.settings.userfile import toml


class Ran(NamedTuple):
    code: int
    out: str
    err: str


class User:
    """Somebody with a folder of settings and a working directory, who runs the real command."""

    def __init__(self, folder):
        self.folder = folder
        self.file = folder / "config" / "durable" / "config.toml"

    def start(self, *words, **env):
        return subprocess.Popen(
            [sys.executable, "-m", "durable", *words],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(Path(durable.__file__).parent.parent),
                "XDG_CONFIG_HOME": str(self.folder / "config"),
                **env,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
        )

    def config(self, *words, **env):
        with self.start("config", *words, **env) as process:
            out, err = process.communicate(timeout=120)
            return Ran(process.returncode, out, err)

    def shown(self, **env):
        """`config view` as {name: (value, source)}."""
        document = json.loads(self.config("view", "--json", **env).out)
        assert document["schema"] == 1
        return {row["name"]: (row["value"], row["source"]) for row in document["settings"]}

    def said(self):
        return [line for line in self.file.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]

    def write(self, text):
        self.file.parent.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")


@pytest.fixture
def user(tmp_path):
    return User(tmp_path)


# Setting


def test_the_two_commands_of_the_page(user):
    assert user.config("set", "DURABLE_TASK_DEFAULT_RETRIES=2").code == 0
    ended = user.config("set", *"DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS = [1, 10, 100]".split())
    assert ended == (0, "", f"durable: task_default_retry_delay_seconds = [1, 10, 100] in {user.file}\n")
    assert user.said() == ["task_default_retries = 2", "task_default_retry_delay_seconds = [1, 10, 100]"]
    shown = user.shown()
    assert shown["task_default_retries"] == (2, "user file")
    assert shown["task_default_retry_delay_seconds"] == ([1, 10, 100], "user file")
    assert shown["flow_default_retries"] == (0, "default")


def test_several_at_once_in_any_spelling(user):
    user.config("set", "log_prints=Yes", "Tasks_Default_Retries", "=", "3", "durable_durability", "=process")
    assert user.said() == ["log_prints = true", "task_default_retries = 3", 'durability = "process"']


def test_what_is_set_decides_a_script(user):
    user.config("set", "log_prints=true", "journal=mine.db")
    (user.folder / "job.py").write_text("from durable import task\ntask(lambda: print('here'))()\n")
    env = {**os.environ, "PYTHONPATH": str(Path(durable.__file__).parent.parent)}
    env["XDG_CONFIG_HOME"] = str(user.folder / "config")
    done = subprocess.run([sys.executable, "job.py"], cwd=user.folder, env=env, capture_output=True, text=True)
    assert done.returncode == 0 and "here" in done.stderr and not done.stdout
    assert (user.folder / "mine.db").exists() and not (user.folder / "runs.db").exists()
    with user.start("inspect") as process:
        assert "mine.db" in process.communicate(timeout=120)[0]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["retries=2"], "unknown setting 'retries'; there are journal, durability"),
        (["task_default_retries=many"], "task_default_retries='many': expected a whole number, 0 or more"),
        (["DURABLE_DURABILITY=fast"], "DURABLE_DURABILITY='fast': expected 'power' or 'process'"),
        (["task_default_retry_delay_seconds", "=", "[1,", "10"], "='[1, 10': expected seconds"),
        (["on_interrupt=retry"], "set DURABLE_ON_INTERRUPT in the environment, not in a file"),
        (["resume=7f3a91c"], "expected 'auto', 'never' or 'require'"),
        (["log_prints="], "log_prints='': expected true or false"),
        (["log_prints"], "expected NAME=VALUE, found 'log_prints'"),
        (["log_prints=true", "DURABLE_LOG_PRINTS=false"], "log_prints is given twice"),
        (["journal=\udcff"], "expected values that are text"),
        ([], "Missing argument 'NAME=VALUE...'"),
    ],
)
@pytest.mark.parametrize("others", [[], ["progress=false"]])
def test_a_mistake_is_told_and_nothing_is_written(user, words, told, others):
    if not words and others:
        return
    ended = user.config("set", *others, *words)
    assert ended.code == 2 and told in ended.err and not ended.out
    assert "Traceback" not in ended.err and not user.file.exists()


def test_it_says_when_something_else_decides(user):
    (user.folder / "pyproject.toml").write_text("[tool.durable]\ntask_default_retries = 5\n")
    ended = user.config("set", "log_prints=true", "task_default_retries=1", DURABLE_LOG_PRINTS="0")
    assert ended.code == 0
    assert "but here DURABLE_LOG_PRINTS decides: log_prints is false" in ended.err
    assert f"but here {user.folder / 'pyproject.toml'} decides: task_default_retries is 5" in ended.err


# Unsetting


def test_unset_says_what_was_not_set(user):
    user.config("set", "log_prints=true", "progress=false")
    ended = user.config("unset", "DURABLE_PROGRESS", "task_default_retries")
    assert ended.code == 0
    assert f"progress is no longer set in {user.file}" in ended.err
    assert f"task_default_retries was not set in {user.file}" in ended.err
    assert user.said() == ["log_prints = true"]


def test_unset_without_a_file_makes_none(user):
    ended = user.config("unset", "progress")
    assert ended.code == 0 and "was not set" in ended.err
    assert not user.file.parent.exists()


def test_unset_refuses_a_name_that_is_nowhere_and_mends_a_file_with_one(user):
    assert user.config("unset", "retries").code == 2
    user.write("log_prints = true\nretries = 3\n")
    ended = user.config("set", "progress=false")
    assert ended.code == 2 and "unknown setting 'retries'" in ended.err
    assert user.config("view").code == 2
    assert user.config("unset", "retries").code == 0
    assert user.said() == ["log_prints = true"]
    assert user.config("view").code == 0


# The file


def test_comments_and_order_stay(user):
    user.write("# mine\nprogress = false  # quiet\n\n  'log_prints' = true\n# end")
    user.config("set", "log_prints=false", "task_default_retries=1")
    assert user.file.read_text() == (
        "# mine\nprogress = false  # quiet\n\nlog_prints = false\n# end\ntask_default_retries = 1\n"
    )
    user.config("unset", "progress")
    assert user.file.read_text() == "# mine\n\nlog_prints = false\n# end\ntask_default_retries = 1\n"


@pytest.mark.parametrize(
    "text",
    [
        "task_default_retry_delay_seconds = [\n  1,\n  2,\n]\nprogress = false\n",
        'journal = """\nlog_prints = 1\n.db"""\nprogress = false\n',
        "progress = false\r\nlog_prints = false\r\n",
    ],
)
def test_a_file_that_lines_cannot_be_replaced_in_is_written_anew(user, text):
    user.write(text)
    before = user.shown()
    user.config("set", "task_default_retry_delay_seconds=[3]", "log_prints=true")
    after = user.shown()
    assert after["task_default_retry_delay_seconds"] == ([3], "user file")
    assert after["log_prints"] == (True, "user file")
    for name in ("journal", "progress"):
        assert after[name] == before[name]


@pytest.mark.parametrize("text", ["progress = ", "progress = 3\n", "[table]\nprogress = true\n"])
def test_a_file_with_a_mistake_is_told_and_left_alone(user, text):
    user.write(text)
    ended = user.config("set", "log_prints=true")
    assert ended.code == 2 and str(user.file) in ended.err
    assert user.file.read_text() == text


def test_a_file_with_more_than_settings_is_left_to_its_owner(user):
    text = "progress = [\n  true,\n]\n[[other]]\nday = 2026-11-23\n"
    user.write(text)
    ended = user.config("unset", "progress")
    assert ended.code == 2 and "edit it by hand" in ended.err
    assert user.file.read_text() == text


def test_a_link_stays_a_link_and_the_mode_stays(user):
    kept = user.folder / "dotfiles.toml"
    kept.write_text("progress = false\n")
    kept.chmod(0o640)
    user.file.parent.mkdir(parents=True)
    user.file.symlink_to(kept)
    user.config("set", "log_prints=true")
    assert user.file.is_symlink() and stat.S_IMODE(kept.stat().st_mode) == 0o640
    assert kept.read_text() == "progress = false\nlog_prints = true\n"
    assert [path.name for path in user.folder.glob(".*")] == []


def test_processes_that_set_at_once_all_succeed(user):
    words = [f"{name}=true" for name, row in SETTINGS.items() if row.default is False]
    words += [f"{name}=1" for name in SETTINGS if name.endswith("_retries")]
    started = [user.start("config", "set", word) for word in words]
    for process in started:
        _, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
    assert sorted(user.said()) == sorted(word.replace("=", " = ") for word in words)


def test_a_folder_that_cannot_be_made_is_told(user):
    (user.folder / "config").write_text("a file")
    ended = user.config("set", "log_prints=true")
    assert ended.code == 2 and "cannot be written" in ended.err and "Traceback" not in ended.err


# Showing


def test_view_shows_every_setting_and_who_says_so(user):
    user.config("set", "task_default_retries=1", "flow_default_retries=2", "journal=a b.db")
    (user.folder / "pyproject.toml").write_text("[tool.durable]\nflow_default_retries = 3\n")
    ended = user.config("view", DURABLE_TASKS_REFRESH_CACHE="1")
    assert ended.code == 0 and not ended.err
    lines = {line.split()[0]: line.split(maxsplit=1)[1] for line in ended.out.splitlines()}
    assert list(lines) == list(SETTINGS)
    assert lines["journal"] == f'"a b.db"  user file {user.file}'
    assert lines["task_default_retries"].split(maxsplit=1) == ["1", f"user file {user.file}"]
    assert lines["flow_default_retries"].split(maxsplit=1) == ["3", f"pyproject {user.folder / 'pyproject.toml'}"]
    assert lines["task_refresh_cache"].split() == ["true", "environment", "DURABLE_TASKS_REFRESH_CACHE"]
    assert lines["thread_pool_max_workers"].split() == ["-", "default"]


def test_view_as_json_tells_all_there_is_to_tell(user):
    document = json.loads(user.config("view", "--json", DURABLE_LOG_PRINTS="yes").out)
    assert document["user_file"] == str(user.file)
    assert [row["name"] for row in document["settings"]] == list(SETTINGS)
    (row,) = [row for row in document["settings"] if row["name"] == "log_prints"]
    assert row == {
        "name": "log_prints",
        "value": True,
        "default": False,
        "source": "environment",
        "where": "DURABLE_LOG_PRINTS",
        "variables": ["DURABLE_LOG_PRINTS"],
        "about": SETTINGS["log_prints"].about,
    }


def test_view_tells_a_mistake_and_where_it_is(user):
    assert "DURABLE_LOG_PRINTS='maybe'" in user.config("view", DURABLE_LOG_PRINTS="maybe").err
    (user.folder / "pyproject.toml").write_text("[tool.durable]\nretries = 3\n")
    ended = user.config("view")
    assert ended.code == 2 and f"{user.folder / 'pyproject.toml'}: [tool.durable] unknown setting" in ended.err


def test_nothing_from_a_file_reaches_the_terminal_raw(user):
    user.write('journal = "\\u001b[31mred\\u007f.db"\n')
    ended = user.config("view")
    assert ended.code == 0 and "\x1b" not in ended.out and "\x7f" not in ended.out and "red" in ended.out


# What is loaded


@pytest.mark.parametrize(
    ("words", "there", "not_there"),
    [
        (["config", "view"], {"durable.cli.config"}, {"durable.cli.inspect", "filelock", "sqlite_utils"}),
        (["inspect", "none.db"], {"durable.cli.inspect"}, {"durable.cli.config", "tomllib", "tomli"}),
        (["--version"], set(), {"durable.cli.config", "durable.cli.inspect"}),
    ],
)
def test_a_command_loads_no_other(user, words, there, not_there):
    code = (
        f"import sys\nfrom durable.cli import main\ntry: main({words!r})\nexcept SystemExit: pass\n"
        "print(*sys.modules, file=sys.stderr)"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(durable.__file__).parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], cwd=user.folder, env=env, capture_output=True, text=True)
    loaded = set(done.stderr.split())
    assert there <= loaded and not not_there & loaded


def test_every_command_is_there_and_has_help():
    runner = CliRunner()
    assert runner.invoke(cli, ["nothing"]).exit_code == 2
    for words in ([], ["inspect"], ["config"], ["config", "set"], ["config", "unset"], ["config", "view"]):
        shown = runner.invoke(cli, [*words, "--help"])
        assert shown.exit_code == 0 and "Usage:" in shown.output, words


# Any value, there and back

NAMES = {
    "journal": st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
        lambda text: text == text.strip()
    ),
    "durability": st.sampled_from(["power", "process"]),
    "resume": st.sampled_from(["auto", "never", "require"]),
    "logging_level": st.sampled_from(["DEBUG", "INFO", "CRITICAL"]),
    "log_prints": st.booleans(),
    "progress": st.booleans(),
    "task_default_retries": st.integers(0),
    "task_default_retry_delay_seconds": st.one_of(
        st.integers(0, 10**300),
        st.floats(0, allow_nan=False, allow_infinity=False),
        st.lists(st.floats(0, 1e300) | st.integers(0, 10**9), max_size=50),
    ),
    "thread_pool_max_workers": st.integers(1),
    "concurrency_limits": st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
        st.integers(1, 10**18)
        | st.fixed_dictionaries(
            {"limit": st.integers(1, 10**18)}, optional={"slot_decay_per_second": st.floats(0, 1e300)}
        ),
    ),
}
SOME = st.fixed_dictionaries({}, optional=NAMES)


def as_text(value):
    return value if isinstance(value, str) else json.dumps(value) if isinstance(value, dict) else toml(value)


@example(before={"journal": '\x7f\x01\u2028\\"'}, changes={"progress": False}, gone=set(), spaced=False)
@given(before=SOME, changes=SOME, gone=st.sets(st.sampled_from(sorted(NAMES))), spaced=st.booleans())
def test_what_is_set_is_what_is_found_and_what_is_unset_is_the_default(before, changes, gone, spaced):
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", folder)
        patch.chdir(folder)
        runner, expected = CliRunner(), {}
        for wanted in (before, changes):
            words = []
            for name, value in wanted.items():
                text = as_text(value)
                apart = spaced and "=" not in text and not text.startswith("-")
                words += [name, "=", text] if apart else [f"{name}={text}"]
            if words:
                ended = runner.invoke(cli, ["config", "set", *words])
                assert ended.exit_code == 0, (ended.output, ended.exception)
                expected |= wanted
        for name in NAMES:
            found = lookup(name)
            assert found.source == ("user file" if name in expected else "default")
            assert found.value == expected.get(name, SETTINGS[name].default)
            assert type(found.value) is type(expected.get(name, SETTINGS[name].default))
        if gone:
            assert runner.invoke(cli, ["config", "unset", *gone]).exit_code == 0
        for name in NAMES:
            assert lookup(name).source == ("user file" if name in expected.keys() - gone else "default")
    settings.refresh()


WORD = st.text("ab1,.-", min_size=1)
VALUE = WORD | st.lists(WORD, min_size=1).map(lambda words: f"[{' '.join(words)}]")


@given(st.lists(st.tuples(st.from_regex(r"[a-z_]+", fullmatch=True), VALUE)), st.data())
def test_assignments_are_found_whether_blanks_stand_around_their_signs_or_not(pairs, data):
    words = []
    for name, value in pairs:
        parts = value.split()
        forms = [[f"{name}={value}"], [f"{name}=", *parts], [name, "=", *parts], [name, f"={parts[0]}", *parts[1:]]]
        words += data.draw(st.sampled_from(forms))
    assert assignments(words) == pairs


@pytest.mark.parametrize("words", [["a=1", "b"], ["a", "b=1"], ["a=x", "y"], ["a", "=", "[1]", "2"], ["=", "1"]])
def test_a_word_that_belongs_to_no_value_is_refused(words):
    with pytest.raises(Stopped, match="expected NAME=VALUE"):
        assignments(words)
