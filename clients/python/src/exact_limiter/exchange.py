"""
One call, from its first attempt to its result, as a generator without I/O. It yields steps; a client performs each and
sends back the outcome, with or without `await`.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import httpx

from .calls import Call
from .errors import MismatchedResponseError, UnavailableError
from .responses import Read, Response

T = TypeVar("T")


@dataclass(slots=True)
class Send:
    """Send the call, and read the whole response within the timeout."""

    call: Call
    timeout_seconds: float
    #: From 1.
    attempt: int


@dataclass(frozen=True)
class Pause:
    seconds: float


Step = Send | Pause

#: A response or a reason why there is none; None after a pause.
Outcome = Response | Exception | None

Exchange = Generator[Step, Outcome, T]

_FIRST_PAUSE_SECONDS = 0.05
#: An attempt gets at most half of the time left, so that a retry is possible after a lost packet; but at least this.
_MIN_ATTEMPT_SECONDS = 0.1


def exchange(
    call: Call, read: Read[T], deadline: float, url: httpx.URL, invalidate_connections: Callable[[], None]
) -> Exchange[T]:
    """
    Retries until there is a readable response, or until the deadline, an instant of `time.monotonic()`.
    Raises UnavailableError at the deadline, and whatever else `read` raises.
    """
    pause_seconds = _FIRST_PAUSE_SECONDS
    left_seconds = deadline - time.monotonic()
    if left_seconds <= 0:
        raise UnavailableError("No request was sent to the limiter: the deadline has passed.")
    for attempt in itertools.count(call.first_attempt):
        timeout_seconds = max(left_seconds / 2, min(left_seconds, _MIN_ATTEMPT_SECONDS))
        outcome = yield Send(call, timeout_seconds, attempt)
        try:
            return read(call, _response_of(outcome, url))
        except UnavailableError as error:
            if isinstance(error, MismatchedResponseError):
                invalidate_connections()
            jittered_seconds = max(pause_seconds * (0.5 + random.random()), _retry_after_seconds(outcome))
            if time.monotonic() + jittered_seconds >= deadline:
                raise
            yield Pause(jittered_seconds)
            # The pause may have taken longer than planned.
            left_seconds = deadline - time.monotonic()
            if left_seconds <= 0:
                raise error
        pause_seconds *= 2
    raise AssertionError("unreachable: the attempts have no end")


def _response_of(outcome: Outcome, url: httpx.URL) -> Response:
    """Raises UnavailableError for a missing response, and for a 5xx."""
    if not isinstance(outcome, Response):
        raise UnavailableError(f"The limiter at {url} is unreachable: {outcome!r}.") from outcome
    if outcome.status >= 500:
        detail = outcome.detail
        message = f"The limiter answered with status {outcome.status}" + (f": {detail}" if detail else ".")
        raise UnavailableError(message, is_about_subject=detail is not None)
    return outcome


def _retry_after_seconds(outcome: Outcome) -> float:
    if not isinstance(outcome, Response) or outcome.status < 500:
        return 0
    seconds = outcome.headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() else 0
