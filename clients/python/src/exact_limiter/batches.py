"""Calls of one event loop that share a request to `/v1/batch`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import httpx

from .calls import Call
from .responses import Response

#: The service's limits for one batch.
_MAX_CALLS = 100
_MAX_BYTES = 64 * 1024
#: A longer call is sent alone, to leave room for the others.
_MAX_CALL_BYTES = 2048

_OPENING = b'{"headers":true,"requests":['
_CLOSING = b"]}"

#: Statuses that the service gives to single calls, and never to a batch.
_SINGLE_CALL_STATUSES = (404, 429)


def item_of(call: Call, attempt: int) -> bytes | None:
    """The call as an item of a batch; None if it must be sent alone."""
    op = call.path.removeprefix("/v1/")
    if op not in ("check", "consume", "settle", "release") or len(call.body) > _MAX_CALL_BYTES:
        return None
    fields: dict[str, object] = {"op": op}
    if call.idempotency_key is not None:
        fields["idempotency_key"] = call.idempotency_key
    if call.has_new_key:
        fields["attempt"] = attempt
    return json.dumps(fields, separators=(",", ":")).encode()[:-1] + b"," + call.body[1:]


class _Item:
    """A call in the queue or in flight, and its outcome."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.is_done = anyio.Event()
        self.outcome: Response | Exception | None = None


class Batches:
    """
    Calls made while a batch is in flight form the next batch. So no call waits for a timer, and batches grow with the
    load. A cancelled call leaves its batch, and a batch that all calls have left is cancelled.
    """

    def __init__(self, post: Callable[[bytes], Awaitable[Response]]) -> None:
        self._post = post
        #: A dict for its order, that of the calls.
        self._queue: dict[_Item, None] = {}
        #: The calls of the batch in flight that still wait for it.
        self._in_flight: set[_Item] = set()
        self._scope = anyio.CancelScope()
        #: A task of its own: every caller must be free to cancel its call, the first one too.
        self._sender: asyncio.Task[None] | None = None

    async def add(self, content: bytes) -> Response:
        """
        Returns the response to this call, as if it had been sent alone. Raises the error of the batch's request, and
        RuntimeError without asyncio: the sender is a task of its loop.
        """
        item = _Item(content)
        self._queue[item] = None
        self._start()
        try:
            await item.is_done.wait()
        finally:
            self._leave(item)
        if isinstance(item.outcome, Response):
            return item.outcome
        raise item.outcome or AssertionError("done without an outcome")

    def _start(self) -> None:
        """Needs a call in the queue: an eager task runs before this returns."""
        if self._sender is None or self._sender.done():
            self._sender = asyncio.create_task(self._send_all())

    async def _send_all(self) -> None:
        try:
            # Calls made in one turn of the loop share the first batch, even if tasks are eager.
            await asyncio.sleep(0)
            while self._queue:
                await self._send(self._next())
        finally:
            # asyncio cancels the sender at shutdown. A settle or a release that still waits needs a new one.
            self._sender = None
            if self._queue:
                self._start()

    def _next(self) -> list[_Item]:
        """Takes as many calls from the queue as fit."""
        batch: list[_Item] = []
        length = len(_OPENING) + len(_CLOSING)
        for item in self._queue:
            length += len(item.content) + 1
            if len(batch) == _MAX_CALLS or length > _MAX_BYTES:
                break
            batch.append(item)
        for item in batch:
            del self._queue[item]
        return batch

    async def _send(self, batch: list[_Item]) -> None:
        self._in_flight = set(batch)
        outcomes: list[Response | Exception] = [httpx.ReadError("the batch was cancelled")] * len(batch)
        try:
            with anyio.CancelScope() as self._scope:
                response = await self._post(_OPENING + b",".join(item.content for item in batch) + _CLOSING)
                outcomes = _outcomes_of(response, len(batch))
        except Exception as error:
            outcomes = [error] * len(batch)
        finally:
            self._in_flight = set()
            for item, outcome in zip(batch, outcomes, strict=True):
                item.outcome = outcome
                item.is_done.set()

    def _leave(self, item: _Item) -> None:
        self._queue.pop(item, None)
        if item in self._in_flight:
            self._in_flight.remove(item)
            if not self._in_flight and not item.is_done.is_set():
                self._scope.cancel()


def _outcomes_of(response: Response, count: int) -> list[Response | Exception]:
    """The outcomes of `count` calls: all the same if the service refused the batch as a whole."""
    if response.status != 200 and response.status not in _SINGLE_CALL_STATUSES:
        return [response] * count
    try:
        results = response.json()["results"] if response.status == 200 else None
    except (ValueError, KeyError):
        results = None
    if not isinstance(results, list) or len(results) != count:
        return [_malformed()] * count
    return [_outcome_of(result) for result in results]


def _outcome_of(result: Any) -> Response | Exception:
    try:
        return Response(int(result["status"]), httpx.Headers(result["headers"]), dict(result["body"]))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return _malformed()


def _malformed() -> Exception:
    return httpx.RemoteProtocolError("the response to a batch does not have its results")
