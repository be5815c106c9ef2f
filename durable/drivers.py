"""The loops that run a user's function and wait: one for each kind of function, and no policy in any of them.

What to do is decided by the call they drive (`durable.call.Call`, `durable.flowcall.FlowCall` and, for generators,
`durable.generation.GeneratorCall`), whose docstrings state the contract. The exception of a final failure is re-raised
by a bare ``raise``, so that no frame of ours is added to it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Generator
from types import AsyncGeneratorType, GeneratorType
from typing import TYPE_CHECKING, Any, Final

from durable.callbacks import settle
from durable.clock import clock
from durable.rests import rest, rest_async
from durable.states import State
from durable.upstream import Upstream

if TYPE_CHECKING:
    from durable.driven import Driven, DrivenGenerator
    from durable.journal import Entry

_LOCK_POLL: Final = 0.02  # seconds between two looks at a lock that another call holds
_NO_VALUES: Final = (GeneratorType, AsyncGeneratorType, State, Upstream)  # what a returned value may stand for


def drive(call: Driven, begun: Entry | None = None, along: Callable[[], None] | None = None) -> Any:
    """Drive a call of a plain function on this thread.

    Args:
        call: the call.
        begun: its start, if that was queued already and nothing was to be looked up or waited for before.
        along: called when its end is about to be committed, to queue what may go along.
    """
    commit, hooked = call.journal.commit, call.definition.options.hooks.any
    try:
        if begun is None:
            if call.gated:
                _pass(call)
            if (entry := call.replay()) is not None:
                commit(entry)
            if call.unit is not None or (hooked and call.done and entry is not None):
                _tell(call)
        while not call.done:
            if begun is not None:
                call.journal.wait(begun)
                begun = None
            elif (entry := call.started()) is not None:
                commit(entry)
            if hooked:
                _tell(call)
            try:
                try:
                    call.enter()
                    value = call.definition.fn(*call.args, **call.kwargs)
                    if call.is_flow or isinstance(value, _NO_VALUES):
                        value = _settled(call, value)
                    call.leave()
                except BaseException as error:
                    if call.is_flow:
                        _stop(call, error)
                    call.leave()
                    raise
            except BaseException as error:
                call.leave()  # again: its time may have run out while it was left
                if (entry := call.raised(_answer(call.caught(error)))) is not None:
                    commit(entry)
                    if hooked or call.unit is not None:
                        _tell(call)
                if call.propagates:
                    raise
                if not call.done and call.delay:
                    rest(call)
            else:
                if (entry := call.returned(value)) is not None:
                    if along is not None:
                        along()
                    commit(entry)
                    if hooked or call.unit is not None:
                        _tell(call)
        return call.outcome()
    finally:
        call.close()


def drive_generator(call: DrivenGenerator) -> Generator[Any, Any, Any]:
    """Drive a call of a generator function on this thread; a generator of what it yields."""
    commit, hooked = call.journal.commit, call.definition.options.hooks.any
    iterator: Any = None
    try:
        if call.gated:
            _pass(call)
        if (entry := call.replay()) is not None:
            commit(entry)
        if call.unit is not None or (hooked and entry is not None):
            _tell(call)
        while True:
            while not (call.done or call.serve() or call.done):
                if iterator is None:
                    if (entry := call.started()) is not None:
                        commit(entry)
                    if hooked:
                        _tell(call)
                try:
                    try:
                        call.enter()
                        if iterator is None:
                            iterator = call.definition.fn(*call.args, **call.kwargs)
                        given, thrown = call.answer()
                        value = iterator.send(given) if thrown is None else iterator.throw(thrown)
                        entry = call.yielded(value)
                    finally:
                        call.leave()
                except StopIteration as stop:
                    entry = call.returned(stop.value)
                except BaseException as error:
                    call.leave()  # again, as above
                    iterator = None
                    if (entry := call.raised(_answer(call.caught(error)))) is not None:
                        commit(entry)
                        if hooked or call.unit is not None:
                            _tell(call)
                    if call.propagates:
                        raise
                    if not call.done and call.delay:
                        rest(call)
                    continue
                if entry is not None:
                    commit(entry)
                    if hooked and not call.deliver:
                        _tell(call)
                if call.deliver:
                    break
            if call.done:
                if call.unit is not None:
                    _tell(call)
                return call.outcome()
            try:
                call.sent((yield call.value))
            except GeneratorExit:
                if (entry := _close(call, iterator)) is not None:
                    commit(entry)
                if call.unit is not None or (hooked and entry is not None):
                    _tell(call)
                raise
            except BaseException as error:  # noqa: BLE001 - whatever its consumer throws is the generator's
                call.threw(error)
    finally:
        call.close()


def _close(call: DrivenGenerator, iterator: Any) -> Entry | None:
    try:
        try:
            call.enter()
            if iterator is not None:
                iterator.close()
        finally:
            call.leave()
    except BaseException as error:
        call.leave()  # again, as above
        call.caught(error)
        if (entry := call.raised(False)) is not None:
            call.journal.commit(entry)
        raise
    return call.closed()


def _pass(call: Driven) -> None:
    """Wait for what a call needs, and for its turn."""
    for upstream in call.awaited():
        upstream.wait()
    while call.locked():
        clock().sleep(_LOCK_POLL)


def _settled(call: Driven, value: Any) -> Any:
    """What a body's return value stands for, once all it submitted has ended."""
    if isinstance(value, GeneratorType):
        value = list(value)  # a generator cannot be recorded, what it gives can; as in Prefect
    runner = call.runner()
    if runner is not None:
        runner.join()
    if isinstance(value, Upstream):
        value.wait()
    settled = call.settled(value)
    if runner is not None:
        runner.raise_unhandled()
    return settled


def _stop(call: Any, error: BaseException) -> None:
    runner, abandon = call.stop(error)
    if runner is not None:
        call.stopped(runner.stop(error, abandon=abandon))


def _answer(retry: Any) -> bool:
    return retry if isinstance(retry, bool) else bool(settle(retry))


def _tell(call: Driven) -> None:
    for awaitable in call.due():
        settle(awaitable)


async def drive_async(call: Driven) -> Any:
    """Drive a call of a coroutine function, or of one whose body is executed elsewhere; one commit a turn."""
    from asyncio import get_running_loop  # a loop is running, so this is a look-up; `import durable` does without

    loop, commit_soon, hooked = get_running_loop(), call.journal.commit_soon, call.definition.options.hooks.any
    elsewhere = call.elsewhere
    try:
        if call.gated:
            await _pass_async(call)
        if (entry := call.replay()) is not None:
            await commit_soon(entry, loop)
        if call.unit is not None or (hooked and call.done and entry is not None):
            await _tell_async(call)
        while not call.done:
            if elsewhere is not None:
                await elsewhere.admitted()
            if (entry := call.started()) is not None:
                await commit_soon(entry, loop)
            if hooked:
                await _tell_async(call)
            try:
                call.enter()
                value = await (call.definition.fn(*call.args, **call.kwargs) if elsewhere is None else elsewhere.body())
                if call.is_flow or isinstance(value, _NO_VALUES):
                    value = await _settled_async(call, value)
                call.leave()
            except BaseException as error:
                if call.is_flow:
                    await _stop_async(call, error)
                call.leave()
                if (entry := call.raised(await _answer_async(call.caught(error)))) is not None:
                    # Not awaited: a cancelled coroutine may not get another turn.
                    call.journal.commit(entry)
                    if hooked or call.unit is not None:
                        await _tell_async(call)
                if call.propagates:
                    raise
                if not call.done and call.delay:
                    await rest_async(call)
            else:
                if (entry := call.returned(value)) is not None:
                    await commit_soon(entry, loop)
                    if hooked or call.unit is not None:
                        await _tell_async(call)
        return call.outcome()
    finally:
        call.close()


async def drive_async_generator(call: DrivenGenerator) -> AsyncIterator[Any]:
    """Drive a call of an async generator function on the running event loop; an async generator of what it yields."""
    from asyncio import get_running_loop  # as above

    loop, commit_soon, hooked = get_running_loop(), call.journal.commit_soon, call.definition.options.hooks.any
    iterator: Any = None
    try:
        if call.gated:
            await _pass_async(call)
        if (entry := call.replay()) is not None:
            await commit_soon(entry, loop)
        if call.unit is not None or (hooked and entry is not None):
            await _tell_async(call)
        while True:
            while not (call.done or call.serve() or call.done):
                if iterator is None:
                    if (entry := call.started()) is not None:
                        await commit_soon(entry, loop)
                    if hooked:
                        await _tell_async(call)
                try:
                    call.enter()
                    if iterator is None:
                        iterator = call.definition.fn(*call.args, **call.kwargs)
                    given, thrown = call.answer()
                    value = await (iterator.asend(given) if thrown is None else iterator.athrow(thrown))
                    entry = call.yielded(value)
                    call.leave()
                except StopAsyncIteration:
                    call.leave()
                    entry = call.returned(None)
                except BaseException as error:
                    call.leave()
                    iterator = None
                    if (entry := call.raised(await _answer_async(call.caught(error)))) is not None:
                        call.journal.commit(entry)  # not awaited, as above
                        if hooked or call.unit is not None:
                            await _tell_async(call)
                    if call.propagates:
                        raise
                    if not call.done and call.delay:
                        await rest_async(call)
                    continue
                if entry is not None:
                    await commit_soon(entry, loop)
                    if hooked and not call.deliver:
                        await _tell_async(call)
                if call.deliver:
                    break
            if call.done:
                if call.unit is not None:
                    await _tell_async(call)
                call.outcome()
                return
            try:
                call.sent((yield call.value))
            except GeneratorExit:
                if (entry := await _close_async(call, iterator)) is not None:
                    call.journal.commit(entry)
                if call.unit is not None or (hooked and entry is not None):
                    await _tell_async(call)
                raise
            except BaseException as error:  # noqa: BLE001 - whatever its consumer throws is the generator's
                call.threw(error)
    finally:
        call.close()


async def _close_async(call: DrivenGenerator, iterator: Any) -> Entry | None:
    try:
        call.enter()
        if iterator is not None:
            await iterator.aclose()
        call.leave()
    except BaseException as error:
        call.leave()
        call.caught(error)
        if (entry := call.raised(False)) is not None:
            call.journal.commit(entry)
        raise
    return call.closed()


async def _pass_async(call: Driven) -> None:
    for upstream in call.awaited():
        await upstream.settled()
    while call.locked():
        await clock().sleep_async(_LOCK_POLL)


async def _settled_async(call: Driven, value: Any) -> Any:
    if isinstance(value, GeneratorType):
        value = list(value)
    elif isinstance(value, AsyncGeneratorType):
        value = [each async for each in value]
    runner = call.runner()
    if runner is not None:
        await runner.join_async()
    if isinstance(value, Upstream):
        await value.settled()
    settled = call.settled(value)
    if runner is not None:
        runner.raise_unhandled()
    return settled


async def _stop_async(call: Any, error: BaseException) -> None:
    runner, abandon = call.stop(error)
    if runner is not None:
        call.stopped(await runner.stop_async(error, abandon=abandon))


async def _answer_async(retry: Any) -> bool:
    return retry if isinstance(retry, bool) else bool(await retry)


async def _tell_async(call: Driven) -> None:
    for awaitable in call.due():
        await awaitable
