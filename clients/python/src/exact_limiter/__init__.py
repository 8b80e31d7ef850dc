"""Client of the exact limiter: rate limits that hold over all containers of a backend."""

from .client import AsyncLimiter, Limiter
from .decision import Decision, LimitState, Release, Settlement
from .errors import (
    InvalidField,
    InvalidRequestError,
    LimiterError,
    UnauthorizedError,
    UnavailableError,
    UnknownDecisionError,
    UnknownPolicyError,
)
from .exchange import Layer
from .ids import Id, Subject

__all__ = [
    "AsyncLimiter",
    "Decision",
    "Id",
    "InvalidField",
    "InvalidRequestError",
    "Layer",
    "LimitState",
    "Limiter",
    "LimiterError",
    "Release",
    "Settlement",
    "Subject",
    "UnauthorizedError",
    "UnavailableError",
    "UnknownDecisionError",
    "UnknownPolicyError",
]
