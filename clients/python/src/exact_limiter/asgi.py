"""
Rate limits for a whole ASGI application: of Starlette, FastAPI, Litestar, Quart, Django or anything else.

    limiter = AsyncLimiter(URL, TOKEN)
    app = RateLimitMiddleware(app, limiter, "chat", trusted_proxies=1, exempt=["/healthz", "/static/*"])

The middleware asks the limiter before the application sees the request. So it also counts requests for unknown paths,
with malformed bodies or forged tokens, and those that other middlewares answer. It does not read the body.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeAlias, TypeVar, cast

from .async_limiter import AsyncLimiter
from .decision import Cost, Decision
from .errors import InvalidRequestError
from .ids import Id
from .lifespan import ASGIApp, Lifespan, Message, Receive, Scope, Send
from .visitors import (
    Reply,
    address_of,
    attribute_text,
    checked_cost,
    checked_policy,
    header_text,
    name_of,
    public_body,
    reply_of_denial,
    reply_of_refusal,
    require_functions,
    require_options,
    without_port,
)

__all__ = ["RateLimitMiddleware", "public_body", "user_from_header"]

T = TypeVar("T")

#: A function of the connection's scope, async or not.
FromScope: TypeAlias = Callable[[Scope], T | Awaitable[T]]

#: The messages with the headers of a response.
_STARTS = ("http.response.start", "websocket.accept", "websocket.http.response.start")


def user_from_header(scope: Scope) -> str | None:
    """
    The user in the header `X-User-Id`. Anyone who reaches the backend can send it: use it only behind a gateway that
    sets or removes it.
    """
    values = _headers_of(scope, b"x-user-id")
    return header_text(values[0]) if values else None


class RateLimitMiddleware:
    """
    Admits HTTP requests and WebSocket connections by the policy, or replies as the FastAPI dependency does: 429 denied,
    503 in an outage, 400 for an invalid user or address, 413 for a cost by a function that no limit could ever admit,
    403 for any other request that the limiter refuses. Responses to admitted requests have the `RateLimit` headers. A
    WebSocket connection is denied before it is accepted: by the same response if the server can send it, otherwise by a
    close with 1008, for which servers reply 403.

    `policy`, `cost`, `user`, `address` and `attributes` may be functions of the scope, async or not. A visitor counts
    by the address alone unless `user` returns somebody. `address` returns the visitor's address, or None for that by
    `trusted_proxies`. A `user` or an `ip` among the `attributes` is used instead of those.

    `trusted_proxies` is the number of your own proxies before the backend. Each appends its peer's address to
    `X-Forwarded-For`. Entries before theirs are ignored: the visitor may have forged them.

    `exempt` has the paths that pass without a question: `/healthz`, or `/static/*` for all paths below. It may also be
    a function of the scope. `enabled=False` lets everything pass.

    When the application starts, `limiter.ready()` runs in the background and only logs a wrong configuration. At the
    application's end the middleware closes the connections.
    """

    def __init__(
        self,
        app: ASGIApp,
        limiter: AsyncLimiter,
        policy: str | FromScope[str],
        *,
        trusted_proxies: int,
        exempt: Iterable[str] | FromScope[bool] = (),
        cost: Cost | FromScope[Cost] = 1,
        user: FromScope[Id | None] | None = None,
        address: FromScope[str | None] | None = None,
        attributes: FromScope[Mapping[str, Id | None]] | None = None,
        public_body: Callable[[Decision], Mapping[str, object]] = public_body,
        enabled: bool = True,
    ) -> None:
        require_options(limiter, trusted_proxies)
        require_functions(policy, user=user, address=address, attributes=attributes)
        self.app = app
        self.limiter = limiter
        self.policy = policy
        self.trusted_proxies = trusted_proxies
        self.exempt = exempt if callable(exempt) else _among(exempt)
        self.cost = cost if callable(cost) else checked_cost(cost, "cost")
        self.user = user
        self.address = address
        self.attributes = attributes
        self.public_body = public_body
        self.enabled = enabled
        if isinstance(policy, str):
            limiter.policies.add(policy)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self.enabled or scope["type"] not in ("http", "websocket", "lifespan"):
            return await self.app(scope, receive, send)
        if scope["type"] == "lifespan":
            return await Lifespan(self.limiter, receive, send).run(self.app, scope)
        if await _call(self.exempt, scope):
            return await self.app(scope, receive, send)
        answer = await self._ask(scope)
        if isinstance(answer, Reply):
            return await _deny(scope, receive, send, answer)
        await self.app(scope, receive, _with_headers(send, answer.headers))

    async def _ask(self, scope: Scope) -> Decision | Reply:
        """The decision that admits the request, or the reply to a request that does not pass."""
        policy = self.policy
        if callable(policy):
            policy = checked_policy(await _call(policy, scope), _origin(policy))
        cost = self.cost
        if callable(cost):
            cost = checked_cost(await _call(cost, scope), _origin(cost))
        found = await self._attributes_of(scope)
        attributes = {name: value for name, (value, _) in found.items()}
        try:
            subject = {
                name: attribute_text(value, _origin(function), name) for name, (value, function) in found.items()
            }
            decision = await self.limiter.consume(policy, subject, cost=cost)
        except InvalidRequestError as error:
            cost_of_visitor = cost if callable(self.cost) else None
            return reply_of_refusal(self.limiter, policy, attributes, error, cost_of_visitor=cost_of_visitor)
        return decision if decision.allowed else reply_of_denial(decision, self.public_body)

    async def _attributes_of(self, scope: Scope) -> dict[str, tuple[object, object]]:
        """The attributes, each with the function that returned it."""
        found: dict[str, tuple[object, object]] = {}
        if self.user is not None:
            found["user"] = (await _call(self.user, scope), self.user)
        address: object = None if self.address is None else await _call(self.address, scope)
        origin: object = self.address
        if self.attributes is not None:
            others: object = await _call(self.attributes, scope)
            if not isinstance(others, Mapping):
                raise TypeError(f"{name_of(self.attributes)} must return a mapping, not {type(others).__name__}")
            found.update({name: (value, self.attributes) for name, value in others.items() if value is not None})
            address, origin = found.get("ip", (address, origin))
        if address is None or address == "":
            address = _client_address(scope, self.trusted_proxies)
        found["ip"] = (without_port(address) if isinstance(address, str) else address, origin)
        return found


def _among(paths: Iterable[str]) -> Callable[[Scope], bool]:
    """Whether a request's path is among these, or below one that ends with `/*`."""
    if isinstance(paths, str):
        raise TypeError(f'exempt must be a list of paths: ["{paths}"]')
    paths = frozenset(paths)
    for path in paths:
        if not path.startswith("/") or "*" in path.removesuffix("/*"):
            raise ValueError(f'exempt has "{path}": write paths as "/healthz", or "/static/*" for all paths below')
    above = tuple(path.removesuffix("*") for path in paths if path.endswith("/*"))

    def is_among(scope: Scope) -> bool:
        path, root = scope["path"], scope.get("root_path", "")
        if root and path.startswith(f"{root}/"):
            path = path.removeprefix(root)
        # An application that resolves `..` would serve another path.
        return path in paths or (path.startswith(above) and ".." not in path.split("/"))

    return is_among


async def _call(function: FromScope[T], scope: Scope) -> T:
    value = function(scope)
    return cast(T, await value if inspect.isawaitable(value) else value)


def _origin(function: object) -> str:
    return f"the value that {name_of(function)} returns"


def _headers_of(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _client_address(scope: Scope, trusted_proxies: int) -> str:
    forwarded = _headers_of(scope, b"x-forwarded-for")
    client = scope.get("client")
    return address_of(forwarded, client[0] if client else None, trusted_proxies)


def _encoded(headers: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    return [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def _with_headers(send: Send, headers: Mapping[str, str]) -> Send:
    added = _encoded(headers)

    def send_with_headers(message: Message) -> Awaitable[None]:
        if added and message["type"] in _STARTS:
            message = {**message, "headers": [*message.get("headers", ()), *added]}
        return send(message)

    return send_with_headers


async def _deny(scope: Scope, receive: Receive, send: Send, reply: Reply) -> None:
    prefix = "http"
    if scope["type"] == "websocket":
        if (await receive())["type"] != "websocket.connect":
            return
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            return await send({"type": "websocket.close", "code": 1008})
        prefix = "websocket.http"
    body = json.dumps(reply.body, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/problem+json", "Content-Length": str(len(body)), **reply.headers}
    await send({"type": f"{prefix}.response.start", "status": reply.status, "headers": _encoded(headers)})
    await send({"type": f"{prefix}.response.body", "body": body})
