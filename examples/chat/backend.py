"""
A chat whose backend runs in several processes, each of which asks the limiter before it answers a message.

Three refusals that the page tells apart: 429 is a wait, 402 the end of the free messages, 503 a limiter that is down.
"""

import asyncio
import os
import textwrap
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, StringConstraints

from exact_limiter import AsyncLimiter, UnavailableError
from exact_limiter.fastapi import Charge, RateLimit, RateLimited

limiter = AsyncLimiter(
    os.environ["LIMITER_URL"],
    os.environ["LIMITER_TOKEN"],
    on_error="allow" if os.environ.get("LIMITER_ON_ERROR") == "allow" else "deny",
)
# The proxy in front of the processes appends the caller's address to X-Forwarded-For.
rate_limit = RateLimit(limiter, trusted_proxies=1)

HEADERS = {
    "X-Answered-By": os.environ.get("PROCESS_NUMBER", str(os.getpid())),
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with limiter:
        # A limiter that has no such policy, or refuses the token, stops the start; one that is down does not.
        with suppress(UnavailableError):
            await limiter.ready("trial")
        yield


app = FastAPI(lifespan=lifespan)
rate_limit.install(app)


@app.middleware("http")
async def add_headers(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    response = await call_next(request)
    response.headers.update(HEADERS)
    return response


class Message(BaseModel):
    text: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2_000)]


@app.post("/chat/message")
async def message(message: Message, charge: Annotated[Charge, Depends(rate_limit("chat"))]) -> Response:
    # A limiter that was down a moment ago is not asked again: `on_error` let this message pass.
    if not charge.decision.degraded:
        trial = await limiter.consume("trial", charge.subject)
        if not trial.allowed:
            # It is not answered, so it shall not count.
            await charge.settle(0)
            if trial.degraded:
                raise RateLimited(503, trial.body, trial.headers)
            return payment_required(trial.limits[0].limit)
    return StreamingResponse(answer(message.text), media_type="text/plain; charset=utf-8")


def payment_required(free_messages: int) -> Response:
    problem = {
        "type": "about:blank",
        "title": "Payment Required",
        "status": 402,
        "detail": f"All {free_messages} free messages are used up.",
    }
    return JSONResponse(problem, 402, media_type="application/problem+json")


async def answer(text: str) -> AsyncIterator[str]:
    """A toy in place of a language model: it too answers word by word."""
    quoted = textwrap.shorten(text, 80, placeholder=" …")
    for word in f"You wrote “{quoted}”. I am only a toy.".split(" "):
        yield word + " "
        await asyncio.sleep(0.02)


# Last: it answers every path that is left.
app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
