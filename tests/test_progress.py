"""Progress: one line on a real terminal that spoils nothing, log lines without one, and nothing where nobody looks."""

import fcntl
import os
import re
import select
import shlex
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest
from scripts import DEADLINE, finish, read_until

from durable.counts import Counts
from durable.progress import Shown
from durable.runners.tally import Tally
from durable.states import Completed, Failed

ON_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
# Shown from the first moment, and redrawn all the time.
AT_ONCE = "import durable.progress as shown\nshown.APPEARS = 0.0\nshown.TICK = 0.002\nshown.LOGGED = 0.002\n"
DRAWN = re.compile(r"\r\x1b\[K([^\r\n]+)")


class Terminal:
    """A script that runs on a terminal of its own, and what it wrote there."""

    def __init__(self, script, *command, width=100, **env):
        self.ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
        self.written = ""
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *(command or (sys.executable, "job.py"))],
            cwd=script.folder,
            env=script.environment(**{"TERM": "xterm", "NO_COLOR": "1", **env}),
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.process.kill()
        self.process.wait()
        os.close(self.ours)

    def read(self):
        """Read what there is; False at the end."""
        if not select.select([self.ours], [], [], 0.05)[0]:
            return True
        try:
            found = os.read(self.ours, 65536)
        except OSError:
            return False
        self.written += found.decode()
        return bool(found)

    def until(self, pattern):
        """Read until `pattern` was written."""
        deadline = time.monotonic() + DEADLINE
        while not (found := re.search(pattern, self.written)):
            assert self.read() and time.monotonic() < deadline, self.written
        return found

    def finish(self):
        deadline = time.monotonic() + DEADLINE
        while self.read():
            assert time.monotonic() < deadline, self.written
        return self.process.wait(DEADLINE)

    def screen(self):
        """What stands on the screen: only what this program uses of a terminal is understood."""
        lines, row, column = [""], 0, 0
        for word in re.findall(r"\x1b\[K|\r|\n|.", self.written):
            if word == "\r":
                column = 0
            elif word == "\n":
                row += 1
                lines.append("")
            elif word == "\x1b[K":
                lines[row] = lines[row][:column]
            else:
                lines[row] = lines[row][:column].ljust(column) + word + lines[row][column + 1 :]
                column += 1
        return lines

    def drawn(self):
        return DRAWN.findall(self.written)


JOB = f"""
{AT_ONCE}
@task
def step(n):
    if n == 2: raise ValueError("two")
    if n >= 4: signal_files("half")
    return n

@flow
def job():
    futures = step.map(range(6))
    for future in futures: future.wait()
    return [future.state.name for future in futures]

print(job())
"""


def test_a_line_tells_done_cached_failed_and_what_there_will_be_and_goes_away(script):
    script.write(JOB)
    with Terminal(script) as terminal:
        terminal.until(r"job [a-z]+-[a-z]+  4/6 done \(0 cached, 1 failed\)")
        script.go("half")
        assert terminal.finish() == 0
        screen = terminal.screen()
    assert terminal.drawn() and not [line for line in screen if " done (" in line]
    assert screen[-2].startswith("['Completed', 'Completed', 'Failed'"), screen
    assert [line[25:31] for line in screen[:-2]] == ["durabl", "Flow r"]
    assert all(line.count("|") == 2 for line in screen[:-2])


RESUMED = f"""
{AT_ONCE}
@task
def step(n): return n

@flow
def job():
    for n in range(10): step(n)
    if asked("first"): raise ValueError
    signal_files("half")

job()
"""


def test_what_was_recorded_counts_as_cached(script):
    script.write(RESUMED)
    script.run(DIE="first")
    with Terminal(script) as terminal:
        terminal.until(r"10 done \(10 cached, 0 failed\)")
        script.go("half")
        assert terminal.finish() == 0


PRINTING = f"""
{AT_ONCE}
import logging, subprocess, threading, warnings
@task
def step(n):
    print("line", n)
    sys.stderr.write(f"error line {{n}}\\n")
    print("two", end=" ", flush=True); time.sleep(0.005); print("parts", n)
    durable.get_run_logger().warning("logged %s", n)
    return n

@flow
def job():
    signal_files("begin")
    for n in range(60): step(n)
    signal_files("end")

import durable
if os.environ.get("OWN"):
    logging.basicConfig(format="own %(message)s", level="WARNING")
job()
print("bye")
print(type(sys.stdout.write).__name__, type(sys.stderr.write).__name__)
"""


@pytest.mark.parametrize("own", ["", "1"])
def test_the_line_spoils_nothing_that_is_written_meanwhile(script, own):
    script.write(PRINTING)
    with Terminal(script, OWN=own) as terminal:
        terminal.until(r"0 done")
        script.go("begin")
        terminal.until(r"60 done")
        script.go("end")
        assert terminal.finish() == 0
        screen = terminal.screen()
    assert not [line for line in screen if " done (" in line]
    expected = [line for n in range(60) for line in (f"line {n}", f"error line {n}", f"two parts {n}", f"logged {n}")]
    found = [re.sub(r"^(own|.* - )(?= ?logged) ?", "", line) for line in screen]
    assert [line for line in found if line in set(expected)] == expected
    assert found[-3:] == ["bye", "builtin_function_or_method builtin_function_or_method", ""], "all is as it was"


@pytest.mark.parametrize("colour", ["sync", "async"])
def test_ctrl_c_leaves_no_line_behind(script, colour):
    text = f"""
{AT_ONCE}
@flow
DEF job():
    for _ in range(1000):  # a signal that comes just before a long wait begins is seen when that has ended
        AWAIT SLEEP(0.05)

RUN(job())
"""
    plain = {"DEF ": "def ", "AWAIT ": "", "SLEEP": "time.sleep", "RUN(": "("}
    coloured = {"DEF ": "async def ", "AWAIT ": "await ", "SLEEP": "asyncio.sleep", "RUN(": "asyncio.run("}
    for word, meant in (plain if colour == "sync" else coloured).items():
        text = text.replace(word, meant)
    script.write(text)
    with Terminal(script) as terminal:
        terminal.until(r"0 done")
        os.write(terminal.ours, b"\x03")
        assert terminal.finish() != 0
        screen = terminal.screen()
    assert not [line for line in screen if " done (" in line]
    assert screen[-2] == "KeyboardInterrupt"
    assert any("Crashed" in line and line.count("|") == 2 for line in screen)


def test_a_line_is_cut_at_the_edge_of_the_terminal(script):
    script.write(f"{AT_ONCE}\n@flow(name='a' * 200)\ndef job(): signal_files('half')\njob()\n")
    with Terminal(script, width=40) as terminal:
        terminal.until(r"aaaa…")
        script.go("half")
        assert terminal.finish() == 0
    assert {len(line) for line in terminal.drawn() if line.startswith("aaa")} == {39}


def test_a_flow_of_a_moment_draws_nothing(script):
    script.write("import durable.progress as shown\nshown.APPEARS = 1e6\n@flow\ndef job(): time.sleep(0.05)\njob()\n")
    with Terminal(script) as terminal:
        assert terminal.finish() == 0
    assert "\x1b" not in terminal.written


QUIET = f"{AT_ONCE}\n@flow\ndef job():\n    time.sleep(0.1)\n    return 1\nif __name__ == '__main__': BODY\n"


@pytest.mark.parametrize(
    ("body", "env"),
    [
        ("job()", {"DURABLE_PROGRESS": "0"}),
        ("job()", {"TERM": "dumb"}),
        ("sys.stderr.close(); job(); print('Completed')", {"DURABLE_LOGGING_LEVEL": "ERROR"}),
        ("sys.stderr = None; job(); print('Completed')", {}),
        ("from durable import configure; configure(progress=False); job()", {}),
        ("os.fork() or (job(), os._exit(0)); os.wait()", {}),
        ("import multiprocessing as m; p = m.get_context('spawn').Process(target=job); p.start(); p.join()", {}),
    ],
)
def test_nothing_is_drawn_where_it_is_not_wanted_nor_in_workers(script, body, env):
    script.write(QUIET.replace("BODY", body))
    with Terminal(script, **env) as terminal:
        assert terminal.finish() == 0
    assert "Completed" in terminal.written and "\x1b" not in terminal.written


def test_a_job_in_the_background_of_its_terminal_draws_nothing(script):
    script.write(QUIET.replace("BODY", "job()"))
    with Terminal(script, "/bin/sh", "-c", f"set -m; {shlex.quote(sys.executable)} job.py & wait $!") as terminal:
        assert terminal.finish() == 0
    assert "Completed" in terminal.written and "\x1b" not in terminal.written


LOGGED = f"""
{AT_ONCE}
@task
def step(n): return n

@flow
def job():
    step(1)
    deadline = time.monotonic() + 60
    while not os.path.exists("go") and time.monotonic() < deadline: time.sleep(0.005)

job()
"""


def test_without_a_terminal_a_log_line_tells_it_now_and_then(script):
    script.write(LOGGED)
    process = script.start()
    told = read_until(process, "1 done").splitlines(keepends=True)[-1]
    (script.folder / "go").touch()
    assert finish(process).code == 0
    assert re.fullmatch(
        r"[\d:.]+ \| INFO    \| Flow run '[a-z-]+' - 1 done \(0 cached, 0 failed\)(, [\d.]+/\w+)?\n", told
    )


@pytest.mark.parametrize("off", [True, False])
def test_without_a_terminal_nothing_is_written_but_lines_and_none_if_it_is_off(script, off):
    script.write(LOGGED.replace("while not os", "while time.monotonic() < deadline - 59.9 or not os"))
    process = script.start(**({"DURABLE_PROGRESS": "0"} if off else {}))
    told = "" if off else read_until(process, " done (")
    (script.folder / "go").touch()
    told += process.stderr.read()
    assert finish(process).code == 0 and "\x1b" not in told and "\r" not in told
    assert (" done (" in told) is not off


FORKING = """
import os, time
threads = []
def count():  # a thread that has been joined is the kernel's for a moment longer
    deadline = time.monotonic() + 60
    while (there := len(os.listdir("/proc/self/task"))) > 1 and time.monotonic() < deadline:
        time.sleep(0.001)
    threads.append(there)
os.register_at_fork(after_in_parent=count)  # registered before durable's, and so called before it
import threading
from durable import flow

@flow
def job():
    before = [thread.name for thread in threading.enumerate()]
    if os.fork() == 0:
        os._exit(0)
    os.wait()
    print(before, threads, [thread.name for thread in threading.enumerate()])

job()
"""


def test_the_thread_that_draws_never_crosses_a_fork(script):
    (script.folder / "job.py").write_text(FORKING)
    assert script.ok() == "['MainThread', 'durable-progress'] [1] ['MainThread', 'durable-progress']"


# The counts and the text


class Runner:
    def __init__(self):
        self.tally = Tally()


class Run:
    def __init__(self):
        self.counts = Counts()


def state(kind):
    return kind(message="")


def test_two_threads_that_count_are_both_counted():
    counts = Counts()

    def body():
        for number in range(20_000):
            counts.count(executed=number % 2 == 0, failed=number % 4 == 0)

    threads = [threading.Thread(target=body) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts.seen() == (80_000, 40_000, 20_000)


def test_the_rate_is_that_of_the_last_seconds_and_the_time_left_follows_from_it():
    run, runner = Run(), Runner()
    run.counts.runners.add(runner)
    shown = Shown(run, 0.0, 1.0)
    assert shown.told(1.0) == "0 done (0 cached, 0 failed)"
    runner.tally.announce(1000, 1)
    for second in range(1, 101):
        for _ in range(10 if second <= 50 else 2):
            run.counts.count(executed=True, failed=False)
            runner.tally.submitted += 1
            runner.tally.count(state(Completed), executed=True)
        told = shown.told(float(second))
    assert told == "600/1000 done (0 cached, 0 failed), 2.0/s, 3m20s left"


def test_without_a_known_number_there_is_no_time_left():
    run, runner = Run(), Runner()
    run.counts.runners.add(runner)
    shown = Shown(run, 0.0, 1.0)
    runner.tally.announce(None, 1)
    for _ in range(5):
        runner.tally.submitted += 1
    runner.tally.count(state(Failed), executed=True)
    run.counts.count(executed=True, failed=True)
    assert shown.told(120.0) == "1 done (0 cached, 1 failed), 30/h"
    runner.tally.announce(None, -1)
    assert shown.told(120.0) == "1/5 done (0 cached, 1 failed), 30/h, 8m00s left"


def test_a_runner_that_is_gone_leaves_no_trace_in_the_rate():
    run = Run()
    shown = Shown(run, 0.0, 1.0)
    for number in range(20):  # subflows, one after the other
        runner = Runner()
        run.counts.runners.add(runner)
        for _ in range(10):
            runner.tally.submitted += 1
            runner.tally.count(state(Completed), executed=True)
            run.counts.count(executed=True, failed=False)
        runner.tally.announce(10, 1)
        told = shown.told(10.0 * (number + 1))
        del runner
    assert told == "200/210 done (0 cached, 0 failed), 1.0/s, 10.0 s left"


def test_calls_that_are_not_submitted_are_counted_and_have_no_end_in_sight():
    run = Run()
    for _ in range(7):
        run.counts.count(executed=False, failed=False)
    shown = Shown(run, 0.0, 1.0)
    for _ in range(3):
        run.counts.count(executed=True, failed=False)
    assert shown.told(60.0) == "3 done (0 cached, 0 failed), 3/min", "what an earlier attempt did is not counted"
