"""The table of MessagePack extension codes: what every byte string in a journal is made of.

Fixed for ever: a code never gets another meaning, a new kind of value takes a new code. Payloads marked *nested*
are MessagePack themselves, with the same codes inside; the others are raw bytes. A class is always named by the first
two elements, its recorded module and its qualified name, so that a reader which resolves nothing can still show it.
"""

from __future__ import annotations

# Containers (nested).
TUPLE = 1  # [element, ...]
SET = 2  # [element, ...]
FROZENSET = 3  # [element, ...]
ORDERED_DICT = 22  # [key, value, key, value, ...]
DICT = 23  # [key, value, ...]: a dict with a key that is not native
DEFAULTDICT = 24  # [factory: None or [module, qualname], dict]
COUNTER = 27  # dict
DEQUE = 28  # [maxlen or None, [element, ...]]

# Scalars.
BYTEARRAY = 4  # raw: the bytes
INT = 5  # raw: two's complement, little endian; only outside 64 bits
COMPLEX = 6  # raw: real and imaginary part as little-endian doubles
DATETIME = 7  # nested: [ISO text without zone, fold, zone or None]
DATE = 8  # raw: ISO text
TIME = 9  # nested: [ISO text without zone, fold, zone or None]
TIMEDELTA = 10  # nested: [days, seconds, microseconds]
DECIMAL = 11  # raw: text
UUID = 12  # raw: 16 bytes, and a 17th (SafeUUID as int8) where is_safe is known
PATH = 13  # nested: [class name, text]
FRACTION = 14  # nested: [numerator, denominator]
STR = 20  # raw: UTF-8 with surrogates passed; only where strict UTF-8 cannot say it
RANGE = 21  # nested: [start, stop, step]
SLICE = 29  # nested: [start, stop, step]
ELLIPSIS = 30  # raw: empty
TIMEZONE = 31  # nested: [offset in microseconds, name or None]
ZONEINFO = 32  # raw: the IANA key

# Instances of named classes (nested).
ENUM = 15  # [module, qualname, member name]
FLAG = 35  # [module, qualname, value]: a combination without a name of its own
DATACLASS = 16  # [module, qualname, {field: value}, [declared fields without a value]]
NAMEDTUPLE = 17  # [module, qualname, {field: value}]
STRUCT = 26  # [module, qualname, {field: value}]
ATTRS = 33  # [module, qualname, {field: value}, [declared fields without a value]]
MODEL = 34  # [module, qualname, {field: value}, extra or None, private or None, [fields set]]
EXCEPTION = 25  # [module, qualname, message, {part: value}]
UNRECORDED = 36  # [path, type name]: stands where an exception held something that cannot be recorded

# Arrays and tables (nested): the shape comes first, the bulk last.
NDARRAY = 18  # [dtype, shape, "C" or "F", bytes]
NPSCALAR = 19  # [dtype, bytes]
DTYPE = 37  # dtype: its text, or a map for a structured one
PANDAS = 38  # [class name, shape or None, part, ...]
POLARS = 39  # [class name, shape, checksum, Arrow IPC file]
ARROW = 40  # [class name, shape, type as text, checksum, Arrow IPC stream]

# In canonical forms only (nested): these are compared and shown, never rebuilt.
DIGEST = 100  # [what it stands for, xxh3_128 in 16 bytes, length in bytes]
TYPE_ONLY = 101  # [module, qualname]: an unhashable argument, which counts by its type
FUNCTION = 102  # [module, qualname, part, ...]
CLASS = 103  # [module, qualname]
PARTIAL = 104  # [function, [argument, ...], {keyword: argument}]
METHOD = 105  # [module, qualname, the object it is bound to]
KEYED = 106  # [module, qualname, what __durable_key__ returned]
CANONICAL_TABLE = 107  # [library, class name, shape, columns or their digest]
SECRET = 108  # [module, qualname, PBKDF2 of the canonical form of what it holds, in 16 bytes]

NAMES: dict[int, str] = {
    code: name for name, code in sorted(globals().items()) if name.isupper() and isinstance(code, int)
}

# Stands, in a pair with the id of its task run, for a future among the inputs of a call that waited for it in vain.
FUTURE = "\0durable.upstream"
