"""Decisions as values, read from the service's responses."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

#: What a request weighs: the same in every layer, or by the names of the layers of its policy.
Cost: TypeAlias = int | Mapping[str, int]

#: The headers that a backend passes on to its own client.
PASSED_ON = ("RateLimit", "RateLimit-Policy", "Retry-After")


@dataclass(frozen=True)
class LimitState:
    """A limit of a layer, as it stands after the decision."""

    layer: str
    key: str
    limit: int
    window_seconds: int
    used: int
    remaining: int
    #: The wait until `remaining == limit` if nobody consumes, rounded up.
    reset_seconds: int
    #: The wait until some of it comes back, 0 if nothing is used. Only for inline limits.
    frees_in_ms: int | None = None
    #: The layer is in shadow: it counts, and denies nothing.
    shadow: bool = False
    #: The limit counts decisions admitted in the window and not released, instead of their cost.
    concurrent: bool = False
    #: The override in force for the key: "limits", "exempt" or "ban".
    override: str | None = None


@dataclass(frozen=True)
class Decision:
    """Allowed or denied. Its truth value is `allowed`: `if await limiter.consume(...)` works as it reads."""

    allowed: bool
    #: The id of an admitted consume, for a settle or a release.
    id: str | None
    policy: str
    #: As it was sent. A mapping has every layer of the policy; if degraded, those that were sent.
    cost: Cost
    #: An earlier consume with the same idempotency key was charged, so this consume was not.
    replayed: bool
    #: `on_error` decided, in an outage. A consume with an id may have been recorded.
    degraded: bool
    #: The wait until this cost fits if nobody else consumes, at least 1. None if allowed.
    retry_after_seconds: int | None
    limits: tuple[LimitState, ...]
    #: `RateLimit`, `RateLimit-Policy` and `Retry-After`, to pass on to your own client.
    headers: Mapping[str, str] = field(default_factory=dict)
    #: The response's JSON, to pass on to your own client.
    body: Mapping[str, object] = field(default_factory=dict, repr=False)
    #: The policy has layers in shadow, which count and deny nothing.
    shadow: bool = False
    #: Layers in shadow would have denied. False if their objects were unreachable.
    would_deny: bool = False

    def __bool__(self) -> bool:
        return self.allowed

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Makes the limits of a decision that was read from a response when they are first asked for."""
            if name != "limits" or "_read_limits" not in vars(self):
                raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
            limits = vars(self)["limits"] = tuple(map(_limit_of, self._read_limits))
            return limits

    @property
    def is_banned(self) -> bool:
        """Denied because a key is banned. A ban denies nothing in a layer at 0."""
        return not self.allowed and any(
            state.override == "ban" and not state.shadow and self._cost_in(state.layer) > 0 for state in self.limits
        )

    def _cost_in(self, layer: str) -> int:
        return self.cost if isinstance(self.cost, int) else self.cost.get(layer, 1)


@dataclass(frozen=True)
class Settlement:
    """The corrected cost of a decision, and its limits after the correction."""

    id: str
    policy: str
    #: What was set. A mapping has the layers that the settle named.
    cost: Cost
    limits: tuple[LimitState, ...]


@dataclass(frozen=True)
class Release:
    """A released decision, and its limits after the release."""

    id: str
    policy: str
    limits: tuple[LimitState, ...]


def read_decision(body: Mapping[str, Any], headers: Mapping[str, str]) -> Decision:
    """Raises KeyError or TypeError unless it is a decision: a proxy's response must not pass for an admission."""
    allowed, wait = _flag(body["allowed"]), body["retry_after_seconds"]
    if allowed and wait is not None:
        raise TypeError("allowed, with a wait")
    return _frozen(
        Decision,
        {
            "allowed": allowed,
            "id": None if body.get("id") is None else _text(body["id"]),
            "policy": _text(body["policy"]),
            "cost": _cost(body["cost"]),
            "replayed": _flag(body["replayed"]),
            "degraded": _flag(body["degraded"]),
            "retry_after_seconds": None if allowed else _number(wait),
            # Not "limits": their objects are a good part of a decision's cost, and most callers never ask for them.
            "_read_limits": _checked_limits(body),
            "headers": {name: headers[name] for name in PASSED_ON if name in headers},
            "body": body,
            "shadow": _flag(body.get("shadow", False)),
            "would_deny": _flag(body.get("would_deny", False)),
        },
    )


def read_settlement(body: Mapping[str, Any]) -> Settlement:
    """Raises KeyError or TypeError unless it is a settlement."""
    return Settlement(
        id=_text(body["id"]), policy=_text(body["policy"]), cost=_cost(body["cost"]), limits=_read_limits(body)
    )


def read_release(body: Mapping[str, Any]) -> Release:
    """Raises KeyError or TypeError unless it is a release."""
    if body["released"] is not True:
        raise TypeError("not released")
    return Release(id=_text(body["id"]), policy=_text(body["policy"]), limits=_read_limits(body))


def degraded_decision(allowed: bool, policy: str, cost: Cost, id: str | None) -> Decision:
    """The decision of `on_error`. `id` is that of a consume that may have been recorded."""
    body: dict[str, object] = {
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
        "detail": "The limits could not be checked. Try again in a moment.",
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
        body=body if allowed else {**problem, **body},
    )


_Value = TypeVar("_Value")


def _frozen(kind: type[_Value], fields: dict[str, Any]) -> _Value:
    """An object of a frozen class with all its fields, which it keeps. Its `__init__` takes three times as long."""
    value = object.__new__(kind)
    object.__setattr__(value, "__dict__", fields)
    return value


def _read_limits(body: Mapping[str, Any]) -> tuple[LimitState, ...]:
    return tuple(map(_limit_of, _checked_limits(body)))


#: The fields that every limit has, with their types.
_FIELDS = {
    "layer": str,
    "key": str,
    "limit": int,
    "window_seconds": int,
    "used": int,
    "remaining": int,
    "reset_seconds": int,
}
_TYPES = tuple(_FIELDS.values())
_values_of = operator.itemgetter(*_FIELDS)
_OPTIONAL: dict[str, object] = {"frees_in_ms": None, "shadow": False, "concurrent": False, "override": None}
_OPTIONAL_TYPES = {
    "frees_in_ms": (int, type(None)),
    "shadow": (bool,),
    "concurrent": (bool,),
    "override": (str, type(None)),
}


def _checked_limits(body: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The limits in the body. Raises KeyError or TypeError unless each can be made into a LimitState."""
    limits = body["limits"]
    if not isinstance(limits, list):
        raise TypeError("not a list")
    for state in limits:
        if tuple(map(type, _values_of(_object(state)))) != _TYPES:
            raise TypeError("not the state of a limit")
        if len(state) > len(_FIELDS):
            for name, types in _OPTIONAL_TYPES.items():
                if name in state and type(state[name]) not in types:
                    raise TypeError("not the state of a limit")
    return limits


def _limit_of(state: Mapping[str, Any]) -> LimitState:
    """Takes a checked limit. Later versions of the service may have more fields."""
    if len(state) > len(_FIELDS):
        state = {name: state[name] for name in (*_FIELDS, *_OPTIONAL) if name in state}
    return _frozen(LimitState, {**_OPTIONAL, **state})


def _object(value: object) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise TypeError("not an object")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not text")
    return value


def _number(value: object) -> int:
    # In Python, a bool is an int.
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a whole number")
    return value


def _cost(value: object) -> Cost:
    return {layer: _number(cost) for layer, cost in value.items()} if isinstance(value, dict) else _number(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError("neither true nor false")
    return value
