"""
Rate limits for FastAPI routes, as a dependency:

    rate_limit = RateLimit(AsyncLimiter(URL, TOKEN), trusted_proxies=1)
    rate_limit.install(app)

    @app.post("/chat/message", dependencies=[Depends(rate_limit("chat"))])
    async def message(): ...

The dependency never blocks the event loop, and needs only the request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from fastapi import FastAPI
from starlette.requests import HTTPConnection

from ..async_limiter import AsyncLimiter
from ..charge import Charge
from ..decision import Decision
from ..visitors import header_text, public_body, require_options
from .denials import RateLimited, reply_to
from .dependency import (
    AddressOption,
    AttributesOption,
    CostOption,
    Dependency,
    PolicyOption,
    UserOption,
    client_address,
)
from .middleware import Middleware, Refund
from .openapi import describe_denials

__all__ = ["Charge", "RateLimit", "RateLimited", "client_address", "public_body", "user_from_header"]


async def user_from_header(request: HTTPConnection) -> str | None:
    """
    The user in the header `X-User-Id`. Anyone who reaches the backend can send it: use it only behind a gateway that
    sets or removes it.
    """
    value = request.headers.get("X-User-Id")
    return None if value is None else header_text(value)


class RateLimit:
    """
    Makes dependencies that admit a request, or reply 429 with `retry_after_seconds`, `Retry-After` and the `RateLimit`
    headers. Responses to admitted requests have the `RateLimit` headers too. A WebSocket is denied before it is
    accepted: with the same 429 where the server can send one, else closed with code 1008.

    `trusted_proxies` is the number of your own proxies before the backend. Each appends its peer's address to
    `X-Forwarded-For`. Entries before theirs are ignored: the visitor may have forged them.

    `public_body` makes the body of a 429 and of a 503. `lambda decision: decision.body` shows everything.

    `enabled=False` admits every request and asks no limiter, for tests and development. It may be set later too.
    """

    def __init__(
        self,
        limiter: AsyncLimiter,
        *,
        trusted_proxies: int,
        public_body: Callable[[Decision], Mapping[str, object]] = public_body,
        enabled: bool = True,
    ) -> None:
        require_options(limiter, trusted_proxies)
        self.limiter = limiter
        self.trusted_proxies = trusted_proxies
        self.public_body = public_body
        self.enabled = enabled

    def install(self, app: FastAPI) -> None:
        """
        Makes the application send the headers, reply to denied requests, change charges after the response, describe
        the 429 in its OpenAPI document, and close the connections at its end. At its start, `limiter.ready()` runs in
        the background and only logs a wrong configuration. To fail the start instead, await `limiter.ready()` in the
        application's own lifespan.
        """
        app.add_middleware(Middleware, limiter=self.limiter, is_enabled=lambda: self.enabled)
        # Innermost: Starlette's BaseHTTPMiddleware makes a complete response of a stream that fails.
        app.user_middleware.append(app.user_middleware.pop(0))
        if RateLimited not in app.exception_handlers:
            # FastAPI's types know no handler for both requests and WebSockets.
            reply: Any = reply_to
            app.add_exception_handler(RateLimited, reply)
        describe_denials(app, self, has_public_body=self.public_body is public_body)

    def __call__(
        self,
        policy: PolicyOption,
        *,
        cost: CostOption = 1,
        user: UserOption | None = user_from_header,
        address: AddressOption | None = None,
        attributes: AttributesOption | None = None,
        refund: Refund | None = None,
        release_after_response: bool = False,
    ) -> Dependency:
        """
        Makes a dependency that consumes `cost` of the policy, and returns the `Charge`. `request.state.rate_limit` has
        it too. The dependency consumes once per request, even if a route uses it, or an equal one, twice.

        `policy`, `cost`, `user`, `address` and `attributes` may be dependencies of your own, with parameters like any
        other. A function whose only parameter is `request`, without an annotation, is called with the request.

        `user` returns the signed-in user or None; `user=None` counts all by their address. `address` returns the
        visitor's address, or None for that by `trusted_proxies`; `attributes` any others that the policy counts by,
        each a str, an int or a UUID. A user or an ip among them is used instead of those. A `cost` below 1 is a
        ValueError that names the function.

        `refund` is a function of the response's status. If it is true, the charge is given back and released once the
        response has ended. The status is 500 if a handler or a stream raises before the response is complete, and 499
        if the visitor hangs up before it begins. `release_after_response` releases the charge once the response has
        ended, however it ends. A WebSocket has the status 101, and ends with its connection.
        """
        if isinstance(policy, str):
            self.limiter.policies.add(policy)
        return Dependency(self, policy, cost, user, address, attributes, refund, release_after_response)
