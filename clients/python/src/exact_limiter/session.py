"""Decisions over a session with the service: one WebSocket for all calls of an event loop."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import httpx

from .messages import MAX_REQUEST_BYTES, MAX_REQUESTS, message_of, outcomes_of, read_answer
from .responses import Response
from .websocket import HandshakeRefused, WebSocket, open_websocket

#: The service refuses a message that would bring the unanswered requests of a session above this.
MAX_UNANSWERED = 1_000

#: After this time without a message to the service, a ping shows whether the connection is alive.
PING_SECONDS = 30.0
PONG_SECONDS = 5.0

#: The service decides within a second, so a message that is unanswered for this time will never be answered.
_STALE_SECONDS = 10.0

#: The close code of a token that is not in force any more.
_UNAUTHORIZED = 4401

#: Calls go by HTTP for this time after the service or a proxy has refused a WebSocket.
REFUSED_SECONDS = 60.0
#: Calls go by HTTP for this time after any other failure: longer than the pauses of a call, so that its next attempt
#: does not fail in the same way.
_FAILED_SECONDS = 1.0
#: After this many failed sessions in a row, calls go by HTTP as after a refusal, if HTTP works.
_FAILURES_TO_PREFER_HTTP = 2
_FIRST_PAUSE_SECONDS = 0.05
_MAX_PAUSE_SECONDS = 1.0


@dataclass(frozen=True)
class NoSession:
    """No session could be opened. The request was not sent."""

    reason: Exception


#: The outcome of a request. A value, since asyncio logs an exception that nobody retrieves, as of a cancelled call.
SessionOutcome = Response | Exception | NoSession


class _Request:
    __slots__ = ("content", "future", "sent_at", "times_out_at")

    def __init__(self, content: bytes, future: asyncio.Future[SessionOutcome], times_out_at: float) -> None:
        self.content = content
        self.future = future
        self.times_out_at = times_out_at
        self.sent_at: float | None = None

    def finish(self, outcome: SessionOutcome) -> None:
        if not self.future.done():
            self.future.set_result(outcome)


class Session:
    """
    Opened by the first request, and opened again by the next request after it was lost. Requests of one turn of the
    loop share messages. A request that is lost with its session is not sent again here. Its outcome is an error, and
    the call retries it with the same key (see `exchange`). So every request ends within its own timeout.
    """

    def __init__(self, url: httpx.URL, headers: Mapping[str, str], ssl_context: Callable[[], ssl.SSLContext]) -> None:
        self._url = url
        self._headers = headers
        self._ssl_context = ssl_context
        self._loop = asyncio.get_running_loop()
        #: Not sent yet: no session is open, or MAX_UNANSWERED are unanswered. A request waits at most for its timeout.
        self._waiting: deque[_Request] = deque()
        #: By the ids of their messages. A request stays until its answer, even if nobody waits for it: the service
        #: counts it as unanswered.
        self._unanswered: dict[int, list[_Request]] = {}
        self._unanswered_count = 0
        self._ids = itertools.count()
        self._is_flush_due = False
        #: One for all requests: a timer for each would be a good part of its cost.
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = math.inf
        self._websocket: WebSocket | None = None
        self._opening: asyncio.Task[WebSocket] | None = None
        self._reopening: asyncio.TimerHandle | None = None
        self._pinging: asyncio.TimerHandle | None = None
        self._sent_at = 0.0
        self._received_at = 0.0
        #: How many sessions in a row could not be opened, or were lost before their first answer.
        self._failures = 0
        self._opens_from = 0.0
        self._refused_until = 0.0

    @property
    def is_refused(self) -> bool:
        """No session could be opened a moment ago, so HTTP is the better way."""
        return self._loop.time() < self._refused_until

    def prefer_http(self) -> None:
        """HTTP has worked. If sessions have failed in a row, calls go by HTTP for as long as after a refusal."""
        if self._failures >= _FAILURES_TO_PREFER_HTTP and self.is_refused:
            self._refused_until = self._loop.time() + REFUSED_SECONDS

    def ask(self, content: bytes, timeout_seconds: float) -> asyncio.Future[SessionOutcome]:
        """Sends a request at the end of this turn. A request whose future is cancelled before is not sent."""
        future: asyncio.Future[SessionOutcome] = self._loop.create_future()
        request = _Request(content, future, self._loop.time() + timeout_seconds)
        self._time_out_at(request.times_out_at)
        self._waiting.append(request)
        self._flush_soon()
        return future

    def drop(self, reason: str) -> None:
        """Ends a session that can't be trusted any more. Its requests are lost."""
        if self._websocket is not None:
            websocket = self._websocket
            self._lose(websocket, 1006, reason)
            websocket.abort()

    async def aclose(self) -> None:
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait([self._opening])
        # After the wait: the session may have been opened before it could be cancelled.
        websocket = self._websocket
        self.close()
        if websocket is not None:
            await websocket.aclose()

    def close(self) -> None:
        """Closes the session without waiting for the service."""
        if self._opening is not None:
            self._opening.cancel()
        if self._reopening is not None:
            self._reopening.cancel()
            self._reopening = None
        if self._websocket is not None:
            websocket = self._websocket
            self._lose(websocket, 1006, "the client closes it")
            websocket.close()

    def _flush_soon(self) -> None:
        if not self._is_flush_due:
            self._is_flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._is_flush_due = False
        while self._waiting:
            if self._websocket is None:
                return self._open()
            requests = self._next_requests()
            if not requests:
                return
            id = next(self._ids)
            self._unanswered[id] = requests
            self._unanswered_count += len(requests)
            self._sent_at = self._loop.time()
            for request in requests:
                request.sent_at = self._sent_at
            self._websocket.send_text(message_of(id, [request.content for request in requests]))

    def _next_requests(self) -> list[_Request]:
        """Takes as many requests as fit into a message and into MAX_UNANSWERED."""
        requests: list[_Request] = []
        length = 0
        most = min(MAX_REQUESTS, MAX_UNANSWERED - self._unanswered_count)
        waiting = self._waiting
        while waiting:
            request = waiting[0]
            if request.future.done():
                waiting.popleft()
                continue
            length += len(request.content) + 1
            if len(requests) >= most or length > MAX_REQUEST_BYTES:
                break
            requests.append(waiting.popleft())
        return requests

    def _receive(self, text: bytes) -> None:
        self._received_at = self._loop.time()
        if text == b"pong":
            return
        try:
            id, answer = read_answer(text)
            requests = self._unanswered.pop(id)
        except (ValueError, KeyError):
            return self.drop("the service sent a message that answers nothing")
        self._failures = 0
        self._unanswered_count -= len(requests)
        for request, outcome in zip(requests, outcomes_of(answer, len(requests)), strict=True):
            request.finish(outcome)
        if self._waiting:
            self._flush_soon()

    def _time_out_at(self, instant: float) -> None:
        """Sets the timer to this instant, unless it is earlier already."""
        if instant < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = instant
            self._timer = self._loop.call_at(instant, self._time_out_all)

    def _time_out_all(self) -> None:
        """Ends the requests whose time is over, and sets the timer for the others."""
        # A loop may call a little too early.
        now = max(self._timer_at, self._loop.time())
        self._timer_at = math.inf
        requests = [*itertools.chain(*self._unanswered.values()), *self._waiting]
        left = [request for request in requests if not request.future.done()]
        for request in left:
            if request.times_out_at <= now:
                self._time_out(request)
        times = [request.times_out_at for request in left if not request.future.done()]
        if times:
            self._time_out_at(min(times))

    def _time_out(self, request: _Request) -> None:
        if request.future.done():
            return
        request.finish(TimeoutError())
        if self._opening is not None:
            self._opening.cancel()
        elif request.sent_at is not None and self._received_at < request.sent_at:
            # Nothing has arrived since the request was sent: the connection may be dead.
            self.drop("the service does not respond")
        elif self._loop.time() - self._oldest_sent_at() > _STALE_SECONDS:
            # A message that is never answered counts against MAX_UNANSWERED. In the end nothing more could be sent.
            self.drop("the service left a message unanswered")

    def _oldest_sent_at(self) -> float:
        """When the message that is unanswered for longest was sent; now if there is none."""
        requests = next(iter(self._unanswered.values()), None)
        return self._loop.time() if requests is None else requests[0].sent_at or 0.0

    def _open(self) -> None:
        """Opens a session after the pause. The newest request spends at most half of its timeout in the pause."""
        if self._opening is not None or self._reopening is not None:
            return
        now = self._loop.time()
        pause_seconds = self._opens_from - now
        if self._waiting:
            pause_seconds = min(pause_seconds, (self._waiting[-1].times_out_at - now) / 2)
        if pause_seconds > 0:
            self._reopening = self._loop.call_later(pause_seconds, self._reopen)
            return
        self._opening = self._loop.create_task(self._connect())
        self._opening.add_done_callback(self._opened)

    def _reopen(self) -> None:
        self._reopening = None
        self._opens_from = 0.0
        self._open()

    async def _connect(self) -> WebSocket:
        context = self._ssl_context() if self._url.scheme == "https" else None
        return await open_websocket(self._url, self._headers, context, self._receive, self._lose)

    def _opened(self, opening: asyncio.Task[WebSocket]) -> None:
        self._opening = None
        error = TimeoutError() if opening.cancelled() else opening.exception()
        if error is not None:
            return self._fail(error)
        self._websocket = opening.result()
        if not self._websocket.is_open:
            # Lost since the handshake, when `_lose` did not know this WebSocket yet.
            return self._lose(self._websocket, 1006, "it was lost at once")
        self._sent_at = self._received_at = self._loop.time()
        self._pinging = self._loop.call_later(PING_SECONDS, self._ping)
        self._flush()

    def _fail(self, error: BaseException) -> None:
        """No session could be opened. Ends the waiting requests, which were not sent."""
        outcome = self._outcome_of_failure(error if isinstance(error, Exception) else ConnectionError(repr(error)))
        waiting, self._waiting = self._waiting, deque()
        for request in waiting:
            request.finish(outcome)

    def _outcome_of_failure(self, error: Exception) -> SessionOutcome:
        if isinstance(error, HandshakeRefused) and error.status == 401:
            response = Response(401, error.headers, error.body)
            if response.detail is not None:
                # The service itself rejected the token. As over HTTP, the next call tries again.
                return response
        self._pause()
        if isinstance(error, HandshakeRefused):
            # A 5xx may be over in a moment, but 501 is as final as a 404.
            self._refuse(REFUSED_SECONDS if error.status < 500 or error.status == 501 else _FAILED_SECONDS)
        elif isinstance(error, OSError) and not isinstance(error, TimeoutError):
            # Without a connection, HTTP would fail too.
            return error
        else:
            self._refuse(_FAILED_SECONDS)
        return NoSession(error)

    def _pause(self) -> None:
        """Delays the next opening, with jitter: a restart of the service ends the sessions of all clients at once."""
        longest_seconds = min(_FIRST_PAUSE_SECONDS * 2**self._failures, _MAX_PAUSE_SECONDS)
        self._failures = min(self._failures + 1, 10)
        self._opens_from = self._loop.time() + longest_seconds * random.uniform(0.5, 1)

    def _refuse(self, seconds: float) -> None:
        self._refused_until = max(self._opens_from, self._loop.time() + seconds)

    def _lose(self, websocket: WebSocket, code: int, reason: str) -> None:
        if websocket is not self._websocket:
            return
        self._websocket = None
        if self._pinging is not None:
            self._pinging.cancel()
        unanswered, self._unanswered, self._unanswered_count = self._unanswered, {}, 0
        outcome: SessionOutcome
        if code == _UNAUTHORIZED:
            outcome = Response(401, {}, {"status": 401, "detail": reason or "The token is not in force."})
        else:
            self._pause()
            if self._failures >= _FAILURES_TO_PREFER_HTTP:
                # A proxy may let the handshake pass, but no messages.
                self._refuse(_FAILED_SECONDS)
            outcome = ConnectionError(f"the session ended with {code}" + (f": {reason}" if reason else ""))
        for requests in unanswered.values():
            for request in requests:
                request.finish(outcome)
        if self._waiting:
            self._flush_soon()

    def _ping(self) -> None:
        """Keeps an idle connection open, and detects a dead one."""
        now = self._loop.time()
        due_at = self._sent_at + PING_SECONDS
        if now < due_at:
            self._pinging = self._loop.call_at(due_at, self._ping)
        elif self._websocket is not None:
            self._sent_at = now
            self._websocket.send_text(b"ping")
            self._pinging = self._loop.call_later(PONG_SECONDS, partial(self._expect_pong, now))

    def _expect_pong(self, sent_at: float) -> None:
        if self._received_at >= sent_at:
            return self._ping()
        self.drop("the service does not answer a ping")
        self._open()
