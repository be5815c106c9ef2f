"""The goals, and how far what was measured is from them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from _bench.measure import Bench, median
from _bench.peers import Taken

FSYNCING = ("dbos",)  # peers whose first run waits for the disk as ours does


class Row(NamedTuple):
    """One goal: what is measured, the value, the most it may be, and in which unit."""

    case: str
    value: float
    most: float
    unit: str

    def __str__(self) -> str:
        if math.isnan(self.value):
            return f"{'not measured':12}{self.case}"
        said = "pass" if self.value <= self.most else "fall short"
        return f"{said:12}{self.case:58}{self.value:10.4g}{self.most:10.4g} {self.unit}"


def rows(bench: Bench, long: int, others: dict[str, Taken]) -> Iterator[Row]:
    """Every goal of the table, with medians and ratios of one run."""
    power, process = bench.of("sequential", "power"), bench.of("sequential", "process")
    yield Row("sequential sync task, power", median(bench.ratios("power", power)), 1.1, "x the floor")
    yield Row("sequential sync task, process", median(bench.ratios("process", process)), 1.3, "x the floor")
    for durability, sync in (("power", power), ("process", process)):
        ratios = _each(bench.of("awaited", durability), sync)
        yield Row(f"sequential async task, {durability}", ratios, 1.1, "x the sync task")
    yield Row("replay of a completed task", median(bench.of("sequential", "process", "replay")), 4, "us")
    yield Row(f"replay of a completed task, {long} tasks", median(bench.of("long_resume", "process")), 4, "us")
    yield Row(
        f"resume of {long} tasks until the body begins", median(bench.of("long_resume", "process", "body")), 0.5, "s"
    )
    over = median(bench.of("long_resume", "process", "rss")) - median(bench.of("bare", "process", "rss"))
    yield Row(f"memory of that resume over the interpreter's, {long} tasks", over, 150, "MB")
    yield Row("map over 8 threads, power", _each(bench.of("mapped", "power"), power), 0.35, "x sequential")
    yield Row("gather, power", _each(bench.of("awaited", "power", "gather"), power), 0.35, "x sequential")
    yield Row(f"memo hit among {long} results", median(bench.of("memo", "process")), 25, "us")
    arrays = _each(bench.of("array", "power"), bench.of("array", "power", "bare"))
    yield Row("a 10 MB array in and out, power", arrays, 1.3, "x hashing, encoding, writing")
    yield Row(f"journal size, {long} tasks", median(bench.of("long_run", "process", "bytes")), 250, "bytes a task")
    growth = median(bench.of("long_run", "process", "growth"))
    yield Row(f"the last of {long} tasks beside the first ones", growth, 1.2, "x")
    yield Row("from durable import flow, task", median(bench.of("import", "", "ms")), 60, "ms")
    yield Row("durable inspect of a small journal", median(bench.of("inspect", "", "ms")), 150, "ms")
    for peer, taken in others.items():
        replay = median(bench.of("sequential", "process", "replay"))
        yield Row(f"replay beside {peer}", replay / taken["replay"], 1, "x")
        if peer in FSYNCING:
            yield Row(f"first run beside {peer}, power", median(power) / taken["first"], 1, "x")


def _each(values: list[float], beside: list[float]) -> float:
    """The median of their ratios, repeat by repeat."""
    return median([value / other for value, other in zip(values, beside, strict=True)] if values and beside else [])
