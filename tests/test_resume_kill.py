"""`kill -9` anywhere, the same command again: the work continues where it stopped."""

import random
import signal
import time

import pytest
from scripts import DEADLINE, finish, in_colour

COLOURS = ["sync", "async"]

JOB = """
@task
DEF step(i):
    ran("step", i)
    die(f"in {i}")
    return {"i": i, "square": (i, i * i)}

@task
DEF total(rows):
    ran("total")
    die("in total")
    return sum(row["square"][1] for row in rows)

@flow
DEF job(n):
    rows = []
    for i in range(n):
        rows.append(AWAIT step(i))
        die(f"after {i}")
    result = AWAIT total(rows), rows
    die("end")
    return result

if __name__ == "__main__":
    print(RUN(job(6)))
"""
UNCRASHED = str((55, [{"i": i, "square": (i, i * i)} for i in range(6)]))


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("word", "again"),
    [
        ("in 0", ["step 0", "step 1", "step 2", "step 3", "step 4", "step 5", "total"]),
        ("in 3", ["step 3", "step 4", "step 5", "total"]),
        ("after 3", ["step 4", "step 5", "total"]),
        ("in total", ["total"]),
        ("end", []),
    ],
)
def test_what_completed_before_the_kill_is_not_executed_again(script, colour, word, again):
    script.write(in_colour(JOB, colour))
    script.killed(word)
    script.ran()
    assert script.ok() == UNCRASHED
    assert script.ran() == again
    assert len(script.flows()) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_the_resuming_run_may_be_killed_too(script, colour):
    script.write(in_colour(JOB, colour))
    for word, executed in [
        ("in 2", ["step 0", "step 1", "step 2"]),
        ("in 2", ["step 2"]),
        ("in 4", ["step 2", "step 3", "step 4"]),
        ("after 4", ["step 4"]),
        ("in total", ["step 5", "total"]),
    ]:
        script.killed(word)
        assert script.ran() == executed
    assert script.ok() == UNCRASHED
    assert script.ran() == ["total"]
    assert script.flows() == [["Running"] + ["Crashed", "Running"] * 5 + ["Completed"]]
    assert script.tasks("step")[2] == ["Running", "Crashed", "Running", "Crashed", "Running", "Completed"]
    assert script.query("SELECT max(attempts) FROM task_runs WHERE task = 'step'") == [(3,)]


def test_the_resume_says_in_one_line_what_it_does(script):
    script.write(in_colour(JOB, "sync"))
    assert "resuming" not in script.killed("in 3").err
    lines = [line for line in script.run().err.splitlines() if "resuming" in line]
    assert len(lines) == 1
    assert "resuming job" in lines[0]
    assert "begun today" in lines[0] or "begun yesterday" in lines[0]
    assert "3 tasks restored" in lines[0]


def test_a_completed_run_is_not_resumed(script):
    script.write(in_colour(JOB, "sync"))
    assert script.ok() == script.ok() == UNCRASHED
    assert len(script.ran()) == 14
    assert script.flows() == [["Running", "Completed"]] * 2


@pytest.mark.parametrize("colour", COLOURS)
def test_killed_from_outside_at_any_moment(script, colour):
    """Whatever the journal calls Completed when the process dies is not executed again, and the result is right."""
    text = in_colour(JOB, colour).replace("job(6)", "job(150)")
    # It does not end before it can be killed: from here on a run waits in its last step.
    script.write(text.replace('die(f"in {i}")', 'if i == 149: signal_files("last")'))

    def wait_for_lines(count):
        deadline = time.monotonic() + DEADLINE
        while len(script.all_ran()) < count and not (script.folder / "last.here").exists():
            assert process.poll() is None and time.monotonic() < deadline, finish(process)
            time.sleep(0.001)

    chance = random.Random(colour)
    for _ in range(6):
        process = script.start()
        wait_for_lines(len(script.all_ran()) + chance.randint(1, 25))
        process.kill()
        finish(process)
        completed = script.query("SELECT count(*) FROM task_runs WHERE state = 'Completed'")[0][0]
        executed = script.all_ran()
        # In the order of the loop: the first `completed` are done, one more may have been in flight.
        assert len(set(executed)) - completed in (0, 1)
        script.ran()
        process = script.start()
        wait_for_lines(len(script.all_ran()) + 1)
        process.kill()
        finish(process)
        new = script.ran()
        assert not {f"step {i}" for i in range(completed)} & set(new)
    script.go("last")
    assert script.ok().startswith(str((sum(i * i for i in range(150)), [{"i": 0}]))[:8])
    assert len(script.flows()) == 1


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_equal_calls_in_a_loop_map_kth_to_kth(script, kind):
    script.write(
        in_colour(
            """
            @task
            DEF draw():
                ran("draw")
                value = len(open("ran.log").read().splitlines())
                die(f"draw {value}")
                return value

            @flow
            DEF job():
                values = []
                for _ in range(5):
                    values.append(AWAIT draw())
                return values

            print(RUN(job()))
            """,
            kind,
        )
    )
    script.killed("draw 4")
    # The first three keep what they drew; the fourth draws again.
    assert script.ok() == "[1, 2, 3, 5, 6]"
    assert script.query("SELECT occurrence, state FROM task_runs ORDER BY task_run_row") == [
        (k, "Completed") for k in range(1, 6)
    ]


def test_a_gather_of_200_killed_half_way_runs_only_the_unfinished_again(script):
    script.write(
        """
        done = 0

        @task
        async def fetch(i):
            global done
            ran("fetch", i)
            await asyncio.sleep(600 if asked("half") and i % 2 == 0 else 0)
            return i * 10

        @flow
        async def job():
            async def killer():
                while open_half():
                    await asyncio.sleep(0.005)
                die("half")
            if asked("half"):
                watch = asyncio.create_task(killer())
            return sum(await asyncio.gather(*[fetch(i) for i in range(200)]))

        def open_half():
            import sqlite3, contextlib
            with contextlib.closing(sqlite3.connect("file:runs.db?mode=ro", uri=True)) as db:
                return db.execute("SELECT count(*) FROM task_runs WHERE state = 'Completed'").fetchone()[0] < 100

        print(asyncio.run(job()))
        """
    )
    script.killed("half")
    assert len(script.ran()) == 200
    (completed,) = script.query("SELECT count(*) FROM task_runs WHERE state = 'Completed'")[0]
    assert completed == 100
    assert script.ok() == str(sum(range(200)) * 10)
    again = script.ran()
    assert len(again) == len(set(again)) == 200 - completed
    assert script.query("SELECT state, count(*) FROM task_runs GROUP BY state") == [("Completed", 200)]


def test_gather_takes_identity_when_called_not_when_finished(script):
    """Equal calls in a gather that finish in another order keep their places."""
    script.write(
        """
        import contextlib, sqlite3

        def none_has_completed():
            with contextlib.closing(sqlite3.connect("file:runs.db?mode=ro", uri=True)) as db:
                return db.execute("SELECT count(*) FROM task_runs WHERE state = 'Completed'").fetchone() == (0,)

        @task
        async def draw():
            ran("draw")
            mine = len(open("ran.log").read().splitlines())
            while mine == 1 and none_has_completed():
                await asyncio.sleep(0.005)
            die(f"finish {mine}")
            return mine

        @flow
        async def job():
            return await asyncio.gather(draw(), draw())

        print(asyncio.run(job()))
        """
    )
    script.killed("finish 1")  # the second call has completed, the first has not
    script.ran()
    assert script.ok() == "[3, 2]"
    assert script.ran() == ["draw"]


def test_results_come_back_equal_in_type_and_value(script):
    script.write(
        """
        import collections, dataclasses, datetime, decimal, enum, pathlib, typing, uuid, zoneinfo

        class Colour(enum.Enum):
            RED = 1

        @dataclasses.dataclass
        class Point:
            x: int
            tags: set = dataclasses.field(default_factory=set)

        class Pair(typing.NamedTuple):
            a: int
            b: tuple

        VALUES = [
            None, True, 1, 2**80, 1.0, -0.0, 1j, "a", b"a", bytearray(b"a"), (1, [2, (3,)]), [], {1, 2},
            frozenset({(1, 2)}), {(1, 2): {3}}, {1: "a", None: "b"},
            Point(1, {2}), Pair(1, (2,)), Colour.RED, decimal.Decimal("1.50"),
            uuid.UUID(int=5), pathlib.Path("a/b"), datetime.datetime(2026, 11, 1, 1, 30, fold=1),
            datetime.datetime(2026, 1, 1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")), datetime.date(2026, 1, 1),
            datetime.timedelta(days=-1, microseconds=5), range(3), collections.OrderedDict(b=1, a=2),
            collections.defaultdict(list, a=[1]), collections.Counter("aab"), collections.deque([1, 2], maxlen=3),
        ]

        @task
        def value(i):
            ran(i)
            return VALUES[i]

        @flow
        def job():
            found = [value(i) for i in range(len(VALUES))]
            die("end")
            for i, (a, b) in enumerate(zip(found, VALUES)):
                assert type(a) is type(b) and repr(a) == repr(b) and a == b, (i, a, b)
            assert found[-1].maxlen == 3
            return len(found)

        print(job())
        """
    )
    script.killed("end")
    count = len(script.ran())
    assert script.ok() == str(count)
    assert script.ran() == []


def test_a_resume_writes_no_row_for_what_it_replays(script):
    script.write(in_colour(JOB, "sync").replace("job(6)", "job(600)"))  # more than is read ahead at once
    script.killed("end")
    tables = ("task", "task_run", "task_run_state", "flow", "flow_run")
    before = [script.query(f"SELECT count(*) FROM {table}") for table in tables]
    results = script.query("SELECT count(*) FROM result")[0][0]
    script.ok()
    assert [script.query(f"SELECT count(*) FROM {table}") for table in tables] == before
    assert script.query("SELECT count(*) FROM result") == [(results + 1,)]  # the flow's own
    assert script.query("SELECT count(*) FROM flow_run_state") == [(3,)]


def test_a_long_task_that_died_half_way_loses_only_its_own_glue(script):
    script.write(
        """
        @task
        def part(i):
            ran("part", i)
            die(f"part {i}")
            return i

        @task
        def whole(n):
            ran("whole")
            return [part(i) for i in range(n)] + [inner(n)]

        @task
        def inner(n):
            ran("inner")
            return [part(i) for i in range(n)]

        @flow
        def job():
            return part(0), whole(4)

        print(job())
        """
    )
    script.killed("part 2")
    assert script.ran() == ["part 0", "whole", "part 0", "part 1", "part 2"]
    script.killed("part 3")
    assert script.ran() == ["whole", "part 2", "part 3"]
    assert script.ok() == "(0, [0, 1, 2, 3, [0, 1, 2, 3]])"
    assert script.ran() == ["whole", "part 3", "inner", "part 0", "part 1", "part 2", "part 3"]
    parents = script.query(
        "SELECT p.task, count(*) FROM task_runs AS t JOIN task_runs AS p ON p.task_run_row = t.parent_task_run_row "
        "GROUP BY 1 ORDER BY 1"
    )
    assert parents == [("inner", 4), ("whole", 5)]


def test_the_start_is_committed_before_the_body_runs(script):
    """Otherwise a kill could not know what was in flight."""
    script.write(
        """
        @task
        def look():
            import sqlite3
            db = sqlite3.connect("file:runs.db?mode=ro", uri=True)
            print(db.execute("SELECT task, state FROM task_runs").fetchall(), flush=True)
            db.close()
            os.kill(os.getpid(), signal.SIGKILL)

        @flow
        def job():
            look()

        job()
        """
    )
    ended = script.run()
    assert ended.code == -signal.SIGKILL
    assert ended.out.strip() == "[('look', 'Running')]"
    assert script.tasks("look") == [["Running"]]


def test_a_result_is_committed_before_its_caller_sees_it(script):
    script.write(
        """
        @task
        def one():
            return 1

        @flow
        def job():
            one()
            import sqlite3
            db = sqlite3.connect("file:runs.db?mode=ro", uri=True)
            print(db.execute("SELECT task, state FROM task_runs").fetchall())
            db.close()

        job()
        """
    )
    assert script.ok() == "[('one', 'Completed')]"
