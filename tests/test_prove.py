"""A failure of tools/prove gives a command that fails again; what cannot be done here is said."""

import os
import re
import shlex
import shutil
import subprocess
import sys
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
