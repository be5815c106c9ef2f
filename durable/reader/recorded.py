"""How a flow run was called: its recorded parameters, and the processes that executed it."""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from durable.reader.journal import JournalReader
from durable.reader.model import FlowRun

CALL: Final = "SELECT parameters, parameters_digest FROM flow_run WHERE id = ?"
# The processes that recorded something of a flow run and of the run it was forked from, first to last.
PROCESSES: Final = """
WITH RECURSIVE line(id) AS (
    SELECT :a UNION SELECT r.forked_from_id FROM line JOIN flow_run AS r ON r.id = line.id
    WHERE r.forked_from_id IS NOT NULL)
SELECT p.command, p.folder FROM process AS p WHERE p.id IN (
    SELECT process_id FROM flow_run WHERE id IN line
    UNION SELECT process_id FROM flow_run_state WHERE flow_run_id IN line) ORDER BY p.id"""


class Lifetime(NamedTuple):
    """A process's command (a JSON array) and working folder."""

    command: str
    folder: str

    @property
    def words(self) -> list[str]:
        """The command's words; none where it is not understood."""
        try:
            found = json.loads(self.command)
        except (ValueError, RecursionError):
            return []
        return [str(word) for word in found] if isinstance(found, list) else []


class Recorded(NamedTuple):
    """A flow run's call: canonical bytes of its parameters, their digest, and the processes, first to last."""

    parameters: bytes | None
    digest: bytes
    processes: list[Lifetime]


def recorded_call(reader: JournalReader, run: FlowRun) -> Recorded:
    """How `run` was called."""
    ((parameters, digest),) = reader.rows(CALL, run.row)
    processes = [Lifetime(*row) for row in reader.rows(PROCESSES, run.row)]
    return Recorded(parameters, digest, processes)
