"""Feeds hostile payloads to the codec's readers and says what they did. Run in a process of its own by test_hostile.py.

The process may use little memory and processor time, and listens to Python's audit events: an import, a file opened, a
process started or code compiled while a payload is read is reported.
"""

from __future__ import annotations

import collections
import random
import resource
import sys
import tracemalloc
from collections.abc import Iterator
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from durable.codec import canonical, decode, decode_exception, decode_inert, encode, extensions, summary
from durable.errors import CorruptPayload, UnresolvedClass

MEMORY = 2 << 30  # bytes of address space
SECONDS = 240  # of processor time
A_BYTE, AT_LEAST = 400, 1 << 20  # bytes of memory that a byte of a payload may cost, and what any payload may
FORBIDDEN = (
    "import",
    "open",
    "exec",
    "compile",
    "marshal",
    "pickle",
    "ctypes",
    "socket",
    "subprocess",
    "os.",
    "shutil",
)
# Modules that nothing has imported, classes that do something when they are made, and what is no class at all.
NAMES = [
    *(("antigravity", "fly"), ("this", "d"), ("turtle", "Turtle"), ("wsgiref.simple_server", "WSGIServer")),
    *(("subprocess", "Popen"), ("os", "system"), ("os", "_Environ"), ("builtins", "eval"), ("builtins", "type")),
    *(("builtins", "SystemExit"), ("builtins", "KeyboardInterrupt"), ("__main__", "Armed"), ("hostile", "Armed.Inner")),
    *(("collections", "deque"), ("pathlib", "Path"), ("tempfile", "TemporaryDirectory"), ("", ""), ("..", "..")),
    *(("__main__", "Armed.__init__.__globals__"), ("sys", "modules"), ("random", "SystemRandom"), (1, None)),
]

reading = False
heard: collections.Counter[str] = collections.Counter()


class Armed:
    """Must never be made."""

    class Inner(Exception):
        def __init__(self, *args: object) -> None:
            heard["a constructor ran"] += 1

    def __init__(self) -> None:
        heard["a constructor ran"] += 1


def listen(event: str, args: tuple[Any, ...]) -> None:
    """Count what has no business while a payload is read. Time zones are files, and tzdata is a package of them."""
    if reading and event.startswith(FORBIDDEN) and "zoneinfo" not in str(args) and "tzdata" not in str(args):
        heard[f"{event} {str(args)[:200]}"] += 1


def measured(reader: Any, payload: bytes) -> int:
    """Read a payload; how many bytes that took at its peak."""
    global reading
    tracemalloc.start()
    reading = True
    try:
        reader(payload)
    except CorruptPayload:
        pass
    except UnresolvedClass:
        if reader in (decode_inert, summary):
            heard[f"{reader.__name__} resolved a class"] += 1
    finally:
        reading = False
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak


def read(payload: bytes) -> None:
    """Read a payload in every way there is, and measure."""
    for reader in (decode, decode_inert, summary, decode_exception):
        modules = set(sys.modules)
        most = A_BYTE * len(payload) + AT_LEAST
        # What is over it only once was somebody else's: the search for examples allocates as well.
        if (peak := measured(reader, payload)) > most and (peak := measured(reader, payload)) > most:
            heard[f"{reader.__name__}: {peak} bytes for a payload of {len(payload)}: {payload[:60]!r}"] += 1
        for module in set(sys.modules) - modules:
            if not module.startswith(("tzdata", "zoneinfo", "importlib")):
                heard[f"{reader.__name__} imported {module}"] += 1


@st.composite
def lies(draw: Any) -> bytes:
    """A header that claims more than follows."""
    first = draw(st.sampled_from([0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD9, 0xDA, 0xDB, 0xDC, 0xDD, 0xDE, 0xDF]))
    width = {0xC4: 1, 0xC7: 1, 0xD9: 1, 0xC5: 2, 0xC8: 2, 0xDA: 2, 0xDC: 2, 0xDE: 2}.get(first, 4)
    length = draw(st.integers(0, 256**width - 1) | st.just(256**width - 1))
    return bytes([first]) + length.to_bytes(width, "big") + draw(st.binary(max_size=20))


CODES = sorted(extensions.NAMES)
numbers = st.integers(-(2**63), 2**64 - 1) | st.sampled_from([0, -1, 10**18, 2**31, 2**63 - 1])
texts = st.text(max_size=6) | st.sampled_from(
    ["<f8", "U1000000000", "V0", "O", "|O", "M8[ns]", "C", "F", "DataFrame", "Index", "RangeIndex", "PosixPath", "UTC",
     "../../etc/passwd", "Series", "Timestamp", "args", "state", "members", "cause", "notes", "c_state", "__class__"]
)  # fmt: skip
leaves = st.none() | st.booleans() | numbers | st.floats() | texts | st.binary(max_size=9)


def _nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    name = st.sampled_from(NAMES)
    keyed = st.dictionaries(texts, inner, max_size=3)
    return st.one_of(
        st.lists(inner, max_size=4),
        keyed,
        st.builds(_extended, st.sampled_from(CODES), st.lists(inner, max_size=5)),
        st.builds(lambda code, n, parts: _extended(code, [*n, *parts]), st.sampled_from(CODES), name,
                  st.lists(inner | keyed, max_size=4)),
        st.builds(lambda parts: _extended(extensions.DEFAULTDICT, parts), st.tuples(name, keyed)),
        st.builds(msgspec.msgpack.Ext, st.sampled_from(CODES), lies() | st.binary(max_size=30)),
    )  # fmt: skip


def _extended(code: int, parts: Any) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, msgspec.msgpack.encode(parts))


hostile = st.recursive(leaves, _nested, max_leaves=12).map(msgspec.msgpack.encode)


def named() -> Iterator[bytes]:
    """Every kind of instance of every name, its parts as durable writes them."""
    fields = {"a": 1, "args": [1], "__class__": 2}
    for name in NAMES:
        for code in CODES:
            for parts in (
                [fields],
                [fields, []],
                [fields, None, None, []],
                ["m", {"args": [1], "state": fields}],
                ["m"],
            ):
                yield msgspec.msgpack.encode(_extended(code, [*name, *parts]))
        yield msgspec.msgpack.encode(_extended(extensions.DEFAULTDICT, [name, {}]))


def shapes(dice: random.Random) -> list[bytes]:
    """Payloads that are large, deep or wide."""
    pack, ext = msgspec.msgpack.encode, _extended
    deep = pack(None)
    for _ in range(5000):
        deep = pack(msgspec.msgpack.Ext(dice.choice(CODES), deep[:60_000]))
    chain = _extended(extensions.EXCEPTION, ["builtins", "ValueError", "", {}])
    for _ in range(300):
        chain = ext(extensions.EXCEPTION, ["builtins", "ValueError", "", {"cause": chain}])
    return [
        *(bytes([first]) * 1_000_000 for first in (0x90, 0x91, 0x80, 0x81, 0xA0, 0xC0, 0xC1, 0xC7, 0xD4, 0xDD, 0xDF)),
        deep,
        pack(chain),
        pack([[]] * 100_000),
        pack([{}] * 100_000),
        pack([ext(code, []) for code in CODES] * 500),
        *(b"\xdd" + (100_000).to_bytes(4, "big") + pack(ext(code, [])) * 100_000
          for code in (extensions.SET, extensions.TUPLE, extensions.DICT)),
        pack(ext(extensions.NDARRAY, ["U1000000000", [0], "C", b""])),
        pack(ext(extensions.NDARRAY, ["<f8", [0, 2**62, 2**62], "C", b""])),
        pack(ext(extensions.NDARRAY, [{"base": "|i1", "shape": [2**31 - 1]}, [0], "C", b""])),
        pack(ext(extensions.NPSCALAR, [{"base": "|i1", "shape": [2**31 - 1]}, b""])),
        pack(ext(extensions.RANGE, [0, 2**63, 1])),
        pack(ext(extensions.PANDAS, ["RangeIndex", [2**62], 0, 2**62, 1])),
        pack(ext(extensions.DEQUE, [2**62, [1, 2]])),
        pack(msgspec.msgpack.Ext(extensions.INT, b"\x7f" * 1_000_000)),
        pack(msgspec.msgpack.Ext(extensions.DECIMAL, b"9" * 1_000_000)),
        pack(msgspec.msgpack.Ext(extensions.DECIMAL, b"1E+999999999999999999")),
        pack(msgspec.msgpack.Ext(extensions.ZONEINFO, b"A/" * 50 + b"A")),
        pack(msgspec.msgpack.Ext(extensions.STR, b"\xed\xa0\x80" * 300_000)),
    ]  # fmt: skip


def main(examples: int, *, libraries: bool) -> None:
    """Read them all, and print what was heard."""
    if libraries:
        import numpy as np
        import pandas as pd

        sound = encode({"a": [1, (2.5, {"b"}), np.arange(9)], "t": pd.DataFrame({"x": [1, 2]}), "e": 2**99})
    else:
        sound = encode({"a": [1, (2.5, {"b"}), frozenset("ab")], "k": canonical((1, 2), "x"), "e": 2**99})
    for warm_up in (sound, msgspec.msgpack.encode([1])):  # what is loaded at the first use is not a payload's doing
        for reader in (decode, decode_inert, summary):
            reader(warm_up)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
    sys.addaudithook(listen)
    count = [0]
    quietly = settings(
        max_examples=examples, deadline=None, database=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )

    @quietly
    @given(hostile | lies())
    def made(payload: bytes) -> None:
        count[0] += 1
        read(payload)

    @quietly
    @given(st.lists(st.tuples(st.integers(0, len(sound) - 1), st.integers(0, 255)), min_size=1, max_size=4), st.data())
    def mutated(changes: list[tuple[int, int]], data: Any) -> None:
        count[0] += 1
        payload = bytearray(sound)
        for at, byte in changes:
            payload[at] = byte
        read(bytes(payload[: data.draw(st.integers(0, len(payload)))]) if data.draw(st.booleans()) else bytes(payload))

    made()
    mutated()
    for payload in [*named(), *shapes(random.Random(1))]:
        count[0] += 1
        read(payload)
    print(f"{count[0]} payloads")
    for what, times in heard.most_common(20):
        print(f"{times} x {what}")
    sys.exit(1 if heard else 0)


if __name__ == "__main__":
    main(int(sys.argv[1]), libraries=sys.argv[2] == "libraries")
