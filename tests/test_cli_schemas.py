"""Every document of a read command is what schema/cli says, and schema/cli says nothing that no command does."""

import json

import pytest
from commands import command, documented, lived, task_run, told, wrong

from durable.journal import schema

SCREENS = {
    "inspect": [[], ["0"], ["1", "--all"], ["2"], ["4"], ["outside"], ["TASK"], ["0", "TASK"]],
    "why": [["0"], ["1"], ["2", "--all"], ["3"], ["4"], ["0", "load"], ["1", "--with", "0"]],
    "diff": [["0", "1"], ["1", "0", "--all"], ["2", "3"], ["0", "0"], ["0", "4"]],
    "result": [["0"], ["TASK"], ["0", "TASK"], ["FAILED"]],
    "plan": [["0"], ["2"], ["4"], ["4", "--all"]],
}


@pytest.fixture(scope="module")
def history(tmp_path_factory):
    folder = tmp_path_factory.mktemp("history")
    ids = lived(folder)
    journal = folder / "runs.db"
    words = {str(number): run for number, run in enumerate(ids)}
    words["TASK"] = task_run(journal, ids[0], "load", shard=3)
    words["FAILED"] = task_run(journal, ids[2], "load", shard=3)
    return journal, words


@pytest.mark.parametrize(("name", "words"), [(name, words) for name, all_ in SCREENS.items() for words in all_])
def test_what_a_command_prints_is_documented(history, capsys, name, words):
    journal, known = history
    document = json.loads(told(capsys, name, journal, *(known.get(word, word) for word in words), "--json"))
    assert not wrong(document, documented(f"{name}.schema.json")), document


def test_the_validator_sees_what_is_wrong():
    rule = documented("result.schema.json")
    good = {"schema": 1, "journal": "x", "kind": "task", "run": "0", "name": "t", "state": "Completed",
            "format": "durable", "bytes": 1, "value": {"any": 1}, "yielded": []}  # fmt: skip
    assert not wrong(good, rule)
    for bad in ({"schema": 2}, {"kind": "other"}, {"bytes": True}, {"bytes": "1"}, {"more": 1}, {"yielded": [{}]}):
        assert wrong({**good, **bad}, rule), bad
    assert wrong({name: value for name, value in good.items() if name != "run"}, rule)


def test_every_schema_is_of_a_command_and_every_command_names_its(capsys):
    names = {path.name.removesuffix(".schema.json") for path in (schema.FOLDER / "cli").glob("*.json")}
    assert names >= {"common", *SCREENS}
    for name in sorted(names - {"common"}):
        code, out, _ = command(capsys, name, "--help")
        assert code == 0 and f"schema/cli/{name}.schema.json" in out.replace("\n", ""), name
