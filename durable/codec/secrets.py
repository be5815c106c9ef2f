"""pydantic's secrets (SecretStr, SecretBytes, Secret): they count in an identity, and are never written.

1. In a canonical form a secret counts by a digest of what it holds, so that two calls with two tokens are two calls, in
   every process and on every machine. There is no place for a salt of the journal's own, so the digest is only made
   slow: PBKDF2, `_ROUNDS` rounds, some milliseconds a secret, once a process. Whoever has the journal can still try
   words: a long random token is safe, a short password is a matter of time.
2. As a result, or in an attribute of an exception, it is refused: to give it back, the journal would have to hold it.
3. pickle would write it in clear, so what is pickled for us is searched for secrets on the way.
"""

from __future__ import annotations

import copyreg
import io
import os
import sys
from collections.abc import Iterator
from typing import Any, Final, NoReturn

from durable.codec import extensions as x
from durable.codec.walker import Refused, Walker, extension, packed
from durable.errors import NotSerializable
from durable.names import qualified_name

_MODULES: Final = ("pydantic.types", "pydantic.v1.types")
_NAMES: Final = ("SecretStr", "SecretBytes", "Secret")
_SALT: Final = b"durable-secret-1"
_ROUNDS: Final = 10_000
_KEPT: Final = 4096
_REASON: Final = "a secret is never written, and so could not be given back"
_ADVICE: Final = (
    "Return what may be read (a name, an id) and get the secret where it is used, "
    "or set persist_result=False and the task runs again in a resumed run"
)

# What has been computed, by a keyed hash: this process remembers no secret longer than its owner does.
_digests: dict[bytes, bytes] = {}
_key: Final = os.urandom(32)


def _roots() -> Iterator[type]:
    for module in _MODULES:
        found = sys.modules.get(module)
        for name in _NAMES:
            cls = getattr(found, name, None)
            if isinstance(cls, type):
                yield cls


def is_secret(cls: type) -> bool:
    """Whether a class is one of pydantic's secrets, or made from one."""
    return issubclass(cls, tuple(_roots()))


def write_digest(value: Any, walker: Walker, depth: int) -> Any:
    """The rule for identities."""
    held = packed(walker.part(value.get_secret_value(), ".get_secret_value()", value, depth))
    return extension(x.SECRET, [*walker.named(type(value)), _digest(held)])


def _digest(held: bytes) -> bytes:
    import hashlib  # it loads OpenSSL, and few have secrets

    known = hashlib.blake2b(held, key=_key, digest_size=16).digest()
    found = _digests.get(known)
    if found is None:
        if len(_digests) >= _KEPT:
            _digests.clear()
        found = _digests[known] = hashlib.pbkdf2_hmac("sha256", held, _SALT, _ROUNDS, 16)
    return found


def refuse(value: Any, _walker: Walker, _depth: int) -> NoReturn:
    """The rule for results."""
    raise Refused(value, _REASON, _ADVICE)


def _refuse_pickling(value: Any) -> NoReturn:
    raise NotSerializable("result", qualified_name(value), f"pickle would write it in clear: {_REASON}. {_ADVICE}.")


def dump(value: Any) -> bytes:
    """``pickle.dumps``, of a value without secrets.

    Raises:
        NotSerializable: there is a secret in it.
        Exception: whatever pickle and the value's own classes raise.
    """
    import pickle  # `import durable` does without

    classes = {cls for root in _roots() for cls in _with_subclasses(root)}
    if not classes:
        return pickle.dumps(value, protocol=5)
    buffer = io.BytesIO()
    pickler = pickle.Pickler(buffer, protocol=5)
    # By class, and not asked of each object: what holds no secret is pickled at the speed it always was.
    pickler.dispatch_table = {**copyreg.dispatch_table, **dict.fromkeys(classes, _refuse_pickling)}
    pickler.dump(value)
    return buffer.getvalue()


def _with_subclasses(cls: type) -> Iterator[type]:
    yield cls
    subclasses: list[type] = type.__subclasses__(cls)
    for derived in subclasses:
        yield from _with_subclasses(derived)
