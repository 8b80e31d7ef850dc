"""
A toy in place of a language model. It answers word by word, as many as were asked for, and a word is a token. Its
stream is a line of JSON for each token: `{"text": "word "}`.
"""

import asyncio
import os
from collections.abc import AsyncIterator
from itertools import cycle, islice

from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

_TOKEN_SECONDS = float(os.environ.get("TOKEN_MS", "60")) / 1_000

app = FastAPI()


class Task(BaseModel):
    prompt: str
    max_tokens: int


@app.post("/generate")
async def generate(task: Task) -> StreamingResponse:
    return StreamingResponse(tokens(task), media_type="application/x-ndjson")


async def tokens(task: Task) -> AsyncIterator[str]:
    words = f"You asked: {task.prompt} I am only a toy, so this is all that I can say.".split()
    # A question about a novel is answered by one.
    length = task.max_tokens if "novel" in task.prompt else min(len(words), task.max_tokens)
    for word in islice(cycle(words), length):
        await asyncio.sleep(_TOKEN_SECONDS)
        yield Token(text=word + " ").model_dump_json() + "\n"


class Token(BaseModel):
    text: str
