"""`AsyncLimiter`, the client for event loops."""

from __future__ import annotations

import asyncio
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import Literal, TypeVar, cast

import anyio
import httpx

from . import calls, messages
from .base import DEFAULT_DEADLINE_SECONDS, MAX_CONNECTIONS, BaseLimiter, OnError, seconds_to_next_probe
from .calls import Call, Layer
from .connections import UNREACHABLE, Connections
from .decision import Cost, Decision, Release, Settlement
from .errors import LimiterError
from .exchange import Exchange, Outcome, Pause, Send
from .ids import Id, Subject
from .loops import PerLoop, run_to_completion, running_loop
from .responses import Read, Response, decision_of, nothing_of, release_of, require_policies, settlement_of
from .session import NoSession, Session
from .waiting import Wait

T = TypeVar("T")

#: "auto" prefers a session to HTTP.
Transport = Literal["auto", "http", "session"]


class _LoopState:
    """The state of an AsyncLimiter that belongs to one event loop, and is useless on another."""

    def __init__(self, limiter: AsyncLimiter) -> None:
        self.connections = Connections(MAX_CONNECTIONS)
        self.session = self._new_session(limiter)
        self.probing: asyncio.Task[None] | None = None
        #: Roll back cancelled consumes.
        self.rollbacks: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        if self.rollbacks:
            await asyncio.wait(self.rollbacks)
        if self.probing is not None:
            self.probing.cancel()
            await asyncio.wait([self.probing])
        if self.session is not None:
            await self.session.aclose()
        await self.connections.aclose()

    def _new_session(self, limiter: AsyncLimiter) -> Session | None:
        """None if no call may use a session. It is opened by the first call that does."""
        loop = running_loop()
        if loop is None or (limiter._transport != "auto" and limiter._transport != "session"):
            return None
        session = Session(limiter._url_of("/v1/session"), limiter._authorization, self.connections.ssl_context)
        # The loop keeps an open session alive, so a client that is collected must close it.
        weakref.finalize(self, _close_soon, loop, session, os.getpid()).atexit = False
        return session


class AsyncLimiter(BaseLimiter):
    """
    The limiter for code that runs on an event loop. Each loop and each process has its own pool of connections.

    The deadline covers a call as a whole, retries included. The first attempt gets half of it. That half must be
    longer than the service's own RATE_LIMIT_DEADLINE_MS (1 s) plus a round trip: the default, 2.5 s, leaves 0.25 s.

    A denial is a value. In an outage `on_error` decides: "deny" or "allow" with `degraded` set, or "raise" for the
    error. An outage is: no response, a 5xx, a refused token, an unknown policy, or inline limits that are switched off.
    A request that the service refuses as invalid raises InvalidRequestError, whatever `on_error` is.

    After a few failures in a row, `on_error` decides checks and consumes without waiting, and the service is probed in
    the background. A settle or a release is always sent, and ends within the deadline even if it is cancelled. Its
    failure is logged, once a minute. A cancelled consume is rolled back in the background, unless the idempotency key
    is the caller's: the caller may retry it.

    On asyncio, calls go over a session, one WebSocket for each event loop: calls made in one turn of the loop share a
    message. Each keeps its own deadline, cancellation and idempotency key. Calls go over HTTP where a WebSocket can't
    be had, and always if they have inline limits. `transport` "http" or "session" allows only that. It may also be an
    httpx transport of your own, which is not renewed: make a client with a new one for each event loop and after a
    fork. `sleep` makes the pauses of `wait_up_to`: in tests, that of the limiter for tests moves its clock instead.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        deadline_seconds: float = DEFAULT_DEADLINE_SECONDS,
        on_error: OnError = "deny",
        transport: Transport | httpx.AsyncBaseTransport = "auto",
        sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        if transport not in ("auto", "http", "session") and not isinstance(transport, httpx.AsyncBaseTransport):
            raise ValueError('transport must be "auto", "http", "session" or an httpx.AsyncBaseTransport')
        self._transport = transport
        self._sleep = sleep
        super().__init__(url, token, deadline_seconds=deadline_seconds, on_error=on_error)

    async def ready(self, *policies: str, inline: bool = False) -> None:
        """
        Raises the first error in the configuration: UnauthorizedError for the token, UnknownPolicyError for these
        policies and those of the FastAPI dependencies, UnauthorizedError if `inline` limits are needed and switched
        off. Raises UnavailableError if the limiter is unreachable.
        """
        await self._run(self._exchange(calls.policies_call(), require_policies({*self.policies, *policies})))
        if inline:
            await self._run(self._exchange(calls.inline_switch_call(), decision_of))

    async def check(self, policy: str, subject: Subject, *, cost: Cost = 1) -> Decision:
        """Decides, and records nothing."""
        return await self._run_or_roll_back(calls.check_call(policy, subject, cost))

    async def consume(
        self,
        policy: str,
        subject: Subject,
        *,
        cost: Cost = 1,
        idempotency_key: Id | None = None,
        wait_up_to: float = 0,
    ) -> Decision:
        """
        Records `cost` if every limit of every layer admits it, and once for each idempotency key. A mapping costs by
        layer: 1 in layers that it does not name. A layer at 0 decides nothing. Denied, it waits and tries again for up
        to `wait_up_to` seconds, unless the wait is longer than what is left of them.
        """
        return await self._consume(calls.consume_call(policy, subject, cost, idempotency_key), wait_up_to)

    async def settle(self, policy: str, subject: Subject, *, id: Id, cost: Cost) -> Settlement:
        """
        Corrects the cost of decision `id`: the real cost once it is known, 0 to give it back. Safe to repeat. Layers
        that a mapping does not name keep their cost.
        Raises UnknownDecisionError if the decision is not in the window, UnavailableError in an outage.
        """
        return await self._run_to_completion(calls.settle_call(policy, subject, id, cost), settlement_of)

    async def release(self, policy: str, subject: Subject, *, id: Id) -> Release:
        """
        Ends decision `id` for concurrent limits. Safe to repeat. Raises as `settle` does; its place may then be held
        until the limit's window has passed.
        """
        return await self._run_to_completion(calls.release_call(policy, subject, id), release_of)

    async def check_inline(self, layers: Sequence[Layer], *, cost: Cost = 1) -> Decision:
        """`check` by inline limits. The service needs RATE_LIMIT_INLINE=1."""
        return await self._run_or_roll_back(calls.check_inline_call(layers, cost))

    async def consume_inline(
        self, layers: Sequence[Layer], *, cost: Cost = 1, idempotency_key: Id | None = None, wait_up_to: float = 0
    ) -> Decision:
        """`consume` by inline limits."""
        return await self._consume(calls.consume_inline_call(layers, cost, idempotency_key), wait_up_to)

    async def settle_inline(self, layers: Sequence[Layer], *, id: Id, cost: Cost) -> Settlement:
        """`settle` by inline limits."""
        return await self._run_to_completion(calls.settle_inline_call(layers, id, cost), settlement_of)

    async def release_inline(self, layers: Sequence[Layer], *, id: Id) -> Release:
        """`release` by inline limits."""
        return await self._run_to_completion(calls.release_inline_call(layers, id), release_of)

    async def forget_inline(self, key: Id) -> None:
        """Forgets the counters of this key under inline limits."""
        await self._run(self._exchange(calls.forget_inline_call(key), nothing_of))

    async def aclose(self) -> None:
        """Closes the connections of this event loop."""
        self._renew_after_fork()
        await self._loops.aclose()
        if isinstance(self._transport, httpx.AsyncBaseTransport):
            await self._transport.aclose()

    async def __aenter__(self) -> AsyncLimiter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _init_process_state(self) -> None:
        super()._init_process_state()
        self._loops = PerLoop(lambda: _LoopState(self))
        self._probing: asyncio.Task[None] | None = None

    async def _run(self, exchange: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as stop:
                return cast(T, stop.value)
            outcome = await self._perform(step)

    def _perform(self, step: Send | Pause) -> Awaitable[Outcome]:
        if isinstance(step, Pause):
            return anyio.sleep(step.seconds)
        session = self._loops.current().session
        if session is not None and (request := messages.request_of(step.call, step.attempt)) is not None:
            return self._ask(session, request, step)
        if self._transport == "session" and running_loop() is None:
            raise RuntimeError('transport="session" needs asyncio')
        return self._send_within(step.timeout_seconds, step)

    async def _ask(self, session: Session, request: bytes, step: Send) -> Outcome:
        """Sends the call over the session, or over HTTP if there is none."""
        began = time.monotonic()
        if self._transport == "session" or not session.is_refused:
            answer = await session.ask(request, step.timeout_seconds)
            if not isinstance(answer, NoSession):
                return answer
            if self._transport == "session":
                return answer.reason
        outcome = await self._send_within(max(step.timeout_seconds + began - time.monotonic(), 0), step)
        if isinstance(outcome, Response) and outcome.status < 500:
            session.prefer_http()
        return outcome

    async def _send_within(self, seconds: float, step: Send) -> Outcome:
        try:
            with anyio.fail_after(seconds):
                return await self._send(step.call, step.attempt)
        except (httpx.RequestError, *UNREACHABLE) as error:
            return error

    async def _send(self, call: Call, attempt: int) -> Response:
        own = self._transport
        transport = own if isinstance(own, httpx.AsyncBaseTransport) else self._loops.current().connections
        response = await transport.handle_async_request(self._request(call, attempt))
        try:
            return Response(response.status_code, response.headers, await response.aread())
        finally:
            await response.aclose()

    def _consume(self, call: Call, wait_up_to: float) -> Awaitable[Decision]:
        """No coroutine of its own: each call would pay for it."""
        return self._run_or_roll_back(call) if wait_up_to == 0 else self._consume_within(call, Wait(wait_up_to))

    async def _consume_within(self, call: Call, wait: Wait) -> Decision:
        while True:
            decision = await self._run_or_roll_back(call)
            pause_seconds = wait.next_pause_seconds(decision)
            if pause_seconds is None:
                return decision
            # A call that is cancelled here has nothing to roll back: it was denied.
            await self._sleep(pause_seconds)
            call = replace(call, first_attempt=2)

    async def _run_or_roll_back(self, call: Call) -> Decision:
        try:
            return await self._run(self._decide(call))
        except BaseException as error:
            # Cancelled: the consume may have been charged, under a key that only this client knows.
            if call.has_new_key and not isinstance(error, (Exception, GeneratorExit)):
                await self._roll_back_in_background(call)
            raise

    async def _roll_back_in_background(self, call: Call) -> None:
        if running_loop() is None:
            with anyio.CancelScope(shield=True):
                return await self._roll_back(call)
        rollbacks = self._loops.current().rollbacks
        task = asyncio.create_task(run_to_completion(lambda: self._roll_back(call)))
        rollbacks.add(task)
        task.add_done_callback(rollbacks.discard)

    async def _roll_back(self, call: Call) -> None:
        """
        Retries a cancelled consume by the same key to find out whether it was admitted, and then gives its charge back.
        After the retry's response, an earlier attempt that is still in flight can't charge anything.
        """
        try:
            decision = await self._run(self._exchange(replace(call, has_new_key=False), decision_of))
        except LimiterError as error:
            self._report_failed(call, error)
            return
        if not decision.allowed or decision.id is None:
            return
        with suppress(LimiterError):
            await self._run_to_completion(call.to_change("settle", id=decision.id, cost=0), settlement_of)
        with suppress(LimiterError):
            await self._run_to_completion(call.to_change("release", id=decision.id), release_of)

    async def _run_to_completion(self, call: Call, read: Read[T]) -> T:
        """Finishes a settle or a release despite cancellation: until it succeeds, the charge holds its place."""
        deadline = self._deadline()
        return await run_to_completion(lambda: self._run(self._change(call, read, deadline)))

    def _invalidate_connections(self) -> None:
        state = self._loops.current()
        state.connections.invalidate()
        if state.session is not None:
            state.session.drop("an answer is about another request")

    def _is_probing(self) -> bool:
        """A task whose loop has stopped probes nothing."""
        return self._probing is not None and not self._probing.done() and self._probing.get_loop().is_running()

    def _start_probing(self) -> None:
        loop = running_loop()
        if loop is None or self._is_probing():
            return

        def stop(_: object) -> None:
            # Collected in any thread, and perhaps after the loop was closed.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)

        task = loop.create_task(_probe_until_answered(weakref.ref(self, stop)))
        self._probing = self._loops.current().probing = task


def _close_soon(loop: asyncio.AbstractEventLoop, session: Session, pid: int) -> None:
    """Called in any thread. A forked child must not close the session of its parent."""
    if os.getpid() == pid:
        # The loop may be closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(session.close)


async def _probe_until_answered(reference: weakref.ref[AsyncLimiter]) -> None:
    while (pause_seconds := seconds_to_next_probe(reference)) is not None:
        await asyncio.sleep(pause_seconds)
        if (limiter := reference()) is not None:
            with suppress(LimiterError):
                await limiter._run(limiter._probe())
        del limiter
