"""Calls of one event loop that travel together, as one request to `/v1/batch`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx

from .exchange import Answer, Call

#: What the service takes as one batch.
_MOST_CALLS = 100
_MOST_BYTES = 64 * 1024
#: A call that is longer goes alone, so that it leaves the others their room.
_LONGEST_CALL_BYTES = 2048

_OPENING = b'{"headers":true,"requests":['
_CLOSING = b"]}"

#: Status codes that mean something about a single call, and nothing about a batch.
_OF_SINGLE_CALLS = (404, 429)


def item_of(call: Call, attempt: int) -> bytes | None:
    """The call as an item of a batch; None when it must go alone."""
    op = call.path.removeprefix("/v1/")
    if op not in ("check", "consume", "settle", "release") or len(call.body) > _LONGEST_CALL_BYTES:
        return None
    fields: dict[str, object] = {"op": op}
    if call.idempotency_key is not None:
        fields["idempotency_key"] = call.idempotency_key
    if call.has_new_key:
        fields["attempt"] = attempt
    return json.dumps(fields, separators=(",", ":")).encode()[:-1] + b"," + call.body[1:]


class _Waiting:
    """A call that waits for its turn, or for the batch that it travels in."""

    def __init__(self, item: bytes) -> None:
        self.item = item
        self.answered = anyio.Event()
        self.outcome: Answer | Exception | None = None


class Batches:
    """
    Calls that are made while a batch is under way are the next one: nobody waits for a timer, and the busier the caller
    is, the more each request carries. A call that is given up leaves its batch, and a batch that all have left is given
    up too.
    """

    def __init__(self, post: Callable[[bytes], Awaitable[Answer]]) -> None:
        self._post = post
        #: In the order in which they were made.
        self._waiting: dict[_Waiting, None] = {}
        #: The calls of the batch under way that are still waited for.
        self._travelling: set[_Waiting] = set()
        self._under_way = anyio.CancelScope()
        #: It belongs to no caller: the one whose call is the first must be free to give up.
        self._sender: asyncio.Task[None] | None = None

    async def add(self, item: bytes) -> Answer:
        """
        What is answered to this call, as if it had been sent alone. Raises what sending the batch raised, and
        RuntimeError where no asyncio runs: the sender is a task of its loop.
        """
        waiting = _Waiting(item)
        self._waiting[waiting] = None
        self._start()
        try:
            await waiting.answered.wait()
        finally:
            self._leave(waiting)
        if isinstance(waiting.outcome, Answer):
            return waiting.outcome
        raise waiting.outcome or AssertionError("answered without an answer")

    def _start(self) -> None:
        """Only once there is a call to send: an eager task runs before this returns."""
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            # Calls made in one turn travel together from the first one on, also when tasks are eager.
            await asyncio.sleep(0)
            while self._waiting:
                await self._send(self._next())
        finally:
            # Cancelled, when asyncio is being shut down: whoever still waits, to give something back, needs another.
            self._sender = None
            if self._waiting:
                self._start()

    def _next(self) -> list[_Waiting]:
        """The first of those who wait, as many as fit."""
        batch: list[_Waiting] = []
        length = len(_OPENING) + len(_CLOSING)
        for waiting in self._waiting:
            length += len(waiting.item) + 1
            if len(batch) == _MOST_CALLS or length > _MOST_BYTES:
                break
            batch.append(waiting)
        for waiting in batch:
            del self._waiting[waiting]
        return batch

    async def _send(self, batch: list[_Waiting]) -> None:
        self._travelling = set(batch)
        outcomes: list[Answer | Exception] = [httpx.ReadError("a batch was given up")] * len(batch)
        try:
            with anyio.CancelScope() as self._under_way:
                answer = await self._post(_OPENING + b",".join(waiting.item for waiting in batch) + _CLOSING)
                outcomes = _outcomes_of(answer, len(batch))
        except Exception as error:
            outcomes = [error] * len(batch)
        finally:
            self._travelling = set()
            for waiting, outcome in zip(batch, outcomes, strict=True):
                waiting.outcome = outcome
                waiting.answered.set()

    def _leave(self, waiting: _Waiting) -> None:
        self._waiting.pop(waiting, None)
        if waiting in self._travelling:
            self._travelling.remove(waiting)
            if not self._travelling and not waiting.answered.is_set():
                self._under_way.cancel()


def _outcomes_of(answer: Answer, count: int) -> list[Answer | Exception]:
    """What was answered to each of `count` calls: all the same when the batch as a whole was refused."""
    if answer.status != 200 and answer.status not in _OF_SINGLE_CALLS:
        return [answer] * count
    try:
        results = answer.json()["results"] if answer.status == 200 else None
    except (ValueError, KeyError):
        results = None
    if not isinstance(results, list) or len(results) != count:
        return [_no_answer()] * count
    return [_outcome_of(result) for result in results]


def _outcome_of(result: Any) -> Answer | Exception:
    try:
        return Answer(int(result["status"]), httpx.Headers(result["headers"]), dict(result["body"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return _no_answer()


def _no_answer() -> Exception:
    return httpx.RemoteProtocolError("a batch was answered with something else than its results")
