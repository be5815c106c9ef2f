"""What identifies tasks, flows and calls: the same bytes in every process, on every Python, for ever."""

import functools
import inspect
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from durable import flow, policies, task
from durable.errors import ParameterBindError
from durable.keys import Binder, digest, flow_key, function_name, task_key, where
from durable.runs import Scope

GOLDEN = Path(__file__).parent / "golden" / "keys.json"
FUNCTION_BYTES = {"task": b"t" * 16, "inputs": b"\x81\xa1a\x01", "source": b"s" * 16, "run": b"r" * 16}


def identify(scope, callee, inputs, times):
    """The identity of the last of `times` equal calls made in one place."""
    place = Scope(bytes.fromhex(scope), None, None)
    made = [place.identify(bytes.fromhex(callee), bytes.fromhex(inputs)) for _ in range(times)]
    assert [number for _, number in made] == list(range(1, times + 1))
    return made[-1][0]


def memo_key(*names):
    policy = functools.reduce(lambda one, other: one + other, [getattr(policies, name) for name in names])
    return policy.key(*FUNCTION_BYTES.values(), b"p" * 16)


COMPUTE = {
    "digest": digest,
    "task_key": lambda name, function, tags: task_key(name, function, frozenset(tags)),
    "flow_key": flow_key,
    "memo": memo_key,
    "identify": identify,
}


def check_golden():
    """Compare this process with the recorded vectors. A difference strands every journal there is."""
    recorded = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert recorded.keys() == COMPUTE.keys()
    for what, cases in recorded.items():
        for arguments, expected in cases:
            assert COMPUTE[what](*arguments).hex() == expected, f"{what}{tuple(arguments)}"
    return sum(map(len, recorded.values()))


# Golden vectors


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_keys_are_the_recorded_ones_whatever_the_hash_seed(seed):
    code = "import test_keys; print(test_keys.check_golden())"
    environment = {
        **os.environ,
        "PYTHONHASHSEED": seed,
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path]),
    }
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == 39


def test_no_two_golden_vectors_are_equal():
    recorded = [case[1] for cases in json.loads(GOLDEN.read_text(encoding="utf-8")).values() for case in cases]
    assert len(set(recorded)) == len(recorded)
    assert {len(value) for value in recorded} == {32}


parts = st.lists(
    st.recursive(st.none() | st.integers(-(2**63), 2**64 - 1) | st.text() | st.binary(), st.lists, max_leaves=5),
    max_size=4,
)


@given(parts, parts)
def test_a_digest_tells_its_parts_apart(one, other):
    assert (digest(*one) == digest(*other)) == (one == other)


def test_a_task_key_is_its_name_function_and_tags_in_any_order():
    key = task_key("load", "job:load", frozenset({"a", "b"}))
    assert key == task_key("load", "job:load", frozenset({"b", "a"}))
    others = [
        task_key("Load", "job:load", frozenset({"a", "b"})),
        task_key("load", "job:other", frozenset({"a", "b"})),
        task_key("load", "job:load", frozenset({"a"})),
        task_key("load", "job:load", frozenset({"ab"})),
        flow_key("load", "job:load"),
    ]
    assert len({key, *others}) == 6


def test_options_that_do_not_identify_a_task_leave_its_key_alone():
    @task
    def load():
        pass

    same = load.with_options(retries=3, persist_result=False, description="x", cache_policy=policies.INPUTS)
    assert same.definition.key == load.definition.key
    assert load.with_options(name="other").definition.key != load.definition.key
    assert load.with_options(tags=["x"]).definition.key != load.definition.key


# Identity of calls


@given(st.lists(st.tuples(st.sampled_from([b"f" * 16, b"g" * 16]), st.sampled_from([b"1", b"2"])), max_size=20))
def test_the_k_th_equal_call_of_a_second_execution_meets_the_k_th_of_the_first(calls):
    place = Scope(b"s" * 16, None, None)
    first = [place.identify(*call) for call in calls]
    place.open()
    assert [place.identify(*call) for call in calls] == first
    assert len({key for key, _ in first}) == len(calls), "no two calls of one execution are the same"


@given(st.data())
def test_other_calls_in_between_do_not_change_an_identity(data):
    calls = data.draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=12))
    inserted = data.draw(st.lists(st.booleans(), min_size=len(calls), max_size=len(calls)))
    one, two = Scope(b"s" * 16, None, None), Scope(b"s" * 16, None, None)
    expected, found = [], []
    for call, insert in zip(calls, inserted, strict=True):
        if insert:
            two.identify(b"new call".ljust(16), b"")
        expected.append(one.identify(b"f" * 16, call.encode()))
        found.append(two.identify(b"f" * 16, call.encode()))
    assert found == expected


def test_a_place_and_its_neighbour_give_different_identities():
    one, two = Scope(b"1" * 16, None, None), Scope(b"2" * 16, None, None)
    assert one.identify(b"f" * 16, b"")[0] != two.identify(b"f" * 16, b"")[0]


# Binding


def signatures():
    """Functions with every kind of parameter, and which of them have defaults."""

    def build(drawn):
        positional, plain, keyword, star, stars = drawn
        # Once a positional parameter has a default, all after it have.
        names, seen_default = [], False
        for index, (kind, default) in enumerate([("p", d) for d in positional] + [("n", d) for d in plain]):
            seen_default = seen_default or default
            names.append((f"{kind}{index}", seen_default))
        head = [f"{name}={number}" if default else name for number, (name, default) in enumerate(names)]
        if positional:
            head.insert(len(positional), "/")
        if star:
            head.append("*rest")
        elif keyword:
            head.append("*")
        head += [f"k{number}={number + 50}" if default else f"k{number}" for number, default in enumerate(keyword)]
        if stars:
            head.append("**more")
        namespace = {}
        exec(f"def f({', '.join(head)}): pass", namespace)
        return namespace["f"]

    few = st.lists(st.booleans(), max_size=3)
    return st.tuples(few, few, few, st.booleans(), st.booleans()).map(build)


@given(
    signatures(),
    st.lists(st.integers(), max_size=7).map(tuple),
    st.dictionaries(
        st.sampled_from(["p0", "p1", "n0", "n1", "n2", "n3", "k0", "k1", "k2", "other", "rest"]), st.integers()
    ),
)
def test_binding_is_what_inspect_says(function, args, kwargs):
    binder = Binder(function)
    try:
        function(*args, **kwargs)  # the judge: Python 3.13.0's bind lets some calls pass that the call itself refuses
        bound = inspect.signature(function).bind(*args, **kwargs)
    except TypeError:
        with pytest.raises(ParameterBindError):
            binder.values(args, kwargs)
        return
    bound.apply_defaults()
    assert binder.names == tuple(bound.arguments)
    assert binder.values(args, kwargs) == tuple(bound.arguments.values())


class NoTruth:
    """Like a numpy array: equal to nothing and everything, element by element."""

    def __eq__(self, other):
        raise ValueError("the truth value is ambiguous")

    __hash__ = None


def test_a_default_that_cannot_be_compared_is_bound():
    value = NoTruth()

    def f(a, weights=value, *, deep=value):
        pass

    def g(a, weights=value):
        pass

    assert [id(bound) for bound in Binder(g).values((1,))[1:]] == [id(value)]
    assert [id(bound) for bound in Binder(f).values((1,))[1:]] == [id(value)] * 2


@pytest.mark.parametrize("args", [(), (1, 2, 3)])
def test_arguments_that_do_not_fit_name_the_function_and_its_parameters(args):
    def load(path, mode="r"):
        pass

    with pytest.raises(ParameterBindError) as caught:
        Binder(load).values(args)
    line = load.__code__.co_firstlineno
    assert f"load ({__file__}:{line})" in str(caught.value)
    assert "(path, mode='r')" in str(caught.value)


def test_a_builtin_without_a_signature_takes_anything():
    binder = Binder(max)
    assert binder.names == ("args", "kwargs")
    assert binder.values((1, 2), {"key": 3}) == ((1, 2), {"key": 3})


# Names


class Callable:
    def __call__(self):
        pass

    def method(self):
        pass


def test_a_function_is_named_by_module_and_qualified_name():
    def inner():
        pass

    here = __name__
    assert function_name(check_golden) == f"{here}:check_golden"
    assert function_name(Callable.method) == f"{here}:Callable.method"
    assert function_name(inner) == f"{here}:test_a_function_is_named_by_module_and_qualified_name.<locals>.inner"
    assert function_name(functools.partial(functools.partial(check_golden))) == f"{here}:check_golden"
    assert function_name(Callable()) == f"{here}:Callable"
    assert function_name(len) == "builtins:len"


def test_a_place_in_a_message_is_the_functions_own_even_when_it_is_wrapped():
    @functools.wraps(check_golden)
    def wrapper():
        pass

    line = check_golden.__code__.co_firstlineno
    assert where(wrapper) == where(check_golden) == f"check_golden ({__file__}:{line})"


JOB = """
import sys
from durable import configure, flow, task

@task
def step(n):
    return n

@flow
def job():
    return step(1)

class Loader:
    @task
    def load(self):
        pass

if __name__ == "__main__" or "import job" in " ".join(sys.orig_argv):
    print(step.definition.function, step.definition.key.hex())
    print(job.definition.function, job.definition.key.hex())
    print(Loader.load.definition.function, Loader.load.definition.key.hex())
"""


def test_a_script_a_module_and_an_import_agree_on_every_key(tmp_path):
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "elsewhere").mkdir()
    paths = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    ways = [["job.py"], ["./job.py"], [tmp_path / "job.py"], ["-m", "job"], ["-c", "import job"], ["-i", "job.py"]]
    said = set()
    for way in ways:
        environment = {**os.environ, "PYTHONPATH": paths}
        done = subprocess.run(
            [sys.executable, *way],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        said.add(done.stdout)
    (agreed,) = said
    assert [line.split()[0] for line in agreed.splitlines()] == ["job:step", "job:job", "job:Loader.load"]


def test_python_minus_m_of_a_package_is_named_by_the_package(tmp_path):
    (tmp_path / "nightly").mkdir()
    (tmp_path / "nightly" / "__init__.py").touch()
    (tmp_path / "nightly" / "__main__.py").write_text(JOB)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *filter(None, sys.path)])}
    done = subprocess.run(
        [sys.executable, "-m", "nightly"], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[0] == "nightly:step"


def test_tasks_and_flows_have_the_keys_of_their_functions():
    @task(name="Load", tags=["b", "a"])
    def load():
        pass

    @flow
    def nightly_etl():
        pass

    function = f"{__name__}:test_tasks_and_flows_have_the_keys_of_their_functions.<locals>."
    assert load.definition.key == task_key("Load", function + "load", frozenset("ab"))
    assert nightly_etl.definition.key == flow_key("nightly-etl", function + "nightly_etl")


def test_threads_that_call_at_once_are_numbered_apart():
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(200):
            scope, barrier = Scope(b"\0" * 16, None, None), threading.Barrier(4)
            found = []

            def call(scope=scope, barrier=barrier, found=found):
                barrier.wait()
                found.append(scope.identify(b"\1" * 16, b"\x80")[1])

            threads = [threading.Thread(target=call) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert sorted(found) == [1, 2, 3, 4]
    finally:
        sys.setswitchinterval(before)
