"""The part that a limiter has in the start and the end of an ASGI application."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, TypeAlias

from .async_limiter import AsyncLimiter
from .errors import LimiterError
from .loops import running_loop

_log = logging.getLogger("exact_limiter")

# The types of ASGI, as Starlette has them.
Scope: TypeAlias = MutableMapping[str, Any]
Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
ASGIApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class Lifespan:
    """
    Stands between a server and an application during the scope `lifespan`. Reports whether the limiter is ready once
    the application has started, and closes the client at the application's end.
    """

    def __init__(self, limiter: AsyncLimiter, receive: Receive, send: Send) -> None:
        self._limiter = limiter
        self._receive = receive
        self._send = send
        self._readiness: asyncio.Task[None] | None = None
        self._is_starting = False
        self._is_answered = False

    async def run(self, app: ASGIApp, scope: Scope) -> None:
        """Runs the application's lifespan. Answers the server itself if the application has none, such as Django's."""
        try:
            await app(scope, self.receive, self.send)
        except Exception as error:
            if self._is_answered:
                raise
            _log.info("The application has no lifespan: %r", error)
        if not self._is_answered:
            await self._run_alone()

    async def receive(self) -> Message:
        self._is_starting = True
        return await self._receive()

    async def send(self, message: Message) -> None:
        self._is_answered = True
        if message["type"] == "lifespan.startup.complete" and running_loop() is not None:
            self._readiness = asyncio.create_task(self._report_readiness())
        if message["type"] in ("lifespan.shutdown.complete", "lifespan.shutdown.failed"):
            await self._close()
        await self._send(message)

    async def _run_alone(self) -> None:
        if not self._is_starting:
            await self._receive()
        await self.send({"type": "lifespan.startup.complete"})
        await self._receive()
        await self.send({"type": "lifespan.shutdown.complete"})

    async def _close(self) -> None:
        if self._readiness is not None:
            self._readiness.cancel()
            await asyncio.wait([self._readiness])
        await self._limiter.aclose()

    async def _report_readiness(self) -> None:
        try:
            await self._limiter.ready()
        except LimiterError as error:
            self._limiter.report(error)
