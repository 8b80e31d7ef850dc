"""Decisions as values, read from what the service answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

#: Of an answer, what a backend hands on to its own client.
PASSED_ON = ("RateLimit", "RateLimit-Policy", "Retry-After")


@dataclass(frozen=True)
class LimitState:
    """One limit of one layer, as it stands after the decision."""

    layer: str
    key: str
    limit: int
    window_seconds: int
    used: int
    remaining: int
    #: Until all of the limit remains if nobody consumes, rounded up.
    reset_seconds: int
    #: Until some of it comes back, 0 when nothing is used: told of limits that were named inline.
    frees_in_ms: int | None = None
    #: Of a layer in shadow: it counts, and denies nothing.
    shadow: bool = False
    #: It counts decisions that were admitted in the window and not released, in place of their cost.
    concurrent: bool = False
    #: What is in force for the key in place of the policy's own limit: "limits", "exempt" or "ban".
    override: str | None = None


@dataclass(frozen=True)
class Decision:
    """Allowed or denied; true when allowed, so that `if await limiter.consume(...)` says what it seems to say."""

    allowed: bool
    #: Names an admitted consume, for a settle and a release.
    id: str | None
    policy: str
    cost: int
    #: This consume was charged before, under the same idempotency key.
    replayed: bool
    #: Nobody decided in time: `on_error` did. Whether it was recorded is not known, and if it has an id, may be asked.
    degraded: bool
    #: When denied, the wait until this cost fits if nobody else consumes: at least 1. None when allowed.
    retry_after_seconds: int | None
    limits: tuple[LimitState, ...]
    #: `RateLimit`, `RateLimit-Policy` and `Retry-After`, to be handed on to one's own client.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The answer's JSON, which a backend can hand on as it is.
    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    #: The policy has layers in shadow, which count and deny nothing.
    shadow: bool = False
    #: Those layers would have denied it; false when they could not be asked.
    would_deny: bool = False

    def __bool__(self) -> bool:
        return self.allowed

    @property
    def is_banned(self) -> bool:
        """It is denied since one of its keys is banned, whatever has been used."""
        return not self.allowed and any(state.override == "ban" and not state.shadow for state in self.limits)


@dataclass(frozen=True)
class Settlement:
    """A decision's corrected cost, and how its limits stand with it."""

    id: str
    policy: str
    cost: int
    limits: tuple[LimitState, ...]


@dataclass(frozen=True)
class Release:
    """A decision that is over, and how its limits stand without it among what is under way."""

    id: str
    policy: str
    limits: tuple[LimitState, ...]


def read_decision(body: Mapping[str, Any], headers: Mapping[str, str]) -> Decision:
    """Raises KeyError or TypeError when it is none: what a proxy answers must not pass for an admission."""
    allowed, wait = _flag(body["allowed"]), body["retry_after_seconds"]
    if allowed and wait is not None:
        raise TypeError("a wait for what is allowed")
    return Decision(
        allowed=allowed,
        id=None if body.get("id") is None else _text(body["id"]),
        policy=_text(body["policy"]),
        cost=_number(body["cost"]),
        replayed=_flag(body["replayed"]),
        degraded=_flag(body["degraded"]),
        retry_after_seconds=None if allowed else _number(wait),
        limits=_read_limits(body),
        headers={name: headers[name] for name in PASSED_ON if name in headers},
        body=body,
        shadow=_flag(body.get("shadow", False)),
        would_deny=_flag(body.get("would_deny", False)),
    )


def read_settlement(body: Mapping[str, Any]) -> Settlement:
    """Raises KeyError or TypeError when it is none."""
    id, policy, cost = _text(body["id"]), _text(body["policy"]), _number(body["cost"])
    return Settlement(id=id, policy=policy, cost=cost, limits=_read_limits(body))


def read_release(body: Mapping[str, Any]) -> Release:
    """Raises KeyError or TypeError when it is none."""
    if body["released"] is not True:
        raise TypeError("not released")
    return Release(id=_text(body["id"]), policy=_text(body["policy"]), limits=_read_limits(body))


def degraded_decision(allowed: bool, policy: str, cost: int, id: str | None) -> Decision:
    """What `on_error` makes of a call that was not answered. `id` names it if it may have been recorded."""
    told: dict[str, object] = {
        "allowed": allowed,
        "policy": policy,
        "cost": cost,
        "replayed": False,
        "degraded": True,
        "retry_after_seconds": None if allowed else 1,
        "limits": [],
    }
    problem = {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "The limits could not be asked about; try again in a moment.",
    }
    return Decision(
        allowed=allowed,
        id=id if allowed else None,
        policy=policy,
        cost=cost,
        replayed=False,
        degraded=True,
        retry_after_seconds=None if allowed else 1,
        limits=(),
        headers={} if allowed else {"Retry-After": "1"},
        body=told if allowed else {**problem, **told},
    )


def _read_limits(body: Mapping[str, Any]) -> tuple[LimitState, ...]:
    limits = body["limits"]
    if not isinstance(limits, list):
        raise TypeError("not a list")
    return tuple(
        LimitState(
            layer=_text(state["layer"]),
            key=_text(state["key"]),
            limit=_number(state["limit"]),
            window_seconds=_number(state["window_seconds"]),
            used=_number(state["used"]),
            remaining=_number(state["remaining"]),
            reset_seconds=_number(state["reset_seconds"]),
            frees_in_ms=None if state.get("frees_in_ms") is None else _number(state["frees_in_ms"]),
            shadow=_flag(state.get("shadow", False)),
            concurrent=_flag(state.get("concurrent", False)),
            override=None if state.get("override") is None else _text(state["override"]),
        )
        for state in map(_object, limits)
    )


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _number(value: object) -> int:
    # To Python, true is a number.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value
