"""How many task runs of a flow run stand where, told from stretches of rows instead of from one row after the other.

Rules:

1. Task runs are numbered as they begin. Where those of a flow run and its subflows have every number from the first to
   the last (nobody else wrote to the journal meanwhile), their transitions are one stretch of `task_run_state`, and are
   counted without a look at the task runs. Otherwise each transition's task run is looked at; and where the numbers lie
   far apart, one task run after the other is.
2. A run stands where its newest transition says. So those that entered a state are counted, and those that left it are
   taken off: only a retry, a rollback or a later execution leaves a state behind.
3. What has no transition is being executed, or was: nearly always the newest. They are looked for backwards, until as
   many are found as there are.
4. A limit keeps the newest, by number. Of a damaged file the numbers may be wrong, never negative.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from durable.reader import sql

_SPARSE: Final = 16  # numbers for each task run from which on walking the task runs is quicker
_ALL: Final = 1 << 62

# The task runs of a flow run and of its subflows: first, last, and how many, up to a limit.
MEMBERS: Final = """
WITH RECURSIVE family(id) AS (
    VALUES (:a) UNION SELECT r.id FROM family JOIN flow_run AS r ON r.parent_flow_run_id = family.id)
SELECT family.id, (SELECT t.id FROM task_run AS t WHERE t.flow_run_id = family.id ORDER BY t.id LIMIT 1),
       (SELECT t.id FROM task_run AS t WHERE t.flow_run_id = family.id ORDER BY t.id DESC LIMIT 1),
       (SELECT count(*) FROM (SELECT 1 FROM task_run AS t WHERE t.flow_run_id = family.id LIMIT :b))
FROM family"""
OUTSIDE: Final = """
SELECT NULL, (SELECT t.id FROM task_run AS t WHERE t.flow_run_id IS NULL ORDER BY t.id LIMIT 1),
       (SELECT t.id FROM task_run AS t WHERE t.flow_run_id IS NULL ORDER BY t.id DESC LIMIT 1),
       (SELECT count(*) FROM (SELECT 1 FROM task_run AS t WHERE t.flow_run_id IS NULL LIMIT ?))"""
NEWEST: Final = "SELECT t.id FROM task_run AS t WHERE t.flow_run_id IS ? ORDER BY t.id DESC LIMIT 1 OFFSET ?"

_OF_MEMBERS: Final = """
    AND EXISTS (SELECT 1 FROM task_run AS t WHERE t.id = {row} AND t.flow_run_id IN (SELECT value FROM json_each(?)))"""
_OF_NONE: Final = """
    AND EXISTS (SELECT 1 FROM task_run AS t WHERE t.id = {row} AND t.flow_run_id IS NULL)"""
_STATES: Final = """
       count(*) FILTER (WHERE {s}.state = 7), count(*) FILTER (WHERE {s}.state = 8),
       count(*) FILTER (WHERE {s}.state IN (10, 11)), count(*) FILTER (WHERE {s}.state = 12),
       count(*) FILTER (WHERE {s}.state = 9)"""
_UNDER_WAY: Final = "(3, 4, 5, 6, 12, 13)"
_PLAINLY: Final = """
SELECT count(*), count(*) FILTER (WHERE s.state = 7 AND s.seq = 1)
FROM task_run_state AS s WHERE s.task_run_id BETWEEN ? AND ?"""
_ENTERED: Final = f"""
SELECT count(*) FILTER (WHERE s.seq = 1),{_STATES.format(s="s")},
       max(s.seq), count(*) FILTER (WHERE s.state IN {_UNDER_WAY})
FROM task_run_state AS s WHERE s.task_run_id BETWEEN ? AND ? AND (s.state <> 7 OR s.seq <> 1)"""
_LEFT: Final = f"""
SELECT 0,{_STATES.format(s="p")}
FROM task_run_state AS s CROSS JOIN task_run_state AS p ON p.task_run_id = s.task_run_id AND p.seq = s.seq - 1
WHERE s.task_run_id BETWEEN ? AND ? AND s.seq > 1"""
# Not ended, or said to have crashed, grouped by hand: (of this process, of others, newest cut off, newest open).
_OPEN: Final = f"""
SELECT count(*) FILTER (WHERE s.state <> 12 AND s.process_id = ?),
       count(*) FILTER (WHERE s.state <> 12 AND s.process_id <> ?),
       max(iif(s.state = 12 OR s.process_id <> ?, s.task_run_id, NULL)),
       max(iif(s.state <> 12, s.task_run_id, NULL))
FROM task_run_state AS s WHERE s.task_run_id BETWEEN ? AND ? AND s.state IN {_UNDER_WAY}
    AND NOT EXISTS (SELECT 1 FROM task_run_state AS n WHERE n.task_run_id = s.task_run_id AND n.seq = s.seq + 1)"""
# Without a transition: the same four, and those in the states of `_STATES` from the start.
_BARE: Final = f"""
SELECT count(*) FILTER (WHERE s.state IN (3, 4, 5, 6, 13) AND s.process_id = ?),
       count(*) FILTER (WHERE s.state IN (3, 4, 5, 6, 13) AND s.process_id <> ?),
       max(iif(s.state = 12 OR s.state IN (3, 4, 5, 6, 13) AND s.process_id <> ?, s.id, NULL)),
       max(iif(s.state IN (3, 4, 5, 6, 13), s.id, NULL)),{_STATES.format(s="s")}
FROM (SELECT r.id, r.state, r.process_id FROM task_run AS r WHERE r.id BETWEEN ? AND ?
          AND NOT EXISTS (SELECT 1 FROM task_run_state AS n WHERE n.task_run_id = r.id){{members}}
      ORDER BY r.id DESC LIMIT ?) AS s"""
_NONE_LEFT: Final = (0, 0, 0, 0, 0, 0)
_NONE_OPEN: Final = (0, 0, None, None)

Rows = Callable[..., list[Any]]


class Counted(NamedTuple):
    """Task runs by the state they stand in.

    Attributes:
        mine: not ended, and last heard of from the process that was asked for; `others`: from another one.
        newest_cut_off: row of the newest that crashed or is of another process; `newest_open`: of the newest not ended.
        more: there are older ones, which were not counted.
    """

    total: int
    completed: int
    cached: int
    failed: int
    crashed: int
    rolled_back: int
    mine: int
    others: int
    newest_cut_off: int | None
    newest_open: int | None
    more: bool


def counted(rows: Rows, flow_run: int | None, process: int, most: int | None) -> Counted:
    """Count the task runs of a flow run and its subflows (None: those outside any flow), at most the newest `most`."""
    limit = _ALL if most is None else most + 1
    found = rows(OUTSIDE, limit) if flow_run is None else rows(MEMBERS, flow_run, limit)
    members = [(id_, low, high, number) for id_, low, high, number in found if number]
    members, more = _newest(rows, members, most)
    total = sum(number for *_, number in members)
    if not total:
        return Counted(0, 0, 0, 0, 0, 0, 0, 0, None, None, more)
    low, high = min(low for _, low, _, _ in members), max(high for _, _, high, _ in members)
    if not more and (high - low) // _SPARSE > total:
        (walked,) = rows(sql.COUNTS_OUTSIDE, None, process) if flow_run is None else rows(sql.COUNTS, flow_run, process)
        return Counted._make((*(number or 0 for number in walked[:-2]), *walked[-2:], more))
    if high - low + 1 == total:
        return _stretch(rows, low, high, total, process, None, more=more)
    ids = [id_ for id_, *_ in members]
    if flow_run is None:
        return _stretch(rows, low, high, total, process, (_OF_NONE, ()), more=more)
    return _stretch(rows, low, high, total, process, (_OF_MEMBERS, (json.dumps(ids),)), more=more)


def _newest(rows: Rows, members: list[Any], most: int | None) -> tuple[list[Any], bool]:
    """The members with the newest task runs, the last of them cut short where the limit is reached."""
    if most is None or sum(number for *_, number in members) <= most:
        return members, False
    kept: list[Any] = []
    for id_, low, high, number in sorted(members, key=lambda member: member[2], reverse=True):
        rest = most - sum(kept_number for *_, kept_number in kept)
        if rest <= 0:
            break
        if number > rest:
            ((low,),) = rows(NEWEST, id_, rest - 1)  # noqa: PLW2901 - the same member, cut short
        kept.append((id_, low, high, min(number, rest)))
    return kept, True


def _stretch(
    rows: Rows,
    low: int,
    high: int,
    total: int,
    process: int,
    members: tuple[str, tuple[Any, ...]] | None,
    *,
    more: bool,
) -> Counted:
    """Count what lies between two numbers; `members` tells whose it must be, where that has to be asked."""
    text, ids = members or ("", ())
    mine = text.format(row="s.task_run_id")
    # Most were executed once and completed. Telling the others apart, and looking for what each of them may have left
    # behind, takes three times as long, so it is done for those only.
    ((number, plainly),) = rows(_PLAINLY + mine, low, high, *ids)
    entered, left, open_, most, under_way = [plainly, plainly, 0, 0, 0, 0], _NONE_LEFT, _NONE_OPEN, None, 0
    if number > plainly:
        ((*others, most, under_way),) = rows(_ENTERED + mine, low, high, *ids)
        entered = [a + b for a, b in zip(entered, others, strict=True)]
    if most is not None and most > 1:
        (left,) = rows(_LEFT + mine, low, high, *ids)
    if under_way:
        (open_,) = rows(_OPEN + mine, process, process, process, low, high, *ids)
    bare: Any = (0, 0, None, None, 0, 0, 0, 0, 0)
    missing = total - entered[0]
    if missing > 0:
        query = _BARE.format(members=text.format(row="r.id"))
        (bare,) = rows(query, process, process, process, low, high, *ids, missing)
    stood = (max(0, a - b + c) for a, b, c in zip(entered[1:], left[1:], bare[4:], strict=True))
    cut_off, newest_open = (max(open_[i] or 0, bare[i] or 0) or None for i in (2, 3))
    return Counted._make((total, *stood, open_[0] + bare[0], open_[1] + bare[1], cut_off, newest_open, more))
