"""How a command ends: the exit codes, and what each error of durable's means for them."""

from __future__ import annotations

import os
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from durable.errors import ConfigurationError, CorruptPayload, DurableError, FlowRunInProgress, JournalBusy
from durable.reader import Damaged

NOT_COMPLETED: Final = 1
WRONG_USAGE: Final = 2
NO_SUCH: Final = 3
BUSY: Final = 4
DAMAGED: Final = 5
INTERRUPTED: Final = 130


class Stopped(Exception):
    """A command ends with `code`, having said all there is to say but `message`."""

    def __init__(self, code: int, message: str | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message


def code_of(error: DurableError) -> int:
    """The exit code for an error."""
    if isinstance(error, JournalBusy | FlowRunInProgress):
        return BUSY
    if isinstance(error, ConfigurationError):
        return WRONG_USAGE
    return DAMAGED if isinstance(error, Damaged | CorruptPayload) else NO_SUCH


@contextmanager
def told(tell: Callable[[str], None]) -> Iterator[None]:
    """Turn what goes wrong in the block into one line and an exit code."""
    try:
        yield
        sys.stdout.flush()
    except Stopped as stopped:
        if stopped.message:
            tell(stopped.message)
        raise SystemExit(stopped.code) from None
    except DurableError as error:
        tell(str(error))
        raise SystemExit(code_of(error)) from None
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        # `| head` has seen enough. What is still buffered must not be flushed into the closed pipe at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
    except (sqlite3.Error, TypeError, ValueError, LookupError, OverflowError, RecursionError, AttributeError) as error:
        # A file whose bytes were changed can hold anything anywhere: numbers where text should be, rows that are gone.
        tell(
            f"the journal is damaged, or durable has a bug: {type(error).__name__}: {error}. "
            "`sqlite3 FILE 'PRAGMA integrity_check'` tells which"
        )
        raise SystemExit(DAMAGED) from error if os.environ.get("DURABLE_TRACEBACK") else None
