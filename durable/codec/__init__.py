"""Values to bytes and back: exact for results, canonical for identities, inert for looking at.

Layer 1. MessagePack with the extension types of `durable.codec.extensions`. Third-party types are known only where
their library is already imported; nothing here imports one.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from durable.codec.canonical import (
    ARGUMENT_LIMIT,
    canonical,
    canonical_digest_abridged,
    canonical_items,
    type_only,
)
from durable.codec.classes import register
from durable.codec.encoder import encode, encode_exception
from durable.codec.extensions import FUTURE
from durable.codec.walker import LEAF_LIMIT

if TYPE_CHECKING:  # at run time each is imported when it is first asked for: see _LATER
    from durable.codec.decoder import decode, decode_exception
    from durable.codec.exceptions import Unrecorded, UnrecordedValue
    from durable.codec.inert import Inert, decode_inert
    from durable.codec.secrets import dump
    from durable.codec.summaries import summary

__all__ = [
    "ARGUMENT_LIMIT",
    "FUTURE",
    "LEAF_LIMIT",
    "Inert",
    "Unrecorded",
    "UnrecordedValue",
    "canonical",
    "canonical_digest_abridged",
    "canonical_items",
    "decode",
    "decode_exception",
    "decode_inert",
    "dump",
    "encode",
    "encode_exception",
    "register",
    "summary",
    "type_only",
]

# What a run that replays nothing does without, and where it is; imported when it is first asked for.
_LATER = {
    "Inert": "inert",
    "Unrecorded": "exceptions",
    "UnrecordedValue": "exceptions",
    "decode": "decoder",
    "decode_exception": "decoder",
    "decode_inert": "inert",
    "dump": "secrets",
    "summary": "summaries",
}

if not TYPE_CHECKING:  # to a type checker, a module with this function would have any name

    def __getattr__(name: str) -> object:
        if name not in _LATER:
            raise AttributeError(f"module 'durable.codec' has no attribute {name!r}", name=name)
        value = globals()[name] = getattr(import_module(f"durable.codec.{_LATER[name]}"), name)
        return value
