"""Logs: readable without any set-up, the application's as soon as it configures logging, free when nobody listens."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from durable import configure, flow, logs, settings, task
from durable.errors import ConfigurationError
from durable.journal import close_journals

JOB = """
import logging, sys
from durable import flow, task
{setup}

@task(retries=1)
def step(n, seen=[]):
    if n == 2 and not seen:
        seen.append(1)
        raise ValueError("flaky")
    return n

@flow
def job():
    return [step(n) for n in range(3)]

job()
{after}
"""
LINE = re.compile(
    r"\d\d:\d\d:\d\d\.\d{3} \| (DEBUG  |INFO   |WARNING|ERROR  ) \| (Flow run '.+?'|Task run '.+?'|durable) - (.*)"
)


@pytest.fixture
def run(tmp_path):
    def running(setup="", after="", **environment):
        (tmp_path / "job.py").write_text(JOB.format(setup=setup, after=after))
        return subprocess.run(
            [sys.executable, "job.py"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, [str(Path.cwd()), *sys.path])),
                **environment,
            },
            capture_output=True,
            text=True,
            check=False,
        )

    return running


def test_a_program_that_configures_nothing_reads_them_on_stderr(run):
    done = run()
    assert done.returncode == 0
    assert done.stdout == ""
    lines = [LINE.fullmatch(line) for line in done.stderr.splitlines()]
    assert all(lines), done.stderr
    said = [(line[1].strip(), re.sub(r"[0-9a-f]{3,}'", "ID'", line[2]), line[3]) for line in lines]
    assert said[0][:2] == ("INFO", "Flow run 'job ID'")
    assert said[0][2].startswith("Beginning flow run")
    assert ("WARNING", "Task run 'step-ID'") in [line[:2] for line in said]
    assert any("flaky" in line[2] and "1/1" in line[2] for line in said)
    assert said[-1][2].startswith("Finished in state Completed")


def test_a_program_that_configures_logging_gets_them_its_own_way_and_once(run):
    setup = 'logging.basicConfig(format="MINE %(name)s %(message)s", level=logging.INFO, stream=sys.stdout)'
    done = run(setup)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines and all(line.startswith("MINE durable.") for line in lines)
    assert sum("Beginning flow run" in line for line in lines) == 1


def test_a_program_that_configures_logging_later_takes_over(run):
    after = (
        'print("now", file=sys.stderr)\n'
        'logging.basicConfig(format="MINE %(message)s", level=logging.INFO, stream=sys.stdout)\njob()'
    )
    done = run(after=after)
    assert "now" in done.stderr
    assert done.stderr.splitlines()[-1] == "now", "from here on durable's own handler is silent"
    assert done.stdout and all(line.startswith("MINE ") for line in done.stdout.splitlines())


def test_a_program_that_gave_durables_logger_a_handler_keeps_it(run):
    setup = (
        'handler = logging.StreamHandler(sys.stdout)\nhandler.setFormatter(logging.Formatter("OWN %(message)s"))\n'
        'logging.getLogger("durable").addHandler(handler)\nlogging.getLogger("durable").setLevel("INFO")'
    )
    done = run(setup)
    assert done.stderr == ""
    assert done.stdout and all(line.startswith("OWN ") for line in done.stdout.splitlines())


def test_a_program_that_set_durables_level_is_obeyed(run):
    done = run('logging.getLogger("durable").setLevel(logging.CRITICAL)')
    assert (done.stdout, done.stderr) == ("", "")


def test_stderr_is_looked_up_when_a_line_is_written(run):
    done = run("import io\nbefore, sys.stderr = sys.stderr, io.StringIO()", "sys.stdout.write(sys.stderr.getvalue())")
    assert done.stderr == ""
    assert "Beginning flow run" in done.stdout


@pytest.mark.parametrize(
    ("level", "seen"),
    [
        ("DEBUG", {"DEBUG", "INFO", "WARNING"}),
        ("info", {"INFO", "WARNING"}),
        ("Warning", {"WARNING"}),
        ("ERROR", set()),
    ],
)
def test_the_level_is_taken_from_the_environment(run, level, seen):
    done = run(DURABLE_LOGGING_LEVEL=level)
    assert done.returncode == 0
    assert {LINE.fullmatch(line)[1].strip() for line in done.stderr.splitlines()} == seen


def test_a_level_that_does_not_exist_is_refused_by_name(run):
    done = run(DURABLE_LOGGING_LEVEL="LOUD")
    assert done.returncode != 0
    assert "ConfigurationError: DURABLE_LOGGING_LEVEL='LOUD': expected a level such as INFO or WARNING" in done.stderr


# What a record carries, and what it costs


class Collected(logging.Handler):
    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@pytest.fixture
def collected(tmp_path, monkeypatch):
    """durable's records, at a level the test may choose; its logger as before afterwards."""
    monkeypatch.setattr(settings, "_configured", {})
    configure(journal=tmp_path / "runs.db")
    logger, handler = logging.getLogger("durable"), Collected()
    level, handlers = logger.level, logger.handlers[:]
    logger.handlers[:] = [handler]
    logger.setLevel("INFO")
    yield handler.records
    logger.handlers[:] = handlers
    logger.setLevel(level)
    close_journals()


def test_a_record_names_its_flow_run_and_task_run(collected):
    seen = []

    @task(retries=1)
    def step():
        if not seen:
            seen.append(1)
            raise ValueError

    @flow
    def job():
        step()

    job()
    names = {(record.name, record.flow_run, record.task_run) for record in collected if hasattr(record, "flow_run")}
    ((_, flow_run, _),) = [name for name in names if name[0] == "durable.flow_runs"]
    ((_, of_task, task_run),) = [name for name in names if name[0] == "durable.task_runs"]
    assert re.fullmatch(r"job [0-9a-f]{7}", flow_run)
    assert of_task == flow_run
    assert re.fullmatch(r"step-[0-9a-f]{3}", task_run)


def test_a_task_outside_of_a_flow_has_a_record_without_one(collected):
    seen = []

    @task(retries=1)
    def step():
        if not seen:
            seen.append(1)
            raise ValueError

    step()
    (record,) = [record for record in collected if record.name == "durable.task_runs"]
    assert (record.flow_run, record.task_run[:5]) == (None, "step-")


def test_a_task_costs_no_record_and_no_text_when_nobody_listens(collected, monkeypatch):
    made = []
    factory = logging.getLogRecordFactory()
    monkeypatch.setattr(
        logging, "_logRecordFactory", lambda *args, **kwargs: made.append(args[0]) or factory(*args, **kwargs)
    )
    shown = []

    class Loud(str):
        __slots__ = ()

        def __repr__(self):
            shown.append("repr")
            return "loud"

        __str__ = __format__ = __repr__

    @task(persist_result=False)
    def step(n):
        return Loud("x")

    @flow
    def job(count):
        for n in range(count):
            step(n)

    job(1)
    few = len(made)
    made.clear()
    job(50)
    assert len(made) == few == 2, "a flow's begin and end, whatever it calls"
    assert shown == []
    logging.getLogger("durable").setLevel("DEBUG")
    job(5)
    assert sum(name == "durable.task_runs" for name in made) == 5
    assert shown == [], "not even then is a result shown"


def test_nothing_is_set_up_by_importing(run):
    code = "import logging, durable; print(logging.getLogger('durable').handlers, logging.getLogger('durable').level)"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert said.split() == ["[]", "0"]


def test_a_level_that_does_not_exist_is_a_configuration_error(monkeypatch):
    monkeypatch.setenv("DURABLE_LOGGING_LEVEL", "LOUD")
    monkeypatch.setattr(logs.root_log, "handlers", [])
    monkeypatch.setattr(logs.root_log, "level", logging.NOTSET)
    monkeypatch.setattr(logging.getLogger(), "handlers", [])
    with pytest.raises(ConfigurationError):
        logs.show_by_default()
    assert logs.root_log.handlers == []
