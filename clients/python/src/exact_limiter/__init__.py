"""Client of the exact limiter: rate limits that hold across all containers of a backend."""

from .async_limiter import AsyncLimiter
from .calls import Layer
from .decision import Cost, Decision, LimitState, Release, Settlement
from .errors import (
    InvalidField,
    InvalidRequestError,
    LimiterError,
    UnauthorizedError,
    UnavailableError,
    UnknownDecisionError,
    UnknownPolicyError,
)
from .ids import Id, Subject
from .limiter import Limiter

__all__ = [
    "AsyncLimiter",
    "Cost",
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
