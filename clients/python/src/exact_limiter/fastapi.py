"""
Rate limits for FastAPI routes, as a dependency:

    rate_limit = RateLimit(AsyncLimiter(URL, TOKEN), trusted_proxies=1)
    rate_limit.install(app)

    @app.post("/chat/message", dependencies=[Depends(rate_limit("chat"))])
    async def message(): ...

The dependency never blocks the event loop, and needs only the request.
"""

from __future__ import annotations

import asyncio
import functools
import ipaddress
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Depends, FastAPI, HTTPException, Request
from fastapi.responses import JSONResponse
from starlette.requests import HTTPConnection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .async_limiter import AsyncLimiter
from .decision import Cost, Decision, Release, Settlement
from .errors import InvalidField, InvalidRequestError, LimiterError, UnknownDecisionError
from .ids import Id, text_of
from .loops import running_loop

_log = logging.getLogger("exact_limiter")

T = TypeVar("T")

#: The middleware puts an `_Answer` into the scope under this key.
_SCOPE_KEY = "exact_limiter.installed"

#: The attributes that come from the visitor, by their pointers.
_VISITORS = {"/subject/user": "user", "/subject/ip": "ip"}


class _Answer:
    """Sends a response with the headers of its decisions. Not a closure, which takes more objects for each request."""

    __slots__ = ("_send", "app", "headers")

    def __init__(self, app: object, send: Send) -> None:
        self.app = app
        self.headers: list[tuple[str, str]] = []
        self._send = send

    def __call__(self, message: Message) -> Awaitable[None]:
        if self.headers and message["type"] == "http.response.start":
            added = [(name.lower().encode(), value.encode("latin-1")) for name, value in self.headers]
            message["headers"] = [*message.get("headers", ()), *added]
        return self._send(message)


class RateLimited(HTTPException):
    """
    The request does not pass: 429 denied, 503 in an outage (`on_error="deny"`), 400 for an invalid user, 403 for any
    other request that the limiter refuses, which is the application's mistake. An exception handler of the application
    may reply in another way.
    """

    def __init__(
        self,
        status_code: int,
        body: Mapping[str, object],
        headers: Mapping[str, str],
        decision: Decision | None = None,
    ) -> None:
        super().__init__(status_code, detail=body.get("detail"), headers=dict(headers))
        #: For the visitor.
        self.body = body
        #: For the application, with keys and all limits. None for 400 and 403.
        self.decision = decision


def public_body(decision: Decision) -> dict[str, object]:
    """The body of a denial for the visitor, without keys and limits. A ban has no wait: it may be lifted or renewed."""
    if decision.is_banned:
        detail = "Banned: requests of this user or address are not accepted."
        return {"type": "about:blank", "title": "Banned", "status": 429, "detail": detail, "retry_after_seconds": None}
    names = ("type", "title", "status", "detail", "violated-policies")
    shown = {name: decision.body[name] for name in names if name in decision.body}
    if not decision.degraded:
        shown["detail"] = f"Too many requests: try again in {decision.retry_after_seconds} s."
    return {**shown, "retry_after_seconds": decision.retry_after_seconds}


@dataclass(frozen=True)
class Charge:
    """The charge of an admitted request. A route that takes it may settle and release it."""

    decision: Decision
    _limiter: AsyncLimiter
    _subject: Mapping[str, str | None]

    async def settle(self, cost: Cost) -> Settlement | None:
        """
        Corrects the cost: the real cost once it is known, 0 to give it back. None if there is no charge. None also if
        the correction failed, which is logged: the cost then counts until it leaves its windows. Finishes despite
        cancellation, for example in the `finally` of a stream whose visitor has disconnected.
        """
        policy, subject = self.decision.policy, self._subject
        return await self._change(lambda id: self._limiter.settle(policy, subject, id=id, cost=cost))

    async def release(self) -> Release | None:
        """
        Ends the request for concurrent limits. None as for `settle`: a failed release holds its place until the window
        has passed.
        """
        policy, subject = self.decision.policy, self._subject
        return await self._change(lambda id: self._limiter.release(policy, subject, id=id))

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


async def user_from_header(request: Request) -> str | None:
    """
    The user in the header `X-User-Id`. Anyone who reaches the backend can send it: use it only behind a gateway that
    sets or removes it.
    """
    value = request.headers.get("X-User-Id")
    if value is None:
        return None
    try:
        # Starlette decodes headers as Latin-1, but user names are most likely UTF-8.
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


class RateLimit:
    """
    Makes dependencies that admit a request, or reply 429 with `retry_after_seconds`, `Retry-After` and the `RateLimit`
    headers. Responses to admitted requests have the `RateLimit` headers too.

    `trusted_proxies` is the number of your own proxies before the backend. Each appends its peer's address to
    `X-Forwarded-For`. Entries before theirs are ignored: the visitor may have forged them.

    `public_body` makes the body of a 429 and of a 503. `lambda decision: decision.body` shows everything.
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
            raise ValueError('on_error="raise" would reply 500 in an outage: choose "deny" or "allow"')
        self.limiter = limiter
        self.trusted_proxies = trusted_proxies
        self.public_body = public_body

    def install(self, app: FastAPI) -> None:
        """
        Makes the application send the headers, reply to denied requests, and close the connections at its end. At its
        start, `limiter.ready()` runs in the background and only logs a wrong configuration. To fail the start instead,
        await `limiter.ready()` in the application's own lifespan.
        """
        app.add_middleware(_Middleware, limiter=self.limiter)
        if RateLimited not in app.exception_handlers:
            app.add_exception_handler(RateLimited, _reply)

    def __call__(
        self,
        policy: str,
        *,
        cost: Cost = 1,
        user: Callable[..., Id | Awaitable[Id | None] | None] = user_from_header,
        attributes: Callable[..., Mapping[str, Id | None] | Awaitable[Mapping[str, Id | None]]] | None = None,
    ) -> Callable[..., Awaitable[Charge]]:
        """
        Makes a dependency that consumes `cost` of the policy. `user` and `attributes` are dependencies of your own,
        with parameters like any other. `user` returns the signed-in user or None, `attributes` any other attributes
        that the policy counts by. Each is a str, an int or a UUID. The dependency consumes once per request, even if a
        route uses it twice.
        """
        self.limiter.policies.add(policy)

        def subject_of(request: Request, user_value: object, others: object) -> dict[str, str | None]:
            if not isinstance(others, Mapping):
                raise TypeError(f"{_name(attributes)} must return a mapping, not {type(others).__name__}")
            try:
                return {
                    **{name: _text(value, attributes, policy, name) for name, value in others.items()},
                    "user": _text(user_value, user, policy, "user"),
                    "ip": client_address(request, self.trusted_proxies),
                }
            except InvalidRequestError as error:
                raise self._refusal(policy, {"user": user_value}, error) from error

        # Two dependencies: one that returns no attributes would be a large part of a request's cost.
        async def limited(request: Request, user: object = Depends(user)) -> Charge:
            return await self._charge(request, policy, subject_of(request, user, {}), cost)

        async def limited_by_attributes(
            request: Request, user: object = Depends(user), attributes: object = Depends(attributes)
        ) -> Charge:
            return await self._charge(request, policy, subject_of(request, user, attributes), cost)

        return limited if attributes is None else limited_by_attributes

    async def _charge(self, request: Request, policy: str, subject: Mapping[str, str | None], cost: Cost) -> Charge:
        answer: _Answer | None = request.scope.get(_SCOPE_KEY)
        # A mounted application handles exceptions by itself, so the handler of the outer one never sees a denial.
        if answer is None or answer.app is not request.app:
            raise RuntimeError("The application has no rate limits installed: call rate_limit.install(app).")
        try:
            decision = await self.limiter.consume(policy, subject, cost=cost)
        except InvalidRequestError as error:
            raise self._refusal(policy, subject, error) from error
        if not decision.allowed:
            headers = {} if decision.is_banned else decision.headers
            raise RateLimited(503 if decision.degraded else 429, self.public_body(decision), headers, decision)
        answer.headers.extend(decision.headers.items())
        return Charge(decision, self.limiter, subject)

    def _refusal(self, policy: str, subject: Mapping[str, object], error: InvalidRequestError) -> RateLimited:
        """A refused request never passes. The visitor sees their own mistakes; all others go to the log."""
        mistakes = [field for field in error.errors if field.pointer.startswith("/subject/")]
        # The visitor chooses the user and the address only. A missing attribute is the application's mistake.
        if mistakes and all(subject.get(_VISITORS.get(field.pointer, "")) is not None for field in mistakes):
            return _refused(400, "Bad Request", "; ".join(f"{field.pointer}: {field.detail}" for field in mistakes))
        if error.status == 413 and max(subject, key=lambda name: len(str(subject[name] or ""))) == "user":
            return _refused(400, "Bad Request", "The user is too long.")
        self.limiter.report(error, policy)
        return _refused(403, "Forbidden", "This request is not accepted.")


def _refused(status: int, title: str, detail: str) -> RateLimited:
    return RateLimited(status, {"type": "about:blank", "title": title, "status": status, "detail": detail}, {})


def _text(value: object, dependency: object, policy: str, attribute: str) -> str | None:
    """
    An attribute as text. Raises TypeError, which names the dependency, and InvalidRequestError for half a surrogate
    pair.
    """
    # Most attributes are plain text, for which no error message need be made.
    if value is None or (type(value) is str and value.isascii()):
        return value
    try:
        return text_of(value, f'the value that {_name(dependency)} returns to rate_limit("{policy}") as "{attribute}"')
    except ValueError as error:
        # JSON can carry half a surrogate pair, so the visitor can send it.
        mistake = InvalidField(f"/subject/{attribute}", "must be well-formed Unicode")
        raise InvalidRequestError(400, "The request has a mistake.", [mistake]) from error


def _name(dependency: object) -> str:
    return str(getattr(dependency, "__qualname__", repr(dependency)))


def client_address(connection: HTTPConnection, trusted_proxies: int) -> str:
    """
    The visitor's address, as the outermost trusted proxy saw it. Without a proxy or its entry, the peer's address. A
    peer without an address, on a Unix socket or in a test client, counts as 127.0.0.1.
    """
    if trusted_proxies > 0:
        entries = [part for line in connection.headers.getlist("X-Forwarded-For") for part in line.split(",")]
        if len(entries) >= trusted_proxies:
            address = _address(entries[-trusted_proxies])
            if address is not None:
                return address
    return _address(connection.client.host if connection.client else "") or "127.0.0.1"


def _address(text: str) -> str | None:
    """Removes the port, brackets and zone that some proxies write. None unless the rest is an address."""
    # Anyone can send a long text. It is not kept in memory.
    return _cached_address(text) if len(text) <= _LONGEST_CACHED else _parse_address(text)


def _parse_address(text: str) -> str | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


_LONGEST_CACHED = 64
_cached_address = functools.lru_cache(maxsize=1024)(_parse_address)


async def _reply(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RateLimited)
    return JSONResponse(error.body, error.status_code, headers=error.headers, media_type="application/problem+json")


class _Middleware:
    """Adds the headers of decisions to every response, streams too, which a dependency could not do."""

    def __init__(self, app: ASGIApp, limiter: AsyncLimiter) -> None:
        self.app = app
        self.limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            send = self._opening_and_closing(send)
        scope[_SCOPE_KEY] = answer = _Answer(scope.get("app"), send)
        await self.app(scope, receive, answer)

    def _opening_and_closing(self, send: Send) -> Send:
        """Reports whether the limiter is ready once the application has started, and closes the client at its end."""
        readiness: asyncio.Task[None] | None = None

        async def send_and_follow(message: Message) -> None:
            if message["type"] == "lifespan.startup.complete" and running_loop() is not None:
                nonlocal readiness
                readiness = asyncio.create_task(self._report_readiness())
            if message["type"] == "lifespan.shutdown.complete":
                if readiness is not None:
                    readiness.cancel()
                    await asyncio.wait([readiness])
                await self.limiter.aclose()
            await send(message)

        return send_and_follow

    async def _report_readiness(self) -> None:
        try:
            await self.limiter.ready()
        except LimiterError as error:
            self.limiter.report(error)
