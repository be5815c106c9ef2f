"""``durable run``: start a flow from the shell."""

from __future__ import annotations

import json
import types
import typing
from typing import Any

import click

from durable.cli.execution import call, resume_only, users_code
from durable.cli.loading import load, parse
from durable.flows import Flow
from durable.settings import configure


@click.command()
@click.argument("target", metavar="FLOW")
@click.option("--param", "-p", "words", metavar="KEY=VALUE", multiple=True, help="One parameter; may be repeated.")
@click.option("--params", "document", metavar="JSON", help="Parameters as a JSON object.")
@click.option("--idempotency-key", metavar="KEY", help="The run is this key's: its result if it completed.")
@click.option("--fresh", is_flag=True, help="Begin a new run, whatever is unfinished.")
@click.option("--journal", metavar="DB", help="The journal; otherwise the flow's own, DURABLE_JOURNAL, or runs.db.")
def run(
    target: str,
    *,
    words: tuple[str, ...],
    document: str | None,
    idempotency_key: str | None,
    fresh: bool,
    journal: str | None,
) -> None:
    """Start a flow, or continue its unfinished run, as calling it does.

    FLOW is job.py:flow or package.module:flow. The script is imported, without its `if __name__ == "__main__"` part. A
    VALUE is text for a parameter annotated str, otherwise JSON if it is that, otherwise text. What the flow returns is
    printed, unless it is None.

    \b
    Exit codes:
      0  it completed
      1  it failed or was cancelled; its traceback is shown
      2  no such flow, or parameters that do not fit
      3  there is nothing to resume
      4  a live process executes this run
    """  # noqa: D301 - \b is the character that tells click to keep the lines
    if fresh and idempotency_key is not None:
        raise click.UsageError("--fresh begins a run that no key has; leave one of the two out")
    place = parse(target)
    with users_code():
        flow = load(place)
    options: dict[str, Any] = {}
    if journal is not None:
        configure(journal=journal)
        options["journal"] = journal
    if idempotency_key is not None:
        options["idempotency_key"] = idempotency_key
    if fresh:
        resume_only(None)
        options |= {"resume": "never", "idempotency_key": None}
    call(flow.with_options(**options) if options else flow, (), _parameters(flow, words, document))


def _parameters(flow: Flow[..., Any], words: tuple[str, ...], document: str | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if document is not None:
        try:
            found = json.loads(document)
        except ValueError as error:
            raise click.UsageError(f"--params: it is not JSON: {error}") from None
        if not isinstance(found, dict):
            raise click.UsageError(f"--params: expected a JSON object, found {type(found).__name__}")
    try:
        hints = typing.get_type_hints(flow.fn)
    except Exception:  # noqa: BLE001 - annotations are expressions of the user's, and may name what is not there
        hints = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            raise click.UsageError(f"--param {word!r}: expected KEY=VALUE")
        if name in found:
            raise click.UsageError(f"--param {word!r}: {name!r} is given twice")
        found[name] = _value(text, hints.get(name))
    return found


def _value(text: str, hint: Any) -> Any:
    """What a word of the shell means for a parameter; the flow itself makes it what the annotation says."""
    choices = set(typing.get_args(hint)) if typing.get_origin(hint) in (typing.Union, types.UnionType) else {hint}
    if str in choices and choices <= {str, type(None)}:
        return None if text == "null" and type(None) in choices else text
    try:
        return json.loads(text)
    except ValueError:
        return text
