"""The contract's promises, broken one at a time: a proof that cannot fail proves nothing.

Each mutant is a piece of code that a job executes before it begins; it puts one broken part in the place of durable's.
The proof it is given to must find a violation.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from proof import faults, harness, kill, oracle, power, rivals
from proof.kill import Row


class Mutant(NamedTuple):
    """A broken promise, the proof that must notice, and the code that breaks it."""

    promise: str
    proof: str
    code: str


_WRITER: Final = "from durable.journal import writer, opening\nW = writer.Writer\n"
_CALL: Final = "from durable import call, recall, runs, generation, outcomes, settling\n"

ALL: Final = (
    Mutant(
        "a result is synced",
        "power",
        _WRITER + "begin = W._begin\nW._begin = lambda self, synced: begin(self, False)\n",
    ),
    Mutant("a new journal's name is synced", "power", _WRITER + "opening._sync_folder = lambda folder: None\n"),
    Mutant(
        "a new journal is synced before it is given its name",
        "power",
        _WRITER + "opening.SYNCHRONOUS['power'] = 0\n" + "opening._sync_folder = lambda folder: None\n",
    ),
    Mutant(
        "a transaction is written to a log",
        "kill",
        _WRITER
        + "connect = W._connect\n"
        + "def no_log(self):\n    connect(self)\n    self._execute('PRAGMA journal_mode = MEMORY')\n"
        + "W._connect = no_log\n",
    ),
    Mutant(
        "a result is committed before its caller has it",
        "kill",
        _WRITER
        + "commit = W.commit\n"
        + "def later(self, entry):\n"
        + "    if entry.synced and len(entry.statements) > 1:\n"
        + "        self._queue.append(entry)\n        return 0\n"
        + "    return commit(self, entry)\nW.commit = later\n",
    ),
    Mutant(
        "a coroutine's result is committed before it goes on",
        "kill",
        _WRITER
        + "def at_once(self, entry, loop):\n"
        + "    future = loop.create_future()\n"
        + "    if entry.synced:\n        self._queue.append(entry)\n        future.set_result(0)\n"
        + "    else:\n        future.set_result(self.commit(entry))\n"
        + "    return future\nW.commit_soon = at_once\n",
    ),
    Mutant(
        "a start is committed before the body runs",
        "kill",
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
        "kill",
        _CALL + "runs.FlowRun.recorded = runs.FlowRun.foreseen = lambda self, key: None\n",
    ),
    Mutant(
        "a completed task is replayed",
        "kill",
        _CALL
        + "from durable import tasks\n"
        + "tasks.at_once = lambda definition, scope, key: recall.TO_DECIDE\n"
        + "own = recall._own\n"
        + "recall._own = lambda asked, record, key: own(asked, record, key)._replace(ended=False, reason='mutant')\n",
    ),
    Mutant(
        "a recorded failure is history",
        "kill",
        _CALL
        + "own = recall._own\n"
        + "def again(asked, record, key):\n"
        + "    known = own(asked, record, key)\n"
        + "    return known._replace(ended=False, error=None, reason='mutant') if known.error else known\n"
        + "recall._own = again\n",
    ),
    Mutant(
        "every execution after the first says why",
        "kill",
        _CALL
        + "own = recall._own\n"
        + "recall._own = lambda asked, record, key: own(asked, record, key)._replace(reason=None)\n",
    ),
    Mutant(
        "equal calls are told apart",
        "kill",
        _CALL
        + "identify = runs.Scope.identify\n"
        + "def base(self, callee, inputs):\n"
        + "    self.open()\n    return identify(self, callee, inputs)\n"
        + "runs.Scope.identify = base\n",
    ),
    Mutant(
        "equal calls are told apart in the same order every time",
        "kill",
        _CALL
        + "import itertools, os\nidentify = runs.Scope.identify\n"
        + "runs.Scope.identify = lambda self, callee, inputs: "
        + "identify(self, callee, inputs + (os.urandom(4) if inputs != b'\\x80' else b''))\n",
    ),
    Mutant(
        "arguments are part of an identity",
        "kill",
        _CALL
        + "from durable import definitions\n"
        + "inputs = definitions.TaskDefinition.identity_inputs\n"
        + "definitions.TaskDefinition.identity_inputs = lambda self, args, kwargs: "
        + "inputs(self, args, kwargs)._replace(inputs=b'\\x80')\n"
        + "runs.Scope.identify = (lambda identify: lambda self, callee, inputs: "
        + "(self.open(), identify(self, callee, inputs))[1])(runs.Scope.identify)\n",
    ),
    Mutant(
        "a subflow is found again",
        "kill",
        _CALL
        + "import os\nbegin = settling.Settling._choose\n"
        + "def choose(self, row):\n"
        + "    choice = begin(self, row)\n"
        + "    return choice if self._identity is None else settling.Choice(None)\n"
        + "settling.Settling._choose = choose\n",
    ),
    Mutant(
        "a resume gives what was given, in type and value",
        "kill",
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
        "kill",
        _CALL
        + "enters = call.Call._enters\n"
        + "def skip(self, *states, **more):\n"
        + "    self._seq += 1\n    return enters(self, *states, **more)\n"
        + "call.Call._enters = skip\n",
    ),
    Mutant(
        "every transition is legal",
        "kill",
        _CALL
        + "from durable import states\ncall.check_transition = lambda *words: None\n"
        + "started = call.Call.started\n"
        + "def without_crash(self):\n"
        + "    self._record and setattr(self, 'kind', None)\n    return started(self)\n"
        + "call.Call.started = without_crash\n",
    ),
    Mutant(
        "a payload is what was written",
        "kill",
        "from durable.journal import journal\nsum_of = journal.checksum_of\n"
        "journal.checksum_of = lambda p: sum_of(p + b'.')\n"
        "from durable.journal import lookups\nlookups.checksum_of = journal.checksum_of\n",
    ),
    Mutant(
        "a generator's values come once",
        "kill",
        _CALL
        + "yielded = generation.GeneratorCall.yielded\n"
        + "def always(self, value):\n"
        + "    entry = yielded(self, value)\n"
        + "    self.value, self.deliver = value, True\n    return entry\n"
        + "generation.GeneratorCall.yielded = always\n",
    ),
    Mutant(
        "a generator that had finished is not started again",
        "kill",
        _CALL
        + "take = generation.GeneratorCall._take_end\n"
        + "def forget(self, known):\n"
        + "    entry = take(self, known)\n    self._end = None\n    return entry\n"
        + "generation.GeneratorCall._take_end = forget\n",
    ),
    Mutant(
        "a memo is found by its arguments",
        "kill",
        "from durable import policies\nkey = policies.CachePolicy.key\n"
        "policies.CachePolicy.key = lambda self, task, inputs, *more: key(self, task, b'', *more)\n"
        "policies.CachePolicy.needs_inputs = False\n",
    ),
    Mutant(
        "a write that failed is told",
        "faults",
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
        "faults",
        _WRITER + "W._poisoned = lambda self, error: error\n",
    ),
    Mutant(
        "a journal that lost its name is noticed",
        "faults",
        _WRITER + "W._check_file = lambda self: None\n",
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
        "rivals",
        _WRITER
        + "opening.BUSY_TIMEOUT_MS = 1\nwriter.BUSY_SECONDS = 0.002\n"
        + "connect = W._connect\n"
        + "def hasty(self):\n    connect(self)\n    self._execute('PRAGMA busy_timeout = 0')\n"
        + "W._connect = hasty\n",
    ),
)


def caught(base: Path, mutant: Mutant, seed: int) -> str | None:
    """How the proof found the mutant out; None if it did not."""
    base = Path(tempfile.mkdtemp(dir=base))
    proofs: dict[str, Callable[[], Iterator[Row]]] = {
        "kill": lambda: kill.prove(base, seed, 60, before=mutant.code),
        "power": lambda: power.prove(base, seed, 120, before=mutant.code),
        "faults": lambda: faults.prove(base, seed, 40, before=mutant.code),
        "rivals": lambda: rivals.prove(base, seed, 6.0, before=mutant.code),
    }
    try:
        for _ in proofs[mutant.proof]():
            pass
    except (oracle.Violated, harness.Hung) as error:
        return str(error).splitlines()[0]
    return None
