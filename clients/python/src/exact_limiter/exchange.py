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
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeVar
from urllib.parse import quote

import httpx

from .decision import (
    Decision,
    LimitState,
    Release,
    Settlement,
    degraded_decision,
    read_decision,
    read_release,
    read_settlement,
)
from .errors import (
    AnotherAnswerError,
    InvalidField,
    InvalidRequestError,
    LimiterError,
    UnauthorizedError,
    UnavailableError,
    UnknownDecisionError,
    UnknownPolicyError,
)
from .ids import Id, Subject, is_key_of, text_of, texts_of, trimmed

T = TypeVar("T")

#: What becomes of a check or a consume that nobody decides: a decision with `degraded` set, or the error.
OnError = Literal["deny", "allow", "raise"]


@dataclass(frozen=True)
class Layer:
    """Limits that the caller names itself, and the key they count by: `Layer("login", "203.0.113.7", ["5/minute"])`."""

    name: str
    key: Id
    limits: Sequence[str]


def _any_key(_: str) -> bool:
    return True


@dataclass(frozen=True)
class Call:
    """What is sent, the same in every attempt: the idempotency key makes it safe to send again."""

    method: str
    path: str
    body: bytes
    idempotency_key: str | None = None
    #: Made up for this call: before its first attempt nobody has sent it.
    has_new_key: bool = False
    #: What it asks about, and so what its answer must be about.
    policy: str = ""
    cost: int = 1
    #: Of a settle and a release: the decision.
    id: str | None = None
    subject: object = None
    is_key: Callable[[str], bool] = _any_key

    def changed(self, op: str, **fields: str | int) -> Call:
        """Of a consume: a settle or a release of what it was charged."""
        asked = {name: value for name, value in json.loads(self.body).items() if name != "cost"}
        path = self.path.replace("consume", op)
        body = _encode({**asked, **fields})
        return replace(self, path=path, body=body, idempotency_key=None, has_new_key=False, **_asked(fields))

    @property
    def as_check(self) -> Call:
        """Of a consume: the same question, which records nothing."""
        return replace(self, path=self.path.replace("consume", "check"), idempotency_key=None, has_new_key=False)


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
        try:
            value = json.loads(self.content) if isinstance(self.content, bytes) else self.content
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value


#: The answer to a Send, or why there is none; nothing for a Pause.
Outcome = Answer | Exception | None

#: What an answer to a call says; raises a LimiterError when it is none.
Read = Callable[[Call, Answer], T]

Plan = Generator[Send | Pause, Outcome, T]

#: What the service reads of one call.
_MOST_BYTES = 8 * 1024
_FIRST_PAUSE_SECONDS = 0.05
#: An attempt gets at most half of what is left, so that a lost packet leaves time for another, but at least this.
_SHORTEST_ATTEMPT_SECONDS = 0.1


def plan(call: Call, read: Read[T], gives_up_at: float) -> Plan[T]:
    """
    Attempts until there is an answer that can be read, all of them before an instant of `time.monotonic()`.
    Raises UnavailableError when there is none, and what else `read` raises.
    """
    pause_seconds = _FIRST_PAUSE_SECONDS
    left_seconds = gives_up_at - time.monotonic()
    if left_seconds <= 0:
        raise UnavailableError("The limiter was not asked: the deadline has passed.")
    for attempt in itertools.count(1):
        timeout_seconds = max(left_seconds / 2, min(left_seconds, _SHORTEST_ATTEMPT_SECONDS))
        outcome = yield Send(timeout_seconds, attempt)
        try:
            return read(call, _answered(outcome))
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


def consume_call(policy: str, subject: Subject, cost: int, idempotency_key: Id | None) -> Call:
    return _with_key(_about(policy, subject, "consume", cost=cost), idempotency_key)


def check_call(policy: str, subject: Subject, cost: int) -> Call:
    return _about(policy, subject, "check", cost=cost)


def settle_call(policy: str, subject: Subject, id: Id, cost: int) -> Call:
    return _about(policy, subject, "settle", id=text_of(id, "id"), cost=cost)


def release_call(policy: str, subject: Subject, id: Id) -> Call:
    return _about(policy, subject, "release", id=text_of(id, "id"))


def consume_inline_call(layers: Sequence[Layer], cost: int, idempotency_key: Id | None) -> Call:
    return _with_key(_inline(layers, "consume", cost=cost), idempotency_key)


def check_inline_call(layers: Sequence[Layer], cost: int) -> Call:
    return _inline(layers, "check", cost=cost)


def settle_inline_call(layers: Sequence[Layer], id: Id, cost: int) -> Call:
    return _inline(layers, "settle", id=text_of(id, "id"), cost=cost)


def release_inline_call(layers: Sequence[Layer], id: Id) -> Call:
    return _inline(layers, "release", id=text_of(id, "id"))


def forget_inline_call(key: Id) -> Call:
    return Call("DELETE", f"/v1/inline/keys/{quote(text_of(key, 'key'), safe='')}", b"")


def policies_call() -> Call:
    return Call("GET", "/v1/policies", b"")


def inline_call() -> Call:
    """A check that is answered if the service takes limits named inline."""
    return check_inline_call([Layer("limit", "health", ["1/second"])], 1)


def decision_of(call: Call, answer: Answer) -> Decision:
    """Raises a LimiterError unless it is a decision about this call."""
    if answer.status in (200, 429):
        return _read_about(call, answer, lambda body: _read_decision(body, answer))
    refusal = _error_of(call, answer)
    if isinstance(refusal, InvalidRequestError) and refusal.status == 404 and not refusal.errors:
        raise UnavailableError(_NOT_THE_SERVICE.format(answer.status), is_about_subject=True)
    raise refusal


def _read_decision(body: Mapping[str, Any], answer: Answer) -> Decision:
    decision = read_decision(body, answer.headers)
    if answer.status == 429 and decision.allowed:
        raise TypeError("a denial of what is allowed")
    return decision


def settlement_of(call: Call, answer: Answer) -> Settlement:
    """Raises a LimiterError unless it is a settlement of this call's decision."""
    settlement = _change_of(call, answer, read_settlement)
    if settlement.cost != call.cost:
        raise AnotherAnswerError(_ABOUT_ANOTHER)
    return settlement


def release_of(call: Call, answer: Answer) -> Release:
    """Raises a LimiterError unless it is a release of this call's decision."""
    return _change_of(call, answer, read_release)


def nothing_of(call: Call, answer: Answer) -> None:
    """Raises a LimiterError unless it was done."""
    if answer.status != 204:
        raise _error_of(call, answer)


def has_policies(wanted: Iterable[str]) -> Read[None]:
    """Raises UnknownPolicyError unless all of these are in force."""

    def read(call: Call, answer: Answer) -> None:
        if answer.status != 200:
            raise _error_of(call, answer)
        try:
            in_force = [str(policy["name"]) for policy in answer.json()["policies"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(_NOT_THE_SERVICE.format(answer.status)) from error
        if missing := sorted(set(wanted) - set(in_force)):
            names = ", ".join(f'"{name}"' for name in missing)
            raise UnknownPolicyError(missing, f"The limiter has no policy {names}. It has: {', '.join(in_force)}.")

    return read


def undecided(error: LimiterError, on_error: OnError, call: Call) -> Decision:
    """What takes the place of a decision that could not be had; raises `error` if that is what shall become of it."""
    if on_error == "raise":
        raise error
    # Refused, it was not recorded: there is nothing to give back.
    id = call.idempotency_key if isinstance(error, UnavailableError) else None
    return degraded_decision(on_error == "allow", call.policy, call.cost, id)


class _Told(Protocol):
    """What a decision, a settlement and a release have in common."""

    @property
    def policy(self) -> str: ...
    @property
    def limits(self) -> tuple[LimitState, ...]: ...


_T = TypeVar("_T", bound=_Told)
_Change = TypeVar("_Change", Settlement, Release)


def _read_about(call: Call, answer: Answer, read: Callable[[Mapping[str, Any]], _T]) -> _T:
    """Raises UnavailableError for what can't be read, and for an answer to somebody else's call."""
    try:
        told = read(answer.json())
    except (ValueError, KeyError, TypeError) as error:
        raise UnavailableError(_NOT_THE_SERVICE.format(answer.status), is_about_subject=answer.status == 429) from error
    if told.policy != call.policy or not all(call.is_key(state.key) for state in told.limits):
        raise AnotherAnswerError(_ABOUT_ANOTHER)
    return told


def _change_of(call: Call, answer: Answer, read: Callable[[Mapping[str, Any]], _Change]) -> _Change:
    if answer.status == 200:
        change = _read_about(call, answer, read)
        if change.id != call.id:
            raise AnotherAnswerError(_ABOUT_ANOTHER)
        return change
    refusal = _error_of(call, answer)
    # The other 404 points at the name of a policy that there is not.
    if isinstance(refusal, InvalidRequestError) and refusal.status == 404 and not refusal.errors:
        raise UnknownDecisionError(refusal.detail)
    raise refusal


_ABOUT_ANOTHER = "An answer of the limiter that is about something else than was asked."
_NOT_THE_SERVICE = "An answer with status {} that is none of the limiter's: is its URL right?"


def _about(policy: str, subject: Subject, op: str, **fields: str | int) -> Call:
    texts = texts_of(subject)
    body = _encode({"policy": policy, "subject": texts, **fields})
    about = _asked(fields)
    return Call("POST", f"/v1/{op}", body, policy=policy, subject=texts, is_key=is_key_of(texts), **about)


def _inline(layers: Sequence[Layer], op: str, **fields: str | int) -> Call:
    keys = [text_of(layer.key, f'the key of layer "{layer.name}"') for layer in layers]
    named = [
        {"name": layer.name, "key": key, "limits": list(layer.limits)} for layer, key in zip(layers, keys, strict=True)
    ]
    body = _encode({"layers": named, **fields})
    asked = {f"inline/{trimmed(key)}" for key in keys}
    path, about = f"/v1/inline/{op}", _asked(fields)
    return Call("POST", path, body, policy="inline", subject=asked, is_key=asked.__contains__, **about)


def _asked(fields: Mapping[str, str | int]) -> dict[str, Any]:
    """What of a request its answer must repeat."""
    return {"cost": fields.get("cost", 1), "id": fields.get("id")}


def _with_key(call: Call, given: Id | None) -> Call:
    if given is None:
        return replace(call, idempotency_key=str(uuid.uuid4()), has_new_key=True)
    key = text_of(given, "idempotency_key")
    # A header can't carry every string: checked here, with the words that the service has for it.
    if not re.fullmatch(r"[A-Za-z0-9._~:-]{1,128}", key):
        mistake = InvalidField("/idempotency_key", "must be 1 to 128 of A-Z a-z 0-9 . _ ~ : -")
        raise InvalidRequestError(400, "The request has a mistake.", [mistake])
    return replace(call, idempotency_key=key)


def _error_of(call: Call, answer: Answer) -> LimiterError:
    detail = _problem_of(answer)
    if detail is None:
        # A firewall may refuse a subject by its name.
        return UnavailableError(_NOT_THE_SERVICE.format(answer.status), is_about_subject=400 <= answer.status < 500)
    if answer.status == 401:
        return UnauthorizedError(f"The limiter refuses the token: {detail}")
    if answer.status == 403:
        return UnauthorizedError(detail)
    try:
        errors = [
            InvalidField(str(error["pointer"]), str(error["detail"])) for error in answer.json().get("errors", [])
        ]
    except (KeyError, TypeError):
        return UnavailableError(_NOT_THE_SERVICE.format(answer.status))
    if answer.status == 404 and any(error.pointer == "/policy" for error in errors):
        return UnknownPolicyError([call.policy], detail)
    return InvalidRequestError(answer.status, detail, errors)


def _problem_of(answer: Answer) -> str | None:
    """What the service says is wrong; None when it is not the service that says it."""
    try:
        problem = answer.json()
    except ValueError:
        return None
    detail = problem.get("detail")
    # Only a problem that the service made says its status: a proxy's 403 is no word about the token.
    return detail if isinstance(detail, str) and problem.get("status") == answer.status else None


def _answered(outcome: Outcome) -> Answer:
    """Raises UnavailableError when there is no answer, or one that is no word about the request."""
    if not isinstance(outcome, Answer):
        raise UnavailableError(f"The limiter could not be reached: {outcome!r}.") from outcome
    if outcome.status >= 500:
        detail = _problem_of(outcome)
        told = f"The limiter answered with status {outcome.status}" + (f": {detail}" if detail else ".")
        raise UnavailableError(told, is_about_subject=detail is not None)
    return outcome


def _asked_to_wait_seconds(outcome: Outcome) -> float:
    if not isinstance(outcome, Answer) or outcome.status < 500:
        return 0
    seconds = outcome.headers.get("Retry-After", "")
    return float(seconds) if seconds.isascii() and seconds.isdigit() else 0


def _encode(body: object) -> bytes:
    """Raises InvalidRequestError when the service does not read that much: nobody would answer it otherwise."""
    encoded = json.dumps(body, separators=(",", ":")).encode()
    if len(encoded) > _MOST_BYTES:
        raise InvalidRequestError(413, "The request is above 8 KiB.")
    return encoded
