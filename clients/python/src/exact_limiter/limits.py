"""
The limiter as a storage of the `limits` package, and so of slowapi and flask-limiter. The import registers it:

    import exact_limiter.limits
    Limiter(key_func, storage_uri="limiter+https://TOKEN@limiter.example", strategy="moving-window")

The service needs RATE_LIMIT_INLINE=1. `moving-window` counts exactly, and `fixed-window` counts the same: a limit holds
in every window of its length, not only in those that begin on the minute, and a denied hit is not charged.

Options, in the URI's query or in `storage_options`: `deadline_seconds` and `on_error`, by default `raise`. In an
outage, `hit`, `test` and the stats see a limit that is used up under `deny`, and an unused limit under `allow`. A limit
that the service refuses never admits: it denies, or raises under `raise`.

`limits` tells a storage each limit with its requests, and not before. The option `limits` names limits when the
storage is made, such as `storage_options={"limits": "5/minute;1000/month"}`. A limit that the service would refuse,
such as `5/year`, is a ValueError then.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
import weakref
from _thread import start_new_thread
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from limits import parse, parse_many
from limits.aio.storage import MovingWindowSupport as AsyncMovingWindowSupport
from limits.aio.storage import Storage as AsyncStorage
from limits.storage import MovingWindowSupport, Storage

from .async_limiter import AsyncLimiter
from .calls import Layer
from .decision import Decision, degraded_decision
from .errors import InvalidRequestError, LimiterError
from .limiter import Limiter

_SCHEMES = ["limiter+http", "limiter+https"]
_ASYNC_SCHEMES = [f"async+{scheme}" for scheme in _SCHEMES]


class LimiterStorage(Storage, MovingWindowSupport):
    """The storage for threads."""

    STORAGE_SCHEME = _SCHEMES

    def __init__(self, uri: str, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._limiter = Limiter(**_arguments(uri, options))
        # `limits` never closes a storage. The thread that collects it may hold a lock that closing needs, such as the
        # pool's, and would deadlock. So a new thread closes the client.
        closing = weakref.finalize(self, start_new_thread, self._limiter.close, ())
        # No thread can start while the interpreter exits.
        closing.atexit = False

    @property
    def base_exceptions(self) -> type[Exception]:
        return LimiterError

    def acquire_entry(self, key: str, limit: int, expiry: int, amount: float = 1) -> bool:
        cost = math.ceil(amount)
        # The service takes no cost of 0.
        if cost == 0:
            return True
        return cost <= limit and self._consume(_layers(key, limit, expiry), cost).allowed

    def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return _window(self._check(_layers(key, limit, expiry)), limit, expiry)

    def incr(self, key: str, expiry: int, amount: float = 1, *, elastic_expiry: bool = False) -> int:
        cost, limit = math.ceil(amount), _limit_of(key, elastic_expiry)
        if cost == 0:
            return self.get(key)
        if cost > limit:
            return limit + cost
        return _count(self._consume(_layers(key, limit, expiry), cost), limit + cost)

    def get(self, key: str) -> int:
        return self.get_moving_window(key, *_window_of(key))[1]

    def get_expiry(self, key: str) -> int:
        limit, expiry = _window_of(key)
        # slowapi writes it into a header, so it must be whole.
        return int(self.get_moving_window(key, limit, expiry)[0] + expiry)

    def check(self) -> bool:
        try:
            return not self._limiter.check_inline(_HEALTH).degraded
        except LimiterError:
            return False

    def reset(self) -> int | None:
        raise NotImplementedError(_NO_RESET)

    def clear(self, key: str) -> None:
        try:
            self._limiter.forget_inline(_name(key))
        except LimiterError as error:
            _report_or_raise(self._limiter, error)

    def _consume(self, layers: list[Layer], cost: int) -> Decision:
        try:
            return self._limiter.consume_inline(layers, cost=cost)
        except InvalidRequestError as error:
            return _denied(self._limiter, error)

    def _check(self, layers: list[Layer]) -> Decision:
        try:
            return self._limiter.check_inline(layers)
        except InvalidRequestError as error:
            return _denied(self._limiter, error)


class AsyncLimiterStorage(AsyncStorage, AsyncMovingWindowSupport):
    """The storage for event loops."""

    STORAGE_SCHEME = _ASYNC_SCHEMES

    def __init__(self, uri: str, wrap_exceptions: bool = False, **options: Any) -> None:
        super().__init__(uri, wrap_exceptions=wrap_exceptions)
        self._limiter = AsyncLimiter(**_arguments(uri.removeprefix("async+"), options))

    @property
    def base_exceptions(self) -> type[Exception]:
        return LimiterError

    async def acquire_entry(self, key: str, limit: int, expiry: int, amount: float = 1) -> bool:
        cost = math.ceil(amount)
        if cost == 0:
            return True
        return cost <= limit and (await self._consume(_layers(key, limit, expiry), cost)).allowed

    async def get_moving_window(self, key: str, limit: int, expiry: int) -> tuple[float, int]:
        return _window(await self._check(_layers(key, limit, expiry)), limit, expiry)

    async def incr(self, key: str, expiry: int, amount: float = 1, *, elastic_expiry: bool = False) -> int:
        cost, limit = math.ceil(amount), _limit_of(key, elastic_expiry)
        if cost == 0:
            return await self.get(key)
        if cost > limit:
            return limit + cost
        return _count(await self._consume(_layers(key, limit, expiry), cost), limit + cost)

    async def get(self, key: str) -> int:
        return (await self.get_moving_window(key, *_window_of(key)))[1]

    async def get_expiry(self, key: str) -> int:
        limit, expiry = _window_of(key)
        return int((await self.get_moving_window(key, limit, expiry))[0] + expiry)

    async def check(self) -> bool:
        try:
            return not (await self._limiter.check_inline(_HEALTH)).degraded
        except LimiterError:
            return False

    async def reset(self) -> int | None:
        raise NotImplementedError(_NO_RESET)

    async def clear(self, key: str) -> None:
        try:
            await self._limiter.forget_inline(_name(key))
        except LimiterError as error:
            _report_or_raise(self._limiter, error)

    async def _consume(self, layers: list[Layer], cost: int) -> Decision:
        try:
            return await self._limiter.consume_inline(layers, cost=cost)
        except InvalidRequestError as error:
            return _denied(self._limiter, error)

    async def _check(self, layers: list[Layer]) -> Decision:
        try:
            return await self._limiter.check_inline(layers)
        except InvalidRequestError as error:
            return _denied(self._limiter, error)


_HEALTH = [Layer("limit", "health", ["1/second"])]
_NO_RESET = "The limiter forgets one key at a time. In tests, use the `limiter` fixture of exact_limiter."

#: The largest limit and the longest window that the service takes.
_LARGEST = 1_000_000_000
_LONGEST_SECONDS = 31 * 86_400

#: A key of `limits` ends with its limit. `incr`, `get` and `get_expiry` learn the limit from nothing else.
_ENDS_WITH_LIMIT = re.compile(r"/(\d+)/(\d+)/(second|minute|hour|day|month|year)$")


def _arguments(uri: str, options: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a client, from the URI and the options."""
    parts = urlsplit(uri)
    if parts.password is not None:
        raise ValueError("the storage's URI has a colon in its token: percent-encode the token")
    if "@" in (parts.username or "") + parts.path + parts.query + parts.fragment:
        raise ValueError("the storage's URI has a misplaced @: percent-encode the token")
    host = parts.netloc.rpartition("@")[2]
    url = urlunsplit((parts.scheme.removeprefix("limiter+"), host, parts.path, "", ""))
    arguments = {"on_error": "raise", **dict(parse_qsl(parts.query)), **options}
    if unknown := arguments.keys() - {"on_error", "deadline_seconds", "limits"}:
        names = ", ".join(sorted(unknown))
        raise ValueError(f"the limiter's storage takes on_error, deadline_seconds and limits, not {names}")
    _require_takeable(arguments.pop("limits", ()))
    if "deadline_seconds" in arguments:
        arguments["deadline_seconds"] = float(arguments["deadline_seconds"])
    return {"url": url, "token": unquote(parts.username or ""), **arguments}


def _require_takeable(named: str | Iterable[str]) -> None:
    """Raises for limits that the service refuses, with all of them."""
    items = [item for text in ([named] if isinstance(named, str) else named) for item in parse_many(text)]
    mistakes = [f"{item}: a limit must be from 1 to {_LARGEST}" for item in items if not 1 <= item.amount <= _LARGEST]
    mistakes += [
        f"{item}: a window must be from 1 second to 31 days"
        for item in items
        if not 1 <= item.get_expiry() <= _LONGEST_SECONDS
    ]
    if mistakes:
        raise ValueError(f"the limiter does not take these limits: {'; '.join(mistakes)}")


def _report_or_raise(limiter: Limiter | AsyncLimiter, error: LimiterError) -> None:
    if limiter.on_error == "raise":
        raise error
    limiter.report(error, "inline")


def _denied(limiter: Limiter | AsyncLimiter, error: InvalidRequestError) -> Decision:
    """A refused limit is no outage: it never admits, even under `allow`."""
    _report_or_raise(limiter, error)
    return degraded_decision(False, "inline", 1, None)


def _layers(key: str, limit: int, expiry: int) -> list[Layer]:
    return [Layer("limit", _name(key), [f"{limit} per {expiry} seconds"])]


def _name(key: str) -> str:
    """The key, or its digest if the service would refuse the key: it takes at most 256 bytes of text."""
    if key.isascii() and key.isprintable() and key == key.strip() and len(key) <= 250:
        return f"key:{key}"
    return f"sha256:{hashlib.sha256(key.encode(errors='surrogatepass')).hexdigest()}"


def _window(decision: Decision, limit: int, expiry: int) -> tuple[float, int]:
    """The time of the oldest counted hit by this machine's clock, or now, and the used part of the limit."""
    now = time.time()
    if decision.degraded and not decision.allowed:
        # Used up, until a retry makes sense in a second.
        return now + 1 - expiry, limit
    state = decision.limits[0] if decision.limits else None
    if state is None or state.used == 0 or state.frees_in_ms is None:
        return now, 0
    return now + state.frees_in_ms / 1_000 - expiry, state.used


def _count(decision: Decision, denied: int) -> int:
    """The count after an increment; `denied`, which is above the limit, if it was denied."""
    if not decision.allowed:
        return denied
    return decision.limits[0].used if decision.limits else 0


def _limit_of(key: str, elastic_expiry: bool) -> int:
    if elastic_expiry:
        raise NotImplementedError("The limiter has no elastic windows: use moving-window.")
    return _window_of(key)[0]


def _window_of(key: str) -> tuple[int, int]:
    """The limit and the seconds of its window, from the end of a key."""
    match = _ENDS_WITH_LIMIT.search(key)
    if match is None:
        raise NotImplementedError("This key does not end with a limit, which the limiter needs: use moving-window.")
    amount, multiples, granularity = match.groups()
    return int(amount), parse(f"{amount} per {multiples} {granularity}").get_expiry()
