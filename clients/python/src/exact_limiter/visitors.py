"""What all web frameworks share: who a visitor is, and what a visitor sees of a denial or a refusal."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .base import BaseLimiter
from .decision import Cost, Decision
from .errors import InvalidField, InvalidRequestError
from .ids import text_of

#: The attributes that come from the visitor, by their pointers.
_VISITORS = {"/subject/user": "user", "/subject/ip": "ip"}

#: The largest cost that the service takes in a layer.
_LARGEST_COST = 1_000_000_000


@dataclass(frozen=True)
class Reply:
    """The response to a request that does not pass. The body is JSON, of the type `application/problem+json`."""

    status: int
    body: Mapping[str, object]
    headers: Mapping[str, str] = field(default_factory=dict)


def public_body(decision: Decision) -> dict[str, object]:
    """The body of a denial for the visitor, without keys and limits. A ban has no wait: it may be lifted or renewed."""
    if decision.is_banned:
        detail = "Banned: requests of this user or address are not accepted."
        return {"type": "about:blank", "title": "Banned", "status": 429, "detail": detail, "retry_after_seconds": None}
    names = ("type", "title", "status", "detail", "violated-policies")
    shown = {name: decision.body[name] for name in names if name in decision.body}
    if not decision.degraded:
        shown["detail"] = f"Too many requests: try again in {decision.retry_after_seconds} s."
    return {**shown, "retry_after_seconds": decision.retry_after_seconds}


def reply_of_denial(decision: Decision, public_body: Callable[[Decision], Mapping[str, object]] = public_body) -> Reply:
    """429, or 503 in an outage."""
    headers = {} if decision.is_banned else decision.headers
    return Reply(503 if decision.degraded else 429, public_body(decision), headers)


def reply_of_refusal(
    limiter: BaseLimiter,
    policy: str,
    subject: Mapping[str, object],
    error: InvalidRequestError,
    *,
    cost_of_visitor: Cost | None = None,
) -> Reply:
    """
    A refused request never passes. The visitor sees their own mistakes (400), and a cost that they chose by the size of
    their request and that no limit could ever admit (413); all others go to the log (403).
    """
    # 422: above a limit of the policy. A pointer: above all costs that the service takes.
    pointers = () if cost_of_visitor is None else ("/cost", *_pointers_of_largest(cost_of_visitor))
    if pointers and (error.status == 422 or any(field.pointer in pointers for field in error.errors)):
        return _refused(413, "Content Too Large", "This request is larger than its rate limit could ever admit.")
    mistakes = [field for field in error.errors if field.pointer.startswith("/subject/")]
    # The visitor chooses the user and the address only. A missing attribute is the application's mistake.
    if mistakes and all(subject.get(_VISITORS.get(field.pointer, "")) is not None for field in mistakes):
        return _refused(400, "Bad Request", "; ".join(f"{field.pointer}: {field.detail}" for field in mistakes))
    longest = max(subject, key=lambda name: len(str(subject[name] or "")))
    if error.status == 413 and longest in _VISITORS.values():
        return _refused(400, "Bad Request", f"/subject/{longest}: is too long")
    limiter.report(error, policy)
    return _refused(403, "Forbidden", "This request is not accepted.")


def _pointers_of_largest(cost: Cost) -> list[str]:
    """The layers that cost more than the service takes. It refuses unknown layers too: no mistake of a visitor."""
    return [] if isinstance(cost, int) else [f"/cost/{layer}" for layer, value in cost.items() if value > _LARGEST_COST]


def _refused(status: int, title: str, detail: str) -> Reply:
    return Reply(status, {"type": "about:blank", "title": title, "status": status, "detail": detail})


def attribute_text(value: object, origin: str, attribute: str) -> str | None:
    """
    An attribute as text. Raises TypeError, which names the `origin` of the value, and InvalidRequestError for half a
    surrogate pair.
    """
    # Most attributes are plain text, for which no error message need be made.
    if value is None or (type(value) is str and value.isascii()):
        return value
    try:
        return text_of(value, f'{origin} as "{attribute}"')
    except ValueError as error:
        # JSON can carry half a surrogate pair, so the visitor can send it.
        mistake = InvalidField(f"/subject/{attribute}", "must be well-formed Unicode")
        raise InvalidRequestError(400, "The request has a mistake.", [mistake]) from error


def require_options(limiter: BaseLimiter, trusted_proxies: int) -> None:
    """Raises ValueError for options that no application can be limited with."""
    if trusted_proxies < 0:
        raise ValueError("trusted_proxies must be at least 0")
    if limiter.on_error == "raise":
        raise ValueError('on_error="raise" would reply 500 in an outage: choose "deny" or "allow"')


def require_functions(policy: object, **options: object) -> None:
    """Raises TypeError unless the policy is a name or a function, and each option a function or None."""
    if not isinstance(policy, str) and not callable(policy):
        raise TypeError(f"policy must be a name or a function that returns one, not {type(policy).__name__}")
    for name, option in options.items():
        if option is not None and not callable(option):
            raise TypeError(f"{name} must be a function that returns the {name}, not {type(option).__name__}")


def name_of(function: object) -> str:
    return str(getattr(function, "__qualname__", repr(function)))


def checked_policy(policy: object, origin: str) -> str:
    """Raises TypeError, which names the origin."""
    if not isinstance(policy, str):
        raise TypeError(f"{origin} must be a str, not {type(policy).__name__}")
    return policy


def checked_cost(cost: object, origin: str) -> Cost:
    """Raises TypeError or ValueError, which name the origin. A cost of 0 would pass free of charge."""
    if not isinstance(cost, Mapping):
        return _checked_integer(cost, origin, 1)
    return {
        layer: _checked_integer(of_layer, f'{origin} for the layer "{layer}"', 0) for layer, of_layer in cost.items()
    }


def _checked_integer(value: object, origin: str, least: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{origin} must be an int, not {type(value).__name__}")
    if value < least:
        raise ValueError(f"{origin} must be at least {least}, not {value}: max({least}, …) keeps it there")
    return value


def header_text(value: str) -> str:
    """The text of a header. Frameworks decode headers as Latin-1, but user names are most likely UTF-8."""
    try:
        return value.encode("latin-1").decode("utf-8")
    except UnicodeError:
        return value


def address_of(forwarded: Sequence[str], peer: str | None, trusted_proxies: int) -> str:
    """
    The visitor's address, as the outermost trusted proxy saw it. `forwarded` has the headers `X-Forwarded-For`, `peer`
    is the address of the connection. Without a proxy or its entry, the peer's address. A peer without an address, on a
    Unix socket or in a test client, counts as 127.0.0.1.
    """
    if trusted_proxies > 0:
        entries = [part for line in forwarded for part in line.split(",")]
        if len(entries) >= trusted_proxies:
            address = _address(entries[-trusted_proxies])
            if address is not None:
                return address
    return _address(peer or "") or "127.0.0.1"


def without_port(address: str) -> str:
    """An address without the port, brackets and zone that some proxies write. Any other text as it is."""
    return _address(address) or address


def _address(text: str) -> str | None:
    """Removes the port, brackets and zone that some proxies write. None unless the rest is an address."""
    # Anyone can send a long text. It is not kept in memory.
    return _cached_address(text) if len(text) <= _LONGEST_CACHED else _parse_address(text)


def _parse_address(text: str) -> str | None:
    text = text.strip()
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        return str(ipaddress.ip_address(text.partition("%")[0]))
    except ValueError:
        return None


_LONGEST_CACHED = 64
_cached_address = functools.lru_cache(maxsize=1024)(_parse_address)
