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


class UnauthorizedError(LimiterError):
    """The token is not in force, or does not permit this call."""


class UnknownDecisionError(LimiterError):
    """There is nothing to settle or release: no such decision of this policy and subject is in the window."""


class UnavailableError(LimiterError):
    """No answer of the service within the deadline. A check or a consume is then decided by `on_error`."""
