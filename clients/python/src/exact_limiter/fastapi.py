"""
Rate limits for FastAPI routes, as a dependency:

    rate_limit = RateLimit(AsyncLimiter(URL, TOKEN), trusted_proxies=1)
    rate_limit.install(app)

    @app.post("/chat/message", dependencies=[Depends(rate_limit("chat"))])
    async def message(): ...

It asks on the event loop without blocking it, and looks at nothing of the route but the request.
"""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.datastructures import MutableHeaders
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from . import exchange
from .client import AsyncLimiter
from .decision import Decision, Release, Settlement
from .errors import InvalidRequestError, LimiterError

_log = logging.getLogger("exact_limiter")

T = TypeVar("T")

#: Where the middleware leaves what follows.
_SCOPE_KEY = "exact_limiter.installed"


@dataclass(frozen=True)
class _Installed:
    app: object
    #: The headers that an answer shall carry.
    headers: list[tuple[str, str]]


class RateLimited(HTTPException):
    """A request that is not let pass: 429 denied, 503 not decided (`on_error="deny"`), 400 for a user that can't be."""

    def __init__(self, status_code: int, body: Mapping[str, object], headers: Mapping[str, str]) -> None:
        super().__init__(status_code, detail=body.get("detail"), headers=dict(headers))
        self.body = body


@dataclass(frozen=True)
class Charge:
    """What a request was let pass for: given to the route that asks for it, which may settle and release it."""

    decision: Decision
    _limiter: AsyncLimiter
    _subject: Mapping[str, str | None]

    async def settle(self, cost: int) -> Settlement | None:
        """
        Corrects the cost: the real one once it is known, 0 to give it back. None when there is nothing to correct, or
        nobody to ask, which is logged: the cost then stays as it was until it leaves its windows.
        """
        policy, subject = self.decision.policy, self._subject
        return await self._change("settled", lambda id: self._limiter.settle(policy, subject, id=id, cost=cost))

    async def release(self) -> Release | None:
        """
        Says that the work is over: limits on what is under way count it no more. None as for `settle`: its place is
        then held until it has left the window.
        """
        policy, subject = self.decision.policy, self._subject
        return await self._change("released", lambda id: self._limiter.release(policy, subject, id=id))

    async def _change(self, what: str, change: Callable[[str], Awaitable[T]]) -> T | None:
        if self.decision.id is None or self.decision.degraded:
            return None
        try:
            return await change(self.decision.id)
        except LimiterError as error:
            _log.warning("Decision %s could not be %s: %s", self.decision.id, what, error)
            return None


async def user_from_header(request: Request) -> str | None:
    """
    The user as `X-User-Id` has it. Whoever can reach the backend can send that header: use it only behind a gateway
    that sets it, or removes it.
    """
    value = request.headers.get("X-User-Id")
    if value is None:
        return None
    try:
        # Header values arrive as Latin-1, while a user's name is most likely UTF-8.
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


async def _no_attributes() -> Mapping[str, str | None]:
    return {}


class RateLimit:
    """
    Makes dependencies that let a request pass, or answer it: 429 with `retry_after_seconds`, `Retry-After` and the
    `RateLimit` headers. Those stand on the answers that pass, too.

    `trusted_proxies` says how many proxies of your own stand before the backend, each of which appends the address it
    was called from to `X-Forwarded-For`. What stands before their entries the client wrote, and is not believed.
    """

    def __init__(self, limiter: AsyncLimiter, *, trusted_proxies: int) -> None:
        if trusted_proxies < 0:
            raise ValueError("trusted_proxies must be at least 0")
        if limiter.on_error == "raise":
            raise ValueError('on_error="raise" would answer 500 when the limiter is down: choose "deny" or "allow"')
        self.limiter = limiter
        self.trusted_proxies = trusted_proxies

    def install(self, app: FastAPI) -> None:
        """Has the application carry the headers, answer what is not let pass, and close the connections at its end."""
        app.add_middleware(_Middleware, limiter=self.limiter)
        app.add_exception_handler(RateLimited, _answer)

    def __call__(
        self,
        policy: str,
        *,
        cost: int = 1,
        user: Callable[..., str | Awaitable[str | None] | None] = user_from_header,
        attributes: Callable[..., Mapping[str, str | None] | Awaitable[Mapping[str, str | None]]] = _no_attributes,
    ) -> Callable[..., Awaitable[Charge]]:
        """
        A dependency that consumes `cost` of the policy. `user` and `attributes` are dependencies themselves, so they
        may take whatever a dependency of the application can: who is signed in, None for nobody, and what else the
        policy counts by. The same dependency, used twice in a route, consumes once.
        """

        async def limited(
            request: Request,
            user: str | None = Depends(user),
            attributes: Mapping[str, str | None] = Depends(attributes),
        ) -> Charge:
            subject = {**attributes, "user": user, "ip": client_address(request, self.trusted_proxies)}
            return Charge(await self._admitted(request, policy, subject, cost), self.limiter, subject)

        return limited

    async def _admitted(self, request: Request, policy: str, subject: Mapping[str, str | None], cost: int) -> Decision:
        installed: _Installed | None = request.scope.get(_SCOPE_KEY)
        # An application that is mounted handles errors by itself, and would answer a denial in its own way.
        if installed is None or installed.app is not request.app:
            raise RuntimeError("The application does not know of its rate limits: call rate_limit.install(app).")
        decision = await self._decide(policy, subject, cost)
        if not decision.allowed:
            raise RateLimited(503 if decision.degraded else 429, decision.body, decision.headers)
        installed.headers.extend(decision.headers.items())
        return decision

    async def _decide(self, policy: str, subject: Mapping[str, str | None], cost: int) -> Decision:
        try:
            return await self.limiter.consume(policy, subject, cost=cost)
        except InvalidRequestError as error:
            # What the client is counted by is its own, and a mistake in it no reason to let the client pass.
            if error.status == 413 or any(field.pointer.startswith("/subject/") for field in error.errors):
                body = {"type": "about:blank", "title": "Bad Request", "status": 400, "detail": str(error)}
                raise RateLimited(400, body, {}) from error
            return self._undecided(error, policy, cost)
        except LimiterError as error:
            return self._undecided(error, policy, cost)

    def _undecided(self, error: LimiterError, policy: str, cost: int) -> Decision:
        """The service refuses how it is asked: a mistake in the deployment, which must not fail every request."""
        decision = exchange.undecided(error, self.limiter.on_error, policy, cost)
        _log.error("The limiter refuses to decide: %s It is taken as: %s.", error, self.limiter.on_error)
        return decision


def client_address(connection: HTTPConnection, trusted_proxies: int) -> str:
    """
    The address that a request came from: as the outermost of the trusted proxies saw it, or the peer's own when there
    is no proxy or its entry is missing. A peer without an address, on a Unix socket or in a test client, is this
    machine.
    """
    if trusted_proxies > 0:
        entries = [part for line in connection.headers.getlist("X-Forwarded-For") for part in line.split(",")]
        if len(entries) >= trusted_proxies:
            address = _address(entries[-trusted_proxies])
            if address is not None:
                return address
    return _address(connection.client.host if connection.client else "") or "127.0.0.1"


def _address(text: str) -> str | None:
    """An address as some proxies write it, without its port, its brackets and its zone. None for anything else."""
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


async def _answer(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RateLimited)
    return JSONResponse(error.body, error.status_code, headers=error.headers, media_type="application/problem+json")


class _Middleware:
    """Adds the headers of decisions to whatever the route answers, a stream too, which no dependency could reach."""

    def __init__(self, app: ASGIApp, limiter: AsyncLimiter) -> None:
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        installed = _Installed(scope.get("app"), [])
        scope[_SCOPE_KEY] = installed

        async def send_with_headers(message: Message) -> None:
            if installed.headers and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in installed.headers:
                    headers.append(name, value)
            if message["type"] == "lifespan.shutdown.complete":
                await self.limiter.aclose()
            await send(message)

        await self.app(scope, receive, send_with_headers)
