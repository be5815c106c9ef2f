"""The parts of a page that need no script: headings, facts and tables, as HTML.

Whatever comes out of a journal passes through `Room` and `escape`. There are no style attributes, which the page's own
security policy refuses: a bar is an `<svg>` whose rectangles have their widths as attributes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import Final

from durable.cli import facts
from durable.cli.page.gather import BAD, LIVE, Kind, Profile
from durable.cli.page.room import Room
from durable.cli.terminal import value_text
from durable.phrases import counted, duration, safe
from durable.reader import Counts, Execution, Failure, FlowRun, JournalReader

_KINDS: Final = 200  # rows of the table of tasks
_PARAMETERS: Final = 40
_EXECUTIONS: Final = 100
_TRACEBACK: Final = 20_000


def tone(status: str) -> str:
    """The colour of a status or of a flow run's state."""
    word = status.lower().replace("timedout", "timed out")
    if word in BAD:
        return "bad"
    if word in LIVE:
        return "live"
    return {"ok": "ok", "completed": "ok", "cached": "cached", "rolled back": "cached"}.get(word, "quiet")


def badge(status: str) -> str:
    """A status as a word in its colour."""
    return f'<span class="badge {tone(status)}">{escape(safe(status))}</span>'


def when(microseconds: int) -> str:
    """A moment."""
    iso = facts.iso(microseconds)
    return f'<time datetime="{iso}">{iso[:10]} {iso[11:19]} UTC</time>'


def bar(parts: Iterable[tuple[str, float]], label: str = "") -> str:
    """A bar made of shares of the whole, each in a colour."""
    left, rectangles = 0.0, []
    for name, share in parts:
        if share > 0:
            rectangles.append(f'<rect class="{name}" x="{left:.3f}%" width="{share * 100:.3f}%" height="100%"/>')
            left += share * 100
    told = f'role="img" aria-label="{escape(label)}"' if label else 'aria-hidden="true"'
    return f'<svg class="bar" {told}>{"".join(rectangles)}</svg>'


def table(
    caption: str, columns: Sequence[str], rows: Iterable[Sequence[str]], right: frozenset[str] = frozenset()
) -> str:
    """A table; the first cell of each row is its header. Cells are HTML. Columns with nothing in them are left out."""
    rows = list(rows)
    used = [i for i in range(len(columns)) if i == 0 or any(row[i] for row in rows)]
    columns, rows = [columns[i] for i in used], [[row[i] for i in used] for row in rows]
    classes = [' class="num"' if name in right else "" for name in columns]
    head = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(columns, classes, strict=True))
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(rest, classes[1:], strict=True))
        body.append(f'<tr><th scope="row"{classes[0]}>{first}</th>{cells}</tr>')
    return (
        f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(caption)}">'
        f'<table><caption class="hidden">{escape(caption)}</caption><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def runs(reader: JournalReader, rows: Sequence[facts.Row], shown: FlowRun, older: int, room: Room) -> str:
    """The newest runs of the journal."""
    here = ' <span class="here">this page</span>'
    cells = [
        (
            f"<code>{row.run.id[:7]}</code>{here if row.run.row == shown.row else ''}",
            escape(room.line(row.run.flow, 60)),
            badge(row.run.state),
            when(row.run.started),
            duration(row.run.took),
            f"{row.counts.total:,}",
            _some(row.counts.cached),
            _some(row.counts.failed, "t-bad"),
            _some(row.counts.running + row.counts.cut_off),
            escape(room.line(row.note, 140)),
        )
        for row in rows
    ]
    columns = ("Run", "Flow", "State", "Started", "Took", "Tasks", "Cached", "Failed", "In flight", "Note")
    right = frozenset({"Took", "Tasks", "Cached", "Failed", "In flight"})
    more = f'<p class="note">{counted(older, "older run")} not shown.</p>' if older > 0 else ""
    name = escape(safe(reader.path.name))
    return section("runs", f"Runs in {name}", table("Runs, newest first", columns, cells, right) + more)


def heading(run: FlowRun, of: int | None, note: str, failure: Failure | None, room: Room) -> str:
    """What run this is, how it ended and why; `of`: how many runs the journal has, if the page lists them."""
    newest = f' · <a href="#runs">the newest of {counted(of, "run")}</a>' if of is not None else ""
    name = f"{escape(room.line(run.name, 120))} · " if run.name else ""
    executed = f"took {duration(run.took)} · {counted(run.executions, 'execution')}"
    parts = [
        f'<p class="kicker">Flow run <code>{run.id}</code>{newest}</p>',
        f"<h1>{escape(room.line(run.flow, 80))} {badge(run.state)}</h1>",
        f'<p class="sub">{name}{when(run.started)} · {executed}</p>',
    ]
    said = f"{failure.type_name}: {failure.message}" if failure is not None else ""
    if note and note != said:
        parts.append(f'<p class="why {tone(run.state)}">{escape(room.line(note, 400))}</p>')
    if failure is not None:
        parts.append(f'<details class="error"><summary>{escape(room.line(said, 400))}</summary>')
        parts.append(f'<pre tabindex="0">{escape(room.lines(failure.traceback, _TRACEBACK))}</pre></details>')
    return f'<header class="run">{"".join(parts)}</header>'


def tiles(profile: Profile, counts: Counts) -> str:
    """The numbers people ask for first."""
    at_once = profile.busy / profile.covered if profile.covered else 0.0
    done = counts.completed + counts.cached
    share = f"{done * 100 // counts.total}% of all" if counts.total else "none called"
    found = [
        ("Task runs", f"{counts.total:,}", f"{profile.attempts:,} attempts", ""),
        ("Completed", f"{counts.completed:,}", share, ""),
        ("From cache", f"{counts.cached:,}", "not executed", ""),
        ("Retried", f"{profile.retried:,}", f"waited {duration(profile.waited)}", "retried" if profile.retried else ""),
        ("Failed", f"{counts.failed:,}", "after all retries", "bad" if counts.failed else ""),
    ]
    if counts.cut_off:
        found.append(("Cut off", f"{counts.cut_off:,}", "process died", "bad"))
    if counts.running:
        found.append(("In flight", f"{counts.running:,}", "no end recorded yet", "live"))
    found.append(("Took", duration(profile.took), f"{at_once:.1f} calls at once", ""))
    cells = "".join(
        f'<div class="tile {kind}"><dt>{name}</dt><dd>{number}<small>{note}</small></dd></div>'
        for name, number, note, kind in found
    )
    return f'<dl class="tiles">{cells}</dl>'


def where_time_went(profile: Profile, room: Room) -> str:
    """The run's time as one bar, and the tasks with what each took."""
    elapsed = max(profile.elapsed, profile.took, 1)
    shares = [
        ("ok", "in tasks and subflows", profile.covered),
        ("code", "in the flow's own code", profile.took - profile.covered),
        ("quiet", "executed by nobody", elapsed - profile.took),
    ]
    told = [(name, text, time) for name, text, time in shares if time > 0]
    legend = "".join(
        f'<li><svg class="key" aria-hidden="true"><rect class="{name}" width="100%" height="100%"/></svg>'
        f"<b>{duration(time)}</b> {text} <span>{time / elapsed:.0%}</span></li>"
        for name, text, time in told
    )
    label = ", ".join(f"{duration(time)} {text}" for _, text, time in told)
    whole = bar([(name, time / elapsed) for name, _, time in told], label)
    kinds = sorted(profile.kinds.values(), key=lambda kind: (-kind.own, -kind.calls, kind.name))
    most = max((kind.own for kind in kinds), default=0) or 1
    rows = [_kind(kind, most, room) for kind in kinds[:_KINDS]]
    if len(kinds) > _KINDS:
        rest = kinds[_KINDS:]
        time = duration(sum(kind.own for kind in rest))
        rows.append(
            (f"{len(rest)} others", "", time, "", "", str(sum(kind.calls for kind in rest)), "", "", "", "", "")
        )
    columns = (
        "Task",
        "Own time",
        "Share",
        "With calls",
        "Lost to failures",
        "Calls",
        "Cached",
        "Retried",
        "Not ok",
        "Median",
        "p95",
    )
    body = table("Tasks, by the time they took", columns, rows, frozenset(columns) - {"Task", "Share"})
    note = "Own time is that of all attempts, without the tasks called in them. Median and p95 are of last attempts."
    return section(
        "time",
        "Where the time went",
        f'<div class="whole">{whole}<ul class="legend">{legend}</ul></div>{body}<p class="note">{note}</p>',
    )


def _kind(kind: Kind, most: int, room: Room) -> tuple[str, ...]:
    statuses = kind.statuses
    times = kind.spread.times()
    own = max(kind.own, 0)
    lost = min(kind.failed_time, own)
    wrong = sum(statuses[status] for status in BAD)
    name = escape(room.line(kind.name, 60))
    waits = ", ".join(room.line(f"{other} ({argument})", 60) for (other, argument), _ in kind.upstream.most_common(6))
    after = f'<small class="after">after {escape(waits)}</small>' if waits else ""
    label = "flow " if kind.is_flow else ""
    return (
        f'{label}{name}<small class="where">{escape(room.line(kind.function, 80))}</small>{after}',
        duration(own),
        bar([("ok", (own - lost) / most), ("retried", lost / most)]),
        duration(kind.total) if kind.total != kind.own else "",
        f'<span class="t-retried">{duration(kind.failed_time)}</span>' if kind.failed_time else "",
        f"{kind.calls:,}",
        _some(statuses["cached"]),
        _some(kind.retried, "t-retried"),
        _some(wrong, "t-bad"),
        duration(times.p50) if times is not None else "",
        duration(times.p95) if times is not None else "",
    )


def _some(number: int, kind: str = "") -> str:
    text = f"{number:,}" if number else ""
    return f'<span class="{kind}">{text}</span>' if number and kind else text


def about(run: FlowRun, parameters: dict[str, object] | None, executions: Sequence[Execution], room: Room) -> str:
    """With what it was called, and who executed it."""
    items = [("Function", escape(room.line(run.function)))]
    if run.idempotency_key:
        items.append(("Idempotency key", escape(room.line(run.idempotency_key))))
    for name, value in list((parameters or {}).items())[:_PARAMETERS]:
        items.append(
            (
                f"Parameter {escape(room.line(name, 60))}",
                f"<code>{escape(room.line(value_text(value, 200), 200))}</code>",
            )
        )
    listed = "".join(f"<div><dt>{name}</dt><dd>{value}</dd></div>" for name, value in items)
    rows = [
        (
            str(number),
            badge(each.state),
            when(each.started),
            duration(max(0, each.ended - each.started)) if each.ended is not None else "so far",
            f"{each.process.pid} on {escape(room.line(each.process.host, 60))}",
            escape(room.line(f"{each.process.python}", 20)),
            f"<code>{escape(room.line(facts.command(each.process.command), 160))}</code>",
            escape(room.line(each.message or "", 200)),
        )
        for number, each in list(enumerate(executions, 1))[-_EXECUTIONS:]
    ]
    columns = ("#", "Ended as", "Started", "Took", "Process", "Python", "Command", "Message")
    return section(
        "about",
        "About this run",
        f'<dl class="facts">{listed}</dl>' + table("Executions", columns, rows, frozenset({"Took"})),
    )


def nothing(outside: int, room: Room) -> str:
    """A journal without flow runs."""
    tasks = f" It holds {counted(outside, 'task run')} outside any flow." if outside else ""
    return f"<h1>No flow runs</h1><p>{escape(room.line('Nothing was run in this journal as a flow yet.' + tasks))}</p>"


NEEDS_SCRIPT: Final = (
    '<noscript><p class="note">The timeline, the tree of calls and the list of task runs need JavaScript; '
    "everything else is here.</p></noscript>"
)


def timeline() -> str:
    """Where the script draws what went on when."""
    return section("timeline", "Timeline", '<div id="timeline-box"></div>', hidden=True)


def calls(shown: int, total: int, *, whole: bool) -> str:
    """Where the script puts the tree of calls and the list of task runs."""
    which = (
        f"All {shown:,}, failures first."
        if whole
        else f"{shown:,} of {total:,}: those that failed, were cut off, are under way or were retried, and the slowest."
    )
    listed = f'<p class="note">{which}</p><div id="list-box"></div>'
    return section("calls", "Calls", '<div id="tree-box"></div>', hidden=True) + section(
        "list", "Task runs", listed, hidden=True
    )


def section(name: str, title: str, body: str, *, hidden: bool = False) -> str:
    """A part of the page with its heading; the script shows those that are hidden."""
    attributes = f'id="{name}" aria-labelledby="{name}-h"{" hidden" if hidden else ""}'
    return f'<section {attributes}><h2 id="{name}-h">{title}</h2>{body}</section>'
