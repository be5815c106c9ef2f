"""The life of a call of a generator task, sync or async: a task call that hands over values before it ends.

The contract with its driver is that of `durable.call`, and for each value: unless `serve` has one on record, the driver
begins an attempt if there is no iterator yet (`started`), advances the iterator by what `answer` says, and hands the
value to `yielded`, whose entry it commits; it gives its consumer `value` when `deliver` is set, and reports what came
back with `sent`, `threw` or `closed`.

Rules:

1. A value is recorded before its consumer has it: committed, and synced every `SYNC_EVERY` values and by any other
   synced commit that follows. So a killed process loses none, and a power cut at most the newest `SYNC_EVERY` - 1,
   never one that a recorded task has used.
2. What is on record is served first, and the generator is not started if it had finished. If it had not, it is started
   from the beginning when its consumer asks for more; it is advanced, with what the consumer had sent or thrown, past
   what the consumer has, which must agree with the record; then it goes on live. A retry does the same.
3. A consumer that stops early closes the generator: its run is Completed, without a result, and says so. A resumed
   consumer that asks for more finds it started again.
4. A value that cannot be recorded is handed over all the same, with one warning: a resume that reaches it starts the
   generator again. With persist_result=False none is recorded, and what is skipped is counted, not compared.
5. The body's time is what its timeout counts, not its consumer's.
6. What a generator yielded before it was rolled back is void, and a number is never given twice. So from then on it
   records no values, and each resume executes it again.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any, Final

from durable import reasons
from durable.call import Call
from durable.codec import canonical
from durable.errors import GeneratorDiverged, NotSerializable, Unhashable
from durable.feeding import yielding
from durable.journal import Entry, Outcome, Yielded
from durable.outcomes import message_of, of_exception, of_value, restore
from durable.recall import Known
from durable.states import COMPLETED, CRASHED, FAILED, RUNNING, TERMINAL_TYPES

SYNC_EVERY: Final = 64  # values: one fsync in so many
_WINDOW: Final = 100  # recorded values read at a time
_CLOSED: Final = "Closed by its consumer."
_DIED: Final = "Its process died while it ran; found when the run was resumed."
_log = logging.getLogger("durable")


class GeneratorCall(Call):
    """One call of a generator task. Attributes as in `Call`, and:

    value: what to hand over next.
    deliver: whether the consumer is to have it; False while the iterator is behind its consumer.
    """

    __slots__ = (
        "_answers",
        "_at",
        "_end",
        "_is_void",
        "_live",
        "_on_record",
        "_origin",
        "_served",
        "_spent",
        "_told_unkept",
        "_window",
        "deliver",
        "value",
    )

    def _prepare(self, *args: Any, **options: Any) -> None:
        super()._prepare(*args, **options)
        self.value: Any = None
        self.deliver = False
        self._answers: dict[int, tuple[Any, BaseException | None]] = {}
        self._at = 0  # values the iterator has given
        self._served = 0  # values the consumer has
        self._on_record = 0
        self._origin: int | None = None  # the task run whose values are on record
        self._window: deque[Yielded] = deque()
        self._end: Known | None = None
        self._is_void = False  # what is on record was undone
        self._live = False
        self._spent = 0.0
        self._told_unkept = False

    # What a driver calls besides.

    def replay(self) -> Entry | None:
        """As in `Call`; a recorded end comes after what was recorded before it."""
        entry = super().replay()
        if self._record is not None and self._origin is None:
            self._origin = self._record.id
        if self._origin is not None:
            self._on_record = self.journal.count_yields(self._origin)
        if self._record is not None and self.journal.was_rolled_back(self._record.id):
            self._is_void, self._on_record = True, 0
            self._end = self.error = None
            self._reason = reasons.ROLLED_BACK
        return entry

    def serve(self) -> bool:
        """Whether `value` is the next one, from the record; sets `done` if the record ends here."""
        self._let_go()
        if self._live:
            return False
        if self._served < self._on_record:
            recorded = self._recorded(self._served + 1)
            if recorded is None:
                self._end, self._reason = None, reasons.NOT_KEPT
                return False
            self._hand_over(restore(recorded, self.definition.where))
            return True
        if self._end is not None:
            self.done = True
        return False

    def started(self) -> Entry | None:
        """An attempt begins, from the generator's beginning."""
        self._at, self._spent, self._live, self.deliver = 0, 0.0, True, False
        return super().started()

    def answer(self) -> tuple[Any, BaseException | None]:
        """What the iterator is to be sent, or what is to be raised in it, where it stands."""
        return self._answers.get(self._at, (None, None))

    def yielded(self, value: Any) -> Entry | None:
        """The iterator gave `value`.

        Raises:
            GeneratorDiverged: it is not the one on record.
        """
        self._at += 1
        if self._at <= self._on_record and not self._agrees(value):
            raise self._diverged("yielded something else")
        self.deliver = self._at > self._served
        if not self.deliver:
            return None
        self._hand_over(value)
        if self._at <= self._on_record or self._is_void or not self.definition.options.persist_result:
            return None
        assert self.row is not None  # noqa: S101 - its body has been entered
        self._on_record = self._at
        synced = self._at % SYNC_EVERY == 0
        return self.journal.yields_next(self.row, self._at, self._encoded(value), synced=synced)

    def returned(self, value: Any) -> Entry | None:
        """The iterator is exhausted, and returned `value`."""
        self.deliver = False
        if self._at < max(self._served, self._on_record) and not self.journal.is_inherited:
            self._at += 1
            self.done = True
            self.error = self._diverged("ended")
            return self._ends(FAILED, message_of(self.error), of_exception(self.error))
        return super().returned(value)

    def sent(self, value: Any) -> None:
        """The consumer sent `value`; None is what a ``for`` loop sends."""
        if value is not None:
            self._answers[self._served] = value, None

    def threw(self, error: BaseException) -> None:
        """The consumer raised `error` in it."""
        self._answers[self._served] = None, error

    def closed(self) -> Entry | None:
        """The consumer wants no more (rule 3)."""
        self._let_go()
        self.done = True
        if self.journal.is_inherited or self.journal.is_closed:
            return None
        if self._live:
            return self._ends(COMPLETED, _CLOSED)
        if self.kind is None or self.kind.type in TERMINAL_TYPES:
            return None  # the record says how it ended
        self.message = _CLOSED
        return self._enters((CRASHED, _DIED), (RUNNING, self._reason), (COMPLETED, _CLOSED), synced=True)

    def leave(self) -> None:
        """The body has handed over, or ended."""
        limit = self._limit
        super().leave()
        if limit is not None:
            self._spent += limit.seconds - limit.left()

    def close(self) -> None:
        """The call has ended."""
        self._let_go()
        self._answers.clear()
        super().close()

    # How it goes on.

    def _take_end(self, known: Known) -> Entry | None:
        if known.cached is not None and known.origin is not None and self.journal.unkept_yields(known.origin):
            self._reason = reasons.NOT_KEPT
            return None
        entry = super()._take_end(known)
        self.done, self._end, self._origin = False, known, known.origin
        return entry

    def _budget(self) -> float | None:
        seconds = super()._budget()
        return None if seconds is None else max(seconds - self._spent, 1e-6)

    def _hand_over(self, value: Any) -> None:
        self.value = value
        self._served += 1
        live = yielding.get()
        if live is None:
            yielding.set({self.key: value})
        else:
            live[self.key] = value

    def _let_go(self) -> None:
        live = yielding.get()
        if live:
            live.pop(self.key, None)

    def _recorded(self, number: int) -> Outcome | None:
        """The recorded value of a number; None where it could not be recorded."""
        window = self._window
        while window and window[0].number < number:
            window.popleft()
        if not window or window[0].number != number:
            assert self._origin is not None or self.row is not None  # noqa: S101 - something is on record
            run = self._origin if self._origin is not None else self.row
            window = self._window = deque(self.journal.yields(run or 0, number, _WINDOW))
        return window[0].outcome

    def _agrees(self, value: Any) -> bool:
        recorded = self._recorded(self._at)
        if recorded is None:
            return True
        encoded = self._encoded(value)
        if encoded is not None and encoded[1] == recorded.payload:
            return True
        try:  # a set's order is the hash seed's, and equal for all that
            return canonical(restore(recorded, self.definition.where), "value") == canonical(value, "value")
        except Unhashable:
            return False

    def _encoded(self, value: Any) -> tuple[int, bytes] | None:
        try:
            return of_value(value, self.definition.options.result_serializer, self.definition.where)
        except NotSerializable as error:
            if not self._told_unkept:
                self._told_unkept = True
                _log.warning("%s: value %d is not recorded: a resume runs it again. %s", self.name, self._at, error)
            return None

    def _diverged(self, found: str) -> GeneratorDiverged:
        return GeneratorDiverged(self.definition.name, self.key.hex(), self._at, found)
