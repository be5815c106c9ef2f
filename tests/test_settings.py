"""Where a setting comes from: every source, in the order that is promised, and what each refuses."""

import asyncio
import itertools
import os
import subprocess
import sys
import threading
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pytest
from scripts import Script, query

from durable import ConfigurationError, configure, flow, settings, task, temporary_settings
from durable.cache_policies import DEFAULT, INPUTS, TASK_SOURCE
from durable.settings import SETTINGS, lookup, setting
from durable.settings.userfile import toml

ROOT = Path(__file__).resolve().parent.parent

# Setting -> a value that is not the default, and how the environment says it.
OTHER = {
    "journal": ("/elsewhere/other.db", "/elsewhere/other.db"),
    "durability": ("process", "process"),
    "resume": ("never", " Never "),
    "on_interrupt": ("retry", "retry"),
    "logging_level": ("DEBUG", "debug"),
    "log_prints": (True, "1"),
    "task_default_retries": (3, "3"),
    "task_default_retry_delay_seconds": ([1, 2.5], "[1, 2.5]"),
    "flow_default_retries": (4, " 4 "),
    "flow_default_retry_delay_seconds": (0.5, "0.5"),
    "task_refresh_cache": (True, "true"),
    "task_disable_caching": (True, "YES"),
    "progress": (False, "off"),
    "thread_pool_max_workers": (7, "7"),
    "concurrency_limits": (
        {"github-api": 5, 'a b/ü"': {"limit": 30, "slot_decay_per_second": 0.5}},
        '{"github-api": 5, "a b/ü\\"": {"limit": 30, "slot_decay_per_second": 0.5}}',
    ),
}
DEFAULTS = {name: 2 if row.default is None else row.default for name, row in SETTINGS.items()}
SOURCES = ["temporary", "configured", "environment", "pyproject", "user file"]  # highest first


class Place:
    """A user and a project of a test's own: their files, and the working directory, two folders into the project."""

    def __init__(self, folder, monkeypatch):
        self.project, self.monkeypatch = folder / "project", monkeypatch
        self.pyproject = self.project / "pyproject.toml"
        self.user = folder / "config" / "durable" / "config.toml"
        self.below = self.project / "src" / "deep"
        self.below.mkdir(parents=True)
        self.user.parent.mkdir(parents=True)
        monkeypatch.setenv("XDG_CONFIG_HOME", str(folder / "config"))
        monkeypatch.chdir(self.below)
        monkeypatch.setattr(settings, "_configured", {})

    def write(self, path, text):
        path.write_text(text, encoding="utf-8")
        settings.refresh()

    def say(self, source, name, value):
        """Set one setting in one source; gives what is to be entered for it to count."""
        match source:
            case "temporary":
                return temporary_settings({name: value})
            case "configured":
                configure(**{name: value})
            case "environment":
                text = OTHER[name][1] if value == OTHER[name][0] else str(value)
                self.monkeypatch.setenv(SETTINGS[name].variables[0], text)
            case "pyproject":
                self.write(self.pyproject, f"[project]\nname = 'x'\n[tool.durable]\n{name} = {toml(value)}\n")
            case "user file":
                self.write(self.user, f"{name} = {toml(value)}\n")
        return nullcontext()


@pytest.fixture
def place(tmp_path, monkeypatch):
    yield Place(tmp_path, monkeypatch)
    monkeypatch.undo()
    settings.refresh()


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


# What the settings do


def test_default_retries_of_tasks_and_flows_are_taken_at_decoration(place, clock):
    place.write(
        place.pyproject, "[tool.durable]\ntask_default_retries = 2\nflow_default_retry_delay_seconds = [1, 5]\n"
    )
    place.write(place.user, "flow_default_retries = 3\ntask_default_retry_delay_seconds = 7\n")
    of_task, of_flow = (kind(lambda: 1).definition.options.retries for kind in (task, flow))
    assert (of_task.count, of_task.delays) == (2, (7.0,))
    assert (of_flow.count, of_flow.delays) == (3, (1.0, 5.0))
    for kind in (task, flow):
        own = kind(retries=0, retry_delay_seconds=9)(lambda: 1).definition.options.retries
        assert (own.count, own.delays) == (0, (9.0,))


def test_a_flow_is_retried_as_often_as_the_settings_say(place, journal, clock):
    configure(flow_default_retries=2, flow_default_retry_delay_seconds=[1, 10])
    calls = []

    @flow
    def job():
        calls.append(1)
        assert len(calls) == 3

    job()
    assert clock.slept == [1, 10]


@pytest.mark.parametrize(
    ("of_setting", "of_flow", "of_task", "flow_logs", "task_logs"),
    [
        (None, None, None, False, False),
        (True, None, None, True, True),
        (True, False, None, False, False),
        (True, False, True, False, True),
        (True, None, False, True, False),
        (False, True, None, True, True),
        (False, None, True, False, True),
    ],
)
def test_log_prints_is_the_tasks_then_the_flows_then_the_setting(
    place, journal, caplog, capsys, of_setting, of_flow, of_task, flow_logs, task_logs
):
    caplog.set_level("INFO", "durable")

    @task(log_prints=of_task)
    def inner():
        print("by the task")

    @flow(log_prints=of_flow)
    def job():
        print("by the flow")
        inner()

    with temporary_settings({"log_prints": of_setting}):
        job()
    printed, logged = capsys.readouterr().out, [record.getMessage() for record in caplog.records]
    assert ("by the flow" in logged, "by the task" in logged) == (flow_logs, task_logs)
    assert ("by the flow" in printed, "by the task" in printed) == (not flow_logs, not task_logs)


@pytest.mark.parametrize("option", [None, False])
def test_a_task_outside_of_flows_logs_its_prints_as_the_setting_says(place, journal, caplog, option):
    caplog.set_level("INFO", "durable")
    with temporary_settings({"log_prints": True}):
        task(log_prints=option)(lambda: print("here"))()
    assert ("here" in caplog.text) is (option is None)


@pytest.mark.parametrize(
    ("said", "option", "runs"),
    [
        ({}, None, 1),
        ({"task_refresh_cache": True}, None, 2),
        ({"task_refresh_cache": True}, False, 1),
        ({}, True, 2),
        ({"task_disable_caching": True}, None, 2),
        ({"task_disable_caching": True}, False, 2),
    ],
)
def test_a_memo_is_looked_up_unless_the_task_or_a_setting_says_not_to(place, journal, said, option, runs):
    ran = []
    memo = task(cache_policy=INPUTS, refresh_cache=option)(lambda x: ran.append(x) or len(ran))
    assert memo(1) == 1
    with temporary_settings(said):
        assert memo(1) == runs
    assert len(ran) == runs
    # What was recorded meanwhile is the memo from then on.
    assert memo.with_options(refresh_cache=False)(1) == runs


@pytest.mark.parametrize("policy", [DEFAULT, DEFAULT + TASK_SOURCE, INPUTS])
@pytest.mark.parametrize("name", ["task_disable_caching", "task_refresh_cache"])
def test_without_caching_a_resumed_run_still_keeps_what_it_completed(place, journal, policy, name):
    ran, broken = [], [True]
    step = task(cache_policy=policy)(lambda x: ran.append(x) or x)

    @flow
    def job():
        first = step(1)
        assert not broken
        return first + step(2)

    with temporary_settings({name: True}):
        with pytest.raises(AssertionError):
            job()
        broken.clear()
        assert job() == 3
    assert ran == [1, 2]


def test_a_killed_script_resumes_with_caching_disabled(tmp_path):
    script = Script(tmp_path)
    script.write("""
        from durable.cache_policies import INPUTS

        @task
        def step(i):
            ran("step", i)
            return i

        @task(cache_policy=INPUTS)
        def memo(i):
            ran("memo", i)
            return i

        @flow
        def job():
            for i in range(3):
                step(i), memo(i)
                die(f"after {i}")

        job()
    """)
    script.killed("after 1", DURABLE_TASKS_DISABLE_CACHING="1")
    assert script.ran() == ["step 0", "memo 0", "step 1", "memo 1"]
    script.ok(DURABLE_TASKS_DISABLE_CACHING="1")
    assert script.ran() == ["step 2", "memo 2"]
    script.ok(DURABLE_TASKS_DISABLE_CACHING="1")
    assert script.ran() == ["step 0", "memo 0", "step 1", "memo 1", "step 2", "memo 2"]
    script.ok()
    assert script.ran() == ["step 0", "step 1", "step 2"]


@pytest.mark.parametrize("source", ["configured", "pyproject", "user file"])
@pytest.mark.parametrize(
    ("option", "variable", "runs"),
    [(None, None, 2), ("auto", None, 1), (None, "auto", 1), ("auto", "never", 2), ("require", "never", 1)],
)
def test_resume_that_lasts_is_a_default_and_the_environment_overrules(
    place, journal, monkeypatch, source, option, variable, runs
):
    monkeypatch.chdir(place.below)
    broken = [True]

    @flow
    def job():
        assert not broken

    with pytest.raises(AssertionError):
        job()
    broken.clear()
    place.say(source, "resume", "never")
    if variable:
        monkeypatch.setenv("DURABLE_RESUME", variable)
    job.with_options(resume=option)()
    assert len(query(place.below / "runs.db", "SELECT id FROM flow_runs")) == runs


def test_a_run_named_for_a_block_is_continued(place, journal):
    broken = [True]

    @flow(resume="never")
    def job():
        assert not broken

    with pytest.raises(AssertionError):
        job()
    ((run,),) = query(journal, "SELECT id FROM flow_runs")
    broken.clear()
    with temporary_settings({"resume": run[:9].upper()}):
        job()
    assert query(journal, "SELECT state FROM flow_runs") == [("Completed",)]


def test_a_script_takes_its_journal_and_level_from_its_project_and_its_users_file(tmp_path):
    script = Script(tmp_path)
    (tmp_path / "pyproject.toml").write_text("[tool.durable]\njournal = 'var.db'\n")
    (tmp_path / "config" / "durable").mkdir(parents=True)
    (tmp_path / "config" / "durable" / "config.toml").write_text("logging_level = 'debug'\nlog_prints = true\n")
    script.write("""
        os.mkdir("below"); os.chdir("below")

        @task
        def shout():
            print("loud")

        @flow
        def job():
            shout()

        job()
    """)
    ended = script.run()
    assert ended.code == 0, ended.err
    assert (tmp_path / "var.db").exists() and not ended.out
    assert "loud" in ended.err and "DEBUG" in ended.err


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
