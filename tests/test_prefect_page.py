"""Every code sample of the Prefect page this project was started from runs with one import changed: see tests/page.

Requests go through httpx to a server of the test's own; nothing waits, for the time is injected, except where a sample
sleeps itself.
"""

import datetime as dt
import json
import re
import runpy
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from scripts import FakeClock, histories, query

import durable
from durable.states import AWAITING_RETRY

PAGE = Path(__file__).parent / "page"
SAMPLES = sorted(PAGE.glob("*.py"))
OPEN_ISSUES = 250
REST = "(rest of code follows)"


class Github(BaseHTTPRequestHandler):
    """What the samples ask for."""

    def do_GET(self):
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        with self.server.lock:
            self.server.asked.append(self.path)
            status = self.server.answers.pop(0) if self.server.answers else 200
        if url.path.startswith("/status/"):
            status = int(url.path.rpartition("/")[2])
        if url.path.endswith("/issues"):
            page, size = int(query["page"]), int(query["per_page"])
            numbers = range((page - 1) * size, min(page * size, OPEN_ISSUES))
            body = [{"number": number, "user": {"id": number % 110}} for number in numbers]
        else:
            body = {"stargazers_count": 12157, "forks_count": 1251, "open_issues_count": OPEN_ISSUES}
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Github)
    httpd.lock, httpd.asked, httpd.answers = threading.Lock(), [], []
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


class Sample:
    """One sample, to be run as a script is, and what came of it."""

    def __init__(self, folder, server, journal):
        self.folder, self.server, self.journal = folder, server, journal
        server.asked.clear()
        server.answers.clear()

    def text(self, number):
        (file,) = PAGE.glob(f"{number:02d}_*.py")
        text = file.read_text(encoding="utf-8")
        address = f"http://127.0.0.1:{self.server.server_port}"
        return re.sub(r"https://(api\.github\.com|api\.brittle-service\.com|httpbin\.org)", address, text)

    def run(self, number, text=None, name="__main__"):
        """Run a sample, or `text` in its place; its names."""
        file = self.folder / "sample.py"
        file.write_text(text or self.text(number), encoding="utf-8")
        return runpy.run_path(str(file), run_name=name)

    def names(self):
        return [name for (name,) in query(self.journal, "SELECT name FROM task_runs ORDER BY task_run_row")]


@pytest.fixture
def sample(tmp_path, server, journal, clock, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    for part in ("connect", "read", "write", "pool"):  # 5 seconds: the server is a thread of a busy machine
        monkeypatch.setattr(httpx._config.DEFAULT_TIMEOUT_CONFIG, part, 60.0)
    return Sample(tmp_path, server, journal)


def test_every_sample_is_tried_here():
    here = Path(__file__).read_text(encoding="utf-8")
    tried = {int(number) for number in re.findall(r"sample\.(?:run|text)\((\d+)", here)}
    assert tried == {int(file.name[:2]) for file in SAMPLES} == set(range(1, 22))
    for file in SAMPLES:
        assert "prefect" not in file.read_text(encoding="utf-8").replace("PrefectHQ/prefect", "").lower().replace(
            "prefect will", ""
        )


def test_01_a_flow_with_one_task(sample, caplog):
    with caplog.at_level("INFO", "durable"):
        sample.run(1)
    said = [record.getMessage() for record in caplog.records]
    assert "PrefectHQ/prefect repository statistics 🤓:" in said
    assert "Stars 🌠 : 12157" in said
    assert "Forks 🍴 : 1251" in said
    assert [line for line in said if line.startswith("Finished in state Completed(")]
    assert sample.server.asked == ["/repos/PrefectHQ/prefect"]
    assert histories(sample.journal, "get_url") == [["Running", "Completed"]]
    (flow,) = query(sample.journal, "SELECT flow, state FROM flow_runs")
    assert flow == ("get-repo-info", "Completed")
    printed = [record for record in caplog.records if "Stars" in record.getMessage()]
    assert [record.flow_run is not None and record.task_run is None for record in printed] == [True]


def test_01_its_log_looks_like_the_pages(sample, tmp_path, script):
    script.write("", name="unused.py")
    (script.folder / "get_repo_info.py").write_text(sample.text(1), encoding="utf-8")
    ended = script.run(name="get_repo_info.py", DURABLE_LOGGING_LEVEL="DEBUG")
    assert ended.code == 0, ended.err
    lines = [line for line in ended.err.splitlines() if " | " in line]
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} \| (INFO   |DEBUG  ) \| ", line) for line in lines)
    assert re.search(r"INFO    \| Flow run '[^']+' - Stars 🌠 : 12157", ended.err)
    assert re.search(r"DEBUG   \| Task run 'get_url-[0-9a-f]{3}' - Finished in state Completed\(\)", ended.err)


def test_01_it_is_retried_as_it_says(sample, clock):
    sample.server.answers[:] = [500, 502]
    sample.run(1)
    assert clock.slept == [5, 5]
    assert len(sample.server.asked) == 3
    flows = query(sample.journal, "SELECT s.state FROM states s WHERE s.run_kind = 'flow run' ORDER BY s.seq")
    assert [state for (state,) in flows] == [
        *("Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"),
    ]


def test_02_a_synchronous_function(sample, capsys):
    sample.run(2)
    assert capsys.readouterr().out == "Hello, I'm a task\n"
    assert histories(sample.journal, "print_message") == [["Running", "Completed"]]


def test_03_an_asynchronous_function(sample, capsys):
    sample.run(3)
    assert capsys.readouterr().out == "Hello, I'm an async task\n"
    assert histories(sample.journal, "print_message") == [["Running", "Completed"]]


def test_04_methods(sample):
    sample.run(4)
    for name in ("my_instance_method", "my_class_method", "my_static_method"):
        assert histories(sample.journal, name) == [["Running", "Completed"]]


def test_05_a_generator_whose_values_others_consume(sample, capsys):
    sample.run(5)
    assert capsys.readouterr().out == "".join(f"{number}\n" for number in range(10))
    assert histories(sample.journal, "generator") == [["Running", "Completed"]]
    assert len(histories(sample.journal, "consumer")) == 10
    parents = query(
        sample.journal,
        "SELECT DISTINCT u.task FROM dependencies d JOIN task_runs u ON u.id = d.upstream_task_run_id "
        "JOIN task_runs t ON t.id = d.task_run_id WHERE t.task = 'consumer'",
    )
    assert parents == [("generator",)]
    assert query(sample.journal, "SELECT count(*) FROM dependencies") == [(10,)]


def test_06_a_generator_that_is_returned_is_consumed(sample, capsys):
    assert sample.run(6)["f"]() == [1, 2, 3]
    assert capsys.readouterr().out == "Generator consumed!\n" * 2


def test_07_a_generator_that_is_yielded_is_not(sample, capsys):
    text = sample.text(7)
    before, last = text.rsplit("list(generator)", 1)
    sample.run(7, before)
    assert capsys.readouterr().out == ""
    sample.run(7, before + "list(generator)" + last)
    assert capsys.readouterr().out == "Generator consumed!\n"


def test_08_requests_one_after_the_other(sample, capsys, caplog):
    with caplog.at_level("INFO", "durable"):
        sample.run(8)
    said = [record.getMessage() for record in caplog.records]
    assert "Average open issues per user 💌 : 2.27" in said
    assert sample.server.asked == [
        "/repos/PrefectHQ/prefect",
        *(f"/repos/PrefectHQ/prefect/issues?page={page}&per_page=100&state=open" for page in (1, 2, 3)),
    ]


def test_08_what_was_asked_within_an_hour_is_not_asked_again(sample, clock):
    sample.run(8)
    asked = len(sample.server.asked)
    sample.run(8)
    assert len(sample.server.asked) == asked
    states = query(sample.journal, "SELECT state, count(*) FROM task_runs GROUP BY state ORDER BY state")
    assert states == [("Cached", asked), ("Completed", asked)]
    clock.sleep(3600)
    sample.run(8)
    assert len(sample.server.asked) == 2 * asked


def test_09_requests_at_once(sample, caplog):
    """The page puts this function in place of the one before."""
    whole = sample.text(8)
    start, end = whole.index("def get_open_issues"), whole.index("@flow(")
    with caplog.at_level("INFO", "durable"):
        sample.run(9, whole[:start] + sample.text(9) + "\n\n" + whole[end:])
    assert "Average open issues per user 💌 : 2.27" in [record.getMessage() for record in caplog.records]
    assert sorted(sample.server.asked)[1:] == [
        f"/repos/PrefectHQ/prefect/issues?page={page}&per_page=100&state=open" for page in (1, 2, 3)
    ]
    workers = query(sample.journal, "SELECT worker IS NOT NULL FROM task_runs ORDER BY task_run_row")
    assert [worker for (worker,) in workers] == [0, 1, 1, 1]


def test_10_a_name_and_a_description(sample):
    my_task = sample.run(10, "from durable import task\n\n\n" + sample.text(10))["my_task"]
    assert (my_task.name, my_task.description) == ("hello-task", "This task says hello.")
    my_task()
    assert query(sample.journal, "SELECT task FROM task_runs") == [("hello-task",)]


def test_11_a_run_name_from_a_template(sample):
    sample.run(11)
    today = dt.datetime.now(dt.timezone.utc)
    yesterday = today - dt.timedelta(days=1)
    assert sample.names() in [[f"hello-marvin-on-{day:%A}"] for day in (today, yesterday)]


def test_12_a_run_name_from_a_function(sample):
    sample.run(12)
    today = dt.datetime.now(dt.timezone.utc)
    yesterday = today - dt.timedelta(days=1)
    assert sample.names() in [[f"{day:%A}-is-a-lovely-day"] for day in (today, yesterday)]


def test_13_a_run_name_from_the_runtime(sample):
    # The page forgets one import.
    sample.run(13, "from durable import task\n" + sample.text(13))["my_flow"](name="marvin")
    assert sample.names() == ["my-flow-my-example-task-with-marvin-and-100"]


def test_14_tags_of_a_task(sample):
    my_task = sample.run(14, "from durable import task\n\n\n" + sample.text(14))["my_task"]
    assert my_task.tags == {"test"}
    seen = []
    my_task.on_completion(lambda task, run, state: seen.append(run.tags))
    my_task()
    assert seen == [{"test"}]


def test_15_tags_of_a_call(sample):
    sample.run(15)
    assert query(sample.journal, "SELECT t.tags FROM task_run AS t") == [('["test"]',)]


def test_16_a_timeout(sample, capsys, caplog):
    show_timeouts = sample.run(16)["show_timeouts"]
    with caplog.at_level("INFO", "durable"), pytest.raises(TimeoutError, match=r"exceeded timeout of 1.0 second"):
        show_timeouts()
    said = [record.getMessage() for record in caplog.records]
    assert "I will execute" in said
    assert "I will not execute" not in said
    assert histories(sample.journal, "show_timeouts") == [["Running", "TimedOut"]]
    assert query(sample.journal, "SELECT state_type FROM task_runs") == [("FAILED",)]


def test_17_retries(sample, clock):
    sample.server.answers[:] = [503, 500]
    sample.run(17)
    assert clock.slept == [5, 5]
    assert histories(sample.journal, "get_data_task") == [
        ["Running", "AwaitingRetry", "Retrying", "AwaitingRetry", "Retrying", "Completed"]
    ], "one task run, with its history"


def test_17_retries_that_are_not_enough(sample, clock):
    sample.server.answers[:] = [503, 500, 502]
    with pytest.raises(httpx.HTTPStatusError, match="502"):
        sample.run(17)
    assert clock.slept == [5, 5], "and none after the last attempt"
    assert histories(sample.journal, "get_data_task")[0][-1] == "Failed"


def failing(text):
    """A sample whose body the page leaves out: it fails."""
    assert REST in text
    return text.replace(f"   {REST}", '    raise ValueError("again")')


def test_18_delays_from_a_list(sample, clock):
    some_task = sample.run(18, failing(sample.text(18)))["some_task_with_manual_backoff_retries"]
    with pytest.raises(ValueError):
        some_task()
    assert clock.slept == [1, 10, 100]


@pytest.mark.parametrize(("status", "attempts"), [(503, 2), (500, 2), (401, 1), (404, 1)])
def test_19_a_condition(sample, status, attempts):
    with pytest.raises(httpx.HTTPStatusError, match=str(status)):
        sample.run(19, sample.text(19).replace("/status/503", f"/status/{status}"))
    assert len(sample.server.asked) == attempts


def test_19_a_condition_that_sees_no_answer(sample):
    text = re.sub(r"127\.0\.0\.1:\d+", "127.0.0.1:1", sample.text(19))
    with pytest.raises(httpx.ConnectError):
        sample.run(19, text)
    (history,) = histories(sample.journal, "my_api_call_task")
    assert AWAITING_RETRY.name not in history
    assert "Retrying" not in history


def test_20_delays_that_double(sample, clock):
    some_task = sample.run(20, failing(sample.text(20)))["some_task_with_exponential_backoff_retries"]
    with pytest.raises(ValueError):
        some_task()
    assert clock.slept == [10, 20, 40]


def test_21_jitter(sample, clock):
    """Prefect 3 takes the option and ignores it: here the delays differ, and their bounds are the page's."""
    text = failing(sample.text(21)).replace("\n)\n\n\ndef ", "\n)\ndef ")
    some_task = sample.run(21, text)["some_task_with_exponential_backoff_retries"]
    seen = []
    for _ in range(20):
        clock.slept.clear()
        with pytest.raises(ValueError):
            some_task()
        assert len(clock.slept) == 3
        assert all(0 < slept <= most for slept, most in zip(clock.slept, (20, 40, 80), strict=True))
        seen.append(tuple(clock.slept))
    assert len(set(seen)) == 20


def test_22_global_defaults(tmp_path, script):
    """``durable config set``, as the page writes it, spaces and all."""

    def durable_config(*words):
        done = subprocess.run(
            [sys.executable, "-m", "durable", "config", *words],
            cwd=script.folder,
            env={"PYTHONPATH": script.package, "XDG_CONFIG_HOME": str(script.folder / "config")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr

    durable_config("set", "DURABLE_TASK_DEFAULT_RETRIES=2")
    durable_config(*"set DURABLE_TASK_DEFAULT_RETRY_DELAY_SECONDS = [1, 10, 100]".split())
    script.write(
        """
    @task
    def by_default():
        pass

    @task(retries=0, retry_delay_seconds=7)
    def told():
        pass

    for each in (by_default, told):
        print(each.definition.options.retries.count, each.definition.options.retries.delays)
    """
    )
    assert script.ok().splitlines() == ["2 (1.0, 10.0, 100.0)", "0 (7.0,)"]


def test_the_clock_of_these_tests_is_not_the_machines(clock):
    assert isinstance(clock, FakeClock)
    assert durable.clock.clock() is clock
