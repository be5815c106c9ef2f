"""How far the flows of this process are: one line on a terminal, or a log line now and then where there is none.

Rules:

1. Who executes tasks only counts (`durable.counts`). One thread a process looks at the counts and draws; it is there
   while a flow runs, and never crosses a fork.
2. The line is drawn on stderr and is never in the way of what others write: while flows run, what is written through
   ``sys.stdout`` and ``sys.stderr`` to a terminal takes the line away first, and it is not drawn again before that
   text has ended its line. What goes past these two (a subprocess) is not seen.
3. Nothing is drawn for a flow of a second, by a process in the background of its terminal, or in a forked or worker
   process.
4. Nothing is logged while the lock is held: who logs may hold a lock of logging's, and wait for this one.

Not done with a library: click's bar wants a length and an iterator, and tqdm and rich are too much for one line.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections import deque
from typing import Any, Final
from weakref import WeakKeyDictionary

from durable.logs import at, flow_log
from durable.phrases import duration, safe
from durable.runs import FlowRun
from durable.settings import setting

APPEARS: Final = 1.5  # seconds a flow runs before its line is drawn
TICK: Final = 0.2  # seconds between two drawings
LOGGED: Final = 30.0  # seconds between two log lines, where there is no terminal
_WINDOW: Final = 20.0  # seconds by which the rate is told
_ERASE: Final = b"\r\x1b[K"


class Shown:
    """A flow run that is shown.

    Attributes:
        run: the flow run.
        due: when something is next to be told of it, by the monotonic clock.
    """

    def __init__(self, run: FlowRun, now: float, appears: float) -> None:
        self.run = run
        self.due = now + appears
        self._before = run.counts.seen()  # by an earlier attempt
        self._samples: deque[tuple[float, int, int]] = deque([(now, 0, 0)])
        self._submitted: WeakKeyDictionary[Any, int] = WeakKeyDictionary()
        for runner in run.counts.runners:
            self._submitted[runner] = runner.tally.done
        self._settled = 0

    def told(self, now: float) -> str:
        """How far it is, as text."""
        ended, recorded, failed = (new - old for new, old in zip(self.run.counts.seen(), self._before, strict=True))
        left = self._left()
        then, before, settled = self._sample(now, ended)
        words = [f"{ended}/{ended + left} done" if left else f"{ended} done"]
        words[0] += f" ({recorded} cached, {failed} failed)"
        seconds = now - then
        if seconds > 0 and ended > before:
            words.append(_rate((ended - before) / seconds))
        if left and seconds > 0 and self._settled > settled:
            words.append(f"{duration(left * seconds / (self._settled - settled) * 1e6)} left")
        return ", ".join(words)

    def _left(self) -> int:
        """How many of those submitted, or soon to be, have not ended; 0 where that is not known."""
        left: int | None = 0
        for runner in list(self.run.counts.runners):
            tally = runner.tally
            done, total = tally.done, tally.total()
            self._settled += done - self._submitted.get(runner, 0)
            self._submitted[runner] = done
            left = None if left is None or total is None else left + max(0, total - done)
        return left or 0

    def _sample(self, now: float, ended: int) -> tuple[float, int, int]:
        """Keep a sample; the oldest one that counts."""
        samples = self._samples
        samples.append((now, ended, self._settled))
        while now - samples[1][0] > _WINDOW:
            samples.popleft()
        return samples[0]


def _rate(per_second: float) -> str:
    if per_second < 1:
        return f"{per_second * 60:.0f}/min" if per_second * 60 >= 1 else f"{per_second * 3600:.0f}/h"
    return f"{per_second:.0f}/s" if per_second >= 10 else f"{per_second:.1f}/s"


class Terminal:
    """The line on a terminal. Its lock is taken again by whoever has it: a signal handler may print in the middle."""

    def __init__(self, stream: Any) -> None:
        self.lock = threading.RLock()
        self.drawn = False
        self._stream = stream
        self._watched: list[Any] = []
        self._writing = 0  # writes of others under way
        self._open = False  # what they wrote last has not ended its line

    def draw(self, text: str) -> None:
        """Show `text`, unless others are writing."""
        with self.lock:
            if not self._watched:
                self._watch()
            if self._writing or self._open:
                return
            try:
                descriptor = self._stream.fileno()
                if os.tcgetpgrp(descriptor) != os.getpgrp():
                    return  # in the background: the terminal is somebody else's
                width = os.get_terminal_size(descriptor).columns or 80
                cut = text if len(text) < width else f"{text[: max(width - 2, 0)]}…"
                os.write(descriptor, _ERASE + cut.encode(self._stream.encoding or "ascii", "replace"))
            except (OSError, ValueError):
                return  # the terminal is gone, or the stream is closed
            self.drawn = True

    def erase(self) -> None:
        """Take the line away."""
        with self.lock:
            if self.drawn:
                self.drawn = False
                try:
                    os.write(self._stream.fileno(), _ERASE)
                except (OSError, ValueError):
                    return  # as above

    def leave(self) -> None:
        """Take the line away for good."""
        with self.lock:
            self.erase()
            self.release()

    def release(self) -> None:
        """Let the streams write as they did."""
        for stream in self._watched:
            vars(stream).pop("write", None)
        self._watched.clear()

    def _watch(self) -> None:
        for stream in {id(each): each for each in (sys.stdout, sys.stderr)}.values():
            # One that somebody has put in the place of Python's own may not be an object of this kind.
            if hasattr(stream, "__dict__") and "write" not in vars(stream) and _is_tty(stream):
                vars(stream)["write"] = self._watching(stream.write)
                self._watched.append(stream)

    def _watching(self, write: Any) -> Any:
        def watched(text: str) -> Any:
            with self.lock:
                self._writing += 1
                self.erase()
            try:
                return write(text)
            finally:
                with self.lock:
                    self._writing -= 1
                    if text:
                        self._open = not text.endswith("\n")

        return watched


class Progress:
    """What this process shows."""

    def __init__(self) -> None:
        self._runs: list[Shown] = []
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._terminal: Terminal | None = None
        self._off = False

    def begin(self, run: FlowRun) -> None:
        """The body of a flow that no other one called begins."""
        if self._off or not setting("progress") or _is_worker():
            return
        with self._lock:
            if not self._runs:
                drawable = _is_tty(sys.stderr) and os.environ.get("TERM") != "dumb"
                self._terminal = Terminal(sys.stderr) if drawable else None
            self._runs.append(Shown(run, time.monotonic(), APPEARS if self._terminal is not None else LOGGED))
            self._begin_thread()
        self._wake.set()

    def end(self, run: FlowRun) -> None:
        """It has ended. May be called more than once."""
        if not self._runs:
            return
        with self._lock:
            self._runs = [shown for shown in self._runs if shown.run is not run]
            if self._terminal is not None:
                if self._runs:
                    self._terminal.erase()
                else:
                    self._terminal.leave()

    def _begin_thread(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._show, name="durable-progress", daemon=True)
            self._thread.start()

    def _show(self) -> None:
        while True:
            now = time.monotonic()
            with self._lock:
                due = [shown for shown in self._runs if shown.due <= now]
                if due and self._terminal is not None:
                    self._draw(due[0], now)
                    logged: list[tuple[Shown, str]] = []
                else:
                    logged = [(shown, shown.told(now)) for shown in due]
                for shown in due:
                    shown.due = now + (LOGGED if self._terminal is None else TICK)
                wait = min((shown.due for shown in self._runs), default=None)
            for shown, text in logged:
                flow_log.info("%s", text, extra=at(shown.run))
            del due, logged  # or a flow run lives as long as this thread waits
            self._wake.wait(None if wait is None else max(0.0, wait - time.monotonic()))
            self._wake.clear()
            if self._thread is not threading.current_thread():
                return

    def _draw(self, shown: Shown, now: float) -> None:
        assert self._terminal is not None  # noqa: S101 - asked where there is one
        others = len(self._runs) - 1
        more = f" (and {others} more flow{'s' if others > 1 else ''})" if others else ""
        self._terminal.draw(f"{safe(f'{shown.run.flow_name} {shown.run.name}')}{more}  {shown.told(now)}")

    # A thread in the middle of anything would leave its locks taken in a forked child, and Python warns of any thread.

    def before_fork(self) -> None:
        """End the thread, with the lock taken. Several threads may be about to fork, and each begins it again."""
        while True:
            self._lock.acquire()
            thread, self._thread = self._thread, None
            if thread is None:
                return
            self._lock.release()
            self._wake.set()
            thread.join(1)

    def after_fork_in_parent(self) -> None:
        """Go on."""
        if self._runs:
            self._begin_thread()
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """The terminal is the parent's."""
        self._off = True
        self._runs = []
        if self._terminal is not None:
            self._terminal.drawn = False
            self._terminal.release()
        self._lock.release()


def _is_tty(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):  # there is none, or it is closed
        return False


def _is_worker() -> bool:
    """Whether multiprocessing made this process."""
    module = sys.modules.get("multiprocessing.process")
    return module is not None and module.parent_process() is not None


progress: Final = Progress()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=progress.before_fork,
        after_in_parent=progress.after_fork_in_parent,
        after_in_child=progress.after_fork_in_child,
    )
