"""What a call can fail with. A denial is none of it: that is a value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class InvalidField:
    """A mistake in a request, at a JSON pointer (RFC 6901) into it."""

    pointer: str
    detail: str


class LimiterError(Exception):
    """Any failure of a call to the limiter."""


class InvalidRequestError(LimiterError):
    """The service refuses the request as it is: malformed, of an unknown policy, or with a cost that never fits."""

    def __init__(self, status: int, detail: str, errors: Sequence[InvalidField] = ()) -> None:
        told = "; ".join(f"{error.pointer}: {error.detail}" for error in errors)
        super().__init__(f"{detail} ({told})" if told else detail)
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
    """The token is not in force, or does not permit this call; or the service does not take limits named inline."""


class UnknownDecisionError(LimiterError):
    """There is nothing to settle or release: no such decision of this policy and subject is in the window."""


class UnavailableError(LimiterError):
    """No answer of the service within the deadline. A check or a consume is then decided by `on_error`."""

    def __init__(self, message: str, *, is_about_subject: bool = False) -> None:
        super().__init__(message)
        #: The service itself said that it can't decide, or a firewall refused the request: others may be answered.
        self.is_about_subject = is_about_subject


class AnotherAnswerError(UnavailableError):
    """An answer about something else than was asked: no other answer of its connection can be believed."""


#: What `on_error` answers a check or a consume for: nobody decided. All else is a decision about the request.
OUTAGES = (UnavailableError, UnauthorizedError, UnknownPolicyError)
