"""``tools/prove``: see docs/reliability.md."""

from __future__ import annotations

import argparse
import importlib
import logging
import random
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from proof import faults, harness, kill, meddling, mutants, oracle, power, rivals, signals, upkeep
from proof.effort import Effort, NotHere, Proof, Row

QUICK_SECONDS: Final = 90.0  # after which the quick proof begins no case; with the last ones under two minutes
_SOAK_SCALE: Final = 5  # times as many cases as in the quick proof
_MUTANT_SCALES: Final = (3, None)  # likewise; what is not noticed by a choice of cases is to be by all of them
# In this order: on a busy machine the last ones may find no time.
PROOFS: Final[dict[str, Proof]] = (
    rivals.PROOFS | signals.PROOFS | kill.PROOFS | faults.PROOFS | meddling.PROOFS | upkeep.PROOFS | power.PROOFS
)


def main() -> int:
    """Read the command line and prove."""
    options = _parser().parse_args()
    harness.preloaded(["-m", "proof", *sys.argv[1:]])
    # Imported once here, so that every trial, a fork of this process, has them: it must be a fresh process in all else.
    for module in ("asyncio", "filelock", "sqlite_utils", "durable", "durable.runners", "durable.transactions"):
        importlib.import_module(module)
    for name in ("backup", "cancel", "fork", "prune"):
        importlib.import_module(f"durable.cli.{name}")
    logging.getLogger("durable").setLevel(logging.NOTSET)
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    chosen = {name: proof for name, proof in PROOFS.items() if _is_chosen(name, options.only)}
    if not chosen:
        print(f"--only {options.only}: there is no such proof. There are:", *PROOFS, sep="\n  ", file=sys.stderr)
        return 2
    harness.leave_on_signals()
    folder = harness.scratch()
    try:
        return _mutants(folder, seed, options.only) if options.mutants else _tables(folder, seed, options, chosen)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tools/prove", description="Show that durable keeps what it promises.")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("--quick", action="store_true", help="a seeded choice of cases, under two minutes (the default)")
    how.add_argument("--soak", type=float, metavar="SECONDS", help="new seeds, and more cases each, until time is up")
    how.add_argument("--exhaustive", action="store_true", help="every case of the kill matrix, the power cuts, faults")
    how.add_argument(
        "--pairs",
        nargs="?",
        type=_part,
        const=(1, 1),
        metavar="PART/PARTS",
        help="and killed at every call of the resuming run: hours; or at every PARTSth one, from call PART on",
    )
    how.add_argument("--mutants", action="store_true", help="break each promise, and show that it is noticed")
    parser.add_argument("--mutant", metavar="PROMISE", help="prove with this promise broken, to see the proof fail")
    parser.add_argument("--only", metavar="NAME", help="some proofs: kill, power/process, rivals, 'kill/sync' ...")
    parser.add_argument("--seed", type=int, help="of the choice; a failure prints it")
    return parser


def _part(text: str) -> tuple[int, int]:
    part, _, parts = text.partition("/")
    if not (part.isdecimal() and parts.isdecimal() and 1 <= int(part) <= int(parts)):
        raise argparse.ArgumentTypeError(f"{text!r}: expected a part of all, such as 2/6")
    return int(part), int(parts)


def _is_chosen(name: str, only: str | None) -> bool:
    return only is None or name == only or name.startswith(f"{only}/")


def _tables(base: Path, seed: int, options: argparse.Namespace, chosen: dict[str, Proof]) -> int:
    print("| what | cases | faults | lost | repeated, as allowed | corrupt |\n|---|---|---|---|---|---|", flush=True)
    began = time.monotonic()
    whole = options.exhaustive or options.pairs is not None
    end = None if whole or options.soak else began + QUICK_SECONDS
    before = mutants.named(options.mutant).code if options.mutant else ""
    count = faults_tried = 0
    late: list[str] = []
    first = seed
    while True:
        for left, (name, proof) in zip(range(len(chosen), 0, -1), chosen.items(), strict=True):
            if end is not None and time.monotonic() > end:
                late.append(name)
                continue
            until = None if end is None else time.monotonic() + max(0.0, end - time.monotonic()) / left
            scale = None if whole else _SOAK_SCALE if options.soak else 1
            try:
                row = proof(base, Effort(seed, scale, until, options.pairs), before)
            except NotHere as missing:
                print(f"| {name}: not here, {missing} | | | | | |", flush=True)
                continue
            except (oracle.Violated, harness.Hung) as error:
                print(f"\nVIOLATED: {name}: {error}\n\n{_again(name, seed, options)}", file=sys.stderr)
                return 1
            except SystemExit:
                raise
            except BaseException:
                print(f"\nBROKEN: {name}\n\n{_again(name, seed, options)}", file=sys.stderr)
                raise
            _show(row)
            count, faults_tried = count + row.cases, faults_tried + row.faults
        seed += 1
        if not options.soak or time.monotonic() - began > options.soak:
            break
    if late:
        print(f"\nNot tried, because the time was up on a busy machine: {', '.join(late)}")
    told = f"seed {first}" if seed == first + 1 else f"seeds {first} to {seed - 1}"
    print(f"\n{count} cases, {faults_tried} faults in {time.monotonic() - began:.0f} s, {told}: nothing violated")
    return 0


def _show(row: Row) -> None:
    print(f"| {row.what} | {row.cases} | {row.faults} | {row.lost} | {row.repeated} | 0 |", flush=True)


def _again(name: str, seed: int, options: argparse.Namespace) -> str:
    """The command that tries the same cases again."""
    how = ["--exhaustive"] * options.exhaustive
    if options.pairs:
        how += ["--pairs", "/".join(map(str, options.pairs))]
    how += ["--soak", "1"] if options.soak else []
    how += ["--mutant", options.mutant] if options.mutant else []
    return "Again: " + shlex.join(["tools/prove", "--seed", str(seed), "--only", name, *how])


def _mutants(base: Path, seed: int, only: str | None) -> int:
    print("| broken promise | noticed by | as |\n|---|---|---|", flush=True)
    missed = 0
    for mutant in mutants.ALL:
        if not any(_is_chosen(name, only) for name in PROOFS if _is_chosen(name, mutant.proof)):
            continue
        name, found = _caught(base, mutant, seed)
        missed += found is None
        print(f"| {mutant.promise} | {name} | {found or '**nothing**'} |", flush=True)
    print(f"\n{len(mutants.ALL)} promises broken, {missed} not noticed" if only is None else "")
    return 1 if missed else 0


def _caught(base: Path, mutant: mutants.Mutant, seed: int) -> tuple[str, str | None]:
    """Which proof found a mutant out, and how."""
    for name, proof in PROOFS.items():
        if not _is_chosen(name, mutant.proof):
            continue
        for scale in _MUTANT_SCALES:
            folder = Path(tempfile.mkdtemp(dir=base))
            try:
                proof(folder, Effort(seed, scale), mutant.code)
            except (oracle.Violated, harness.Hung) as error:
                lines = str(error).splitlines()
                return name, (f"{lines[0]} ... {lines[-1]}" if lines[0].endswith(":") else lines[0])[:200]
            except NotHere:
                break
    return mutant.proof, None


if __name__ == "__main__":
    sys.exit(main())
