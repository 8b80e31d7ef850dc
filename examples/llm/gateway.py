"""
A gateway in front of a language model. Before it asks the model, one decision reserves a request, the most tokens that
the answer may have, and their price. Afterwards it settles what was really used, also if the reader hangs up.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import httpx
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from fastapi.staticfiles import StaticFiles
from pydantic import BaseModel, Field
from starlette.types import Receive, Scope, Send

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import Charge, RateLimit, user_from_header

#: In millionths of a dollar, the unit of the budget.
PROMPT_TOKEN_PRICE, ANSWER_TOKEN_PRICE = 2, 10

limiter = AsyncLimiter(os.environ["LIMITER_URL"], os.environ["LIMITER_TOKEN"])
# One proxy of our own stands in front, and appends the reader's address to X-Forwarded-For.
rate_limit = RateLimit(limiter, trusted_proxies=1)
model = httpx.AsyncClient(base_url=os.environ["MODEL_URL"])


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    async with limiter, model:
        yield


app = FastAPI(lifespan=lifespan)
rate_limit.install(app)


class Question(BaseModel):
    # Together at most 1,000 tokens, all that a minute has: more could never be let pass.
    prompt: Annotated[str, Field(min_length=1, max_length=400)]
    max_tokens: Annotated[int, Field(ge=1, le=800)] = 200


def cost_of(prompt_tokens: int, answer_tokens: int) -> dict[str, int]:
    price = prompt_tokens * PROMPT_TOKEN_PRICE + answer_tokens * ANSWER_TOKEN_PRICE
    return {"requests": 1, "tokens": prompt_tokens + answer_tokens, "budget": price}


def estimated(question: Question) -> dict[str, int]:
    """The most that this question can cost."""
    return cost_of(prompt_tokens_of(question), question.max_tokens)


def prompt_tokens_of(question: Question) -> int:
    # A token of the toy is a word. For a real model, use its tokeniser.
    return len(question.prompt.split())


class Answer(StreamingResponse):
    """The model's answer as it comes."""

    def __init__(self, question: Question, charge: Charge) -> None:
        super().__init__(self._tokens(question), media_type="text/plain; charset=utf-8")
        self._prompt_tokens = prompt_tokens_of(question)
        self._answer_tokens = 0
        self._charge = charge

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            # Here and not in the generator, which never runs if the reader is gone before the first token.
            await self._charge.settle(cost_of(self._prompt_tokens, self._answer_tokens))

    async def _tokens(self, question: Question) -> AsyncIterator[str]:
        async with model.stream("POST", "/generate", json=question.model_dump(), timeout=60) as response:
            response.raise_for_status()
            async for line in response.aiter_lines():
                self._answer_tokens += 1
                yield json.loads(line)["text"]


@app.post("/complete")
async def complete(
    question: Question, charge: Annotated[Charge, Depends(rate_limit("llm", cost=estimated))]
) -> StreamingResponse:
    return Answer(question, charge)


@app.get("/left")
async def left(user: Annotated[str | None, Depends(user_from_header)]) -> list[dict[str, object]]:
    """What is left of each limit. The check asks for nothing, so it is never denied."""
    decision = await limiter.check("llm", {"user": user}, cost={"requests": 0, "tokens": 0, "budget": 0})
    return [
        {"name": limit.layer, "limit": limit.limit, "left": limit.remaining, "reset_seconds": limit.reset_seconds}
        for limit in decision.limits
    ]


# Last: it answers every path that is left.
app.mount("/", StaticFiles(directory=Path(__file__).parent / "page", html=True))
