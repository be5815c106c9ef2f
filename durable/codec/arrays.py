"""numpy's arrays, scalars and dtypes. numpy is found among the imported modules, never imported."""

from __future__ import annotations

import math
import re
import sys
from typing import Any

from durable.codec import extensions as x
from durable.codec.walker import Handler, Refused, Walker, bulk_extension, extension
from durable.errors import CorruptPayload, UnresolvedClass

_KINDS = frozenset("?biufcmMSUV")
_DTYPE = re.compile(r"[<>|=]?[?biufcmMSUV][0-9]{0,10}(\[[0-9]{0,10}[a-zA-Zμ]{1,7}\])?|[a-zA-Z?]")
_SHOWN = re.compile(r"([<>|=]?)([?biufcmMSUV])([0-9]*)(.*)", re.DOTALL)
_WORDS = {"i": "int", "u": "uint", "f": "float", "c": "complex", "b": "bool", "?": "bool"}


def library(name: str) -> Any:
    """An imported third-party module; raises UnresolvedClass naming it when it is not imported."""
    found = sys.modules.get(name)
    if found is None:
        raise UnresolvedClass(
            name, "*", f"this value needs {name}, which this process has not imported; import it first"
        )
    return found


def describe_dtype(dtype: Any) -> Any:
    """A dtype as text, or as a map for a structured one; raises Refused when it cannot be made again from that."""
    if dtype.hasobject:
        raise Refused(dtype, "elements of dtype object are Python objects, not data; use tolist() or a typed array")
    if dtype.metadata:
        raise Refused(dtype, "a dtype's metadata would be lost")
    described = _describe(dtype)
    try:
        again = make_dtype(described)
    except Exception:
        again = None
    if again is None or again != dtype or again.type is not dtype.type or again.char != dtype.char:
        raise Refused(dtype, f"dtype {dtype} cannot be made again from its description")
    return described


def _describe(dtype: Any) -> Any:
    if dtype.subdtype is not None:
        base, shape = dtype.subdtype
        return {"base": _describe(base), "shape": list(shape)}
    if dtype.names is not None:
        parts = [dtype.fields[name] for name in dtype.names]
        return {
            "names": list(dtype.names),
            "formats": [_describe(part[0]) for part in parts],
            "offsets": [part[1] for part in parts],
            "titles": [part[2] if len(part) > 2 else None for part in parts],
            "itemsize": dtype.itemsize,
            "aligned": dtype.isalignedstruct,
        }
    np = sys.modules["numpy"]
    if dtype.kind not in _KINDS:
        raise Refused(dtype, f"no rule for dtype {dtype}")
    return dtype.str if np.dtype(dtype.str).char == dtype.char else dtype.char


def make_dtype(described: Any) -> Any:
    """The dtype for a description; never one that holds objects."""
    np = library("numpy")
    if isinstance(described, str):
        if not _DTYPE.fullmatch(described):
            raise CorruptPayload(f"{described[:40]!r} is not a dtype durable writes")
        made = np.dtype(described)
    elif "base" in described:
        made = np.dtype((make_dtype(described["base"]), tuple(described["shape"])))
    else:
        spec = {key: described[key] for key in ("names", "offsets", "itemsize")}
        spec["formats"] = [make_dtype(part) for part in described["formats"]]
        if any(title is not None for title in described["titles"]):
            spec["titles"] = described["titles"]
        made = np.dtype(spec, align=described["aligned"])
    if made.hasobject:
        raise CorruptPayload("an array of objects is not something durable writes")
    return made


def dtype_name(described: Any) -> str:
    """A dtype's description in words, without numpy: ``float64`` for ``<f8``."""
    if not isinstance(described, str):
        return "structured" if isinstance(described, dict) else "?"
    match = _SHOWN.fullmatch(described)
    if match is None:
        return described
    _order, kind, size, unit = match.groups()
    if kind in _WORDS:
        return "bool" if kind in "b?" else f"{_WORDS[kind]}{int(size[:4]) * 8}" if size else kind
    if kind in "mM":
        return ("timedelta64" if kind == "m" else "datetime64") + unit
    return described.lstrip("<>|=")


def array_bytes(array: Any) -> Any:
    """A contiguous array's memory as a buffer, not copied. Every itemsize, every dtype."""
    if array.nbytes == 0:
        return b""
    np = sys.modules["numpy"]
    return memoryview(array.reshape(-1, order="A").view(np.uint8))


def write_array(value: Any, _walker: Walker, _depth: int) -> Any:
    """The dtype, the shape, the order and the bytes; Fortran order is kept."""
    np = sys.modules["numpy"]
    described = describe_dtype(value.dtype)
    if value.dtype.itemsize == 0:
        raise Refused(value, "numpy makes no array of elements without a size again")
    fortran = value.flags.f_contiguous and not value.flags.c_contiguous
    plain = value if fortran else np.ascontiguousarray(value)
    head = [described, list(value.shape), "F" if fortran else "C"]
    return bulk_extension(x.NDARRAY, head, array_bytes(plain))


def write_scalar(value: Any, walker: Walker, depth: int) -> Any:
    np = sys.modules["numpy"]
    cls = type(value)
    if cls is np.str_:
        # An array would cut trailing NULs off, and so does str().
        return extension(x.NPSCALAR, ["str", walker.walk(str.__getitem__(value, slice(None)), depth)])
    if cls is np.bytes_:
        return extension(x.NPSCALAR, ["bytes", bytes.__getitem__(value, slice(None))])
    if cls is not value.dtype.type:
        raise Refused(value, "a subclass of a numpy scalar would come back as its base")
    return extension(x.NPSCALAR, [describe_dtype(value.dtype), value.tobytes()])


def write_dtype(value: Any, _walker: Walker, _depth: int) -> Any:
    return extension(x.DTYPE, describe_dtype(value))


def find(cls: Any) -> Handler | None:
    """The rule for one of numpy's classes."""
    np = sys.modules.get("numpy")
    if np is None:
        return None
    if cls is np.ndarray:
        return write_array
    if issubclass(cls, np.generic) and cls.__module__ == "numpy" and cls is not np.object_:
        return write_scalar
    if issubclass(cls, np.dtype):
        return write_dtype
    return None


def read_array(payload: Any) -> Any:
    described, shape, order, data = payload
    np = library("numpy")
    dtype = make_dtype(described)
    sized = dtype.itemsize > 0 and all(type(n) is int and n >= 0 for n in shape)
    if not sized or math.prod(shape) * dtype.itemsize != len(data):
        raise CorruptPayload(f"{len(data)} bytes are not an array of {dtype} of shape {tuple(shape)}")
    if order not in ("C", "F"):
        raise CorruptPayload("an array is in C or in Fortran order")
    if not data:
        return np.empty(tuple(shape), dtype=dtype, order=order)
    return np.ndarray(tuple(shape), dtype=dtype, buffer=data, order=order).copy(order)


def read_scalar(payload: Any) -> Any:
    described, data = payload
    np = library("numpy")
    if described in ("str", "bytes"):
        return np.str_(data) if described == "str" else np.bytes_(data)
    dtype = make_dtype(described)
    if dtype.itemsize != len(data):
        raise CorruptPayload(f"{len(data)} bytes are not one {dtype}")
    return np.ndarray((), dtype=dtype, buffer=data).copy()[()] if data else np.zeros((), dtype=dtype)[()]


NESTED_READERS = {x.NDARRAY: read_array, x.NPSCALAR: read_scalar, x.DTYPE: make_dtype}
