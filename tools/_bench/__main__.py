"""Microseconds a task, beside a bare sqlite3 loop that makes the same promises.

The floor commits a start row at synchronous=NORMAL and a completion row with a 9-byte result at FULL (``power``) or
NORMAL (``process``), with one index. Every measurement is a process of its own with a new file; the cases take turns,
so that a slow minute of the machine is shared. What counts is the ratio; the microseconds are this machine's, today.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Final

from _bench import goals, peers, runners
from _bench.measure import Bench, median

PER_TASK: Final = ("us", "gather", "replay")  # figures in microseconds a task, so that the floor is beside them


def options_of(arguments: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="tools/bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--tasks", type=int, default=10_000, help="tasks in one measurement (default 10000)")
    parser.add_argument("--long", type=int, default=1_000_000, help="tasks of a long run (default 1000000)")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each case (default 5)")
    parser.add_argument("--quick", action="store_true", help="1000 tasks, 20000 in a long run, 3 repeats: a minute")
    parser.add_argument("--folder", default=tempfile.gettempdir(), help="where the journals lie: the disk decides")
    parser.add_argument("--peers", action="store_true", help="measure what people would use instead, too")
    parser.add_argument("--runners", action="store_true", help="measure the task runners, and nothing else")
    parser.add_argument("--check", action="store_true", help="say of each goal whether it is met")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args(arguments)
    if options.quick:
        options.tasks, options.long, options.repeats = 1000, 20_000, 3
    return options


def main() -> None:
    """Measure every case in turn and print ratios."""
    options = options_of(sys.argv[1:])
    if options.runners:
        for line in runners.table(Path(options.folder), options.repeats):
            print(line, flush=True)
        return
    bench = Bench(Path(options.folder), options.tasks, options.repeats)
    bench.measure_short()
    bench.measure_long(options.long)
    bench.measure_start_up()
    syscalls = bench.count_syscalls()
    others = peers.measure(Path(options.folder), min(options.tasks, 1000)) if options.peers else {}
    if options.json:
        print(json.dumps({"cases": bench.figures, "system calls a task": syscalls, "peers": others}, indent=2))
        return
    versions = f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {os.cpu_count()} cores"
    print(f"{options.tasks} tasks, {options.repeats} repeats, {options.long} in a long run")
    print(f"{versions}, {platform.system()} {platform.machine()}\n")
    print(f"{'':44}{'median':>10}{'min .. max':>24}{'x floor':>9}{'min .. max':>16}")
    for (case, durability, figure), values in bench.series.items():
        ratios = bench.ratios(durability, values) if figure in PER_TASK else []
        spread = f"{min(values):.4g} .. {max(values):.4g}"
        beside = f"{median(ratios):9.2f}{f'{min(ratios):.2f} .. {max(ratios):.2f}':>16}" if ratios else ""
        print(f"{f'{case} {durability} {figure}':44}{median(values):10.4g}{spread:>24}{beside}")
    print()
    for what, counts in syscalls.items():
        print(f"{what:44}{', '.join(f'{name} {count:.2f}' for name, count in counts.items())}")
    for peer, taken in others.items():
        print(f"{peer:44}{taken}")
    if options.check:
        print()
        for row in goals.rows(bench, options.long, others):
            print(row)


if __name__ == "__main__":
    main()
