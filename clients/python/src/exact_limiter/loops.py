"""Values that belong to an event loop and end with it, and work that finishes despite cancellation."""

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
    """The running asyncio loop; None without a loop, and on another kind of loop."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


class PerLoop(Generic[C]):
    """A value for each event loop, made on first use and closed when asyncio closes the loop."""

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._values: WeakKeyDictionary[object, C] = WeakKeyDictionary()

    def current(self) -> C:
        """The value of the running loop."""
        loop = running_loop() or anyio.lowlevel.current_token()
        value = self._values.get(loop)
        if value is None:
            value = self._values[loop] = self._make()
            if isinstance(loop, asyncio.AbstractEventLoop):
                _close_with(loop, self)
        return value

    async def aclose(self) -> None:
        """Closes the value of the running loop, if there is any."""
        loop = running_loop() or anyio.lowlevel.current_token()
        if loop in self._values:
            # Removed last: work that it finishes before it closes may need it.
            await self._values[loop].aclose()
            self._values.pop(loop, None)

    def forget(self, loop: asyncio.AbstractEventLoop) -> None:
        self._values.pop(loop, None)


#: The attribute of a loop that holds what must be closed before it.
_CLOSED_FIRST = "_exact_limiter_closed_first"


def _close_with(loop: asyncio.AbstractEventLoop, values: PerLoop[Any]) -> None:
    """
    Makes `loop.close()` close the loop's value first. asyncio has no hook for that. Without it, a closed loop and its
    connections would live as long as the client.
    """
    try:
        attributes = vars(loop)
    except TypeError:
        # A loop of another make may have no attribute dictionary.
        return
    if _CLOSED_FIRST not in attributes:
        attributes[_CLOSED_FIRST] = WeakSet()
        close = loop.close

        def close_all() -> None:
            # A running loop refuses to be closed, and no loop can run inside another.
            can_run = not loop.is_running() and not loop.is_closed() and running_loop() is None
            for closing in list(attributes[_CLOSED_FIRST]):
                if can_run:
                    with suppress(Exception), warnings.catch_warnings():
                        # asyncio warns about generators that start this late; these end before the loop does.
                        warnings.simplefilter("ignore", ResourceWarning)
                        loop.run_until_complete(closing.aclose())
                closing.forget(loop)
            close()

        attributes["close"] = close_all
    attributes[_CLOSED_FIRST].add(values)


async def run_to_completion(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """
    Finishes `work` despite cancellation, and raises the cancellation only then. asyncio cancels every task at shutdown,
    that of `work` too, which is then started again: it must be safe to repeat and end by itself.
    """
    if running_loop() is None:
        # Shields from a cancelled scope, such as Starlette's, which would cancel each `await` again.
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
                # From `task.cancel()`, which ignores scopes.
                cancelled = error
    if cancelled is None:
        return task.result()
    # Marks the exception as retrieved: asyncio logs those that nobody retrieves.
    task.exception()
    raise cancelled
