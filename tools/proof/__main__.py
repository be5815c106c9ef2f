"""``tools/prove``: see docs/reliability.md."""

from __future__ import annotations

import argparse
import importlib
import logging
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from proof import faults, harness, kill, mutants, oracle, power, rivals

_FEW: Final = 30  # cases a scenario
_MANY: Final = 150


def main() -> int:
    """Read the command line and prove."""
    parser = argparse.ArgumentParser(prog="tools/prove", description="Show that durable keeps what it promises.")
    parser.add_argument(
        "--quick", action="store_true", help="a seeded choice of cases, under two minutes (the default)"
    )
    parser.add_argument(
        "--soak", type=float, metavar="SECONDS", help="new seeds, and more cases each, until time is up"
    )
    parser.add_argument("--exhaustive", action="store_true", help="the whole kill and fault matrix, once")
    parser.add_argument("--mutants", action="store_true", help="break each promise, and show that it is noticed")
    parser.add_argument("--only", help="one proof: kill, power, faults or rivals")
    parser.add_argument("--seed", type=int, help="of the choice; a failure prints it")
    options = parser.parse_args()
    harness.preloaded(["-m", "proof", *sys.argv[1:]])
    # Imported once here, so that every trial, a fork of this process, has them: it must be a fresh process in all else.
    for module in ("asyncio", "filelock", "durable", "durable.runners"):
        importlib.import_module(module)
    logging.getLogger("durable").setLevel(logging.NOTSET)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    # Not a TemporaryDirectory: a trial runs what is registered for the exit, and would remove it.
    folder = Path(tempfile.mkdtemp(prefix="proof-"))
    try:
        return _mutants(folder, seed) if options.mutants else _tables(folder, seed, options)
    except (oracle.Violated, harness.Hung) as error:
        print(f"\nVIOLATED: {error}\n\nAgain: tools/prove --seed {seed} {' '.join(sys.argv[1:])}", file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _tables(base: Path, seed: int, options: argparse.Namespace) -> int:
    print("| what | cases | faults | lost | repeated, as allowed | corrupt |\n|---|---|---|---|---|---|", flush=True)
    if not options.soak:
        _prove(base, seed, None if options.exhaustive else _FEW, options.only)
        return 0
    end = time.monotonic() + options.soak
    while time.monotonic() < end:
        _prove(base, seed, _MANY, options.only)
        seed += 1
    return 0


def _prove(base: Path, seed: int, limit: int | None, only: str | None) -> None:
    proofs: dict[str, Callable[[], Iterator[kill.Row]]] = {
        "kill": lambda: kill.prove(base, seed, limit),
        "power": lambda: power.prove(base, seed, 60 if limit == _FEW else 600),
        "faults": lambda: faults.prove(base, seed, None if limit is None else max(6, limit // 4)),
        "rivals": lambda: rivals.prove(base, seed, 5.0 if limit == _FEW else 60.0),
    }
    for name, proof in proofs.items():
        if only in (None, name):
            for row in proof():
                print(f"| {row.what} | {row.cases} | {row.faults} | 0 | {row.repeated} | 0 |", flush=True)


def _mutants(base: Path, seed: int) -> int:
    print("| broken promise | noticed by |\n|---|---|", flush=True)
    missed = 0
    for mutant in mutants.ALL:
        found = mutants.caught(base, mutant, seed)
        missed += found is None
        how = f"{mutant.proof}: {found[:140]}" if found else "**nobody**"
        print(f"| {mutant.promise} | {how} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
