"""What may stand next on the command line: a file, a run of the journal named before it, a task of that run.

Nothing is said of what goes wrong: a shell that completes a word must not be written to.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import click

from durable.phrases import safe

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_RUNS: Final = 50
_TASKS: Final = 200


def words_complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the words of a command: DB, then RUN, then TASK."""
    return _complete(context, parameter, incomplete, tasks=True)


def runs_complete(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Complete the words of a command: DB, then RUN, as often as it is asked for."""
    return _complete(context, parameter, incomplete, tasks=False)


def _complete(
    context: click.Context, parameter: click.Parameter, incomplete: str, *, tasks: bool
) -> list[CompletionItem]:
    from click.shell_completion import CompletionItem  # a command that is run does without

    from durable.cli.choosing import split  # as in `_values`

    before = tuple(context.params.get(parameter.name or "") or ())
    found: list[CompletionItem] = []
    # Whatever is wrong with the journal is for the command to tell.
    with suppress(Exception):
        if before or incomplete:
            journal, rest = split(before, before)
            found = [
                CompletionItem(value, help=told)
                for value, told in _values(journal, rest if tasks else [])
                if value.startswith(incomplete)
            ]
    # The first word is a file, unless it begins like a run of the default journal: shells do not mix the two.
    return found or ([] if before else [CompletionItem(incomplete, type="file")])


def _values(journal: str | None, rest: list[str]) -> Iterator[tuple[str, str]]:
    # Every command imports this module; only a completion reads a journal here.
    from durable.cli import facts
    from durable.cli.choosing import LATEST, flow_run_of
    from durable.reader import JournalReader, queries
    from durable.settings import journal_path

    with JournalReader(journal_path(journal)) as reader:
        if rest:
            run = flow_run_of(reader, rest[0])
            yield from (
                (key.hex()[:12], safe(name)) for key, name in reader.rows(queries.NEWEST_TASKS, run.row, _TASKS)
            )
            return
        yield LATEST, "the newest flow run"
        for found in reader.flow_runs(_RUNS):
            yield found.id[:12], f"{safe(found.flow)} {safe(found.state)} {facts.iso(found.started)[:16]}"


def completed(commands: click.Command, variable: str, instruction: str) -> int:
    """Answer a shell that asks for completions in `variable`, or for the script that makes it ask. Returns the exit
    code.
    """
    from click.shell_completion import shell_complete

    return shell_complete(commands, {}, "durable", variable, instruction)
