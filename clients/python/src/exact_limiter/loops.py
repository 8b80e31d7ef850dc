"""What belongs to an event loop, and ends with it; and work that ends whatever is cancelled around it."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary, WeakSet

import anyio
import anyio.lowlevel

T = TypeVar("T")


class Closable(Protocol):
    async def aclose(self) -> None: ...


C = TypeVar("C", bound=Closable)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The loop of asyncio that runs here; None on another kind of loop, and on none."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class ForEachLoop(Generic[C]):
    """One of a kind for each event loop that asks, made when it first does and closed when asyncio closes the loop."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._made: WeakKeyDictionary[object, C] = WeakKeyDictionary()

    def here(self) -> C:
        """The one of the loop that runs."""
        loop = running_loop() or anyio.lowlevel.current_token()
        made = self._made.get(loop)
        if made is None:
            made = self._made[loop] = self._make()
            if isinstance(loop, asyncio.AbstractEventLoop):
                _close_with(loop, self)
        return made

    async def aclose(self) -> None:
        """Closes the one of the loop that runs, if there is one."""
        loop = running_loop() or anyio.lowlevel.current_token()
        if loop in self._made:
            # Forgotten last: what it finishes before it is closed may need it.
            await self._made[loop].aclose()
            self._made.pop(loop, None)

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        self._made.pop(loop, None)


#: Where a loop has what is to be closed with it.
_CLOSED_FIRST = "_exact_limiter_closed_first"


def _close_with(loop: asyncio.AbstractEventLoop, owner: ForEachLoop[Any]) -> None:
    """
    Has `loop.close()` close first what its owner has made for it. asyncio has no hook for that; without it a loop that
    was closed, and each of its connections, would live for as long as the client does.
    """
    try:
        attributes = vars(loop)
    except TypeError:
        # A loop of some other make, without attributes of its own.
        return
    if _CLOSED_FIRST not in attributes:
        attributes[_CLOSED_FIRST] = WeakSet()
        close = loop.close

        def close_all() -> None:
            # A loop that runs refuses to be closed; while another one runs here, this one can't run once more.
            can_run = not loop.is_running() and not loop.is_closed() and running_loop() is None
            for one in list(attributes[_CLOSED_FIRST]):
                if can_run:
                    with suppress(Exception), warnings.catch_warnings():
                        # asyncio warns of generators that begin as late as this; these end before the loop does.
                        warnings.simplefilter("ignore", ResourceWarning)
                        loop.run_until_complete(one.aclose())
                one.forget(loop)
            close()

        attributes["close"] = close_all
    attributes[_CLOSED_FIRST].add(owner)


async def to_the_end(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """
    Waits until `work` has ended, whatever is cancelled around it, and lets a cancellation go on only then. asyncio
    cancels every task when it is shut down: `work` is then begun again, so it must be safe to repeat and end by itself.
    """
    if running_loop() is None:
        # Holds off a cancelled scope, such as Starlette's, which would cancel each `await` anew.
        with anyio.CancelScope(shield=True):
            return await work()
    cancelled: asyncio.CancelledError | None = None
    task = asyncio.create_task(work())
    with anyio.CancelScope(shield=True):
        while not task.done() or task.cancelled():
            if task.done():
                task = asyncio.create_task(work())
            try:
                await asyncio.wait([task])
            except asyncio.CancelledError as error:
                # Of `task.cancel()`, which knows nothing of scopes.
                cancelled = error
    if cancelled is None:
        return task.result()
    # Looked at, so that asyncio does not complain that nobody has.
    task.exception()
    raise cancelled
