"""Errors of a call. A denial is a value, not an error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class InvalidField:
    """A mistake in a request, at a JSON pointer (RFC 6901) into it."""

    pointer: str
    detail: str


class LimiterError(Exception):
    """Base class of the errors of a call."""


class InvalidRequestError(LimiterError):
    """The service refuses the request: it is malformed, its policy is unknown, or its cost can never fit."""

    def __init__(self, status: int, detail: str, errors: Sequence[InvalidField] = ()) -> None:
        mistakes = "; ".join(f"{error.pointer}: {error.detail}" for error in errors)
        super().__init__(f"{detail} ({mistakes})" if mistakes else detail)
        self.status = status
        self.detail = detail
        self.errors = tuple(errors)


class UnknownPolicyError(InvalidRequestError):
    """The service has no policy of this name."""

    def __init__(self, policies: Sequence[str], detail: str) -> None:
        mistakes = [InvalidField("/policy", f'"{policy}" names no policy in force') for policy in policies]
        super().__init__(404, detail, mistakes)
        self.policies = tuple(policies)


class UnauthorizedError(LimiterError):
    """The token is not in force or does not permit this call, or inline limits are switched off."""


class UnknownDecisionError(LimiterError):
    """No such decision of this policy and subject is in the window, so there is nothing to settle or release."""


class UnavailableError(LimiterError):
    """The service gave no valid response within the deadline. `on_error` then decides a check or a consume."""

    def __init__(self, message: str, *, is_about_subject: bool = False) -> None:
        super().__init__(message)
        #: The service can't decide this request, or a firewall refused it. Other subjects may still get decisions.
        self.is_about_subject = is_about_subject


class MismatchedResponseError(UnavailableError):
    """A response to another request. No later response on the same connection can be trusted."""


#: The errors for which `on_error` decides. Any other error is the service's word about the request.
OUTAGES = (UnavailableError, UnauthorizedError, UnknownPolicyError)
