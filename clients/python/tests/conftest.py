"""Both clients with the same interface, so that one suite tests both."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Generator, Mapping
from typing import Any, cast

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from applications import IP, an_app
from fastapi.testclient import TestClient

from exact_limiter import AsyncLimiter, Limiter
from exact_limiter.testing import LimiterService

pytest_plugins = ["pytester"]

_JOBS = ["2 concurrent per 5 minutes", "10/minute"]

#: Policies of the limiter under test, besides `chat`.
POLICIES = {
    "org": {"layers": [{"name": "org", "by": ["org"], "limits": ["2/minute"]}]},
    "trial": {
        "layers": [
            {"name": "user", "by": ["user"], "limits": ["5/minute"]},
            {"name": "org", "by": ["org"], "limits": ["2/minute"], "mode": "shadow"},
        ]
    },
    "jobs": {"layers": [{"name": "caller", "by": ["user", "ip"], "limits": _JOBS}]},
    "team": {
        "layers": [
            {"name": "user", "by": ["user"], "limits": ["2/minute"]},
            {"name": "org", "by": ["org"], "limits": ["100/minute"]},
        ]
    },
    # Those of docs/fastapi.md.
    "llm": {"layers": [{"name": "tokens", "by": ["user", "ip"], "limits": ["100000/day"]}]},
    "free": {"layers": [{"name": "caller", "by": ["user", "ip"], "limits": ["10/minute"]}]},
    "pro": {"layers": [{"name": "caller", "by": ["user", "ip"], "limits": ["100/minute"]}]},
    "exports": {"layers": [{"name": "caller", "by": ["user", "ip"], "limits": ["2 concurrent per 10 minutes"]}]},
}


@pytest.fixture(scope="session")
def limiter_variables() -> Mapping[str, str]:
    return {"RATE_LIMIT_POLICIES": json.dumps(POLICIES)}


Make = Callable[..., Limiter]


class Blocking:
    """Calls coroutine methods from a thread, so that an AsyncLimiter has the interface of a Limiter."""

    def __init__(self, portal: BlockingPortal, target: object) -> None:
        self._portal = portal
        self._target = target

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._target, {"close": "aclose"}.get(name, name))
        return lambda *args, **kwargs: self._portal.call(functools.partial(method, *args, **kwargs))


@pytest.fixture(scope="session")
def portal() -> Generator[BlockingPortal, None, None]:
    with start_blocking_portal() as portal:
        yield portal


_OVER_HTTP = ["Limiter", "AsyncLimiter, http"]

#: For faults that no single message of a session can have.
HTTP_ONLY = pytest.mark.parametrize("make", _OVER_HTTP, indirect=True)


@pytest.fixture(params=[*_OVER_HTTP, "AsyncLimiter, session"])
def make(request: pytest.FixtureRequest, portal: BlockingPortal) -> Generator[Make, None, None]:
    """Constructs clients of each kind and transport, and closes them at the end of the test."""
    limiters: list[Limiter] = []

    def make(url: str, token: str = "token", **options: Any) -> Limiter:
        client, _, transport = request.param.partition(", ")
        limiter = (
            Limiter(url, token, **options)
            if client == "Limiter"
            else cast(Limiter, Blocking(portal, AsyncLimiter(url, token, transport=transport, **options)))
        )
        limiters.append(limiter)
        return limiter

    yield make
    for limiter in limiters:
        limiter.close()


@pytest.fixture
def client(make: Make, limiter: LimiterService) -> Limiter:
    """A client of the real service, with empty counters and a clock that stands still."""
    return make(limiter.url, limiter.token, deadline_seconds=30)


@pytest.fixture
def app(limiter: LimiterService) -> Generator[TestClient, None, None]:
    with TestClient(an_app(AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30)), headers=IP) as client:
        yield client
