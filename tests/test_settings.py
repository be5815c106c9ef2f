"""Where a setting comes from: every source, in the order that is promised, and what each refuses."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest
from places import OTHER

from durable import ConfigurationError, configure, flow, settings, task, temporary_settings
from durable.settings import SETTINGS, lookup, setting

ROOT = Path(__file__).resolve().parent.parent
DEFAULTS = {name: 2 if row.default is None else row.default for name, row in SETTINGS.items()}
SOURCES = ["temporary", "configured", "environment", "pyproject", "user file"]  # highest first


def allowed(source, name):
    return SETTINGS[name].kept is not None or source in ("temporary", "environment")


# Sources and their order


def test_the_table_of_this_test_is_complete():
    assert OTHER.keys() == SETTINGS.keys()
    assert all(OTHER[name][0] != row.default for name, row in SETTINGS.items())


@pytest.mark.parametrize("name", SETTINGS)
def test_nothing_set_is_the_default(place, name):
    assert lookup(name) == (SETTINGS[name].default, "default", "")


@pytest.mark.parametrize(("source", "name"), [pair for pair in itertools.product(SOURCES, SETTINGS) if allowed(*pair)])
def test_every_source_gives_every_setting(place, source, name):
    with place.say(source, name, OTHER[name][0]):
        found = lookup(name)
    where = {
        "environment": SETTINGS[name].variables[0],
        "pyproject": str(place.pyproject),
        "user file": str(place.user),
    }
    assert found == (OTHER[name][0], source, where.get(source, ""))
    assert type(found.value) is type(OTHER[name][0])


@pytest.mark.parametrize(
    ("higher", "lower", "name"),
    [
        (higher, lower, name)
        for (higher, lower), name in itertools.product(itertools.combinations(SOURCES, 2), SETTINGS)
        if allowed(higher, name) and allowed(lower, name)
    ],
)
@pytest.mark.parametrize("default_wins", [True, False])
def test_the_higher_source_wins_also_with_the_default(place, higher, lower, name, default_wins):
    values = [DEFAULTS[name], OTHER[name][0]]
    if name == "journal":
        values[0] = "/elsewhere/first.db"  # a relative one counts from the pyproject.toml
    wins, loses = values if default_wins else values[::-1]
    with ExitStack() as stack:
        stack.enter_context(place.say(lower, name, loses))
        assert lookup(name)[:2] == (loses, lower)
        stack.enter_context(place.say(higher, name, wins))
        assert lookup(name)[:2] == (wins, higher)


@pytest.mark.parametrize(
    ("name", "variable"), [(name, variable) for name, row in SETTINGS.items() for variable in row.variables]
)
def test_every_spelling_of_a_variable_counts_and_an_empty_one_is_not_set(place, monkeypatch, name, variable):
    monkeypatch.setenv(variable, OTHER[name][1])
    assert lookup(name) == (OTHER[name][0], "environment", variable)
    monkeypatch.setenv(variable, " ")
    assert lookup(name).source == "default"


def test_an_environment_that_was_changed_or_replaced_is_the_one_that_counts(place, monkeypatch):
    assert setting("task_refresh_cache") is False
    monkeypatch.setitem(os.environ, "DURABLE_TASKS_REFRESH_CACHE", "1")
    assert setting("task_refresh_cache") is True
    monkeypatch.delitem(os.environ, "DURABLE_TASKS_REFRESH_CACHE")
    assert setting("task_refresh_cache") is False
    monkeypatch.setattr(os, "environ", {**os.environ, "DURABLE_TASK_REFRESH_CACHE": "1"})
    assert setting("task_refresh_cache") is True


def test_of_two_spellings_durables_own_decides(place, monkeypatch):
    monkeypatch.setenv("DURABLE_TASKS_DEFAULT_RETRIES", "9")
    monkeypatch.setenv("DURABLE_TASK_DEFAULT_RETRIES", "1")
    assert setting("task_default_retries") == 1


# The environment, configure, temporary_settings

BAD = {
    "journal": 3,
    "durability": "POWER",
    "resume": ["never"],
    "on_interrupt": "maybe",
    "logging_level": "LOUD",
    "log_prints": 1,
    "task_default_retries": True,
    "task_default_retry_delay_seconds": [1, -1],
    "flow_default_retries": 1.0,
    "flow_default_retry_delay_seconds": [0] * 51,
    "task_refresh_cache": "yes",
    "task_disable_caching": 0,
    "progress": "on",
    "thread_pool_max_workers": 0,
    "concurrency_limits": {"github-api": 0},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_what_cannot_be_meant_is_refused_with_what_was_expected_and_found(place, name):
    with pytest.raises(ConfigurationError) as caught, temporary_settings({name: BAD[name]}):
        pass
    assert repr(BAD[name]) in str(caught.value) and SETTINGS[name].kind.expected in str(caught.value)
    if SETTINGS[name].kept is not None:
        with pytest.raises(ConfigurationError) as caught:
            configure(**{name: BAD[name]})
        assert f"configure({name}={BAD[name]!r}): expected {SETTINGS[name].kept.expected}" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("task_default_retries", "many"),
        ("task_default_retries", "2.5"),
        ("task_default_retries", "-1"),
        ("task_default_retries", "true"),
        ("task_default_retry_delay_seconds", "[1, 10"),
        ("task_default_retry_delay_seconds", "NaN"),
        ("task_default_retry_delay_seconds", "1e999"),
        ("task_default_retry_delay_seconds", "[" * 100_000),
        ("log_prints", "maybe"),
        ("progress", "2"),
        ("thread_pool_max_workers", "0"),
        ("logging_level", "Level 5"),
        ("concurrency_limits", "5"),
        ("concurrency_limits", '{"": 5}'),
        ("concurrency_limits", '{"a": true}'),
        ("concurrency_limits", '{"a": {"slot_decay_per_second": 1}}'),
        ("concurrency_limits", '{"a": {"limit": 5, "slot_decay_per_second": -1}}'),
        ("concurrency_limits", '{"a": {"limit": 5, "slot_decay": 1}}'),
    ],
)
def test_a_variable_that_cannot_be_meant_is_named(place, monkeypatch, name, text):
    variable = SETTINGS[name].variables[0]
    monkeypatch.setenv(variable, text)
    with pytest.raises(ConfigurationError) as caught:
        setting(name)
    assert str(caught.value) == f"{variable}={text!r}: expected {SETTINGS[name].kind.expected}"


def test_configure_sets_all_or_nothing(place):
    with pytest.raises(ConfigurationError):
        configure(log_prints=True, task_default_retries=-1)
    assert setting("log_prints") is False


def test_configure_takes_every_setting_that_may_last(place):
    import inspect

    assert set(inspect.signature(configure).parameters) == {n for n, row in SETTINGS.items() if row.kept is not None}


def test_a_runs_id_is_for_one_run_of_the_script(place):
    with pytest.raises(ConfigurationError, match="'auto', 'never' or 'require'"):
        configure(resume="7f3a91c")
    with pytest.raises(ConfigurationError, match="'auto', 'never' or 'require'"):
        place.say("user file", "resume", "7f3a91c")
        setting("resume")


def test_temporary_settings_nest_and_end_with_their_block(place):
    with temporary_settings({"DURABLE_TASKS_DEFAULT_RETRIES": 1, "Log_Prints": True}):
        with pytest.raises(ZeroDivisionError), temporary_settings({"task_default_retries": 2}):
            assert (setting("task_default_retries"), setting("log_prints")) == (2, True)
            raise ZeroDivisionError
        assert setting("task_default_retries") == 1
    assert (setting("task_default_retries"), setting("log_prints")) == (0, False)


def test_temporarily_none_is_the_default_whatever_is_set(place, monkeypatch):
    configure(thread_pool_max_workers=3)
    monkeypatch.setenv("DURABLE_RESUME", "never")
    with temporary_settings({"thread_pool_max_workers": None, "resume": None}):
        assert lookup("thread_pool_max_workers") == (None, "default", "")
        assert settings.resume_override() is None


def test_an_unknown_temporary_setting_is_refused_with_those_there_are(place):
    with pytest.raises(ConfigurationError, match="unknown setting 'retries'; there are journal, .*progress"):
        temporary_settings({"retries": 1}).__enter__()


def test_temporary_settings_hold_for_what_the_block_calls_and_nobody_else(place):
    seen = []

    async def one(retries):
        with temporary_settings({"task_default_retries": retries}):
            await asyncio.sleep(0)
            seen.append((retries, setting("task_default_retries")))
            await asyncio.create_task(child(retries))

    async def child(retries):
        seen.append((retries, setting("task_default_retries")))

    async def all_of_them():
        await asyncio.gather(*map(one, range(5)))

    asyncio.run(all_of_them())
    assert len(seen) == 10 and all(retries == found for retries, found in seen)
    with temporary_settings({"task_default_retries": 1}):
        thread = threading.Thread(target=lambda: seen.append(setting("task_default_retries")))
        thread.start()
        thread.join()
    assert seen[-1] == 0


# Files


def test_the_first_pyproject_upwards_is_the_only_one(place):
    place.write(place.pyproject, "[tool.durable]\nlog_prints = true\n")
    assert lookup("log_prints") == (True, "pyproject", str(place.pyproject))
    place.write(place.below.parent / "pyproject.toml", "[project]\nname = 'durable'\n")
    assert lookup("log_prints").source == "default"
    place.write(place.below / "pyproject.toml", "[tool]\ndurable.log_prints = true\n")
    assert lookup("log_prints").where == str(place.below / "pyproject.toml")


def test_a_folder_of_that_name_is_none(place):
    place.write(place.pyproject, "[tool.durable]\nlog_prints = true\n")
    (place.below / "pyproject.toml").mkdir()
    assert setting("log_prints") is True


@pytest.mark.parametrize(("said", "meant"), [("var/runs.db", "{project}/var/runs.db"), ("/a/b.db", "/a/b.db")])
def test_a_projects_journal_counts_from_its_pyproject(place, said, meant):
    place.say("pyproject", "journal", said)
    assert settings.journal_path() == meant.format(project=place.project)


def test_a_users_journal_counts_from_the_working_directory(place):
    place.say("user file", "journal", "var/runs.db")
    assert settings.journal_path() == "var/runs.db"


MISTAKES = [
    ("log_prints = ", ["mistake", "Invalid value"]),
    ("\xff", ["mistake"]),
    ("retries = 1", ["unknown setting 'retries'", "task_default_retries, "]),
    ("DURABLE_LOG_PRINTS = true", ["unknown setting", "log_prints"]),
    ("log_prints = 'true'", ["log_prints = 'true'", "expected true or false"]),
    ("log_prints = 1", ["log_prints = 1", "expected true or false"]),
    ("task_default_retries = 2.0", ["task_default_retries = 2.0", "expected a whole number, 0 or more"]),
    ("task_default_retries = true", ["= True", "expected a whole number"]),
    ("task_default_retry_delay_seconds = inf", ["= inf", "expected seconds"]),
    ("task_default_retry_delay_seconds = [1, '10']", ["'10'", "expected seconds", "list"]),
    ("journal = 2026-11-23", ["expected a path", "date"]),
    ("journal = ''", ["journal = ''", "expected a path"]),
    ("durability = 'fast'", ["'fast'", "'power' or 'process'"]),
    ("logging_level = 'LOUD'", ["'LOUD'", "INFO"]),
    ("resume = '7f3a91c'", ["'7f3a91c'", "'auto', 'never' or 'require'"]),
    ("on_interrupt = 'retry'", ["DURABLE_ON_INTERRUPT", "environment", "one run"]),
    ("thread_pool_max_workers = 0", ["= 0", "1 or more"]),
    ("concurrency_limits = { a = 1.5 }", ["{'a': 1.5}", "expected a table of names and limits"]),
]


@pytest.mark.parametrize("source", ["pyproject", "user file"])
@pytest.mark.parametrize(("line", "told"), MISTAKES, ids=[line for line, _ in MISTAKES])
def test_a_mistake_in_a_file_is_told_with_file_key_expected_and_found(place, source, line, told):
    path, head = (place.pyproject, "[tool.durable]\n") if source == "pyproject" else (place.user, "")
    path.write_bytes((head + line).encode("latin-1"))
    settings.refresh()
    for _ in range(2):  # a mistake is not forgotten
        with pytest.raises(ConfigurationError) as caught:
            setting("progress")
        for words in (str(path), *told):
            assert words in str(caught.value)
    if source == "pyproject" and "mistake" not in told[0]:
        assert "[tool.durable]" in str(caught.value)


@pytest.mark.parametrize("text", ["tool = 'durable'", "[tool]\ndurable = 3", "[[tool.durable]]\nlog_prints = true"])
def test_a_table_that_is_none(place, text):
    place.write(place.pyproject, text)
    if text.startswith("tool ="):
        assert lookup("log_prints").source == "default"
        return
    with pytest.raises(ConfigurationError, match=r"pyproject.toml: \[tool.durable\] expected a table"):
        setting("log_prints")


def test_a_pyproject_that_does_not_know_durable_is_not_even_parsed(place):
    place.write(place.pyproject, "this is no TOML")
    assert lookup("log_prints").source == "default"


def test_a_file_that_cannot_be_read_is_an_error_and_an_argument_does_without_it(place, monkeypatch):
    place.user.mkdir()
    settings.refresh()
    with pytest.raises(ConfigurationError, match="config.toml: expected a file of settings; it cannot be read"):
        setting("log_prints")
    monkeypatch.setenv("DURABLE_LOG_PRINTS", "1")
    assert setting("log_prints") is True


def test_a_relative_xdg_config_home_is_ignored(place, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CONFIG_HOME", "config")
    monkeypatch.setenv("HOME", str(tmp_path / "me"))
    assert settings.user_path() == str(tmp_path / "me" / ".config" / "durable" / "config.toml")
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert settings.user_path() == str(tmp_path / "me" / ".config" / "durable" / "config.toml")


def test_a_changed_file_is_seen_by_the_next_decoration_and_the_next_flow_call(place, journal, monkeypatch):
    monkeypatch.chdir(place.below)
    retries = []

    @flow(retries=0)
    def job():
        place.pyproject.write_text("[tool.durable]\ntask_default_retries = 2\n")
        retries.append(setting("task_default_retries"))

    job()
    assert retries == [0]
    assert task(lambda: 1).definition.options.retries.count == 2
    place.pyproject.write_text("[tool.durable]\ntask_default_retries = 11\n")
    assert setting("task_default_retries") == 2
    job()
    assert retries == [0, 11]
    place.pyproject.unlink()
    assert task(lambda: 1).definition.options.retries.count == 0


def test_another_working_directory_is_another_project(place, monkeypatch, tmp_path):
    place.say("pyproject", "log_prints", value=True)
    assert setting("log_prints") is True
    monkeypatch.chdir(tmp_path)
    assert setting("log_prints") is False
    monkeypatch.chdir(place.project)
    assert setting("log_prints") is True


def test_a_working_directory_that_is_gone_has_no_project(place, monkeypatch, tmp_path):
    place.say("pyproject", "log_prints", value=True)
    place.write(place.user, "progress = false")
    gone = place.below / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert (setting("log_prints"), setting("progress")) == (False, False)


def test_nothing_is_parsed_where_nothing_is_set(place):
    code = (
        "import sys; from durable import flow, task\n@flow\ndef f(): return task(lambda: 1)()\nf()\n"
        "print({'tomllib', 'tomli'} & set(sys.modules))"
    )
    env = {**os.environ, "PYTHONPATH": str(Path(settings.__file__).parent.parent.parent)}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# The documentation


@pytest.mark.skipif(not (ROOT / "tools" / "_settings.py").exists(), reason="needs the repository")
def test_the_page_of_settings_is_current():
    made = subprocess.run(
        [sys.executable, "tools/_settings.py"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(Path(settings.__file__).parent.parent.parent)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    written = (ROOT / "docs" / "settings.md").read_text(encoding="utf-8")
    assert written == made, "run: PYTHONPATH=. python tools/_settings.py > docs/settings.md"
