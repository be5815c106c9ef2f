"""Values to bytes and back: exact for results, canonical for identities, inert for looking at.

Layer 1. MessagePack with the extension types of `durable.codec.extensions`. Third-party types are known only where
their library is already imported; nothing here imports one.
"""

from __future__ import annotations

from durable.codec.canonical import (
    ARGUMENT_LIMIT,
    LEAF_LIMIT,
    canonical,
    canonical_digest_abridged,
    canonical_items,
    type_only,
)
from durable.codec.classes import register
from durable.codec.decoder import decode, decode_exception
from durable.codec.encoder import encode, encode_exception
from durable.codec.exceptions import Unrecorded, UnrecordedValue
from durable.codec.inert import Inert, decode_inert
from durable.codec.secrets import dump
from durable.codec.summary import FUTURE, summary

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
