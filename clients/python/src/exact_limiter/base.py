"""Everything about a client that does no I/O: configuration, decisions in an outage, and the log."""

from __future__ import annotations

import functools
import logging
import os
import re
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace
from typing import Literal, TypeVar

import httpcore
import httpx

from .breaker import Breaker
from .calls import Call
from .decision import Decision, degraded_decision
from .errors import OUTAGES, LimiterError, UnavailableError, UnknownDecisionError, UnknownPolicyError
from .exchange import Exchange, exchange
from .responses import Read, decision_of, require_policies

_log = logging.getLogger("exact_limiter")

#: The result of a check or a consume in an outage: a decision with `degraded` set, or the error.
OnError = Literal["deny", "allow", "raise"]

#: The service decides within a second (its RATE_LIMIT_DEADLINE_MS). Half of this deadline, the first attempt, is long
#: enough to receive its response about an unreachable object, and leaves time for a second attempt.
DEFAULT_DEADLINE_SECONDS = 2.5

MAX_CONNECTIONS = 200

#: The same problem is logged once in this time, however many requests have it.
_LOG_INTERVAL_SECONDS = 60.0

T = TypeVar("T")

#: Held while a client renews its state after a fork. `fork` takes it too: otherwise a child could inherit it locked, by
#: a thread that the child does not have.
_fork_lock = threading.Lock()
# Windows has no fork, and no such function.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_fork_lock.acquire, after_in_parent=_fork_lock.release, after_in_child=_fork_lock.release
    )


class BaseLimiter(ABC):
    """The part that both clients share. A subclass performs the steps of an exchange."""

    def __init__(self, url: str, token: str, *, deadline_seconds: float, on_error: OnError) -> None:
        if on_error not in ("deny", "allow", "raise"):
            raise ValueError('on_error must be "deny", "allow" or "raise"')
        if not deadline_seconds > 0:
            raise ValueError("deadline_seconds must be above 0")
        if not token:
            raise ValueError("the token is missing or empty: pass one of the service's LIMITER_TOKENS")
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ValueError("the token must be visible ASCII characters, without spaces and line breaks")
        self.url = _read_url(url)
        self.deadline_seconds = deadline_seconds
        self.on_error: OnError = on_error
        #: The policies of the FastAPI dependencies, which `ready` requires.
        self.policies: set[str] = set()
        self._authorization = {"Authorization": f"Bearer {token}"}
        host = {"Host": self.url.netloc.decode()}
        self._headers = {**host, **self._authorization, "Content-Type": "application/json"}
        self._logged_at: dict[tuple[str, str, str], float] = {}
        self._init_process_state()
        self._pid = os.getpid()

    def _init_process_state(self) -> None:
        """Makes the state that processes can't share. Called again in a forked child, at its first call."""
        self._breaker = Breaker()

    def _renew_after_fork(self) -> None:
        pid = os.getpid()
        if self._pid == pid:
            return
        with _fork_lock:
            # The pid is set last: until then all threads of the child wait here, and none uses the parent's state.
            if self._pid != pid:
                self._init_process_state()
                self._pid = pid

    @abstractmethod
    def _invalidate_connections(self) -> None:
        """Keeps the open connections from being used again."""

    @abstractmethod
    def _is_probing(self) -> bool: ...

    @abstractmethod
    def _start_probing(self) -> None:
        """Probes the service in the background, unless that runs already."""

    def _deadline(self) -> float:
        return time.monotonic() + self.deadline_seconds

    def _exchange(self, call: Call, read: Read[T], deadline: float | None = None) -> Exchange[T]:
        self._renew_after_fork()
        responses_before = self._breaker.responses
        try:
            result = yield from exchange(
                call, read, deadline or self._deadline(), self.url, self._invalidate_connections
            )
        except LimiterError as error:
            if self._count(call, error, responses_before):
                self._start_probing()
            raise
        self._count(call, None, responses_before)
        return result

    def _decide(self, call: Call) -> Exchange[Decision]:
        """Exchanges a check or a consume. In an outage `on_error` decides."""
        self._renew_after_fork()
        self._breaker.remember(call)
        if self._breaker.is_open and (self._is_probing() or not self._breaker.may_try()):
            return self._decide_unsent(call)
        try:
            return (yield from self._exchange(call, decision_of))
        except OUTAGES as error:
            decision = self._degraded(call, error)
            self.report(error, call.policy)
            return decision

    def _change(self, call: Call, read: Read[T], deadline: float | None = None) -> Exchange[T]:
        """Exchanges a settle or a release, and logs its failure."""
        try:
            return (yield from self._exchange(call, read, deadline))
        except LimiterError as error:
            self._report_failed(call, error)
            raise

    def _probe(self) -> Exchange[object]:
        call = self._breaker.next_probe()
        read: Read[object] = decision_of if call.policy else require_policies([])
        return self._exchange(call, read)

    def _request(self, call: Call, attempt: int, **timeouts: float) -> httpx.Request:
        return httpx.Request(
            call.method,
            self._url_of(call.path),
            headers=self._headers_of(call, attempt),
            content=call.body,
            extensions={"timeout": timeouts},
        )

    def _core_request(self, call: Call, attempt: int) -> httpcore.Request:
        """The same request for httpcore, made in a third of the time."""
        request = httpcore.Request(call.method, _core_url(self.url, call.path), content=call.body)
        # Set afterwards: the constructor's checks take as long as the rest of it.
        request.headers = [(name.encode(), value.encode()) for name, value in self._headers_of(call, attempt).items()]
        if call.body:
            request.headers.append((b"Content-Length", b"%d" % len(call.body)))
        return request

    def _headers_of(self, call: Call, attempt: int) -> dict[str, str]:
        headers = self._headers.copy()
        if call.idempotency_key is not None:
            headers["Idempotency-Key"] = f'"{call.idempotency_key}"'
        if call.has_new_key:
            headers["Idempotency-Attempt"] = str(attempt)
        return headers

    def _url_of(self, path: str) -> httpx.URL:
        return _with_path(self.url, path)

    def _degraded(self, call: Call, error: LimiterError) -> Decision:
        if self.on_error == "raise":
            raise error
        # A refused consume was not recorded, so there is nothing to settle by an id.
        id = call.idempotency_key if isinstance(error, UnavailableError) else None
        return degraded_decision(self.on_error == "allow", call.policy, call.cost, id)

    def _decide_unsent(self, call: Call) -> Decision:
        if call.has_new_key:
            # The service has never seen this key, so there is nothing to settle.
            call = replace(call, idempotency_key=None)
        return self._degraded(call, UnavailableError("The limiter is unreachable. It is probed in the background."))

    def _count(self, call: Call, error: LimiterError | None, responses_before: int) -> bool:
        """Counts the result of a call in the breaker. True if the service should be probed in the background."""
        if isinstance(error, UnavailableError):
            # A settle or a release is sent even while the breaker is open, so its failure must not open it.
            if not call.path.endswith(("/check", "/consume")):
                return False
            if self._breaker.record_failure(call, responses_before, is_about_subject=error.is_about_subject):
                _log.warning("%s Until it answers, on_error=%s decides without waiting.", str(error), self.on_error)
            return self._breaker.is_open
        if self._breaker.record_response(call):
            _log.warning("The limiter answers again.")
        return False

    def report(self, error: LimiterError, policy: str = "") -> None:
        """Logs a wrong configuration or an outage, at most once a minute."""
        kind = type(error).__name__
        if isinstance(error, UnknownPolicyError):
            # `ready` reports all missing policies in one error, and each call its own in other words.
            is_due = self._is_due(*[(kind, name, "") for name in error.policies])
        else:
            # An outage is the same for all policies.
            is_due = self._is_due((kind, "" if isinstance(error, OUTAGES) else policy, str(error)))
        if not is_due:
            return
        level = logging.WARNING if isinstance(error, UnavailableError) else logging.ERROR
        # As text: a log record that kept the error would keep its traceback, and with it this client.
        if isinstance(error, OUTAGES):
            _log.log(level, "%s Until this is fixed, on_error=%s decides.", str(error), self.on_error)
        else:
            _log.log(level, "The limiter refuses a request: %s", str(error))

    def _report_failed(self, call: Call, error: LimiterError) -> None:
        """Logs why a charge was not changed, at most once a minute. An unknown decision is a normal result."""
        if not isinstance(error, UnknownDecisionError) and self._is_due((call.path, call.policy, str(error))):
            _log.warning("%s failed: %s", call.path, str(error))

    def _is_due(self, *problems: tuple[str, str, str]) -> bool:
        """Whether any of these problems was not logged within the last minute."""
        now = time.monotonic()
        never = -_LOG_INTERVAL_SECONDS
        if all(now - self._logged_at.get(problem, never) < _LOG_INTERVAL_SECONDS for problem in problems):
            return False
        if len(self._logged_at) >= 1000:
            self._logged_at.clear()
        self._logged_at.update(dict.fromkeys(problems, now))
        return True


def seconds_to_next_probe(reference: Callable[[], BaseLimiter | None]) -> float | None:
    """None once the limiter answers or is collected. `reference` is weak: probes must not keep the client alive."""
    limiter = reference()
    return limiter._breaker.next_pause_seconds() if limiter is not None and limiter._breaker.is_open else None


def _read_url(text: str) -> httpx.URL:
    """Raises ValueError. Its message never shows the URL: a misplaced password may be in any part of it."""
    try:
        url = httpx.URL(text.rstrip("/"))
        # Encoded as for the look-up, which fails for a name with an empty or a too long part.
        url.host.encode("idna")
    except (httpx.InvalidURL, UnicodeError) as error:
        reason = "its host can't be looked up" if isinstance(error, UnicodeError) else "it can't be parsed"
        raise ValueError(f"not the URL of a limiter: {reason}") from None
    if url.userinfo:
        raise ValueError("not the URL of a limiter: it has a user or a password in it; pass the token by itself")
    if (url.port or 0) > 65_535:
        raise ValueError("not the URL of a limiter: its port is above 65535")
    if url.scheme not in ("http", "https") or not url.host:
        raise ValueError("not the URL of a limiter: it must begin with http:// or https:// and have a host")
    return url


@functools.lru_cache(maxsize=256)
def _with_path(url: httpx.URL, path: str) -> httpx.URL:
    """Cached: this is a large part of a request's cost. The path is encoded already, so `%2F` stays as it is."""
    return url.copy_with(raw_path=url.raw_path.rstrip(b"/") + path.encode())


@functools.lru_cache(maxsize=256)
def _core_url(url: httpx.URL, path: str) -> httpcore.URL:
    url = _with_path(url, path)
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
