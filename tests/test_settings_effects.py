"""What the settings do: to retries, prints, memos, resumes, and where a script keeps its journal."""

import threading
import time

import pytest
from scripts import Script, query

from durable import configure, flow, task, temporary_settings
from durable.cache_policies import DEFAULT, INPUTS, TASK_SOURCE
from durable.task_runners import ThreadPoolTaskRunner


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


def test_what_the_environment_says_of_memos_holds_for_a_flow_run(place, journal):
    ran = []
    memo = task(cache_policy=INPUTS)(lambda x: ran.append(x) or len(ran))

    @flow
    def job():
        first = memo(1)
        place.monkeypatch.setenv("DURABLE_TASK_REFRESH_CACHE", "1")
        second = memo(1)
        with temporary_settings({"task_disable_caching": True}):
            return first, second, memo(1)

    assert job() == (1, 1, 2)
    assert memo(1) == 3  # of no flow run: looked at in every call
    assert job() == (4, 5, 6)


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


@pytest.mark.parametrize("given", [{}, {"task_runner": ThreadPoolTaskRunner}, {"task_runner": ThreadPoolTaskRunner(2)}])
def test_a_pool_that_does_not_say_has_as_many_threads_as_the_setting(place, journal, given):
    configure(thread_pool_max_workers=3)
    workers = set()

    @task
    def step(n):
        workers.add(threading.get_ident())
        time.sleep(0.02)

    @flow(**given)
    def job():
        step.map(range(12)).wait()

    job()
    assert len(workers) == (2 if isinstance(given.get("task_runner"), ThreadPoolTaskRunner) else 3)
