"""The report: one HTML page about a journal and one of its flow runs, which needs nothing but a browser.

The page is made of three things: what Python writes as HTML (it is all there without a script), the facts of task runs
as JSON in an inert `<script type="application/json">`, and the style and script in ``assets``. Its security policy
names the digests of those two and allows nothing else, no network, no inline handler, no style attribute; and
the script only ever sets text, never HTML. So a task may be named ``<script>``.
"""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import sha256
from html import escape
from importlib.resources import files
from typing import Any

from durable.cli import facts
from durable.cli.page import markup
from durable.cli.page.details import Details
from durable.cli.page.gather import PLACE, Profile
from durable.cli.page.room import Room
from durable.cli.page.viewed import viewed_body
from durable.clock import clock
from durable.phrases import safe
from durable.reader import FlowRun, JournalReader, sql
from durable.version import __version__

__all__ = ["page", "viewed_page"]

_SCRIPTS = ("base.js", "dialog.js", "timeline.js", "tree.js", "list.js", "start.js")
_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def page(reader: JournalReader, run: FlowRun | None, newest: int | None) -> bytes:
    """The report of one flow run.

    Args:
        reader: the journal.
        run: the flow run; None: nothing but a list of runs, which is empty.
        newest: how many of the newest runs to list above it; None: no list.
    """
    room = Room()
    parts = []
    of: int | None = None
    if newest is not None:
        rows = list(facts.rows(reader, newest))
        of = int(reader.rows(sql.COUNT_ROOT_RUNS)[0][0])
        if run is None:
            outside = reader.counts(None).total
            parts.append(markup.nothing(outside, room))
        else:
            parts.append(markup.runs(reader, rows, run, of - len(rows), room))
    if run is None:
        return _document(f"{reader.path.name}: no flow runs", "".join(parts), {}, reader)
    counts = reader.counts(run)
    failure = None if run.completed else reader.failure(run)
    parts.insert(0, markup.heading(run, of, facts.why(reader, run, counts), failure, room))
    profile = Profile(reader, run, counts.total)
    details = Details(profile, room)
    parts[1:1] = [
        markup.tiles(profile, counts),
        markup.NEEDS_SCRIPT,
        markup.timeline(),
        markup.where_time_went(profile, room),
        markup.calls(len(details.runs), profile.total, whole=profile.whole),
    ]
    parts.append(markup.about(run, reader.parameters(run), reader.executions(run), room))
    if room.full:
        parts.append('<p class="note">Some text was left out, for the page had grown large.</p>')
    return _document(f"{run.flow} {run.id[:7]}", "".join(parts), _data(profile, details), reader)


def viewed_page(reader: JournalReader, prefix: str | None) -> bytes:
    """The report of a journal whose tables are not known here: tables of what its public views offer."""
    title, body = viewed_body(reader, prefix, Room())
    return _document(title, body, {}, reader)


def _data(profile: Profile, details: Details) -> dict[str, Any]:
    started = profile.stretches.spans[0][0]
    lanes = [
        {
            "name": safe(name)[:60],
            "levels": [round(level, 3) for level in lane.levels()],
            "marks": {kind: sorted(found.items()) for kind, found in lane.marks.items()},
        }
        for name, lane in (
            ("", profile.overall),
            *sorted(profile.lanes.items(), key=lambda item: (item[0] != PLACE, item[0])),
        )
    ]
    return {
        "parts": [
            [part.begin - started, part.end - started, round(part.left), round(part.right)]
            for part in profile.axis.parts[:500]
        ],
        "started": facts.iso(started),
        "overall": lanes[0],
        "lanes": lanes[1:],
        "whole": profile.whole,
        "total": profile.total,
        "runs": details.runs,
        "nodes": details.nodes,
        "cut": details.cut,
    }


def _document(title: str, body: str, data: dict[str, Any], reader: JournalReader) -> bytes:
    style = _asset("page.css")
    script = f'(() => {{\n"use strict";\n{"".join(map(_asset, _SCRIPTS))}}})();\n'
    policy = (
        f"default-src 'none'; script-src {_digest(script)}; style-src {_digest(style)}; "
        "base-uri 'none'; form-action 'none'"
    )
    notes = "".join(f'<p class="note">{escape(safe(note))}</p>' for note in reader.notes)
    made = f"Made {markup.when(clock().now())} by durable {escape(__version__)} from {escape(safe(str(reader.path)))}."
    text = f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<title>{escape(safe(title))} · durable</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<div class="top"><div class="inner">
<span class="brand">durable</span><span class="file">{escape(safe(reader.path.name))}</span>
<div class="tools" hidden>
<label class="hidden" for="search">Search task runs</label>
<input id="search" type="search" placeholder="Search task runs" autocomplete="off" spellcheck="false">
<button id="theme" type="button">Theme: system</button>
</div>
</div></div>
<main id="main" tabindex="-1">
{notes}{body}
</main>
<footer><p>{made}</p></footer>
<script type="application/json" id="data">{_embedded(data)}</script>
<script>{script}</script>
</body>
</html>
"""
    return text.encode("utf-8", "replace")


def _embedded(data: dict[str, Any]) -> str:
    """JSON that an HTML parser cannot mistake for anything, whatever strings are in it."""
    return json.dumps(data, ensure_ascii=False, separators=(",", ":")).translate(_ESCAPES)


def _asset(name: str) -> str:
    return files(__name__).joinpath("assets").joinpath(name).read_text(encoding="utf-8")


def _digest(text: str) -> str:
    return f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
