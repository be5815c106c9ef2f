"""Completion, asked of real shells: commands, files, the runs of the journal on the line and their task runs."""

import os
import shutil
import subprocess
import sys

import pytest
from commands import command, lived, task_run, told
from inspecting import environment, everything


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    ids = lived(folder)
    (folder / "bin").mkdir()
    program = folder / "bin" / "durable"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m durable "$@"\n')
    program.chmod(0o755)
    return folder, ids


def shell(name, folder, script):
    """What a shell prints, with `durable` on its PATH."""
    program = shutil.which(name)
    if program is None:
        pytest.skip(f"no {name} here")
    words = [program, "-fc" if name == "zsh" else "-c", script]
    env = environment(
        PATH=f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", HOME=str(folder), XDG_CONFIG_HOME=str(folder)
    )
    return subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=120)


BASH = """
eval "$(durable completion bash)"
try() {
    COMP_WORDS=("$@"); COMP_CWORD=$(( $# - 1 )); COMPREPLY=()
    _durable_completion durable 2>/dev/null
    printf '%s\\n' "${COMPREPLY[@]}"
}
"""


def bash(folder, *words):
    asked = " ".join(f"'{word}'" for word in ("durable", *words))
    done = shell("bash", folder, f"{BASH}\ntry {asked}")
    if done.returncode and "bash is too old" in done.stderr.lower():
        pytest.skip("this bash is too old")
    return done.stdout.split()


def test_bash_completes_commands_runs_and_tasks(history):
    folder, ids = history
    assert bash(folder, "ins") == ["inspect"]
    assert bash(folder, "inspect", "runs.db", ids[1][:6]) == [ids[1][:12]]
    every = bash(folder, "why", "runs.db", "")
    assert every == ["-", *(id_[:12] for id_ in reversed(ids))]
    task = task_run(folder / "runs.db", ids[0], "load", shard=3)
    assert bash(folder, "inspect", "runs.db", ids[0], task[:8]) == [task[:12]]
    assert bash(folder, "diff", "runs.db", ids[0], ids[1][:6]) == [ids[1][:12]], "not a task: a run again"
    assert bash(folder, "plan", ids[1][:6]) == [ids[1][:12]], "of the default journal"
    assert bash(folder, "inspect", "--exit") == ["--exit-code"]


def test_bash_is_told_nothing_where_there_is_nothing(history):
    folder, _ = history
    for words in (
        ("inspect", "none.db", "4"),
        ("why", "job.py", ""),
        ("inspect", "runs.db", "zz"),
        ("result", "\0", ""),
    ):
        if "\0" not in words:
            done = shell("bash", folder, f"{BASH}\ntry durable {' '.join(map(repr, words))}")
            assert done.stdout.split() == [] and not done.stderr, words


def test_zsh_loads_the_script_and_asks_with_it(history):
    folder, ids = history
    done = shell(
        "zsh", folder, 'autoload -U compinit; compinit -D; eval "$(durable completion zsh)"; echo $_comps[durable]'
    )
    assert done.stdout.split() == ["_durable_completion"] and not done.stderr
    words = f"durable inspect runs.db {ids[1][:6]}"
    done = shell("zsh", folder, f'COMP_WORDS="{words}" COMP_CWORD=3 _DURABLE_COMPLETE=zsh_complete durable')
    kind, value, told_ = done.stdout.splitlines()
    assert (kind, value) == ("plain", ids[1][:12]) and told_.startswith("etl Completed")


def test_fish_completes_runs_with_what_they_are(history):
    folder, ids = history
    done = shell(
        "fish", folder, f'durable completion fish | source; complete -C "durable inspect runs.db {ids[1][:6]}"'
    )
    assert done.stdout.startswith(f"{ids[1][:12]}\tetl Completed")
    done = shell("fish", folder, 'durable completion fish | source; complete -C "durable pl"')
    assert done.stdout.split()[0] == "plan"


@pytest.mark.parametrize("name", ["bash", "zsh", "fish"])
def test_the_script_is_printed_and_its_name_is_ours(capsys, name):
    out = told(capsys, "completion", name)
    assert "_DURABLE_COMPLETE" in out and "durable" in out


def test_another_shell_is_wrong_usage(capsys):
    assert command(capsys, "completion", "tcsh")[0] == 2


def test_completing_changes_nothing_and_imports_nothing_of_the_users(history):
    folder, ids = history
    before = everything(folder)
    bash(folder, "inspect", "runs.db", ids[0], "")
    assert everything(folder) == before
