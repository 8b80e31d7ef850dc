"""
One call, as a plan that does no I/O itself: which attempt to make next, how long to pause, when to give up. The clients
of `client.py` carry it out, one with `await` and one without.
"""

from __future__ import annotations

import itertools
import json
import random
import re
import time
import uuid
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar
from urllib.parse import quote

import httpx

from .decision import (
    Decision,
    Release,
    Settlement,
    degraded_decision,
    read_decision,
    read_release,
    read_settlement,
)
from .errors import (
    InvalidField,
    InvalidRequestError,
    LimiterError,
    UnauthorizedError,
    UnavailableError,
    UnknownDecisionError,
)

#: Who is asking, as attributes: `{"user": "u_1", "ip": "203.0.113.7"}`. One that is None counts as missing.
Subject = Mapping[str, str | None]

T = TypeVar("T")

#: What becomes of a check or a consume that is not answered: a decision with `degraded` set, or UnavailableError.
OnError = Literal["deny", "allow", "raise"]


@dataclass(frozen=True)
class Layer:
    """Limits that the caller names itself, and the key they count by: `Layer("login", "203.0.113.7", ["5/minute"])`."""

    name: str
    key: str
    limits: Sequence[str]


@dataclass(frozen=True)
class Call:
    """What is sent, the same in every attempt: the idempotency key makes it safe to send again."""

    method: str
    path: str
    body: bytes
    idempotency_key: str | None = None
    #: Made up for this call: before its first attempt nobody has sent it.
    has_new_key: bool = False


@dataclass(frozen=True)
class Send:
    """Send the call, and take its whole answer within so long."""

    timeout_seconds: float
    #: From 1.
    attempt: int


@dataclass(frozen=True)
class Pause:
    seconds: float


@dataclass(frozen=True)
class Answer:
    status: int
    headers: httpx.Headers
    #: As it came or, out of a batch, read already.
    content: bytes | dict[str, Any]

    def json(self) -> Any:
        """The object that it carries; raises ValueError when it carries none."""
        value = json.loads(self.content) if isinstance(self.content, bytes) else self.content
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value


#: The answer to a Send, or why there is none; nothing for a Pause.
Outcome = Answer | Exception | None

Plan = Generator[Send | Pause, Outcome, T]

_FIRST_PAUSE_SECONDS = 0.05
#: An attempt gets at most half of what is left, so that a lost packet leaves time for another, but at least this.
_SHORTEST_ATTEMPT_SECONDS = 0.1


def plan(deadline_seconds: float, read: Callable[[Answer], T]) -> Plan[T]:
    """
    Attempts until there is an answer that can be read, all of them within the deadline.
    Raises UnavailableError when there is none, and what else `read` raises.
    """
    gives_up_at = time.monotonic() + deadline_seconds
    pause_seconds = _FIRST_PAUSE_SECONDS
    left_seconds = deadline_seconds
    for attempt in itertools.count(1):
        timeout_seconds = max(left_seconds / 2, min(left_seconds, _SHORTEST_ATTEMPT_SECONDS))
        outcome = yield Send(timeout_seconds, attempt)
        try:
            return read(_answered(outcome))
        except UnavailableError as error:
            jittered_seconds = max(pause_seconds * (0.5 + random.random()), _asked_to_wait_seconds(outcome))
            if time.monotonic() + jittered_seconds >= gives_up_at:
                raise
            yield Pause(jittered_seconds)
            # A pause may take longer than it was to.
            left_seconds = gives_up_at - time.monotonic()
            if left_seconds <= 0:
                raise error
        pause_seconds *= 2
    raise AssertionError("attempts are counted without end")


def consume_call(policy: str, subject: Subject, cost: int, idempotency_key: str | None) -> Call:
    body = {"policy": policy, "subject": dict(subject), "cost": cost}
    return _consume_call("/v1/consume", body, idempotency_key)


def check_call(policy: str, subject: Subject, cost: int) -> Call:
    return Call("POST", "/v1/check", _encode({"policy": policy, "subject": dict(subject), "cost": cost}))


def settle_call(policy: str, subject: Subject, id: str, cost: int) -> Call:
    return Call("POST", "/v1/settle", _encode({"policy": policy, "subject": dict(subject), "id": id, "cost": cost}))


def release_call(policy: str, subject: Subject, id: str) -> Call:
    return Call("POST", "/v1/release", _encode({"policy": policy, "subject": dict(subject), "id": id}))


def consume_inline_call(layers: Sequence[Layer], cost: int, idempotency_key: str | None) -> Call:
    body = {"layers": _layers(layers), "cost": cost}
    return _consume_call("/v1/inline/consume", body, idempotency_key)


def check_inline_call(layers: Sequence[Layer], cost: int) -> Call:
    return Call("POST", "/v1/inline/check", _encode({"layers": _layers(layers), "cost": cost}))


def settle_inline_call(layers: Sequence[Layer], id: str, cost: int) -> Call:
    return Call("POST", "/v1/inline/settle", _encode({"layers": _layers(layers), "id": id, "cost": cost}))


def release_inline_call(layers: Sequence[Layer], id: str) -> Call:
    return Call("POST", "/v1/inline/release", _encode({"layers": _layers(layers), "id": id}))


def forget_inline_call(key: str) -> Call:
    return Call("DELETE", f"/v1/inline/keys/{quote(key, safe='')}", b"")


def decision_of(answer: Answer) -> Decision:
    """Raises a LimiterError unless it is a decision."""
    if answer.status in (200, 429):
        try:
            return read_decision(answer.json(), answer.headers)
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(_NOT_THE_SERVICE.format(answer.status)) from error
    raise _error_of(answer)


def settlement_of(answer: Answer) -> Settlement:
    """Raises a LimiterError unless it is a settlement."""
    return _change_of(answer, read_settlement)


def release_of(answer: Answer) -> Release:
    """Raises a LimiterError unless it is a release."""
    return _change_of(answer, read_release)


def _change_of(answer: Answer, read: Callable[[Mapping[str, Any]], T]) -> T:
    if answer.status == 200:
        try:
            return read(answer.json())
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(_NOT_THE_SERVICE.format(answer.status)) from error
    refusal = _error_of(answer)
    # The other 404 points at the name of a policy that there is not.
    if isinstance(refusal, InvalidRequestError) and refusal.status == 404 and not refusal.errors:
        raise UnknownDecisionError(refusal.detail)
    raise refusal


def nothing_of(answer: Answer) -> None:
    """Raises a LimiterError unless it was done."""
    if answer.status != 204:
        raise _error_of(answer)


def undecided(
    error: LimiterError, on_error: OnError, policy: str, cost: int, idempotency_key: str | None = None
) -> Decision:
    """What takes the place of a decision that could not be had; raises `error` if that is what shall become of it."""
    if on_error == "raise":
        raise error
    return degraded_decision(on_error == "allow", policy, cost, idempotency_key)


_NOT_THE_SERVICE = "An answer with status {} that is none of the limiter's: is its URL right?"


def _consume_call(path: str, body: object, idempotency_key: str | None) -> Call:
    if idempotency_key is None:
        return Call("POST", path, _encode(body), str(uuid.uuid4()), has_new_key=True)
    # A header can't carry every string: checked here, with the words that the service has for it.
    if not re.fullmatch(r"[A-Za-z0-9._~:-]{1,128}", idempotency_key):
        mistake = InvalidField("/idempotency_key", "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -")
        raise InvalidRequestError(400, "The request has a mistake.", [mistake])
    return Call("POST", path, _encode(body), idempotency_key)


def _error_of(answer: Answer) -> LimiterError:
    try:
        problem = answer.json()
        detail = str(problem["detail"])
        errors = [InvalidField(error["pointer"], error["detail"]) for error in problem.get("errors", [])]
        is_the_services = problem["status"] == answer.status
    except (ValueError, KeyError, TypeError):
        is_the_services = False
    if not is_the_services:
        return UnavailableError(_NOT_THE_SERVICE.format(answer.status))
    if answer.status in (401, 403):
        return UnauthorizedError(detail)
    return InvalidRequestError(answer.status, detail, errors)


def _answered(outcome: Outcome) -> Answer:
    """Raises UnavailableError when there is no answer, or one that is no word about the request."""
    if not isinstance(outcome, Answer):
        raise UnavailableError(f"The limiter could not be reached: {outcome!r}.") from outcome
    if outcome.status >= 500:
        raise UnavailableError(f"The limiter answered with status {outcome.status}.")
    return outcome


def _asked_to_wait_seconds(outcome: Outcome) -> float:
    if not isinstance(outcome, Answer) or outcome.status < 500:
        return 0
    seconds = outcome.headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() else 0


def _layers(layers: Sequence[Layer]) -> list[dict[str, object]]:
    return [{"name": layer.name, "key": layer.key, "limits": list(layer.limits)} for layer in layers]


def _encode(body: object) -> bytes:
    return json.dumps(body, separators=(",", ":")).encode()
