"""What the commands that act print with --json is what schema/cli says."""

import json
import re
from importlib import import_module
from pathlib import Path

import pytest
from operating import durable
from scripts import Script

from durable.journal import schema

TYPES = {"object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
         "null": type(None)}  # fmt: skip


def wrong(value, rule, where="$"):
    """What of `value` is not as documented."""
    if "const" in rule:
        return [] if value == rule["const"] else [f"{where}: {value!r}"]
    if "enum" in rule:
        return [] if value in rule["enum"] else [f"{where}: {value!r}"]
    kinds = [rule["type"]] if isinstance(rule.get("type"), str) else rule.get("type", [])
    if kinds and not any(
        isinstance(value, TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool)) for kind in kinds
    ):
        return [f"{where}: {value!r} is no {kinds}"]
    if isinstance(value, list):
        return [each for item in value for each in wrong(item, rule.get("items", {}), f"{where}[]")]
    if not isinstance(value, dict) or "properties" not in rule:
        return []
    found = [f"{where}.{name} is missing" for name in rule["required"] if name not in value]
    for name, item in value.items():
        if name in rule["properties"]:
            found += wrong(item, rule["properties"][name], f"{where}.{name}")
        elif not rule["additionalProperties"]:
            found.append(f"{where}.{name} is not documented")
    return found


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    made = Script(tmp_path_factory.mktemp("schemas"))
    made.write("""
        @task
        def step(n):
            die("step")
            return n / n

        @flow
        def job():
            step(1)
            step(0)

        step(2)
        job()
    """)
    assert made.run().code == 1
    return made


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("tail", ("--json", "-n", "100")),
        ("export", ()),
        ("check", ("--json", "--full")),
        ("fork", ("-", "--from", "step", "--json")),
        ("cancel", ("-", "--json")),
        ("prune", ("--older-than", "0s", "--force", "--dry-run", "--json")),
        ("prune", ("--older-than", "0s", "--force", "--json")),
    ],
)
def test_what_a_command_prints_is_documented(script, name, words):
    rule = json.loads((schema.FOLDER / "cli" / f"{name}.schema.json").read_text(encoding="utf-8"))
    ended = durable(script, name, *words)
    assert ended.code == 0, ended
    documents = [json.loads(line) for line in ended.out.splitlines()] if name != "check" else [json.loads(ended.out)]
    assert documents
    assert [each for document in documents for each in wrong(document, rule)] == []
    assert f"schema/cli/{name}.schema.json" in durable(script, name, "--help").out.replace("\n", "").replace("    ", "")


def test_the_check_sees_what_is_wrong():
    rule = {
        "type": "object",
        "properties": {"a": {"type": "integer"}},
        "required": ["a"],
        "additionalProperties": False,
    }
    assert not wrong({"a": 1}, rule)
    for bad in ({}, {"a": True}, {"a": "1"}, {"a": 1, "b": 2}, []):
        assert wrong(bad, rule)


DOCS = Path(__file__).resolve().parent.parent / "docs" / "cli-operate.md"


@pytest.mark.parametrize("name", "run resume watch tail cancel fork check backup export prune".split())
def test_every_command_and_option_is_in_the_documentation_and_the_other_way_round(name):
    command = getattr(import_module(f"durable.cli.{name}"), name)
    text = DOCS.read_text(encoding="utf-8")
    section = text.partition(f"## durable {name}\n")[2].partition("\n## ")[0]
    assert section, f"no section on {name}"
    (usage,) = re.findall(rf"`(durable {name}[^`]*)`: ", section)
    options = {option for parameter in command.params for option in parameter.opts if option.startswith("-")}
    shown = set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", usage))
    assert shown <= options
    common = {"--color", "--force"}
    missing = {
        parameter.name
        for parameter in command.params
        if parameter.opts[0].startswith("-") and not shown & set(parameter.opts) and not common & set(parameter.opts)
    }
    assert not missing
