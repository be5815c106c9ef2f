"""Logs: readable without any set-up, the application's as soon as it configures logging, free when nobody listens."""

import logging
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import query

from durable import cache_policies, configure, flow, get_run_logger, logs, settings, task
from durable.errors import ConfigurationError
from durable.journal import close_journals
from durable.spoken import spoken

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
    r"\d\d:\d\d:\d\d\.\d{3} \| (DEBUG  |INFO   |WARNING|ERROR  ) \| "
    r"(Flow run '.+?'|Task run '.+?'|durable(?:\.engine)?) - (.*)"
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
    said = [(line[1].strip(), re.sub(r"step-[0-9a-f]{3}'", "step-ID'", line[2]), line[3]) for line in lines]
    name = re.fullmatch(r"Created flow run '([a-z]+-[a-z]+)' for flow 'job'", said[0][2])[1]
    assert said == [
        ("INFO", "durable.engine", f"Created flow run {name!r} for flow 'job'"),
        (
            "WARNING",
            "Task run 'step-ID'",
            "Task run failed with exception: ValueError('flaky') - Retry 1/1 will start immediately",
        ),
        ("INFO", f"Flow run {name!r}", "Finished in state Completed()"),
    ]


def test_a_program_that_configures_logging_gets_them_its_own_way_and_once(run):
    setup = 'logging.basicConfig(format="MINE %(name)s %(message)s", level=logging.INFO, stream=sys.stdout)'
    done = run(setup)
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines and all(line.startswith("MINE durable.") for line in lines)
    assert sum("Created flow run" in line for line in lines) == 1


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
    assert "Created flow run" in done.stdout


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


def test_a_record_names_its_flow_run_and_task_run(collected, tmp_path):
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
    begun, retried, ended = collected
    assert [record.name for record in collected] == ["durable.engine", "durable.task_runs", "durable.flow_runs"]
    assert [(record.flow_name, record.task_name) for record in collected] == [
        ("job", None),
        ("job", "step"),
        ("job", None),
    ]
    for record in collected:
        assert record.flow_run == spoken(bytes.fromhex(record.flow_run_id))
        assert record.flow_run_id == ended.flow_run_id
    assert begun.task_run is begun.task_run_id is ended.task_run is ended.task_run_id is None
    assert retried.task_run == f"step-{retried.task_run_id[:3]}"
    rows = query(tmp_path / "runs.db", "SELECT r.id, t.id FROM flow_runs AS r JOIN task_runs AS t USING (flow_run_row)")
    assert rows == [(retried.flow_run_id, retried.task_run_id)]
    assert not [name for name in vars(retried) if "scope" in name], "no record keeps a run alive"


def test_a_task_outside_of_a_flow_has_a_record_without_one(collected):
    seen = []

    @task(retries=1)
    def step():
        if not seen:
            seen.append(1)
            raise ValueError

    step()
    (record,) = [record for record in collected if record.name == "durable.task_runs"]
    assert (record.flow_run, record.flow_run_id, record.flow_name) == (None, None, None)
    assert (record.task_run[:5], record.task_name, len(record.task_run_id)) == ("step-", "step", 32)


# The lines of the page


def test_a_record_has_its_attributes_in_a_program_that_executes_no_flow():
    """A command that writes to a journal, say: it imports nothing that knows of runs."""
    code = """
import logging, sys
from durable.journal import opening
logging.basicConfig(format="%(flow_run)s %(flow_run_id)s %(flow_name)s %(task_run)s %(task_run_id)s %(task_name)s")
opening.root_log.warning("a word")
assert "durable.runs" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "None None None None None None\n"


def told(records):
    """What stands in a log: level, place and message; ids shortened to what is shown of them."""
    return [(record.levelname, logs._origin(record), record.getMessage()) for record in records]


def test_the_lines_of_a_run_are_prefects(collected):
    logging.getLogger("durable").setLevel("DEBUG")

    @task(task_run_name="{url}")
    def get_url(url):
        get_run_logger().info("fetching")
        return 12157

    @task(cache_policy=cache_policies.INPUTS)
    def stars(n):
        return n

    @flow(flow_run_name="great-ammonite", log_prints=True)
    def get_repo_info():
        print("Stars:", stars(get_url("get_url-0")))
        stars(12157)

    get_repo_info()
    flow_run = "Flow run 'great-ammonite'"
    first, second = [record.task_run for record in collected if record.task_name == "stars"]
    assert told(collected) == [
        ("INFO", "durable.engine", "Created flow run 'great-ammonite' for flow 'get-repo-info'"),
        ("DEBUG", flow_run, "Created task run 'get_url-0' for task 'get_url'"),
        ("DEBUG", flow_run, "Executing 'get_url-0' immediately..."),
        ("INFO", "Task run 'get_url-0'", "fetching"),
        ("DEBUG", "Task run 'get_url-0'", "Finished in state Completed()"),
        ("DEBUG", flow_run, f"Created task run {first!r} for task 'stars'"),
        ("DEBUG", flow_run, f"Executing {first!r} immediately..."),
        ("DEBUG", f"Task run {first!r}", "Finished in state Completed()"),
        ("INFO", flow_run, "Stars: 12157"),
        ("DEBUG", flow_run, f"Created task run {second!r} for task 'stars'"),
        ("DEBUG", f"Task run {second!r}", "Finished in state Cached(type=COMPLETED)"),
        ("INFO", flow_run, "Finished in state Completed()"),
    ]


def test_what_is_submitted_is_told_so(collected):
    logging.getLogger("durable").setLevel("DEBUG")

    @task(task_run_name="get_url-{n}")
    def get_url(n):
        return n

    @flow(flow_run_name="intrepid-coua")
    def job():
        return get_url.submit(1).result()

    assert job() == 1
    assert told(collected)[1:-1] == [
        ("DEBUG", "Flow run 'intrepid-coua'", "Created task run 'get_url-1' for task 'get_url'"),
        ("DEBUG", "Flow run 'intrepid-coua'", "Submitted task run 'get_url-1' for execution."),
        ("DEBUG", "Task run 'get_url-1'", "Finished in state Completed()"),
    ]


def test_what_is_called_in_a_body_is_told_by_the_run_of_that_body(collected):
    logging.getLogger("durable").setLevel("DEBUG")

    @task(task_run_name="in")
    def inner():
        pass

    @flow(flow_run_name="below")
    def subflow():
        inner()

    @task(task_run_name="out")
    def outer():
        subflow()

    @flow(flow_run_name="above")
    def job():
        outer()
        subflow()

    job()
    begun = [line for line in told(collected) if line[2].startswith("Created")]
    assert begun == [
        ("INFO", "durable.engine", "Created flow run 'above' for flow 'job'"),
        ("DEBUG", "Flow run 'above'", "Created task run 'out' for task 'outer'"),
        ("INFO", "Task run 'out'", "Created subflow run 'below' for flow 'subflow'"),
        ("DEBUG", "Flow run 'below'", "Created task run 'in' for task 'inner'"),
        ("INFO", "Flow run 'above'", "Created subflow run 'below' for flow 'subflow'"),
        ("DEBUG", "Flow run 'below'", "Created task run 'in' for task 'inner'"),
    ]
    collected.clear()
    outer()
    lines = told(collected)
    assert lines[0] == ("DEBUG", "durable.engine", "Created task run 'out' for task 'outer'")
    assert ("INFO", "durable.engine", "Created flow run 'below' for flow 'subflow'") in lines


def test_retries_are_told_before_the_wait_and_their_end_is_an_error(collected, clock):
    @task(retries=2, retry_delay_seconds=[5, 0], task_run_name="t")
    def step():
        raise ValueError("two\nlines")

    @flow(retries=1, retry_delay_seconds=1.5, flow_run_name="f")
    def job():
        step()

    with pytest.raises(ValueError, match="two"):
        job()
    failed = "failed with exception: ValueError('two\\nlines') - "
    of_task = [
        ("WARNING", "Task run 't'", f"Task run {failed}Retry 1/2 will start 5 second(s) from now"),
        ("WARNING", "Task run 't'", f"Task run {failed}Retry 2/2 will start immediately"),
        ("ERROR", "Task run 't'", f"Task run {failed}Retries are exhausted"),
    ]
    assert told(collected) == [
        ("INFO", "durable.engine", "Created flow run 'f' for flow 'job'"),
        *of_task,
        ("WARNING", "Flow run 'f'", f"Flow run {failed}Retry 1/1 will start 1.5 second(s) from now"),
        *of_task,
        ("ERROR", "Flow run 'f'", f"Flow run {failed}Retries are exhausted"),
        ("ERROR", "Flow run 'f'", "Finished in state Failed('ValueError: two')"),
    ]


def test_an_exception_that_cannot_be_shown_is_told_by_its_type(collected):
    class Shy(Exception):
        def __repr__(self):
            raise RuntimeError

    @task(retries=1)
    def step():
        raise Shy

    with pytest.raises(Shy):
        step()
    assert [line[2].split(" - ")[0] for line in told(collected)] == ["Task run failed with exception: Shy"] * 2


def test_a_task_that_fails_without_retries_says_nothing_and_raises(collected):
    @task
    def step():
        raise ValueError

    with pytest.raises(ValueError):
        step()
    assert collected == []


def test_a_resumed_run_is_told_by_its_id_and_its_tasks_keep_their_names(collected):
    fails, logger = [True], logging.getLogger("durable")

    @task(task_run_name=lambda: "mine" if fails[0] else "another")
    def step():
        if fails[0]:
            raise KeyboardInterrupt

    @flow
    def job():
        step()

    with pytest.raises(KeyboardInterrupt):
        job()
    run = collected[0].flow_run_id
    collected.clear()
    fails[0] = False
    logger.setLevel("DEBUG")
    job()
    flow_run = f"Flow run {spoken(bytes.fromhex(run))!r}"
    assert re.fullmatch(
        rf"resuming job {run[:7]}, begun today .*: 0 tasks restored, .* saved", collected[0].getMessage()
    )
    assert told(collected)[1:] == [
        ("DEBUG", flow_run, "Executing 'mine' immediately..."),
        ("DEBUG", "Task run 'mine'", "Finished in state Completed()"),
        ("INFO", flow_run, "Finished in state Completed()"),
    ]


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
