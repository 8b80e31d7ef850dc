"""`Limiter`, the client for threads."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TypeVar, cast

import httpx

from . import calls
from .base import DEFAULT_DEADLINE_SECONDS, MAX_CONNECTIONS, BaseLimiter, OnError, seconds_to_next_probe
from .calls import Call, Layer
from .connections import UNREACHABLE, ThreadConnections, read_within
from .decision import Cost, Decision, Release, Settlement
from .errors import LimiterError
from .exchange import Exchange, Outcome, Pause, Send
from .ids import Id, Subject
from .responses import Response, decision_of, nothing_of, release_of, require_policies, settlement_of
from .waiting import Wait

T = TypeVar("T")


class Limiter(BaseLimiter):
    """
    The limiter for code that runs in threads, which may share a client. Options and failures are those of AsyncLimiter.
    The deadline is checked between two parts of a response's body: a server that sends its headers a byte at a time can
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
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._transport = transport
        self._sleep = sleep
        super().__init__(url, token, deadline_seconds=deadline_seconds, on_error=on_error)

    def ready(self, *policies: str, inline: bool = False) -> None:
        """Raises the first error in the configuration, as `AsyncLimiter.ready` does."""
        self._run(self._exchange(calls.policies_call(), require_policies({*self.policies, *policies})))
        if inline:
            self._run(self._exchange(calls.inline_switch_call(), decision_of))

    def check(self, policy: str, subject: Subject, *, cost: Cost = 1) -> Decision:
        """Decides, and records nothing."""
        return self._run(self._decide(calls.check_call(policy, subject, cost)))

    def consume(
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
        return self._consume(calls.consume_call(policy, subject, cost, idempotency_key), wait_up_to)

    def settle(self, policy: str, subject: Subject, *, id: Id, cost: Cost) -> Settlement:
        """
        Corrects the cost of decision `id`: the real cost once it is known, 0 to give it back. Safe to repeat. Layers
        that a mapping does not name keep their cost.
        Raises UnknownDecisionError if the decision is not in the window, UnavailableError in an outage.
        """
        return self._run(self._change(calls.settle_call(policy, subject, id, cost), settlement_of))

    def release(self, policy: str, subject: Subject, *, id: Id) -> Release:
        """
        Ends decision `id` for concurrent limits. Safe to repeat. Raises as `settle` does; its place may then be held
        until the limit's window has passed.
        """
        return self._run(self._change(calls.release_call(policy, subject, id), release_of))

    def check_inline(self, layers: Sequence[Layer], *, cost: Cost = 1) -> Decision:
        """`check` by inline limits. The service needs RATE_LIMIT_INLINE=1."""
        return self._run(self._decide(calls.check_inline_call(layers, cost)))

    def consume_inline(
        self, layers: Sequence[Layer], *, cost: Cost = 1, idempotency_key: Id | None = None, wait_up_to: float = 0
    ) -> Decision:
        """`consume` by inline limits."""
        return self._consume(calls.consume_inline_call(layers, cost, idempotency_key), wait_up_to)

    def settle_inline(self, layers: Sequence[Layer], *, id: Id, cost: Cost) -> Settlement:
        """`settle` by inline limits."""
        return self._run(self._change(calls.settle_inline_call(layers, id, cost), settlement_of))

    def release_inline(self, layers: Sequence[Layer], *, id: Id) -> Release:
        """`release` by inline limits."""
        return self._run(self._change(calls.release_inline_call(layers, id), release_of))

    def forget_inline(self, key: Id) -> None:
        """Forgets the counters of this key under inline limits."""
        self._run(self._exchange(calls.forget_inline_call(key), nothing_of))

    def close(self) -> None:
        """Closes the connections."""
        self._renew_after_fork()
        self._is_closed.set()
        self._connections.invalidate()
        if self._transport is not None:
            self._transport.close()

    def __enter__(self) -> Limiter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _init_process_state(self) -> None:
        super()._init_process_state()
        self._connections = ThreadConnections(MAX_CONNECTIONS)
        self._probing: threading.Thread | None = None
        self._probing_lock = threading.Lock()
        self._is_closed = threading.Event()

    def _run(self, exchange: Exchange[T]) -> T:
        outcome: Outcome = None
        while True:
            try:
                step = exchange.send(outcome)
            except StopIteration as stop:
                return cast(T, stop.value)
            outcome = self._perform(step)

    def _consume(self, call: Call, wait_up_to: float) -> Decision:
        if wait_up_to == 0:
            return self._run(self._decide(call))
        wait = Wait(wait_up_to)
        while True:
            decision = self._run(self._decide(call))
            pause_seconds = wait.next_pause_seconds(decision)
            if pause_seconds is None:
                return decision
            self._sleep(pause_seconds)
            call = replace(call, first_attempt=2)

    def _perform(self, step: Send | Pause) -> Outcome:
        if isinstance(step, Pause):
            time.sleep(step.seconds)
            return None
        try:
            return self._send(step)
        except (httpx.RequestError, *UNREACHABLE) as error:
            return error

    def _send(self, send: Send) -> Response:
        seconds = send.timeout_seconds
        if self._transport is None:
            return self._connections.send(self._core_request(send.call, send.attempt), seconds)
        ends_at = time.monotonic() + seconds
        request = self._request(send.call, send.attempt, connect=seconds, read=seconds, write=seconds, pool=seconds)
        response = self._transport.handle_request(request)
        try:
            if response.is_stream_consumed:
                return Response(response.status_code, response.headers, response.content)
            return Response(response.status_code, response.headers, read_within(ends_at, response.iter_raw()))
        finally:
            response.close()

    def _invalidate_connections(self) -> None:
        self._connections.invalidate()

    def _is_probing(self) -> bool:
        return self._probing is not None and self._probing.is_alive()

    def _start_probing(self) -> None:
        with self._probing_lock:
            if self._is_probing() or self._is_closed.is_set():
                return
            self._probing = threading.Thread(
                target=_probe_until_answered,
                args=[weakref.ref(self), self._is_closed],
                name="exact_limiter",
                daemon=True,
            )
            self._probing.start()


def _probe_until_answered(reference: weakref.ref[Limiter], is_closed: threading.Event) -> None:
    while (pause_seconds := seconds_to_next_probe(reference)) is not None:
        if is_closed.wait(pause_seconds):
            return
        if (limiter := reference()) is not None:
            with suppress(LimiterError):
                limiter._run(limiter._probe())
        del limiter
