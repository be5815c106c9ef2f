"""A failure of tools/prove gives a command that fails again; what cannot be done here is said."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import durable

TOOLS = Path(__file__).parents[1] / "tools"
needs_compiler = pytest.mark.skipif(
    not sys.platform.startswith("linux") or not any(map(shutil.which, ("cc", "gcc", "clang"))),
    reason="tools/prove needs Linux and a C compiler",
)


def prove(*words, **environment):
    path = os.pathsep.join([str(TOOLS), str(Path(durable.__file__).parents[1])])
    return subprocess.run(
        [sys.executable, "-m", "proof", *words],
        env=os.environ | {"PYTHONPATH": path} | environment,
        capture_output=True,
        text=True,
        check=False,
    )


@needs_compiler
def test_a_failure_gives_one_command_that_fails_again():
    failed = prove("--only", "kill/sync", "--mutant", "a result is committed before its caller has it")
    assert failed.returncode == 1, failed
    (found,) = re.findall("^VIOLATED: .*", failed.stderr, re.MULTILINE)
    assert "was acknowledged, and the journal does not have it" in found
    (again,) = re.findall("^Again: tools/prove (.*)", failed.stderr, re.MULTILINE)
    repeated = prove(*shlex.split(again))
    assert repeated.returncode == 1, repeated
    assert found in repeated.stderr


@needs_compiler
def test_a_part_of_the_second_kills_notices_and_is_named():
    failed = prove("--only", "kill/sync", "--pairs", "3/100", "--mutant", "a completed task is replayed")
    assert failed.returncode == 1, failed
    (second,) = re.search(r"VIOLATED: kill/sync: Case\(first=\d+, second=(\d+)", failed.stderr).groups()
    assert int(second) % 100 == 3
    assert "--pairs 3/100" in failed.stderr


@needs_compiler
@pytest.mark.parametrize("part", ["0/3", "4/3", "2", "x/3", "1/0"])
def test_a_part_that_there_is_not_is_refused(part):
    refused = prove("--only", "kill/sync", "--pairs", part)
    assert refused.returncode == 2
    assert f"'{part}': expected a part of all, such as 2/6" in refused.stderr


@needs_compiler
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_ended_by_a_signal_it_leaves_nothing(tmp_path, how):
    path = os.pathsep.join([str(TOOLS), str(Path(durable.__file__).parents[1])])
    with (tmp_path / "said").open("w") as said:
        proof = subprocess.Popen(
            [sys.executable, "-m", "proof", "--soak", "600", "--only", "kill/sync"],
            env=os.environ | {"PYTHONPATH": path, "TMPDIR": str(tmp_path)},
            stdout=said,
            stderr=said,
        )
    end = time.monotonic() + 120
    while not list(tmp_path.glob("proof-*/case/work/runs.db")):
        assert time.monotonic() < end
        assert proof.poll() is None, (tmp_path / "said").read_text()
        time.sleep(0.01)
    proof.send_signal(how)
    assert proof.wait(120) == 128 + how, (tmp_path / "said").read_text()
    assert [file.name for file in tmp_path.iterdir()] == ["said"]


@needs_compiler
def test_the_table_says_what_was_tried_and_with_which_seed():
    done = prove("--only", "kill/durable backup", "--seed", "7")
    assert done.returncode == 0, done
    assert re.search(
        r"^\| kill -9: durable backup \(\d+ calls\) \| \d+ \| \d+ \| 0 \| 0 \| 0 \|$", done.stdout, re.MULTILINE
    )
    assert re.search(r"^\d+ cases, \d+ faults in \d+ s, seed 7: nothing violated$", done.stdout, re.MULTILINE)


def test_without_a_compiler_it_says_so_and_fails_in_a_way_that_can_be_told(tmp_path):
    done = prove("--quick", PATH=str(tmp_path))
    assert done.returncode == 5
    assert "needs Linux and a C compiler" in done.stderr


@needs_compiler
def test_a_proof_or_a_promise_that_is_none_is_refused_with_those_there_are():
    done = prove("--only", "kill/everything")
    assert done.returncode == 2
    assert "kill/sync" in done.stderr
    done = prove("--only", "kill/sync", "--mutant", "nothing")
    assert done.returncode != 0
    assert "a result is synced" in done.stderr
