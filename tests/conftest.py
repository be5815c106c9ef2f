"""What every test stands on: a clean environment, and hypothesis set up for here and for CI."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, configuration, settings
from places import Place
from scripts import FakeClock, Script
from submitting import Gate
from undoing import Log

import durable
from durable.clock import use_clock

# No deadline: a commit waits for the disk. Nor is it a failure that the machine is slow to make examples. In CI these
# are the same every time, and nothing is kept.
settings.register_profile("here", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("here"), derandomize=True, database=None)
settings.register_profile("thorough", settings.get_profile("here"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE") or ("ci" if os.environ.get("CI") else "here"))
configuration.set_hypothesis_home_dir(Path(__file__).resolve().parent.parent / ".hypothesis")

for name in [name for name in os.environ if name.startswith("DURABLE_")]:
    # A developer's own settings must not decide a test; nor those of the children it starts.
    del os.environ[name]
NO_CONFIG = Path(__file__).resolve().parent / "no-such-config"  # a test that needs a user's file makes its own
os.environ["XDG_CONFIG_HOME"] = str(NO_CONFIG)


@pytest.fixture(scope="session", autouse=True)
def no_journal_left_behind():
    """A test writes to its own tmp_path. One that forgets leaves a runs.db where pytest was started."""
    start = Path.cwd()
    before = set(start.glob("*.db*"))
    yield
    left = sorted(str(path) for path in set(start.glob("*.db*")) - before)
    assert not left, f"a test wrote {left}: give it a journal in tmp_path"
    assert not NO_CONFIG.exists(), "a test wrote settings: set XDG_CONFIG_HOME to a folder in tmp_path"


@pytest.fixture
def journal(tmp_path, monkeypatch):
    """The default journal of a test that calls flows and tasks in this process, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "runs.db"
    durable.close_journals()


@pytest.fixture
def nothing_stays_open():
    """For a test that opens journals of its own."""
    yield
    durable.close_journals()


@pytest.fixture
def script(tmp_path):
    """A script in a folder of its own, to be run and killed."""
    return Script(tmp_path)


@pytest.fixture(params=["sync", "async"])
def colour(request):
    """Plain functions, then coroutines."""
    return request.param


@pytest.fixture
def gate():
    """A task that stands until the test lets it go, at its end at the latest."""
    gate = Gate()
    yield gate
    gate.open.set()


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A user and a project with settings of their own."""
    place = Place(tmp_path, monkeypatch)
    yield place
    place.leave()


@pytest.fixture
def log():
    """What the tasks of a transaction did, committed and undid."""
    return Log()


@pytest.fixture
def clock():
    """Time, moved by the test."""
    with use_clock(FakeClock()) as fake:
        yield fake
