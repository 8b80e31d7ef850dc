"""Responses of the service, read into values or into errors: no I/O here."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from .calls import Call
from .decision import Decision, Release, Settlement, read_decision, read_release, read_settlement
from .errors import (
    InvalidField,
    InvalidRequestError,
    LimiterError,
    MismatchedResponseError,
    UnauthorizedError,
    UnavailableError,
    UnknownDecisionError,
    UnknownPolicyError,
)

T = TypeVar("T")


@dataclass(slots=True)
class Response:
    status: int
    headers: Mapping[str, str]
    #: Bytes of an HTTP response; an object of a result in a session.
    content: bytes | dict[str, Any]

    def json(self) -> Any:
        """The JSON object in the body. Raises ValueError if there is none."""
        try:
            value = json.loads(self.content) if isinstance(self.content, bytes) else self.content
        except RecursionError as error:
            raise ValueError("nested too deeply") from error
        if not isinstance(value, dict):
            raise ValueError("not a JSON object")
        return value

    @property
    def detail(self) -> str | None:
        """The detail of the service's problem; None if the service did not write this response."""
        try:
            problem = self.json()
        except ValueError:
            return None
        detail = problem.get("detail")
        # Only the service's problems repeat the status: a proxy's 403 says nothing about the token.
        return detail if isinstance(detail, str) and problem.get("status") == self.status else None


#: Reads the response to a call. Raises a LimiterError if the call failed.
Read = Callable[[Call, Response], T]

_MISMATCHED = "The limiter's response is about another request."
_NOT_THE_SERVICE = "A response with status {} that did not come from the limiter. Is its URL right?"


def decision_of(call: Call, response: Response) -> Decision:
    """Raises a LimiterError unless the response is a decision about this call."""
    if response.status in (200, 429):
        return _read_matching(call, response, _read_decision)
    refusal = _error_of(call, response)
    if _is_plain_404(refusal):
        raise UnavailableError(_NOT_THE_SERVICE.format(response.status), is_about_subject=True)
    raise refusal


def settlement_of(call: Call, response: Response) -> Settlement:
    """Raises a LimiterError unless the response is a settlement of this call's decision."""
    settlement = _change_of(call, response, read_settlement)
    if settlement.cost != call.cost:
        raise MismatchedResponseError(_MISMATCHED)
    return settlement


def release_of(call: Call, response: Response) -> Release:
    """Raises a LimiterError unless the response is a release of this call's decision."""
    return _change_of(call, response, read_release)


def nothing_of(call: Call, response: Response) -> None:
    """Raises a LimiterError unless the status is 204."""
    if response.status != 204:
        raise _error_of(call, response)


def require_policies(names: Iterable[str]) -> Read[None]:
    """The reader raises UnknownPolicyError unless all these policies are in force."""

    def read(call: Call, response: Response) -> None:
        if response.status != 200:
            raise _error_of(call, response)
        try:
            in_force = [str(policy["name"]) for policy in response.json()["policies"]]
        except (ValueError, KeyError, TypeError) as error:
            raise UnavailableError(_NOT_THE_SERVICE.format(response.status)) from error
        if missing := sorted(set(names) - set(in_force)):
            listed = ", ".join(f'"{name}"' for name in missing)
            raise UnknownPolicyError(missing, f"The limiter has no policy {listed}. It has: {', '.join(in_force)}.")

    return read


class _About(Protocol):
    """The part that a decision, a settlement and a release have in common."""

    @property
    def policy(self) -> str: ...


_T = TypeVar("_T", bound=_About)
_Change = TypeVar("_Change", Settlement, Release)


def _read_matching(call: Call, response: Response, read: Callable[[Mapping[str, Any], Response], _T]) -> _T:
    """Raises UnavailableError for an unreadable response, and for a response to another call."""
    try:
        body = response.json()
        value = read(body, response)
    except (ValueError, KeyError, TypeError) as error:
        message = _NOT_THE_SERVICE.format(response.status)
        raise UnavailableError(message, is_about_subject=response.status == 429) from error
    if value.policy != call.policy:
        raise MismatchedResponseError(_MISMATCHED)
    for limit in body["limits"]:
        if not call.is_key(limit["key"]):
            raise MismatchedResponseError(_MISMATCHED)
    return value


def _read_decision(body: Mapping[str, Any], response: Response) -> Decision:
    decision = read_decision(body, response.headers)
    if response.status == 429 and decision.allowed:
        raise TypeError("status 429 with allowed: true")
    return decision


def _change_of(call: Call, response: Response, read: Callable[[Mapping[str, Any]], _Change]) -> _Change:
    if response.status == 200:
        change = _read_matching(call, response, lambda body, _: read(body))
        if change.id != call.id:
            raise MismatchedResponseError(_MISMATCHED)
        return change
    refusal = _error_of(call, response)
    if isinstance(refusal, InvalidRequestError) and _is_plain_404(refusal):
        raise UnknownDecisionError(refusal.detail)
    raise refusal


def _is_plain_404(error: LimiterError) -> bool:
    """The 404 of a decision or of a path: that of a policy points at its name."""
    return isinstance(error, InvalidRequestError) and error.status == 404 and not error.errors


def _error_of(call: Call, response: Response) -> LimiterError:
    detail = response.detail
    if detail is None:
        # A firewall may refuse a subject by its name.
        is_about_subject = 400 <= response.status < 500
        return UnavailableError(_NOT_THE_SERVICE.format(response.status), is_about_subject=is_about_subject)
    if response.status == 401:
        return UnauthorizedError(f"The limiter refuses the token: {detail}")
    if response.status == 403:
        return UnauthorizedError(detail)
    try:
        errors = [
            InvalidField(str(error["pointer"]), str(error["detail"])) for error in response.json().get("errors", [])
        ]
    except (KeyError, TypeError):
        return UnavailableError(_NOT_THE_SERVICE.format(response.status))
    if response.status == 404 and any(error.pointer == "/policy" for error in errors):
        return UnknownPolicyError([call.policy], detail)
    return InvalidRequestError(response.status, detail, errors)
