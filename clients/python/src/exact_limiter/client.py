"""The limiter over HTTP: `AsyncLimiter` for event loops, `Limiter` for threads. The same calls, the same answers."""

from __future__ import annotations

import functools
import itertools
import logging
import re
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TypeVar, cast

import anyio
import anyio.lowlevel
import httpx

from . import exchange
from .batches import Batches, item_of
from .connections import UNREACHABLE, Connections
from .decision import Decision, Release, Settlement
from .errors import UnavailableError
from .exchange import Answer, Call, Layer, OnError, Outcome, Pause, Send, Subject

_log = logging.getLogger("exact_limiter")

#: The service's own deadline is a second, so that its answer about an object that is silent still arrives.
DEFAULT_DEADLINE_SECONDS = 2.5

_MAX_CONNECTIONS = 200

#: What a loop remembers goes by a name.
_numbers = itertools.count()

T = TypeVar("T")


class _Configured:
    """What both clients are given, and the requests they make of it."""

    def __init__(self, url: str, token: str, *, deadline_seconds: float, on_error: OnError) -> None:
        if on_error not in ("deny", "allow", "raise"):
            raise ValueError('on_error must be "deny", "allow" or "raise"')
        if not deadline_seconds > 0:
            raise ValueError("deadline_seconds must be above 0")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("a token is made of visible ASCII characters, without spaces and line breaks")
        self.url = httpx.URL(url.rstrip("/"))
        if self.url.scheme not in ("http", "https") or not self.url.host:
            raise ValueError(f"not the URL of a limiter: {url!r}")
        self.deadline_seconds = deadline_seconds
        self.on_error: OnError = on_error
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def _request(self, call: Call, attempt: int, **timeouts: float) -> httpx.Request:
        headers = self._headers
        if call.idempotency_key is not None:
            headers = {**headers, "Idempotency-Key": f'"{call.idempotency_key}"'}
        if call.has_new_key:
            headers["Idempotency-Attempt"] = str(attempt)
        url = _with_path(self.url, call.path)
        return httpx.Request(call.method, url, headers=headers, content=call.body, extensions={"timeout": timeouts})

    def _undecided(self, error: UnavailableError, policy: str, cost: int, idempotency_key: str | None) -> Decision:
        decision = exchange.undecided(error, self.on_error, policy, cost, idempotency_key)
        _log.warning("%s It is taken as: %s.", error, self.on_error)
        return decision


@functools.lru_cache(maxsize=256)
def _with_path(url: httpx.URL, path: str) -> httpx.URL:
    """Made once, since that costs much of a request. The path is encoded already: `%2F` stays as it is."""
    return url.copy_with(raw_path=url.raw_path.rstrip(b"/") + path.encode())


class AsyncLimiter(_Configured):
    """
    The limiter, for code that runs on an event loop. One pool of connections; a deadline for each call as a whole.

    A denial is a value. When the service does not answer, `on_error` decides: "deny" or "allow" with `degraded` set, or
    "raise" for an UnavailableError. A request that the service refuses raises InvalidRequestError, a wrong token
    UnauthorizedError.

    With `batch`, on asyncio, calls that are made while one is under way travel together in the next request, each with
    its own deadline, cancellation and idempotency key; calls with limits named inline go alone.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
        on_error: OnError = "deny",
        batch: bool = False,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, deadline_seconds=deadline_seconds, on_error=on_error)
        self._transport = transport
        self._batch = batch
        self._batches = anyio.lowlevel.RunVar[Batches](f"exact_limiter.batches.{next(_numbers)}")
        # Connections of another event loop, that of an earlier test, can't be used.
        self._connections = anyio.lowlevel.RunVar[Connections](f"exact_limiter.connections.{next(_numbers)}")

    async def check(self, policy: str, subject: Subject, *, cost: int = 1) -> Decision:
        """Would this be admitted now? Records nothing."""
        return await self._decide(exchange.check_call(policy, subject, cost), policy, cost)

    async def consume(
        self, policy: str, subject: Subject, *, cost: int = 1, idempotency_key: str | None = None
    ) -> Decision:
        """Records `cost` if every limit of every layer admits it, and once for each idempotency key."""
        return await self._decide(exchange.consume_call(policy, subject, cost, idempotency_key), policy, cost)

    async def settle(self, policy: str, subject: Subject, *, id: str, cost: int) -> Settlement:
        """
        Corrects the cost of decision `id`: the real one once it is known, 0 to give it back.
        Raises UnknownDecisionError when it is not in the window, UnavailableError when nobody answers.
        """
        return await self._exchange(exchange.settle_call(policy, subject, id, cost), exchange.settlement_of)

    async def release(self, policy: str, subject: Subject, *, id: str) -> Release:
        """
        Says that what decision `id` was for is over: limits on what is under way count it no more. Safe to repeat.
        Raises as `settle` does; until it is acknowledged, its place may be held for as long as the limit's window.
        """
        return await self._exchange(exchange.release_call(policy, subject, id), exchange.release_of)

    async def check_inline(self, layers: Sequence[Layer], *, cost: int = 1) -> Decision:
        """As `check`, by limits named here in place of a policy's; the service needs RATE_LIMIT_INLINE=1."""
        return await self._decide(exchange.check_inline_call(layers, cost), "inline", cost)

    async def consume_inline(
        self, layers: Sequence[Layer], *, cost: int = 1, idempotency_key: str | None = None
    ) -> Decision:
        """As `consume`, by limits named here in place of a policy's."""
        return await self._decide(exchange.consume_inline_call(layers, cost, idempotency_key), "inline", cost)

    async def settle_inline(self, layers: Sequence[Layer], *, id: str, cost: int) -> Settlement:
        """As `settle`, by limits named here in place of a policy's."""
        return await self._exchange(exchange.settle_inline_call(layers, id, cost), exchange.settlement_of)

    async def release_inline(self, layers: Sequence[Layer], *, id: str) -> Release:
        """As `release`, by limits named here in place of a policy's."""
        return await self._exchange(exchange.release_inline_call(layers, id), exchange.release_of)

    async def forget_inline(self, key: str) -> None:
        """Forgets what limits named inline have counted by this key."""
        await self._exchange(exchange.forget_inline_call(key), exchange.nothing_of)

    async def aclose(self) -> None:
        """Closes the connections of this event loop."""
        if self._transport is not None:
            await self._transport.aclose()
        elif (connections := self._connections.get(None)) is not None:
            await connections.aclose()

    async def __aenter__(self) -> AsyncLimiter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _decide(self, call: Call, policy: str, cost: int) -> Decision:
        try:
            return await self._exchange(call, exchange.decision_of)
        except UnavailableError as error:
            return self._undecided(error, policy, cost, call.idempotency_key)

    async def _exchange(self, call: Call, read: Callable[[Answer], T]) -> T:
        plan = exchange.plan(self.deadline_seconds, read)
        step = next(plan)
        while True:
            outcome: Outcome = None
            if isinstance(step, Pause):
                await anyio.sleep(step.seconds)
            else:
                outcome = await self._attempt(call, step)
            try:
                step = plan.send(outcome)
            except StopIteration as stop:
                return cast(T, stop.value)

    async def _attempt(self, call: Call, send: Send) -> Outcome:
        try:
            with anyio.fail_after(send.timeout_seconds):
                if self._batch and (item := item_of(call, send.attempt)) is not None:
                    return await self._batches_here().add(item)
                return await self._send(call, send.attempt)
        except (httpx.RequestError, *UNREACHABLE, TimeoutError) as error:
            return error

    async def _send(self, call: Call, attempt: int) -> Answer:
        response = await self._transport_here().handle_async_request(self._request(call, attempt))
        try:
            return Answer(response.status_code, response.headers, await response.aread())
        finally:
            await response.aclose()

    def _batches_here(self) -> Batches:
        batches = self._batches.get(None)
        if batches is None:
            batches = Batches(lambda body: self._send(Call("POST", "/v1/batch", body), 1))
            self._batches.set(batches)
        return batches

    def _transport_here(self) -> httpx.AsyncBaseTransport:
        if self._transport is not None:
            return self._transport
        connections = self._connections.get(None)
        if connections is None:
            connections = Connections(_MAX_CONNECTIONS)
            self._connections.set(connections)
        return connections


class Limiter(_Configured):
    """
    The limiter, for code that runs in threads, which may share it. As AsyncLimiter, but that the deadline is looked at
    between one part of an answer's body and the next: a server that sends the head of its answer a byte at a time can
    hold a call for longer.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
        on_error: OnError = "deny",
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        super().__init__(url, token, deadline_seconds=deadline_seconds, on_error=on_error)
        self._transport = transport or httpx.HTTPTransport(
            limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS)
        )

    def check(self, policy: str, subject: Subject, *, cost: int = 1) -> Decision:
        """Would this be admitted now? Records nothing."""
        return self._decide(exchange.check_call(policy, subject, cost), policy, cost)

    def consume(self, policy: str, subject: Subject, *, cost: int = 1, idempotency_key: str | None = None) -> Decision:
        """Records `cost` if every limit of every layer admits it, and once for each idempotency key."""
        return self._decide(exchange.consume_call(policy, subject, cost, idempotency_key), policy, cost)

    def settle(self, policy: str, subject: Subject, *, id: str, cost: int) -> Settlement:
        """
        Corrects the cost of decision `id`: the real one once it is known, 0 to give it back.
        Raises UnknownDecisionError when it is not in the window, UnavailableError when nobody answers.
        """
        return self._exchange(exchange.settle_call(policy, subject, id, cost), exchange.settlement_of)

    def release(self, policy: str, subject: Subject, *, id: str) -> Release:
        """
        Says that what decision `id` was for is over: limits on what is under way count it no more. Safe to repeat.
        Raises as `settle` does; until it is acknowledged, its place may be held for as long as the limit's window.
        """
        return self._exchange(exchange.release_call(policy, subject, id), exchange.release_of)

    def check_inline(self, layers: Sequence[Layer], *, cost: int = 1) -> Decision:
        """As `check`, by limits named here in place of a policy's; the service needs RATE_LIMIT_INLINE=1."""
        return self._decide(exchange.check_inline_call(layers, cost), "inline", cost)

    def consume_inline(self, layers: Sequence[Layer], *, cost: int = 1, idempotency_key: str | None = None) -> Decision:
        """As `consume`, by limits named here in place of a policy's."""
        return self._decide(exchange.consume_inline_call(layers, cost, idempotency_key), "inline", cost)

    def settle_inline(self, layers: Sequence[Layer], *, id: str, cost: int) -> Settlement:
        """As `settle`, by limits named here in place of a policy's."""
        return self._exchange(exchange.settle_inline_call(layers, id, cost), exchange.settlement_of)

    def release_inline(self, layers: Sequence[Layer], *, id: str) -> Release:
        """As `release`, by limits named here in place of a policy's."""
        return self._exchange(exchange.release_inline_call(layers, id), exchange.release_of)

    def forget_inline(self, key: str) -> None:
        """Forgets what limits named inline have counted by this key."""
        self._exchange(exchange.forget_inline_call(key), exchange.nothing_of)

    def close(self) -> None:
        """Closes the connections."""
        self._transport.close()

    def __enter__(self) -> Limiter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decide(self, call: Call, policy: str, cost: int) -> Decision:
        try:
            return self._exchange(call, exchange.decision_of)
        except UnavailableError as error:
            return self._undecided(error, policy, cost, call.idempotency_key)

    def _exchange(self, call: Call, read: Callable[[Answer], T]) -> T:
        plan = exchange.plan(self.deadline_seconds, read)
        step = next(plan)
        while True:
            outcome: Outcome = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
            else:
                outcome = self._attempt(call, step)
            try:
                step = plan.send(outcome)
            except StopIteration as stop:
                return cast(T, stop.value)

    def _attempt(self, call: Call, send: Send) -> Outcome:
        seconds = send.timeout_seconds
        ends_at = time.monotonic() + seconds
        request = self._request(call, send.attempt, connect=seconds, read=seconds, write=seconds, pool=seconds)
        try:
            response = self._transport.handle_request(request)
            try:
                if response.is_stream_consumed:
                    return Answer(response.status_code, response.headers, response.content)
                content = bytearray()
                for chunk in response.iter_raw():
                    content += chunk
                    if time.monotonic() > ends_at:
                        raise httpx.ReadTimeout("the answer goes on for longer than the attempt may take")
                return Answer(response.status_code, response.headers, bytes(content))
            finally:
                response.close()
        except httpx.RequestError as error:
            return error
