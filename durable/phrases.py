"""How durations, points in time, sizes and text of unknown origin are told to people."""

from __future__ import annotations

from datetime import datetime, timedelta


def duration(microseconds: float) -> str:
    """A duration in at most two units: ``850 µs``, ``41 ms``, ``3.1 s``, ``41m12s``, ``1h03m``, ``2d04h``."""
    seconds = microseconds / 1e6
    if seconds < 0.001:
        return f"{max(0, round(microseconds))} µs"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}m"
    return f"{whole // 86400}d{whole % 86400 // 3600:02d}h"


def moment(microseconds: int, now: int) -> str:
    """A point in time, local: ``today 02:14``, ``yesterday 02:14``, ``2026-11-20 02:14``."""
    at, today = datetime.fromtimestamp(microseconds / 1e6), datetime.fromtimestamp(now / 1e6)  # noqa: DTZ006 - local on purpose
    if at.date() == today.date():
        return f"today {at:%H:%M}"
    if at.date() == today.date() - timedelta(days=1):
        return f"yesterday {at:%H:%M}"
    return f"{at:%Y-%m-%d %H:%M}"


def counted(number: int, noun: str) -> str:
    """``1 task``, ``812 tasks``."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def safe(text: str) -> str:
    """`text` on one line, whatever would move a terminal's cursor or colour escaped as `repr` does."""
    return text if text.isprintable() else repr(text)[1:-1]


def size(count: int) -> str:
    """A number of bytes, in words: ``24 kB``."""
    if count < 1000:
        return f"{count} B"
    amount = float(count)
    for unit in ("kB", "MB", "GB"):
        amount /= 1000
        if amount < 999.5 or unit == "GB":
            return f"{amount:.1f} {unit}" if amount < 9.95 else f"{amount:.0f} {unit}"
    raise AssertionError
