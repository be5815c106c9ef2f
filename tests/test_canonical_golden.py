"""Golden vectors: the canonical bytes of a value are the same for ever, in every process, on every Python.

Run as a script, it prints ``{name: [length, xxh3_128, bytes or null]}`` with dicts and sets filled in an order that
depends on its argument. With ``--write`` it renews tests/golden/canonical.json: only to add vectors, for a changed one
makes every recorded identity a miss.
"""

# ruff: noqa: DTZ001, DTZ901, PIE796, PYI024, SLOT000, SLOT002, B904  # naive times and odd classes are the subject

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import functools
import json
import os
import pathlib
import random
import subprocess
import sys
import uuid
import zoneinfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pydantic
import pytest
import xxhash
from test_codec_support import (
    Attr,
    Color,
    FrozenRec,
    IntPerm,
    Key,
    Level,
    Model,
    OpenModel,
    Outer,
    Pair,
    Perm,
    Point,
    Rec,
    Slotted,
    Word,
)

from durable.codec import canonical, canonical_items, type_only

GOLDEN = pathlib.Path(__file__).parent / "golden" / "canonical.json"
SHORT = 64


class Keyed:
    def __durable_key__(self):
        return ("v", {2, 1})

    def method(self):
        pass


def vectors(seed):
    """Name to value. `seed` decides in which order dicts and sets are filled, and nothing else."""
    rng = random.Random(seed)

    def mix(items):
        items = list(items)
        rng.shuffle(items)
        return items

    def d(**items):
        return dict(mix(items.items()))

    words = [f"word{i}" for i in range(40)]
    return {
        "none": None,
        "true": True,
        "false": False,
        "zero": 0,
        "minus": -1,
        "int63": 2**63,
        "int64": 2**64,
        "big": -(2**100),
        "half": 0.5,
        "one.0": 1.0,
        "-0.0": -0.0,
        "nan": float("nan"),
        "-nan": -float("nan"),
        "inf": float("inf"),
        "complex": complex(1, float("nan")),
        "str": "héllo",
        "surrogate": "\ud800",
        "long str": "é" * 1000,
        "str 1024": "x" * 1024,
        "str 1025": "x" * 1025,
        "bytes": b"\0\xff",
        "long bytes": b"x" * 5000,
        "bytes 1024": b"x" * 1024,
        "bytes 1025": b"x" * 1025,
        "bytearray": bytearray(b"x"),
        "long bytearray": bytearray(5000),
        "list": [1, "a", None],
        "tuple": (1, "a", None),
        "nested": [[(1,), {2}], {"k": ()}],
        "dict": d(b=1, a=2, c=d(y=[], x={})),
        "dict keys": dict(mix({1: 1, "1": 2, None: 3, (1, 2): 4, 2.5: 5, b"1": 6}.items())),
        "words": set(mix(words)),
        "frozen words": frozenset(mix(words)),
        "big dict": dict(mix((w, i) for i, w in enumerate(words))),
        "mixed set": set(mix([1, "1", None, (1,), frozenset(mix(words)), 2.5, b"1", 2**80])),
        "set of sets": {frozenset(mix(words[i:])) for i in mix(range(5))},
        "ordered": collections.OrderedDict(b=1, a=2),
        "counter": collections.Counter(dict(mix({"a": 2, "b": 1, "c": 3}.items()))),
        "defaultdict": collections.defaultdict(list, mix({"a": [1], "b": [2]}.items())),
        "deque": collections.deque([1, 2], 5),
        "datetime": dt.datetime(2024, 1, 2, 3, 4, 5, 6),
        "utc": dt.datetime(2024, 1, 2, tzinfo=dt.timezone.utc),
        "berlin": dt.datetime(2024, 10, 27, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
        "date": dt.date(2024, 1, 2),
        "time": dt.time(1, 2, 3, 4),
        "timedelta": dt.timedelta(-1, 2, 3),
        "zone": dt.timezone(dt.timedelta(hours=1), "CET"),
        "decimal": decimal.Decimal("1.50"),
        "snan": decimal.Decimal("-sNaN3"),
        "uuid": uuid.UUID(int=7),
        "path": pathlib.PurePosixPath("/a/b"),
        "fraction": fractions.Fraction(1, 3),
        "range": range(1, 9, 2),
        "slice": slice(1, None, 2),
        "ellipsis": ...,
        "enum": Color.CRIMSON,
        "int enum": Level.LOW,
        "str enum": Word.HELLO,
        "flag": Perm.R | Perm.X,
        "int flag": IntPerm(6),
        "dataclass": Point(1, {"b": 1}),
        "frozen": Key("k", frozenset(mix(words[:3]))),
        "slots": Slotted(1),
        "inner": Outer.Inner(1),
        "namedtuple": Pair(1, [2]),
        "struct": Rec(1, (2,)),
        "frozen struct": FrozenRec(a=1),
        "attrs": Attr(1, hidden=2),
        "model": Model(a=1),
        "open model": OpenModel(**dict(mix({"a": 1, "p": 2, "q": (3,)}.items()))),
        "error": ValueError("x", 1),
        "function": mix,
        "module function": vectors,
        "builtin": len,
        "class": Point,
        "builtin class": int,
        "method": str.upper,
        "bound": Keyed().method,
        "bound builtin": [1].append,
        "partial": functools.partial(vectors, 1, **dict(mix({"b": 1, "a": 2}.items()))),
        "keyed": Keyed(),
        "array": np.arange(6.0).reshape(2, 3),
        "small ints": np.array([1, 2], dtype="i2"),
        "empty array": np.zeros((0, 2)),
        "big array": np.arange(1000),
        "text array": np.array(["a", "éé"]),
        "dates": np.array(["2024-01-01", "NaT"], dtype="M8[D]"),
        "records": np.array([(1, 2.5)], dtype=np.dtype([("a", "i1"), ("b", "f8")], align=True)),
        "np.float64": np.float64(1.5),
        "np.str": np.str_("a"),
        "np.int8": np.int8(1),
        "np nan": np.float32("nan"),
        "dtype": np.dtype("f4"),
        "np bool": np.bool_(True),
        "frame": pd.DataFrame([[1, 0.5], [2, float("nan")]], columns=pd.Index([3, 9], dtype="i4"), index=[5, 6]),
        "timestamp": pd.Timestamp("2024-01-01").as_unit("ns"),
        "category": pd.Series(pd.Categorical([3, 1, 3], categories=[1, 3])),
        "masked": pd.Series([1, None], dtype="Int64"),
        "long frame": pd.DataFrame({0: range(1000)}).set_axis(pd.RangeIndex(1), axis=1),
        "polars": pl.DataFrame({"a": [1, None], "s": ["x", None], "f": [1.5, None]}),
        "polars dates": pl.Series([dt.datetime(2024, 1, 1), None]),
        "long polars": pl.Series(range(1000)),
        "arrow": pa.table({"a": [1, None], "s": ["x", None], "f": [0.5, 1.5]}),
        "arrow stamps": pa.array([1, None], pa.timestamp("ns")),
        "long arrow": pa.array(range(1000)),
        "secret": pydantic.SecretStr("é"),
        "secret bytes": pydantic.SecretBytes(b"\xff"),
        "secret of a set": pydantic.Secret(set(mix(words))),
        "secrets": set(mix(map(pydantic.SecretStr, words[:3]))),
    }


def encoded(seed):
    found = {name: canonical(value, "v") for name, value in vectors(seed).items() if name != "function"}
    found["items"] = canonical_items(("b", "a"), (1, "x"))
    found["long items"] = canonical_items(("b", "a"), (list(range(1000)), (1,)))
    found["type only"] = type_only(object())
    return found


def described(seed):
    return {
        name: [len(data), xxhash.xxh3_128_hexdigest(data), data.hex() if len(data) <= SHORT else None]
        for name, data in encoded(seed).items()
    }


@pytest.mark.parametrize("seed", ["0", "1", "2"])
def test_golden_vectors_in_another_process(seed):
    command = [sys.executable, __file__, seed]
    path = os.pathsep.join([str(pathlib.Path(__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    env = os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == json.loads(GOLDEN.read_text())


def test_golden_vectors_in_this_process():
    assert described(3) == json.loads(GOLDEN.read_text())


def test_equal_vectors_are_only_those_meant_to_be():
    groups = collections.defaultdict(set)
    for name, data in encoded(0).items():
        groups[data].add(name)
    assert sorted(map(sorted, (names for names in groups.values() if len(names) > 1))) == [["-nan", "nan"]]


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        GOLDEN.write_text(json.dumps(described(0), indent=1, ensure_ascii=False) + "\n")
    else:
        print(json.dumps(described(int(sys.argv[1]))))
