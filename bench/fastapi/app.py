"""The backend to measure: a route without limits, and one that is limited as LIMITED_BY says."""

import asyncio
import os
from collections.abc import Awaitable, Callable

from fastapi import Depends, FastAPI, Request

app = FastAPI()
kind = os.environ["LIMITED_BY"]


@app.get("/free")
async def free() -> str:
    return "hello"


async def hello() -> str:
    return "hello"


async def sleeps() -> str:
    await asyncio.sleep(0.001)
    return "hello"


async def hello_slowapi(request: Request) -> str:
    return "hello"


async def nothing() -> None:
    await asyncio.sleep(0)


if kind == "sleep":
    app.get("/limited")(sleeps)
elif kind == "nothing":
    app.get("/limited", dependencies=[Depends(nothing)])(hello)
elif kind == "dependency":
    from exact_limiter import AsyncLimiter
    from exact_limiter.fastapi import RateLimit

    rate_limit = RateLimit(AsyncLimiter(os.environ["STORE"], os.environ["TOKEN"]), trusted_proxies=0)
    rate_limit.install(app)
    app.get("/limited", dependencies=[Depends(rate_limit("chat"))])(hello)
else:
    from slowapi import Limiter

    import exact_limiter.limits

    assert exact_limiter.limits
    limiter = Limiter(
        lambda request: "somebody",
        storage_uri=os.environ["STORE"],
        strategy="moving-window",
    )
    app.state.limiter = limiter
    limit: Callable[[Callable[..., Awaitable[str]]], Callable[..., Awaitable[str]]] = limiter.limit("1000000/day")
    app.get("/limited")(limit(hello_slowapi))
