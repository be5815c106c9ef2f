"""From a value or exception to what the journal keeps of it, and back."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final

from durable import codec
from durable.codec import encode, encode_exception
from durable.errors import CorruptPayload, DurableError, FlowRunCancelled, NotSerializable, RunFailed
from durable.journal import FORMAT_DURABLE, FORMAT_EXCEPTION, FORMAT_PICKLE, CachedResult, Outcome, TaskRecord
from durable.options import Serializer
from durable.states import CANCELLED, CRASHED, FAILED, TIMED_OUT, StateKind

MAX_PAYLOAD: Final = 900_000_000  # bytes; SQLite's own limit for a value is 1 000 000 000
CANCELLED_MESSAGE: Final = "Cancelled with `durable cancel`."
_MESSAGE: Final = 200
_ENGINE: Final = __file__.rpartition("outcomes.py")[0]


def of_value(value: Any, serializer: Serializer, who: str) -> tuple[int, bytes]:
    """``(format, payload)`` of a returned value.

    Raises:
        NotSerializable: it could not be given back exactly; the message names `who` returned it.
    """
    try:
        if serializer == "pickle":
            format_, payload = FORMAT_PICKLE, codec.dump(value)
        else:
            format_, payload = FORMAT_DURABLE, encode(value)
    except NotSerializable as error:
        raise NotSerializable(error.path, error.type_name, f"{error.reason} (returned by {who})") from None
    except Exception as error:
        raise NotSerializable(
            "result", type(value).__qualname__, f"pickle refuses it: {error} (returned by {who})"
        ) from error
    if len(payload) > MAX_PAYLOAD:
        reason = (
            f"{len(payload)} bytes is more than one result may have ({MAX_PAYLOAD}); write a file and return its path"
        )
        raise NotSerializable("result", type(value).__qualname__, f"{reason} (returned by {who})")
    return format_, payload


def of_exception(error: BaseException) -> Outcome:
    """What the journal keeps of an exception. Never fails."""
    return Outcome(FORMAT_EXCEPTION, encode_exception(error))


def restore(outcome: Outcome | TaskRecord | CachedResult, who: str) -> Any:
    """The value an outcome was made of, or one that was read along; for an exception, the exception (not raised).

    Raises:
        CodecError: the payload is damaged, or a class in it is not in this process; a note of `who` is in the message.
    """
    if outcome.format == FORMAT_EXCEPTION:
        return codec.decode_exception(outcome.payload)
    if outcome.format == FORMAT_PICKLE:
        import pickle  # `import durable` does without

        try:
            return pickle.loads(outcome.payload)  # noqa: S301 - the task asked for it, with result_serializer="pickle"
        except Exception as error:
            raise CorruptPayload(f"the pickled result of {who} cannot be loaded: {error}") from error
    return codec.decode(outcome.payload)


def message_of(error: BaseException) -> str:
    """One line about an exception, for a state: ``ValueError: boom``."""
    try:
        text = f"{type(error).__name__}: {error}".partition("\n")[0]
    except Exception:  # noqa: BLE001 - a user's __str__ may raise anything
        text = type(error).__name__
    return text if len(text) <= _MESSAGE else text[: _MESSAGE - 1] + "…"


def repr_of(error: BaseException) -> str:
    """An exception in a line of a log: ``ValueError('boom')``."""
    try:
        text = repr(error).replace("\n", " ")
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything
        text = type(error).__name__
    return text if len(text) <= _MESSAGE else text[: _MESSAGE - 1] + "…"


def is_ours(error: BaseException) -> bool:
    """Whether it is durable's own: no reason to run a task again. A run that failed or a timeout is the user's."""
    return isinstance(error, DurableError) and not isinstance(error, (RunFailed, TimeoutError))


def failed_kind(error: BaseException) -> StateKind:
    """The state a final failure ends in: any TimeoutError is TimedOut, as in Prefect 3."""
    return TIMED_OUT if isinstance(error, TimeoutError) else FAILED


def interruption(error: BaseException, reason: str | None = None, *, called_off: bool = False) -> tuple[StateKind, str]:
    """What a run that was cut off ends in, and why, in Prefect's words.

    Args:
        error: what cut it off.
        reason: the signal that arrived, if one did.
        called_off: somebody cancelled this very run.
    """
    if isinstance(error, FlowRunCancelled):
        return CANCELLED, CANCELLED_MESSAGE
    return CANCELLED if called_off else CRASHED, _why(error, reason)


def _why(error: BaseException, reason: str | None) -> str:
    name = type(error).__name__
    if reason == "termination" or name == "TerminationSignal":
        return "Execution was aborted by a termination signal."
    if reason == "interrupt" or isinstance(error, KeyboardInterrupt):
        return "Execution was aborted by an interrupt signal."
    if isinstance(error, SystemExit):
        return f"Execution was aborted by Python system exit call (code {error.code!r})."
    if name == "CancelledError":
        return "Execution was cancelled by the runtime environment."
    return f"Execution was aborted by {name}."


def without_engine(error: BaseException) -> None:
    """Take durable's own frames out of an exception's traceback: between a user's call and function there are none."""
    before: TracebackType | None = None
    frame = error.__traceback__
    while frame is not None:
        if frame.tb_frame.f_code.co_filename.startswith(_ENGINE) and frame.tb_next is not None:
            if before is None:
                error.__traceback__ = frame.tb_next
            else:
                before.tb_next = frame.tb_next
        else:
            before = frame
        frame = frame.tb_next
