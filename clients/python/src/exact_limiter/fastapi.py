"""
Rate limits for FastAPI routes, as a dependency:

    rate_limit = RateLimit(AsyncLimiter(URL, TOKEN), trusted_proxies=1)
    rate_limit.install(app)

    @app.post("/chat/message", dependencies=[Depends(rate_limit("chat"))])
    async def message(): ...

It asks on the event loop without blocking it, and looks at nothing of the route but the request.
"""

from __future__ import annotations

import asyncio
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

from .client import AsyncLimiter
from .decision import Decision, Release, Settlement
from .errors import InvalidField, InvalidRequestError, LimiterError, UnknownDecisionError
from .ids import Id, text_of
from .loops import running_loop

_log = logging.getLogger("exact_limiter")

T = TypeVar("T")

#: Where the middleware leaves what follows.
_SCOPE_KEY = "exact_limiter.installed"


#: The attributes that a visitor may have a mistake in.
_VISITORS = {"/subject/user": "user", "/subject/ip": "ip"}


@dataclass(frozen=True)
class _Installed:
    app: object
    #: The headers that an answer shall carry.
    headers: list[tuple[str, str]]


class RateLimited(HTTPException):
    """
    A request that is not let pass: 429 denied, 503 not decided (`on_error="deny"`), 400 for a user that can't be, 403
    for what else the limiter refuses, which is the application's mistake. An exception handler of the application's own
    may answer it in another way.
    """

    def __init__(
        self,
        status_code: int,
        body: Mapping[str, object],
        headers: Mapping[str, str],
        decision: Decision | None = None,
    ) -> None:
        super().__init__(status_code, detail=body.get("detail"), headers=dict(headers))
        #: For whoever sent the request.
        self.body = body
        #: For the application: with keys and all limits. None for 400 and 403.
        self.decision = decision


def public_body(decision: Decision) -> dict[str, object]:
    """
    What a denial tells whoever sent the request: nothing of keys, of limits and of others. A ban says that it is one,
    and no wait: it may be lifted, or last, whatever was said.
    """
    told = decision.body
    if decision.is_banned:
        detail = "Banned: requests of this user or address are not accepted."
        return {"type": "about:blank", "title": "Banned", "status": 429, "detail": detail, "retry_after_seconds": None}
    shown = {name: told[name] for name in ("type", "title", "status", "detail", "violated-policies") if name in told}
    if not decision.degraded:
        shown["detail"] = f"Too many requests: try again in {decision.retry_after_seconds} s."
    return {**shown, "retry_after_seconds": decision.retry_after_seconds}


@dataclass(frozen=True)
class Charge:
    """What a request was let pass for: given to the route that asks for it, which may settle and release it."""

    decision: Decision
    _limiter: AsyncLimiter
    _subject: Mapping[str, str | None]

    async def settle(self, cost: int) -> Settlement | None:
        """
        Corrects the cost: the real one once it is known, 0 to give it back. None when there is nothing to correct, or
        nobody to ask, which is logged: the cost then stays as it was until it leaves its windows. It ends also where
        everything is cancelled around it: in the `finally` of a stream whose client has hung up.
        """
        policy, subject = self.decision.policy, self._subject
        return await self._change(lambda id: self._limiter.settle(policy, subject, id=id, cost=cost))

    async def release(self) -> Release | None:
        """
        Says that the work is over: limits on what is under way count it no more. None as for `settle`: its place is
        then held until it has left the window.
        """
        policy, subject = self.decision.policy, self._subject
        return await self._change(lambda id: self._limiter.release(policy, subject, id=id))

    async def _change(self, change: Callable[[str], Awaitable[T]]) -> T | None:
        if self.decision.id is None:
            return None
        try:
            return await change(self.decision.id)
        except UnknownDecisionError as error:
            # When nobody answered the consume, it may never have been recorded.
            if not self.decision.degraded:
                _log.warning("A charge by policy %s could not be changed: %s", self.decision.policy, error)
            return None
        except LimiterError:
            # Logged by the client.
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

    `public_body` makes the body of a 429, and of a 503, from the decision; `lambda decision: decision.body` shows all.
    """

    def __init__(
        self,
        limiter: AsyncLimiter,
        *,
        trusted_proxies: int,
        public_body: Callable[[Decision], Mapping[str, object]] = public_body,
    ) -> None:
        if trusted_proxies < 0:
            raise ValueError("trusted_proxies must be at least 0")
        if limiter.on_error == "raise":
            raise ValueError('on_error="raise" would answer 500 when the limiter is down: choose "deny" or "allow"')
        self.limiter = limiter
        self.trusted_proxies = trusted_proxies
        self.public_body = public_body

    def install(self, app: FastAPI) -> None:
        """
        Has the application carry the headers, answer what is not let pass, and close the connections at its end. When
        it starts, `limiter.ready()` is asked in the background: what is wrong with the configuration is logged, and
        stops nothing. An application that shall not start then awaits `limiter.ready()` itself, in its lifespan.
        """
        app.add_middleware(_Middleware, limiter=self.limiter)
        if RateLimited not in app.exception_handlers:
            app.add_exception_handler(RateLimited, _answer)

    def __call__(
        self,
        policy: str,
        *,
        cost: int = 1,
        user: Callable[..., Id | Awaitable[Id | None] | None] = user_from_header,
        attributes: Callable[..., Mapping[str, Id | None] | Awaitable[Mapping[str, Id | None]]] = _no_attributes,
    ) -> Callable[..., Awaitable[Charge]]:
        """
        A dependency that consumes `cost` of the policy. `user` and `attributes` are dependencies themselves, so they
        may take whatever a dependency of the application can: who is signed in, None for nobody, and what else the
        policy counts by, each a str, an int or a UUID. The same dependency, used twice in a route, consumes once.
        """
        self.limiter.policies.add(policy)
        named = {"user": user, "attributes": attributes}

        async def limited(
            request: Request,
            user: object = Depends(user),
            attributes: object = Depends(attributes),
        ) -> Charge:
            if not isinstance(attributes, Mapping):
                raise TypeError(f"{_name(named['attributes'])} must return a mapping, not {type(attributes).__name__}")
            try:
                subject: dict[str, str | None] = {
                    **{name: _text(value, named["attributes"], policy, name) for name, value in attributes.items()},
                    "user": _text(user, named["user"], policy, "user"),
                    "ip": client_address(request, self.trusted_proxies),
                }
            except InvalidRequestError as error:
                raise self._refusal(policy, {"user": user}, error) from error
            return Charge(await self._admitted(request, policy, subject, cost), self.limiter, subject)

        return limited

    async def _admitted(self, request: Request, policy: str, subject: Mapping[str, str | None], cost: int) -> Decision:
        installed: _Installed | None = request.scope.get(_SCOPE_KEY)
        # An application that is mounted handles errors by itself, and would answer a denial in its own way.
        if installed is None or installed.app is not request.app:
            raise RuntimeError("The application does not know of its rate limits: call rate_limit.install(app).")
        decision = await self._decide(policy, subject, cost)
        if not decision.allowed:
            headers = {} if decision.is_banned else decision.headers
            raise RateLimited(503 if decision.degraded else 429, self.public_body(decision), headers, decision)
        installed.headers.extend(decision.headers.items())
        return decision

    async def _decide(self, policy: str, subject: Mapping[str, str | None], cost: int) -> Decision:
        try:
            return await self.limiter.consume(policy, subject, cost=cost)
        except InvalidRequestError as error:
            raise self._refusal(policy, subject, error) from error

    def _refusal(self, policy: str, subject: Mapping[str, object], error: InvalidRequestError) -> RateLimited:
        """No mistake is a reason to let the visitor pass. He is told of his own, and the developer of all others."""
        mistakes = [field for field in error.errors if field.pointer.startswith("/subject/")]
        # The visitor may choose who he is, and nothing else that a policy counts by. What is missing is missing here.
        if mistakes and all(subject.get(_VISITORS.get(field.pointer, "")) is not None for field in mistakes):
            return _refused(400, "Bad Request", "; ".join(f"{field.pointer}: {field.detail}" for field in mistakes))
        if error.status == 413 and max(subject, key=lambda name: len(str(subject[name] or ""))) == "user":
            return _refused(400, "Bad Request", "The user is too long.")
        self.limiter.tell(error, policy)
        return _refused(403, "Forbidden", "This request is not accepted.")


def _refused(status: int, title: str, detail: str) -> RateLimited:
    return RateLimited(status, {"type": "about:blank", "title": title, "status": status, "detail": detail}, {})


def _text(value: object, dependency: Callable[..., object], policy: str, attribute: str) -> str | None:
    """
    An attribute as text. Raises TypeError, which names the dependency that it comes from, and InvalidRequestError for
    half a character.
    """
    if value is None:
        return None
    try:
        return text_of(value, f'what {_name(dependency)} returns to rate_limit("{policy}") as "{attribute}"')
    except ValueError as error:
        # Text as somebody sent it, in JSON for one.
        mistake = InvalidField(f"/subject/{attribute}", "is no Unicode text")
        raise InvalidRequestError(400, "The request has a mistake.", [mistake]) from error


def _name(dependency: Callable[..., object]) -> str:
    return str(getattr(dependency, "__qualname__", repr(dependency)))


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
        asking: asyncio.Task[None] | None = None

        async def send_with_headers(message: Message) -> None:
            if installed.headers and message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in installed.headers:
                    headers.append(name, value)
            if message["type"] == "lifespan.startup.complete" and running_loop() is not None:
                nonlocal asking
                asking = asyncio.create_task(self._ask_if_ready())
            if message["type"] == "lifespan.shutdown.complete":
                if asking is not None:
                    asking.cancel()
                    await asyncio.wait([asking])
                await self.limiter.aclose()
            await send(message)

        await self.app(scope, receive, send_with_headers)

    async def _ask_if_ready(self) -> None:
        try:
            await self.limiter.ready()
        except LimiterError as error:
            self.limiter.tell(error)
