"""The contract's promises, broken one at a time: a proof that cannot fail proves nothing.

Each mutant is a piece of code that a job executes before it begins; it puts one broken part in the place of durable's.
The proofs it is given to must find a violation.
"""

from __future__ import annotations

import sys
from typing import Final, NamedTuple


class Mutant(NamedTuple):
    """A broken promise, the proofs of which one must notice (as for --only), and the code that breaks it."""

    promise: str
    proof: str
    code: str


_WRITER: Final = "from durable.journal import writer, opening\nW = writer.Writer\n"
_FILES: Final = "from durable.journal import files\n"
_CALL: Final = (
    "from msgspec.structs import replace\nfrom durable import call, recall, runs, generation, outcomes, settling\n"
)

ALL: Final = (
    Mutant(
        "a result is synced",
        "power/power",
        _FILES + "files._sync = lambda descriptor: None\n",
    ),
    Mutant(
        "a new journal's name is synced",
        "power/first seconds",
        _WRITER + "opening._sync_folder = lambda folder: None\n",
    ),
    Mutant(
        "a new journal is synced before it is given its name",
        "power/first seconds",
        _WRITER + "opening.SYNCHRONOUS['power'] = 0\n",
    ),
    Mutant(
        "a transaction is written to a log",
        "kill/sync",
        _WRITER
        + "connect = W._connect\n"
        + "def no_log(self):\n    connect(self)\n    self._execute('PRAGMA journal_mode = MEMORY')\n"
        + "W._connect = no_log\n",
    ),
    Mutant(
        "a result is committed before its caller has it",
        "kill/sync",
        _WRITER
        + "commit = W.commit\n"
        + "def later(self, entry):\n"
        + "    if entry.synced and len(entry.statements) > 1:\n"
        + "        self._queue.append(entry)\n        return 0\n"
        + "    return commit(self, entry)\nW.commit = later\n",
    ),
    Mutant(
        "a coroutine's result is committed before it goes on",
        "kill/async",
        _WRITER
        + "import asyncio\n"
        + "def at_once(self, entry, loop):\n"
        + "    if entry.synced:\n        self._queue.append(entry)\n"
        + "    else:\n        self.commit(entry)\n"
        + "    return asyncio.sleep(0)\nW.commit_soon = at_once\n",
    ),
    Mutant(
        "a start is committed before the body runs",
        "kill/sync",
        _WRITER
        + "commit = W.commit\n"
        + "def later(self, entry):\n"
        + "    if 'INSERT INTO task_run ' in entry.statements[0][0]:\n"
        + "        entry.rowid = self.rows('SELECT coalesce(max(id), 0) + 1 FROM task_run')[0][0]\n"
        + "        self._queue.append(entry)\n        return entry.rowid\n"
        + "    return commit(self, entry)\nW.commit = later\n",
    ),
    Mutant(
        "what is recorded is looked for",
        "kill/sync",
        _CALL + "runs.FlowRun.recorded = runs.FlowRun.foreseen = lambda self, key: None\n",
    ),
    Mutant(
        "a completed task is replayed",
        "kill/sync",
        _CALL
        + "from durable import tasks\n"
        + "tasks.at_once = lambda definition, scope, key: recall.TO_DECIDE\n"
        + "own = recall._own\n"
        + "recall._own = lambda asked, record, key: replace(own(asked, record, key), ended=False, reason='mutant')\n",
    ),
    Mutant(
        "a recorded failure is history",
        "kill/retries",
        _CALL
        + "own = recall._own\n"
        + "def again(asked, record, key):\n"
        + "    known = own(asked, record, key)\n"
        + "    return replace(known, ended=False, error=None, reason='mutant') if known.error else known\n"
        + "recall._own = again\n",
    ),
    Mutant(
        "every execution after the first says why",
        "kill/sync",
        _CALL
        + "own = recall._own\n"
        + "recall._own = lambda asked, record, key: replace(own(asked, record, key), reason=None)\n",
    ),
    Mutant(
        "equal calls are told apart",
        "kill/equal calls",
        _CALL
        + "identify = runs.Scope.identify\n"
        + "def base(self, callee, inputs):\n"
        + "    self.open()\n    return identify(self, callee, inputs)\n"
        + "runs.Scope.identify = base\n",
    ),
    Mutant(
        "equal calls are told apart in the same order every time",
        "kill/equal calls",
        _CALL
        + "import itertools, os\nidentify = runs.Scope.identify\n"
        + "runs.Scope.identify = lambda self, callee, inputs: "
        + "identify(self, callee, inputs + (os.urandom(4) if inputs != b'\\x80' else b''))\n",
    ),
    Mutant(
        "arguments are part of an identity",
        "kill/sync",
        _CALL
        + "from durable import definitions\n"
        + "inputs = definitions.TaskDefinition.identity_inputs\n"
        + "definitions.TaskDefinition.identity_inputs = lambda self, args, kwargs: "
        + "replace(inputs(self, args, kwargs), inputs=b'\\x80')\n"
        + "runs.Scope.identify = (lambda identify: lambda self, callee, inputs: "
        + "(self.open(), identify(self, callee, inputs))[1])(runs.Scope.identify)\n",
    ),
    Mutant(
        "a subflow is found again",
        "kill/nested flows and tasks",
        _CALL
        + "import os\nbegin = settling.Settling._choose\n"
        + "def choose(self, row):\n"
        + "    choice = begin(self, row)\n"
        + "    return choice if self._identity is None else settling.Choice(None)\n"
        + "settling.Settling._choose = choose\n",
    ),
    Mutant(
        "a resume gives what was given, in type and value",
        "kill/sync",
        _CALL
        + "restore = outcomes.restore\n"
        + "def as_lists(outcome, who):\n"
        + "    value = restore(outcome, who)\n"
        + "    if isinstance(value, dict):\n"
        + "        return {k: list(v) if isinstance(v, tuple) else v for k, v in value.items()}\n"
        + "    return value\n"
        + "recall.restore = outcomes.restore = as_lists\n",
    ),
    Mutant(
        "transitions are numbered without gaps",
        "kill/sync",
        _CALL
        + "enters = call.Call._enters\n"
        + "def skip(self, *states, **more):\n"
        + "    self._seq += 1\n    return enters(self, *states, **more)\n"
        + "call.Call._enters = skip\n",
    ),
    Mutant(
        "every transition is legal",
        "kill/sync",
        _CALL
        + "from durable import states\ncall.check_transition = lambda *words: None\n"
        + "started = call.Call.started\n"
        + "def without_crash(self):\n"
        + "    self._record and setattr(self, 'kind', None)\n    return started(self)\n"
        + "call.Call.started = without_crash\n",
    ),
    Mutant(
        "a payload is what was written",
        "kill/sync",
        "from durable.journal import journal\nsum_of = journal.checksum_of\n"
        "journal.checksum_of = lambda p: sum_of(p + b'.')\n"
        "from durable.journal import lookups\nlookups.checksum_of = journal.checksum_of\n",
    ),
    Mutant(
        "a generator's values come once",
        "kill/generators",
        _CALL
        + "yielded = generation.GeneratorCall.yielded\n"
        + "def always(self, value):\n"
        + "    entry = yielded(self, value)\n"
        + "    self.value, self.deliver = value, True\n    return entry\n"
        + "generation.GeneratorCall.yielded = always\n",
    ),
    Mutant(
        "a generator that had finished is not started again",
        "kill/generators",
        _CALL
        + "take = generation.GeneratorCall._take_end\n"
        + "def forget(self, known):\n"
        + "    entry = take(self, known)\n    self._end = None\n    return entry\n"
        + "generation.GeneratorCall._take_end = forget\n",
    ),
    Mutant(
        "a memo is found by its arguments",
        "kill/memos",
        "from durable import policies\nkey = policies.CachePolicy.key\n"
        "policies.CachePolicy.key = lambda self, task, inputs, *more: key(self, task, b'', *more)\n"
        "policies.CachePolicy.needs_inputs = False\n",
    ),
    Mutant(
        "a write that failed is told",
        "faults/EIO once",
        _WRITER
        + "import sqlite3\nwrite = W._write\n"
        + "def deaf(self, batch):\n"
        + "    try:\n        write(self, batch)\n"
        + "    except writer.JournalFailed:\n"
        + "        self._poison = None\n"
        + "        for entry in batch:\n            entry.done = True\n"
        + "W._write = deaf\n",
    ),
    Mutant(
        "an error of SQLite's reaches nobody raw",
        "faults/EIO once",
        _WRITER + "W._poisoned = lambda self, error: error\n",
    ),
    Mutant(
        "a journal that lost its name is noticed",
        "meddling",
        _FILES + "files.Files.look_at_journal = lambda self: None\n",
    ),
    Mutant(
        "a truncated journal is noticed",
        "meddling",
        _FILES + "files.is_cut = lambda path, size: False\n",
    ),
    Mutant(
        "a log that was deleted or cut is noticed",
        "meddling",
        _FILES + "files.Files.look_at_log = lambda self, named: None\n",
    ),
    Mutant(
        "what a deleted log held is saved",
        "meddling",
        _FILES + "files.Files.save_log = lambda self, connection, lost: None\n",
    ),
    Mutant(
        "two processes do not go on with two indexes",
        "meddling/the index deleted under a live run",
        _FILES + "files._SETTLED = 1e9\n",
    ),
    Mutant(
        "a deleted journal's log is not the next one's",
        "meddling",
        _WRITER + "opening._set_aside_logs = lambda path: None\n",
    ),
    Mutant(
        "what a transaction did is undone",
        "kill/transactions",
        "from durable.transactions import undo\nundo.fire = lambda hook, owner: None\n",
    ),
    Mutant(
        "a journal is migrated in one transaction",
        "kill/migration of a format 1 journal",
        "from durable.journal import schema\n"
        "upgrade = schema.upgrade\n"
        "def in_steps(connection, *more):\n"
        "    connection.execute('COMMIT')\n    upgrade(connection, *more)\n    connection.execute('BEGIN')\n"
        "schema.upgrade = in_steps\n",
    ),
    Mutant(
        "runs are pruned in one transaction",
        "kill/durable prune",
        "from durable.cli import prune\nfrom durable.journal import Entry\n"
        "remove = prune.remove_runs\n"
        "class Twice:\n"
        "    def __init__(self, journal):\n        self.rows, self._journal = journal.rows, journal\n"
        "    def commit(self, entry):\n"
        "        made = [each for each in entry.statements if 'CREATE TRIGGER' in each[0]]\n"
        "        self._journal.commit(Entry(True, *[each for each in entry.statements if each not in made]))\n"
        "        self._journal.commit(Entry(True, ('SELECT ?', (1,)), *made))\n"
        "prune.remove_runs = lambda journal, roots: remove(Twice(journal), roots)\n",
    ),
    Mutant(
        "a backup appears whole",
        "kill/durable backup",
        "from pathlib import Path\nfrom durable.cli import backup\n"
        "def by_hand(made, goal, *, force):\n"
        "    goal.write_bytes(b'')\n"
        "    with goal.open('r+b') as file:\n"
        "        for at in range(0, made.stat().st_size, 4096):\n"
        "            os.pwrite(file.fileno(), made.read_bytes()[at:at + 4096], at)\n"
        "backup._give_name = by_hand\n",
    ),
    Mutant(
        "a backup that was acknowledged has its name for certain",
        "power/durable backup",
        "import types\nfrom durable.cli import backup\n"
        "backup.os = types.SimpleNamespace(**{**vars(os), 'fsync': lambda descriptor: None})\n",
    ),
    Mutant(
        "a flow run has one owner",
        "rivals",
        "from durable import ownership\n"
        "acquire = ownership.SidecarLock.acquire\n"
        "ownership.SidecarLock.acquire = lambda self, seconds=0.25: True\n"
        "ownership.SidecarLock.release = lambda self: None\n",
    ),
    Mutant(
        "a writer waits for the others",
        "meddling/busy",
        _WRITER
        + "writer.BUSY_SECONDS = 1\n"
        + "connect = W._connect\n"
        + "def hasty(self):\n    connect(self)\n    self._execute('PRAGMA busy_timeout = 0')\n"
        + "W._connect = hasty\n",
    ),
)


def named(promise: str) -> Mutant:
    """The mutant that breaks a promise.

    Raises:
        SystemExit: there is none.
    """
    for mutant in ALL:
        if mutant.promise == promise:
            return mutant
    sys.exit("\n  ".join([f"--mutant {promise!r}: there is no such promise. There are:", *(m.promise for m in ALL)]))
