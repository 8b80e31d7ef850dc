"""The charge of an admitted request, for routes that correct it."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, TypeVar

import anyio.from_thread

from .async_limiter import AsyncLimiter
from .decision import Cost, Decision, Release, Settlement
from .errors import LimiterError, UnknownDecisionError
from .loops import running_loop

_log = logging.getLogger("exact_limiter")

T = TypeVar("T")


@dataclass(slots=True)
class Charge:
    """
    The charge of an admitted request. A route that takes it may settle and release it. `async with charge:` releases it
    at the end of the block, as does `with charge:` in a `def` route. Nothing changes it. A frozen
    class would take three times as long to make.
    """

    decision: Decision
    _limiter: AsyncLimiter
    #: Who was charged, for other decisions about them: `limiter.consume("messages", charge.subject)`.
    subject: Mapping[str, str | None]

    async def settle(self, cost: Cost) -> Settlement | None:
        """
        Corrects the cost: the real cost once it is known, 0 to give it back. None if there is no charge. None also if
        the correction failed, which is logged: the cost then counts until it leaves its windows. Finishes despite
        cancellation, for example in the `finally` of a stream whose visitor has disconnected.
        """
        settle = partial(self._limiter.settle, self.decision.policy, self.subject, cost=cost)
        return await self._change(lambda id: settle(id=id))

    async def release(self) -> Release | None:
        """
        Ends the request for concurrent limits. None as for `settle`: a failed release holds its place until the window
        has passed.
        """
        return await self._change(lambda id: self._limiter.release(self.decision.policy, self.subject, id=id))

    def settle_from_thread(self, cost: Cost) -> Settlement | None:
        """`settle` for a `def` route, which runs in a thread."""
        return _run_from_thread(partial(self.settle, cost), "await charge.settle(cost)")

    def release_from_thread(self) -> Release | None:
        """`release` for a `def` route, which runs in a thread."""
        return _run_from_thread(self.release, "await charge.release()")

    async def __aenter__(self) -> Charge:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.release()

    def __enter__(self) -> Charge:
        _require_thread("async with charge")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release_from_thread()

    async def _change(self, change: Callable[[str], Awaitable[T]]) -> T | None:
        if self.decision.id is None:
            return None
        try:
            return await change(self.decision.id)
        except UnknownDecisionError as error:
            # In an outage, the consume may never have been recorded.
            if not self.decision.degraded:
                _log.warning("The charge by policy %s could not be changed: %s", self.decision.policy, error)
            return None
        except LimiterError:
            # The client has logged it.
            return None


def _run_from_thread(change: Callable[[], Coroutine[Any, Any, T]], on_loop: str) -> T:
    _require_thread(on_loop)
    return anyio.from_thread.run(change)


def _require_thread(on_loop: str) -> None:
    if running_loop() is not None:
        raise RuntimeError(f"This blocks the event loop. In an `async def` route write `{on_loop}`.")
