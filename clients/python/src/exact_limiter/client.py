"""The limiter over HTTP: `AsyncLimiter` for event loops, `Limiter` for threads. The same calls, the same answers."""

from __future__ import annotations

import asyncio
import functools
import logging
import os
import re
import threading
import time
import weakref
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from types import TracebackType
from typing import TypeVar, cast

import anyio
import httpx

from . import exchange
from .batches import Batches, item_of
from .breaker import Breaker
from .connections import UNREACHABLE, Connections
from .decision import Decision, Release, Settlement
from .errors import (
    OUTAGES,
    AnotherAnswerError,
    LimiterError,
    UnavailableError,
    UnknownDecisionError,
    UnknownPolicyError,
)
from .exchange import Answer, Call, Layer, OnError, Outcome, Pause, Read, Send
from .ids import Id, Subject
from .loops import ForEachLoop, running_loop, to_the_end

_log = logging.getLogger("exact_limiter")

#: The service decides within a second (its RATE_LIMIT_DEADLINE_MS). The first attempt gets half of this deadline: its
#: answer about an object that is silent still arrives, and leaves time for a second attempt.
DEFAULT_DEADLINE_SECONDS = 2.5

_MAX_CONNECTIONS = 200

#: The same trouble is told once in so long, however many requests have it.
_TELLS_AGAIN_SECONDS = 60.0

T = TypeVar("T")

#: Held while a client makes what its process has alone, and never by a thread that a fork leaves behind.
_beginning = threading.Lock()
# Where there is no fork there is no such function.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_beginning.acquire, after_in_parent=_beginning.release, after_in_child=_beginning.release
    )


class _Configured:
    """What both clients are given, and the requests they make of it."""

    def __init__(self, url: str, token: str, *, deadline_seconds: float, on_error: OnError) -> None:
        if on_error not in ("deny", "allow", "raise"):
            raise ValueError('on_error must be "deny", "allow" or "raise"')
        if not deadline_seconds > 0:
            raise ValueError("deadline_seconds must be above 0")
        if not token:
            raise ValueError("the token is missing or empty: one of the service's LIMITER_TOKENS is needed")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("a token is made of visible ASCII characters, without spaces and line breaks")
        self.url = _url_of(url)
        self.deadline_seconds = deadline_seconds
        self.on_error: OnError = on_error
        #: Policies that this application counts by, which `ready` looks for.
        self.policies: set[str] = set()
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        self._told_at: dict[tuple[str, str, str], float] = {}
        self._begin()
        self._pid = os.getpid()

    def _begin(self) -> None:
        """What no other process may share: a child that was forked has its own from its first call on."""
        self._breaker = Breaker()

    def _own_what_is_shared(self) -> None:
        pid = os.getpid()
        if self._pid == pid:
            return
        with _beginning:
            # Set last: until then the threads of a child wait here, and none of them uses what the parent has.
            if self._pid != pid:
                self._begin()
                self._pid = pid

    def _distrust(self) -> None:
        """Has no open connection be used again."""

    def _distrusting(self, read: Read[T]) -> Read[T]:
        def read_or_distrust(call: Call, answer: Answer) -> T:
            try:
                return read(call, answer)
            except AnotherAnswerError:
                self._distrust()
                raise

        return read_or_distrust

    def _gives_up_at(self) -> float:
        return time.monotonic() + self.deadline_seconds

    def _request(self, call: Call, attempt: int, **timeouts: float) -> httpx.Request:
        headers = self._headers
        if call.idempotency_key is not None:
            headers = {**headers, "Idempotency-Key": f'"{call.idempotency_key}"'}
        if call.has_new_key:
            headers["Idempotency-Attempt"] = str(attempt)
        url = _with_path(self.url, call.path)
        return httpx.Request(call.method, url, headers=headers, content=call.body, extensions={"timeout": timeouts})

    def tell(self, error: LimiterError, policy: str = "") -> None:
        """Logs what is wrong, once a minute: an error in the configuration, or a limiter that does not answer."""
        kind = type(error).__name__
        if isinstance(error, UnknownPolicyError):
            # Told by `ready`, all at once and in other words, and by each call.
            is_news = self._is_news(*[(kind, one, "") for one in error.policies])
        else:
            # An outage is the same for all policies.
            is_news = self._is_news((kind, "" if isinstance(error, OUTAGES) else policy, str(error)))
        if not is_news:
            return
        level = logging.WARNING if isinstance(error, UnavailableError) else logging.ERROR
        # As text: whoever keeps an error keeps what was under way, this client too.
        if isinstance(error, OUTAGES):
            _log.log(level, "%s Until that is mended, on_error decides: %s.", str(error), self.on_error)
        else:
            _log.log(level, "The limiter refuses a request as it is: %s", str(error))

    def _tell_lost(self, call: Call, error: LimiterError) -> None:
        """Logs why something was not given back, once a minute. That there is nothing to give back is an answer."""
        if not isinstance(error, UnknownDecisionError) and self._is_news((call.path, call.policy, str(error))):
            _log.warning("%s could not be done: %s", call.path, str(error))

    def _is_news(self, *troubles: tuple[str, str, str]) -> bool:
        """Whether any of these was not told within the last minute."""
        now = time.monotonic()
        if all(now - self._told_at.get(one, -_TELLS_AGAIN_SECONDS) < _TELLS_AGAIN_SECONDS for one in troubles):
            return False
        if len(self._told_at) >= 1000:
            self._told_at.clear()
        self._told_at.update(dict.fromkeys(troubles, now))
        return True

    def _undecided(self, error: LimiterError, call: Call) -> Decision:
        decision = exchange.undecided(error, self.on_error, call)
        self.tell(error, call.policy)
        return decision

    def _not_asked(self, call: Call) -> Decision:
        if call.has_new_key:
            # Nobody has seen it: there will be nothing to give back.
            call = replace(call, idempotency_key=None)
        error = UnavailableError("The limiter has not answered lately, and is asked again in the background.")
        return exchange.undecided(error, self.on_error, call)

    def _heard(self, call: Call, error: LimiterError | None, answers_before: int) -> bool:
        """Keeps in mind how a call has ended. True when the limiter should be asked again in the background."""
        if isinstance(error, UnavailableError):
            # Others are always tried: that nobody answers them is no reason to try another.
            if not call.path.endswith(("/check", "/consume")):
                return False
            if self._breaker.failed(call, answers_before, is_about_subject=error.is_about_subject):
                _log.warning("%s Until it answers, on_error decides without waiting: %s.", str(error), self.on_error)
            return self._breaker.is_open
        if self._breaker.answered(call):
            _log.warning("The limiter answers again.")
        return False


def _url_of(text: str) -> httpx.URL:
    """Raises ValueError, which never shows the URL: it may have a password in it, also where none belongs."""
    try:
        url = httpx.URL(text.rstrip("/"))
        # As it is looked up: a name with an empty or a long part in it can't be.
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        reason = "its host can't be looked up" if isinstance(error, UnicodeError) else "it can't be read"
        raise ValueError(f"not the URL of a limiter: {reason}") from None
    if url.userinfo:
        raise ValueError("not the URL of a limiter: it has a user or a password in it; a token is given by itself")
    if (url.port or 0) > 65_535:
        raise ValueError("not the URL of a limiter: its port is above 65535")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("not the URL of a limiter: it must begin with http:// or https:// and have a host")
    return url


@functools.lru_cache(maxsize=256)
def _with_path(url: httpx.URL, path: str) -> httpx.URL:
    """Made once, since that costs much of a request. The path is encoded already: `%2F` stays as it is."""
    return url.copy_with(raw_path=url.raw_path.rstrip(b"/") + path.encode())


def _reading_of(question: Call) -> Read[object]:
    return exchange.decision_of if question.policy else exchange.has_policies([])


class _OnLoop:
    """What an AsyncLimiter has on one event loop, of no use on another, such as that of an earlier test."""

    def __init__(self, limiter: AsyncLimiter) -> None:
        self.connections = Connections(_MAX_CONNECTIONS)
        self.batches = Batches(lambda body: limiter._send(Call("POST", "/v1/batch", body), 1))
        #: Asks in the background while nobody answers.
        self.asking: asyncio.Task[None] | None = None
        #: Give back what cancelled calls were charged.
        self.undoing: set[asyncio.Task[None]] = set()

    async def aclose(self) -> None:
        if self.undoing:
            await asyncio.wait(self.undoing)
        if self.asking is not None:
            self.asking.cancel()
            await asyncio.wait([self.asking])
        await self.connections.aclose()


class AsyncLimiter(_Configured):
    """
    The limiter, for code that runs on an event loop. One pool of connections for each loop and each process; a deadline
    for each call as a whole. The first attempt gets half of it, so it must be more than twice what the service allows
    itself, RATE_LIMIT_DEADLINE_MS (1 s), and a round trip: the default, 2.5 s, leaves a round trip 0.25 s.

    A denial is a value. When nobody decides (no answer, a 5xx, a refused token, an unknown policy, limits named inline
    where they are switched off), `on_error` does: "deny" or "allow" with `degraded` set, or "raise" for the error. A
    request that the service refuses as it is raises InvalidRequestError, whatever `on_error` says.

    While nobody answers, a check or a consume is decided by `on_error` at once after a few failures, and the service is
    asked again in the background. A settle or a release is always tried, and ends within the deadline also when it is
    cancelled; why it failed is logged, once a minute. A consume that is cancelled is given back in the background. One
    with an idempotency key of yours is not: it may be sent again.

    With `batch`, on asyncio, calls that are made while one is under way travel together in the next request, each with
    its own deadline, cancellation and idempotency key; calls with limits named inline go alone. A `transport` of your
    own is yours to make anew for each event loop and after a fork.
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
        self._transport = transport
        self._batch = batch
        super().__init__(url, token, deadline_seconds=deadline_seconds, on_error=on_error)

    def _begin(self) -> None:
        super()._begin()
        self._loops = ForEachLoop(lambda: _OnLoop(self))
        self._asking: asyncio.Task[None] | None = None

    async def ready(self, *policies: str, inline: bool = False) -> None:
        """
        Raises what is wrong with the configuration: UnauthorizedError for the token, UnknownPolicyError for these
        policies and those of the dependencies, UnauthorizedError for limits named `inline` that are switched off; or
        UnavailableError when nobody answers.
        """
        await self._exchange(exchange.policies_call(), exchange.has_policies({*self.policies, *policies}))
        if inline:
            await self._exchange(exchange.inline_call(), exchange.decision_of)

    async def check(self, policy: str, subject: Subject, *, cost: int = 1) -> Decision:
        """Would this be admitted now? Records nothing."""
        return await self._decide(exchange.check_call(policy, subject, cost))

    async def consume(
        self, policy: str, subject: Subject, *, cost: int = 1, idempotency_key: Id | None = None
    ) -> Decision:
        """Records `cost` if every limit of every layer admits it, and once for each idempotency key."""
        return await self._decide(exchange.consume_call(policy, subject, cost, idempotency_key))

    async def settle(self, policy: str, subject: Subject, *, id: Id, cost: int) -> Settlement:
        """
        Corrects the cost of decision `id`: the real one once it is known, 0 to give it back.
        Raises UnknownDecisionError when it is not in the window, UnavailableError when nobody answers.
        """
        return await self._give_back(exchange.settle_call(policy, subject, id, cost), exchange.settlement_of)

    async def release(self, policy: str, subject: Subject, *, id: Id) -> Release:
        """
        Says that what decision `id` was for is over: limits on what is under way count it no more. Safe to repeat.
        Raises as `settle` does; until it is acknowledged, its place may be held for as long as the limit's window.
        """
        return await self._give_back(exchange.release_call(policy, subject, id), exchange.release_of)

    async def check_inline(self, layers: Sequence[Layer], *, cost: int = 1) -> Decision:
        """As `check`, by limits named here in place of a policy's; the service needs RATE_LIMIT_INLINE=1."""
        return await self._decide(exchange.check_inline_call(layers, cost))

    async def consume_inline(
        self, layers: Sequence[Layer], *, cost: int = 1, idempotency_key: Id | None = None
    ) -> Decision:
        """As `consume`, by limits named here in place of a policy's."""
        return await self._decide(exchange.consume_inline_call(layers, cost, idempotency_key))

    async def settle_inline(self, layers: Sequence[Layer], *, id: Id, cost: int) -> Settlement:
        """As `settle`, by limits named here in place of a policy's."""
        return await self._give_back(exchange.settle_inline_call(layers, id, cost), exchange.settlement_of)

    async def release_inline(self, layers: Sequence[Layer], *, id: Id) -> Release:
        """As `release`, by limits named here in place of a policy's."""
        return await self._give_back(exchange.release_inline_call(layers, id), exchange.release_of)

    async def forget_inline(self, key: Id) -> None:
        """Forgets what limits named inline have counted by this key."""
        await self._exchange(exchange.forget_inline_call(key), exchange.nothing_of)

    async def aclose(self) -> None:
        """Closes the connections of this event loop."""
        self._own_what_is_shared()
        await self._loops.aclose()
        if self._transport is not None:
            await self._transport.aclose()

    async def __aenter__(self) -> AsyncLimiter:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _decide(self, call: Call) -> Decision:
        self._own_what_is_shared()
        self._breaker.wants(call)
        if self._breaker.is_open and (self._is_asking() or not self._breaker.may_try()):
            return self._not_asked(call)
        try:
            return await self._exchange(call, exchange.decision_of)
        except OUTAGES as error:
            return self._undecided(error, call)
        except BaseException as error:
            # Cancelled: it may have been charged, under a key that nobody else knows.
            if call.has_new_key and not isinstance(error, (Exception, GeneratorExit)):
                await self._undo_in_background(call)
            raise

    async def _undo_in_background(self, call: Call) -> None:
        if running_loop() is None:
            with anyio.CancelScope(shield=True):
                return await self._undo(call)
        undoing = self._loops.here().undoing
        task = asyncio.create_task(to_the_end(lambda: self._undo(call)))
        undoing.add(task)
        task.add_done_callback(undoing.discard)

    async def _undo(self, call: Call) -> None:
        """
        Sends a cancelled consume once more, by the same key, to learn whether it was admitted, and gives back what it
        was charged. Only then is it known that a request of it that is still under way will charge nothing.
        """
        try:
            decision = await self._exchange(replace(call, has_new_key=False), exchange.decision_of)
        except LimiterError as error:
            self._tell_lost(call, error)
            return
        if not decision.allowed or decision.id is None:
            return
        with suppress(LimiterError):
            await self._give_back(call.changed("settle", id=decision.id, cost=0), exchange.settlement_of)
        with suppress(LimiterError):
            await self._give_back(call.changed("release", id=decision.id), exchange.release_of)

    async def _give_back(self, call: Call, read: Read[T]) -> T:
        """Ends within the deadline whatever is cancelled around it: what is not given back is held for a window."""
        gives_up_at = self._gives_up_at()

        async def give_back() -> T:
            try:
                return await self._exchange(call, read, gives_up_at)
            except LimiterError as error:
                self._tell_lost(call, error)
                raise

        return await to_the_end(give_back)

    async def _exchange(self, call: Call, read: Read[T], gives_up_at: float | None = None) -> T:
        self._own_what_is_shared()
        answers_before = self._breaker.answers
        plan = exchange.plan(call, self._distrusting(read), gives_up_at or self._gives_up_at())
        try:
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
                    self._heard(call, None, answers_before)
                    return cast(T, stop.value)
        except LimiterError as error:
            if self._heard(call, error, answers_before):
                self._ask_in_background()
            raise

    async def _attempt(self, call: Call, send: Send) -> Outcome:
        try:
            with anyio.fail_after(send.timeout_seconds):
                if self._batch and (item := item_of(call, send.attempt)) is not None:
                    return await self._loops.here().batches.add(item)
                return await self._send(call, send.attempt)
        except (httpx.RequestError, *UNREACHABLE) as error:
            return error

    async def _send(self, call: Call, attempt: int) -> Answer:
        transport = self._transport or self._loops.here().connections
        response = await transport.handle_async_request(self._request(call, attempt))
        try:
            return Answer(response.status_code, response.headers, await response.aread())
        finally:
            await response.aclose()

    def _distrust(self) -> None:
        self._loops.here().connections.distrust()

    def _is_asking(self) -> bool:
        """A task whose loop runs no more asks nothing."""
        return self._asking is not None and not self._asking.done() and self._asking.get_loop().is_running()

    def _ask_in_background(self) -> None:
        loop = running_loop()
        if loop is None or self._is_asking():
            return

        def stop(_: object) -> None:
            # Collected in any thread, and perhaps after the loop.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(task.cancel)

        task = loop.create_task(_ask_until_answered_on_loop(weakref.ref(self, stop)))
        self._asking = self._loops.here().asking = task


async def _ask_until_answered_on_loop(limiter: weakref.ref[AsyncLimiter]) -> None:
    """In a task, which keeps no limiter that nobody else has, and is cancelled with it."""
    while (one := limiter()) is not None and one._breaker.is_open:
        pause_seconds = one._breaker.next_pause_seconds()
        del one
        await asyncio.sleep(pause_seconds)
        if (one := limiter()) is not None:
            question = one._breaker.next_question()
            with suppress(LimiterError):
                await one._exchange(question, _reading_of(question))
        del one


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
        self._given_transport = transport
        super().__init__(url, token, deadline_seconds=deadline_seconds, on_error=on_error)

    def _begin(self) -> None:
        super()._begin()
        self._transport = self._given_transport or _pool()
        self._asking: threading.Thread | None = None
        self._starting = threading.Lock()
        self._is_closed = threading.Event()

    def ready(self, *policies: str, inline: bool = False) -> None:
        """As `AsyncLimiter.ready`: raises what is wrong with the token, the policies, or limits named inline."""
        self._exchange(exchange.policies_call(), exchange.has_policies({*self.policies, *policies}))
        if inline:
            self._exchange(exchange.inline_call(), exchange.decision_of)

    def check(self, policy: str, subject: Subject, *, cost: int = 1) -> Decision:
        """Would this be admitted now? Records nothing."""
        return self._decide(exchange.check_call(policy, subject, cost))

    def consume(self, policy: str, subject: Subject, *, cost: int = 1, idempotency_key: Id | None = None) -> Decision:
        """Records `cost` if every limit of every layer admits it, and once for each idempotency key."""
        return self._decide(exchange.consume_call(policy, subject, cost, idempotency_key))

    def settle(self, policy: str, subject: Subject, *, id: Id, cost: int) -> Settlement:
        """
        Corrects the cost of decision `id`: the real one once it is known, 0 to give it back.
        Raises UnknownDecisionError when it is not in the window, UnavailableError when nobody answers.
        """
        return self._give_back(exchange.settle_call(policy, subject, id, cost), exchange.settlement_of)

    def release(self, policy: str, subject: Subject, *, id: Id) -> Release:
        """
        Says that what decision `id` was for is over: limits on what is under way count it no more. Safe to repeat.
        Raises as `settle` does; until it is acknowledged, its place may be held for as long as the limit's window.
        """
        return self._give_back(exchange.release_call(policy, subject, id), exchange.release_of)

    def check_inline(self, layers: Sequence[Layer], *, cost: int = 1) -> Decision:
        """As `check`, by limits named here in place of a policy's; the service needs RATE_LIMIT_INLINE=1."""
        return self._decide(exchange.check_inline_call(layers, cost))

    def consume_inline(self, layers: Sequence[Layer], *, cost: int = 1, idempotency_key: Id | None = None) -> Decision:
        """As `consume`, by limits named here in place of a policy's."""
        return self._decide(exchange.consume_inline_call(layers, cost, idempotency_key))

    def settle_inline(self, layers: Sequence[Layer], *, id: Id, cost: int) -> Settlement:
        """As `settle`, by limits named here in place of a policy's."""
        return self._give_back(exchange.settle_inline_call(layers, id, cost), exchange.settlement_of)

    def release_inline(self, layers: Sequence[Layer], *, id: Id) -> Release:
        """As `release`, by limits named here in place of a policy's."""
        return self._give_back(exchange.release_inline_call(layers, id), exchange.release_of)

    def forget_inline(self, key: Id) -> None:
        """Forgets what limits named inline have counted by this key."""
        self._exchange(exchange.forget_inline_call(key), exchange.nothing_of)

    def close(self) -> None:
        """Closes the connections."""
        self._own_what_is_shared()
        self._is_closed.set()
        self._transport.close()

    def __enter__(self) -> Limiter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _decide(self, call: Call) -> Decision:
        self._own_what_is_shared()
        self._breaker.wants(call)
        if self._breaker.is_open and (self._is_asking() or not self._breaker.may_try()):
            return self._not_asked(call)
        try:
            return self._exchange(call, exchange.decision_of)
        except OUTAGES as error:
            return self._undecided(error, call)

    def _give_back(self, call: Call, read: Read[T]) -> T:
        try:
            return self._exchange(call, read)
        except LimiterError as error:
            self._tell_lost(call, error)
            raise

    def _exchange(self, call: Call, read: Read[T]) -> T:
        self._own_what_is_shared()
        answers_before = self._breaker.answers
        plan = exchange.plan(call, self._distrusting(read), self._gives_up_at())
        try:
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
                    self._heard(call, None, answers_before)
                    return cast(T, stop.value)
        except LimiterError as error:
            if self._heard(call, error, answers_before):
                self._ask_in_background()
            raise

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
        except (httpx.RequestError, OSError) as error:
            return error

    def _distrust(self) -> None:
        if self._given_transport is None:
            # The old one ends with the last thread that has a request under way on it.
            self._transport = _pool()

    def _is_asking(self) -> bool:
        return self._asking is not None and self._asking.is_alive()

    def _ask_in_background(self) -> None:
        with self._starting:
            if self._is_asking() or self._is_closed.is_set():
                return
            self._asking = threading.Thread(
                target=_ask_until_answered,
                args=[weakref.ref(self), self._is_closed],
                name="exact_limiter",
                daemon=True,
            )
            self._asking.start()


def _pool() -> httpx.BaseTransport:
    limits = httpx.Limits(max_connections=_MAX_CONNECTIONS, max_keepalive_connections=_MAX_CONNECTIONS)
    return httpx.HTTPTransport(limits=limits)


def _ask_until_answered(limiter: weakref.ref[Limiter], is_closed: threading.Event) -> None:
    """In a thread, which keeps no limiter that nobody else has."""
    while (one := limiter()) is not None and one._breaker.is_open:
        pause_seconds = one._breaker.next_pause_seconds()
        del one
        if is_closed.wait(pause_seconds):
            return
        if (one := limiter()) is not None:
            question = one._breaker.next_question()
            with suppress(LimiterError):
                one._exchange(question, _reading_of(question))
        del one
