"""Applications under test."""

from collections.abc import AsyncIterator
from contextlib import nullcontext, suppress
from typing import Annotated, Any

import anyio
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException
from fastapi.responses import StreamingResponse

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import Charge, RateLimit

IP = {"X-Forwarded-For": "203.0.113.7"}


def an_app(limiter: AsyncLimiter, **options: Any) -> FastAPI:
    """An application with a route for each way to limit it."""
    app = FastAPI()
    rate_limit = RateLimit(limiter, trusted_proxies=1, **options)
    rate_limit.install(app)
    _add_routes(app, rate_limit)
    _add_routes_with_dependencies(app, rate_limit)
    return app


def _add_routes(app: FastAPI, rate_limit: RateLimit) -> None:
    @app.post("/chat/message", dependencies=[Depends(rate_limit("chat"))])
    async def message() -> str:
        return "hello"

    # The dependency might need these names for its own parameters.
    @app.post("/named", dependencies=[Depends(rate_limit("chat"))])
    async def named(request: dict[str, Any], response: str = "r", limiter: int = 1, policy: str = "p") -> list[Any]:
        return [request, response, limiter, policy]

    @app.post("/stream", dependencies=[Depends(rate_limit("chat"))])
    async def stream() -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            yield "one "
            yield "two"

        return StreamingResponse(words(), media_type="text/plain")

    @app.post("/settled/{cost}")
    async def settled(cost: int, charge: Annotated[Charge, Depends(rate_limit("chat", cost=5))]) -> dict[str, Any]:
        settlement = await charge.settle(cost)
        return {"charged": charge.decision.cost, "settled": settlement and settlement.cost}

    @app.post("/jobs/{is_over}")
    async def jobs(is_over: int, charge: Annotated[Charge, Depends(rate_limit("jobs"))]) -> None:
        if is_over:
            released = await charge.release()
            assert released is not None
            assert released.id == charge.decision.id

    @app.post("/fails", dependencies=[Depends(rate_limit("chat"))])
    async def fails() -> None:
        raise HTTPException(418, "a teapot")

    @app.post("/unknown-policy", dependencies=[Depends(rate_limit("nope"))])
    async def unknown_policy() -> str:
        return "hello"


def _add_routes_with_dependencies(app: FastAPI, rate_limit: RateLimit) -> None:
    async def signed_in(authorization: Annotated[str | None, Header()] = None) -> str | None:
        if authorization == "Bearer forged":
            raise HTTPException(401)
        return authorization and authorization.removeprefix("Bearer ")

    router = APIRouter(dependencies=[Depends(rate_limit("chat", user=signed_in))])

    @router.post("/own-user")
    async def own_user() -> str:
        return "hello"

    def organisation(x_org: Annotated[str, Header()]) -> dict[str, str]:
        return {"org": x_org}

    @router.post("/by-org", dependencies=[Depends(rate_limit("org", attributes=organisation))])
    async def by_org() -> str:
        return "hello"

    app.include_router(router)


def a_streaming_app(limiter: AsyncLimiter) -> FastAPI:
    """An application with an endless stream, which settles and releases its charge at the end."""
    app = FastAPI()
    rate_limit = RateLimit(limiter, trusted_proxies=0)
    rate_limit.install(app)

    @app.post("/")
    async def route(charge: Annotated[Charge, Depends(rate_limit("jobs"))]) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            try:
                while True:
                    yield "word "
                    await anyio.sleep(0.001)
            finally:
                await charge.settle(0)
                await charge.release()

        return StreamingResponse(words())

    return app


async def press_stop(app: FastAPI, spec_version: str) -> int:
    """Sends a request, and disconnects after the second word. Returns the status."""
    statuses: list[int] = []
    words: list[bytes] = []
    is_disconnected = anyio.Event()
    messages = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop()
        await is_disconnected.wait()
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])
        elif len(words) < 2:
            words.append(message.get("body", b""))
        else:
            is_disconnected.set()
            if spec_version == "2.4":
                raise OSError("the client has disconnected")

    # Starlette's versions differ in how the application ends when it can't send.
    with suppress(Exception) if spec_version == "2.4" else nullcontext():
        await app(request_scope(spec_version), receive, send)
    return statuses[0]


def request_scope(spec_version: str) -> dict[str, Any]:
    """A POST of / as a server passes it to an application."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": spec_version},
        "http_version": "1.1",
        "method": "POST",
        "path": "/",
        "raw_path": b"/",
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [],
        "client": ("203.0.113.7", 1),
        "server": ("test", 80),
    }
