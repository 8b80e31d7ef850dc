"""The middleware that `install` adds: what must see a response from its start to its end."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from ..async_limiter import AsyncLimiter
from ..charge import Charge
from ..lifespan import Lifespan
from ..loops import run_to_completion

_log = logging.getLogger("exact_limiter")

#: The middleware puts a `Sender` into the scope under this key.
SCOPE_KEY = "exact_limiter.installed"

_WITH_HEADERS = ("http.response.start", "websocket.accept", "websocket.http.response.start")
_LAST = ("http.response.body", "http.response.pathsend", "websocket.http.response.body")

#: The outcome of a request whose visitor hung up before the response, as nginx logs it.
_HUNG_UP = 499

Refund = Callable[[int], bool]


class Sender:
    """Sends a response with the headers of its decisions. Not a closure, which takes more objects for each request."""

    __slots__ = ("_send", "app", "ending", "headers")

    def __init__(self, app: object, send: Send) -> None:
        self.app = app
        self.headers: list[tuple[str, str]] = []
        #: None unless a charge is to be changed at the end of the response.
        self.ending: Ending | None = None
        self._send = send

    def __call__(self, message: Message) -> Awaitable[None]:
        if self.headers and message["type"] in _WITH_HEADERS:
            added = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers]
            message["headers"] = [*message.get("headers", ()), *added]
        return self._send(message) if self.ending is None else self.ending.send(message, self._send)

    def change_at_end(self, charge: Charge, refund: Refund | None, *, release: bool) -> None:
        if self.ending is None:
            self.ending = Ending()
        self.ending.changes.append(_Change(charge, refund, release))


class _Change(NamedTuple):
    charge: Charge
    refund: Refund | None
    release: bool

    def is_refunded(self, status: int) -> bool:
        try:
            return self.refund is not None and bool(self.refund(status))
        except Exception:
            _log.exception("refund= of policy %s failed. The charge stays.", self.charge.decision.policy)
            return False

    async def make(self, *, is_refunded: bool) -> None:
        if is_refunded:
            await self.charge.settle(0)
        if (is_refunded or self.release) and self._may_be_concurrent:
            await self.charge.release()

    @property
    def _may_be_concurrent(self) -> bool:
        # An admission in an outage has no limits: nobody knows whether they are concurrent. The limits behind an
        # override are not known either, and hold again once it has ended.
        decision = self.charge.decision
        return decision.degraded or any(limit.concurrent or limit.override == "limits" for limit in decision.limits)


class Ending:
    """Follows a response, and refunds or releases its charges once it has ended, however it ends."""

    def __init__(self) -> None:
        self.changes: list[_Change] = []
        self._status: int | None = None
        self._has_hung_up = False

    async def send(self, message: Message, send: Send) -> None:
        kind = message["type"]
        if kind in ("http.response.start", "websocket.http.response.start"):
            self._status = message["status"]
        elif kind == "websocket.accept":
            self._status = 101
        elif kind == "websocket.close" and self._status is None:
            # The server turns a close before the handshake into this.
            self._status = 403
        try:
            await send(message)
        except OSError:
            self._has_hung_up = True
            raise
        if kind in _LAST and not message.get("more_body", False):
            # Not after the background tasks, which may take long.
            await self.finish()

    async def finish(self, error: BaseException | None = None) -> None:
        """Makes the changes, once. Finishes despite cancellation. The application sees no error of theirs."""
        changes, self.changes = self.changes, []
        if not changes:
            return
        status = self._outcome(error)
        refunded = [change.is_refunded(status) for change in changes]

        async def make_all() -> None:
            for change, is_refunded in zip(changes, refunded, strict=True):
                await change.make(is_refunded=is_refunded)

        try:
            await run_to_completion(make_all)
        except Exception:
            _log.exception("A charge could not be changed after the response.")

    def _outcome(self, error: BaseException | None) -> int:
        """The status, or 500 if the application failed before the last byte."""
        if self._status is not None and error is None:
            return self._status
        is_cancelled = error is not None and not isinstance(error, Exception)
        if is_cancelled or self._has_hung_up or isinstance(error, (ClientDisconnect, WebSocketDisconnect)):
            return self._status or _HUNG_UP
        return 500


class Middleware:
    """Adds the headers of decisions to every response, streams too, which a dependency could not do."""

    def __init__(self, app: ASGIApp, limiter: AsyncLimiter, is_enabled: Callable[[], bool]) -> None:
        self.app = app
        self.limiter = limiter
        self._is_enabled = is_enabled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan" and self._is_enabled():
            return await Lifespan(self.limiter, receive, send).run(self.app, scope)
        scope[SCOPE_KEY] = sender = Sender(scope.get("app"), send)
        try:
            await self.app(scope, receive, sender)
        except BaseException as error:
            if sender.ending is not None:
                await sender.ending.finish(error)
            raise
        if sender.ending is not None:
            await sender.ending.finish()
