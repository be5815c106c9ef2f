"""Named rates: so many at once and then one as each slot decays, over processes, their deaths, and clock jumps."""

import asyncio
import warnings

import pytest
from crowds import Crowd, in_threads
from hypothesis import given
from hypothesis import strategies as st
from scripts import FakeClock

import durable
from durable import ConcurrencyTimeoutError, ConfigurationError
from durable.clock import use_clock
from durable.concurrency import asyncio as in_asyncio
from durable.concurrency import rate_limit
from durable.concurrency import sync as in_sync

RATE = {"limit": 3, "slot_decay_per_second": 0.5}


def test_a_rate_lets_its_slots_pass_at_once_and_then_one_as_each_decays(journal, clock):
    begun, passed = clock.seconds, []
    for _ in range(6):
        rate_limit("api", **RATE)
        passed.append(clock.seconds - begun)
    assert passed == pytest.approx([0, 0, 0, 2, 4, 6])
    clock.seconds += 100
    rate_limit("api", 3, **RATE)
    assert clock.seconds - begun == pytest.approx(106), "it has emptied meanwhile"
    rate_limit("api", 2, **RATE)
    assert clock.seconds - begun == pytest.approx(110)


def test_a_rate_is_a_context_manager_of_both_colours_and_can_be_awaited(journal, clock):
    begun = clock.seconds

    async def main():
        await rate_limit("api", limit=1, slot_decay_per_second=1)
        async with rate_limit("api", limit=1, slot_decay_per_second=1):
            pass
        with rate_limit("api", limit=1, slot_decay_per_second=1):
            pass
        await in_asyncio.rate_limit("api", limit=1, slot_decay_per_second=1)
        in_sync.rate_limit("api", limit=1, slot_decay_per_second=1)

    asyncio.run(main())
    assert clock.seconds - begun == pytest.approx(4)
    api = rate_limit("api", limit=1, slot_decay_per_second=1)
    assert clock.seconds - begun == pytest.approx(5), "in plain code the call waits"
    with api:
        assert clock.seconds - begun == pytest.approx(5), "and what it gives does not wait again"
    with api:
        assert clock.seconds - begun == pytest.approx(6), "but each further use does"


def test_a_rate_that_is_neither_awaited_nor_entered_is_warned_about(journal):
    async def main():
        rate_limit("api", limit=1, slot_decay_per_second=1)

    with pytest.warns(RuntimeWarning, match="neither awaited nor entered"):
        asyncio.run(main())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConfigurationError):
            in_asyncio.rate_limit("")


def test_a_rate_that_would_not_pass_in_time_does_not_wait_and_takes_nothing(journal, clock):
    begun = clock.seconds
    rate_limit("api", 3, **RATE)
    with pytest.raises(ConcurrencyTimeoutError, match="it lets pass 3 at once, 0.5 a second, and the next in 2.0 s"):
        rate_limit("api", timeout_seconds=1.9, **RATE)
    assert clock.seconds == begun
    rate_limit("api", timeout_seconds=2.1, **RATE)
    assert clock.seconds - begun == pytest.approx(2)


def test_of_several_rates_a_failing_one_fills_none(journal, clock):
    rate_limit("b", 3, **RATE)
    with pytest.raises(ConcurrencyTimeoutError, match="'b'"):
        rate_limit(["a", "b"], 3, timeout_seconds=1, **RATE)
    rate_limit("a", 3, timeout_seconds=0, **RATE)


def test_a_clock_that_is_set_back_empties_nothing_and_blocks_nothing(journal, clock):
    rate_limit("api", 3, **RATE)
    clock.seconds -= 3600
    begun = clock.seconds
    rate_limit("api", **RATE)
    assert clock.seconds - begun == pytest.approx(2)


def test_an_interrupted_wait_gives_its_booking_back(journal):
    class Interrupted(FakeClock):
        def sleep(self, seconds):
            raise KeyboardInterrupt

    with use_clock(Interrupted()):
        rate_limit("api", 3, **RATE)
        for _ in range(5):
            with pytest.raises(KeyboardInterrupt):
                rate_limit("api", 3, **RATE)
    with use_clock(FakeClock()) as clock:
        begun = clock.seconds
        rate_limit("api", **RATE)
        assert clock.seconds - begun == pytest.approx(2)


KILLED = """
from durable.clock import Clock, use_clock
from durable.concurrency import rate_limit

class At(Clock):
    seconds = 0.0
    def now(self): return 1_800_000_000_000_000 + int(self.seconds * 1e6)
    def monotonic(self): return self.seconds
    def sleep(self, seconds):
        die("waiting")
        self.seconds += seconds

with use_clock(At()) as clock:
    for _ in range(int(sys.argv[1])):
        rate_limit("api", limit=3, slot_decay_per_second=0.5)
    print(round(clock.seconds, 3))
    sys.stdout.flush()
    die("end")
"""


def test_what_was_used_of_a_rate_outlives_a_kill(script):
    script.write(KILLED)
    ended = script.run("3", DIE="end")
    assert (ended.code, ended.out) == (-9, "0.0\n")
    assert script.ok("1") == "2.0"


def test_a_process_that_is_killed_while_it_waits_leaves_one_booking_at_most(script):
    script.write(KILLED)
    ended = script.run("100", DIE="waiting")
    assert (ended.code, ended.out) == (-9, "")
    assert script.ok("1") == "4.0"


@given(
    limit=st.integers(1, 5),
    decay=st.floats(0.01, 10),
    calls=st.lists(st.tuples(st.floats(0, 5), st.integers(1, 5)), max_size=30),
)
def test_a_rate_is_never_exceeded_in_any_span_of_time(tmp_path_factory, limit, decay, calls):
    folder, passed = tmp_path_factory.mktemp("rates"), []
    with durable.temporary_settings({"journal": folder / "runs.db"}), use_clock(FakeClock()) as clock:
        for pause, occupy in calls:
            clock.seconds += pause
            rate_limit("api", min(occupy, limit), limit=limit, slot_decay_per_second=decay)
            passed.append((clock.seconds, min(occupy, limit)))
    for first, (begin, _) in enumerate(passed):
        used = 0
        for end, occupy in passed[first:]:
            used += occupy
            assert used <= limit + decay * (end - begin) + 0.001


def test_threads_pass_a_rate_one_after_the_other(journal, clock):
    begun, crowd = clock.seconds, Crowd()

    def body():
        for _ in range(5):
            rate_limit("api", limit=1, slot_decay_per_second=1, timeout_seconds=1e6)
            with crowd:
                pass

    in_threads(*[body] * 4)
    assert crowd.passed == 20
    assert clock.seconds - begun >= 19 - 0.001


def test_a_damaged_bucket_is_an_empty_one(journal, clock):
    rate_limit("api", 3, **RATE)
    (bucket,) = journal.parent.glob("runs.db-limits/*.rate")
    for damage in (b"", b"short", b"\xff" * 16):
        bucket.write_bytes(damage)
        rate_limit("api", timeout_seconds=0, **RATE)
