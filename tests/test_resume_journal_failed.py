"""A journal write that fails stops the run, is never taken for a failing task, and the next run finds the truth."""

import sqlite3
import sys

import pytest
from scripts import histories, in_colour

import durable
from durable import JournalBusy, flow, task

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")

COLOURS = ["sync", "async"]

# The limit makes the next write to the log fail: EFBIG, as a full disk gives ENOSPC.
JOB = """
def disk_full():
    import resource
    size = os.path.getsize("runs.db-wal")
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

@task(retries=3)
DEF step(i):
    ran("step", i)
    if asked(f"in {i}"):
        disk_full()
    return i

@task(retries=3)
DEF outer():
    ran("outer")
    try:
        return AWAIT step(10)
    except Exception as error:
        raise RuntimeError("wrapped") from error

@flow
DEF job():
    found = []
    for i in range(3):
        try:
            found.append(AWAIT step(i))
        except ZeroDivisionError:
            pass
        if asked(f"after {i}"):
            disk_full()
    found.append(AWAIT outer())
    if asked("end"):
        disk_full()
    return found

if __name__ == "__main__":
    print(RUN(job()))
"""


@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize(
    ("place", "first", "second"),
    [
        ("in 1", ["step 0", "step 1"], ["step 1", "step 2", "outer", "step 10"]),
        ("after 1", ["step 0", "step 1"], ["step 2", "outer", "step 10"]),
        ("in 10", ["step 0", "step 1", "step 2", "outer", "step 10"], ["outer", "step 10"]),
        ("end", ["step 0", "step 1", "step 2", "outer", "step 10"], []),
    ],
)
def test_a_failed_write_stops_the_run_and_no_body_runs_twice_for_it(script, colour, place, first, second):
    script.write(in_colour(JOB, colour))
    ended = script.run(DIE=place)
    assert ended.code == 1
    assert ended.out == ""
    assert ended.err.strip().splitlines()[-1].startswith("durable.errors.JournalFailed: ")
    assert "runs.db" in ended.err
    assert "run the same command again" in ended.err
    assert script.ran() == first
    assert script.ok() == "[0, 1, 2, 10]"
    assert script.ran() == second
    assert len(script.flows()) == 1
    assert script.query("SELECT count(*) FROM states WHERE state IN ('Retrying', 'Failed')") == [(0,)]
    assert script.query("PRAGMA integrity_check") == [("ok",)]


@pytest.mark.parametrize("colour", COLOURS)
def test_a_flow_that_swallows_the_error_gets_no_further(script, colour):
    """Nothing runs whose result could not be kept, and the run does not end well."""
    text = in_colour(JOB, colour)
    script.write(
        text.replace("except ZeroDivisionError", "except Exception").replace(
            'raise RuntimeError("wrapped") from error', "return 10"
        )
    )
    ended = script.run(DIE="in 0")
    assert ended.code == 1
    assert "JournalFailed" in ended.err
    assert script.ran() == ["step 0"]
    assert script.ok() == "[0, 1, 2, 10]"
    assert script.ran() == ["step 0", "step 1", "step 2", "outer", "step 10"]


@pytest.mark.parametrize("colour", COLOURS)
def test_room_on_the_disk_again_does_not_mend_the_journal_in_process(script, colour):
    """What the failed write left is unknown, so this process writes no more; the next one finds out."""
    script.write(
        in_colour(
            """
            import resource

            def limit(size):
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))

            @task(retries=3)
            DEF step(i):
                ran("step", i)
                if i == 1 and asked("full"):
                    limit(os.path.getsize("runs.db-wal"))
                return i

            @flow
            DEF job():
                found = []
                for i in range(3):
                    try:
                        found.append(AWAIT step(i))
                    except Exception as error:
                        ran(type(error).__name__)
                        limit(resource.getrlimit(resource.RLIMIT_FSIZE)[1])
                return found

            if __name__ == "__main__":
                print(RUN(job()))
            """,
            colour,
        )
    )
    assert script.run(DIE="full").code == 1
    assert script.ran() == ["step 0", "step 1", "JournalFailed", "JournalFailed"]
    assert script.ok() == "[0, 1, 2]"
    assert script.ran() == ["step 1", "step 2"]


def test_a_journal_that_stays_locked_is_no_failure_of_the_task(tmp_path, monkeypatch):
    """JournalBusy: nothing was written, nothing is retried, and the run goes on once the lock is free."""
    from durable.journal import opening, writer

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(opening, "BUSY_TIMEOUT_MS", 20)
    monkeypatch.setattr(writer, "BUSY_SECONDS", 1)
    other, ran = [], []

    @task(retries=3)
    def step():
        ran.append("step")
        if len(ran) == 2:
            other.append(sqlite3.connect("runs.db", isolation_level=None))
            other[0].execute("BEGIN IMMEDIATE")
        return 1

    @task(retries=3)
    def outer():
        ran.append("outer")
        try:
            return step()
        finally:
            other.pop().close() if other else None  # free again: a failure could be recorded, but there was none

    @flow
    def job():
        return outer()

    with pytest.raises(JournalBusy, match="nothing was written"):
        job()
    assert ran == ["outer", "step"]
    assert histories(tmp_path / "runs.db", "outer") == [["Running"]]
    assert job() == 1
    assert ran == ["outer", "step"] * 2
    assert histories(tmp_path / "runs.db", "step") == [["Running", "Crashed", "Running", "Completed"]]
    durable.close_journals()


def test_in_a_gather_a_failed_write_fails_every_waiter(script):
    script.write(
        """
        @task(retries=2)
        async def step(i):
            ran("step", i)
            if i == 0 and asked("full"):
                import resource
                size = os.path.getsize("runs.db-wal")
                resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
            return i

        @flow
        async def job():
            found = await asyncio.gather(*[step(i) for i in range(20)], return_exceptions=True)
            ran("failed", sum(type(x).__name__ == "JournalFailed" for x in found))
            return sum(found)

        print(asyncio.run(job()))
        """
    )
    assert script.run(DIE="full").code == 1
    ran = script.ran()
    assert len(ran) == 21
    assert ran[-1] == "failed 20"
    assert script.ok() == "190"
    assert len(script.ran()) == 21


@pytest.mark.parametrize("colour", COLOURS)
def test_a_journal_deleted_under_a_run_stops_it(script, colour):
    """A result returned to its caller is in the journal; one that nobody can open any more does not count."""
    script.write(
        in_colour(
            """
            @task(retries=3)
            DEF step(i):
                ran("step", i)
                if i == 1 and asked("delete"):
                    for name in os.listdir("."):
                        if name.startswith("runs.db") and os.path.isfile(name):
                            os.unlink(name)
                return i

            @flow
            DEF job():
                return [AWAIT step(i) for i in range(3)]

            if __name__ == "__main__":
                print(RUN(job()))
            """,
            colour,
        )
    )
    ended = script.run(DIE="delete")
    assert ended.code == 1, ended
    assert "errors.JournalFailed" in ended.err
    assert script.ran() == ["step 0", "step 1"]
    assert not (script.folder / "runs.db-wal").exists()
    assert script.ok() == "[0, 1, 2]"
    assert script.ran() == ["step 0", "step 1", "step 2"]
