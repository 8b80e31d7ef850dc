"""Clients of both kinds behind one set of calls, so that one suite judges both."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal

from exact_limiter import AsyncLimiter, Limiter
from exact_limiter.testing import LimiterService

pytest_plugins = ["pytester"]

_JOBS = ["2 concurrent per 5 minutes", "10/minute"]

#: Of the limiter under test, besides its own `chat`.
POLICIES = {
    "org": {"layers": [{"name": "org", "by": ["org"], "limits": ["2/minute"]}]},
    "trial": {
        "layers": [
            {"name": "user", "by": ["user"], "limits": ["5/minute"]},
            {"name": "org", "by": ["org"], "limits": ["2/minute"], "mode": "shadow"},
        ]
    },
    "jobs": {"layers": [{"name": "caller", "by": ["user", "ip"], "limits": _JOBS}]},
}


@pytest.fixture(scope="session")
def limiter_variables() -> Mapping[str, str]:
    return {"RATE_LIMIT_POLICIES": json.dumps(POLICIES)}


Make = Callable[..., Limiter]


class Blocking:
    """An AsyncLimiter whose calls are waited for: to its caller the same as a Limiter."""

    def __init__(self, portal: BlockingPortal, limiter: AsyncLimiter) -> None:
        self._portal = portal
        self._limiter = limiter

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._limiter, {"close": "aclose"}.get(name, name))
        return lambda *args, **kwargs: self._portal.call(functools.partial(method, *args, **kwargs))


@pytest.fixture(scope="session")
def portal() -> Generator[BlockingPortal, None, None]:
    with start_blocking_portal() as portal:
        yield portal


@pytest.fixture(params=["Limiter", "AsyncLimiter", "AsyncLimiter, batch"])
def make(request: pytest.FixtureRequest, portal: BlockingPortal) -> Generator[Make, None, None]:
    """Makes a client of each kind, as its constructor would, closed at the end of the test."""
    made: list[Limiter] = []

    def make(url: str, token: str = "token", **options: Any) -> Limiter:
        limiter = (
            Limiter(url, token, **options)
            if request.param == "Limiter"
            else cast(Limiter, Blocking(portal, AsyncLimiter(url, token, batch="batch" in request.param, **options)))
        )
        made.append(limiter)
        return limiter

    yield make
    for limiter in made:
        limiter.close()


@pytest.fixture
def client(make: Make, limiter: LimiterService) -> Limiter:
    """A client of the real service, whose counters are empty and whose clock stands still."""
    return make(limiter.url, limiter.token, deadline_seconds=30)
