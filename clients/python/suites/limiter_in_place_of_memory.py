"""
A pytest plugin that runs the test suites of others as they are, with the limiter in place of their storage in memory:

- slowapi's, which names no storage, so that RATELIMIT_STORAGE_URL decides;
- that of `limits`, whose tests are parametrised by storages: of each list, one stays, and it is ours.

The service's clock follows `time.time()`, whatever that suite makes of it, and each test begins with nothing counted.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone

import httpx
import pytest

from exact_limiter import client
from exact_limiter.exchange import Call
from exact_limiter.limits import AsyncLimiterStorage, LimiterStorage
from exact_limiter.testing import LimiterService

SERVICE = LimiterService.start()
URI = SERVICE.url.replace("http://", f"limiter+http://{SERVICE.token}@")
os.environ["RATELIMIT_STORAGE_URL"] = URI

#: A strategy that the limiter has no part in.
NOT_OURS = "sliding_window"

_request = client._Configured._request


def _request_at_their_time(self: client._Configured, call: Call, attempt: int, **timeouts: float) -> httpx.Request:
    # Threads that ask at once may tell the time in another order: it stays at the latest.
    with contextlib.suppress(ValueError):
        SERVICE.set_time(datetime.fromtimestamp(time.time(), timezone.utc))
    return _request(self, call, attempt, **timeouts)


client._Configured._request = _request_at_their_time  # type: ignore[method-assign]


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = [name.strip() for name in mark.args[0].split(",")] if isinstance(mark.args[0], str) else mark.args[0]
        if {"uri", "fixture"} <= set(names):
            _keep_ours(mark, names)


def _keep_ours(mark: pytest.Mark, names: list[str]) -> None:
    first = next(iter(mark.args[1]))
    uri = getattr(first, "values", first)[names.index("uri")]
    if not uri.endswith("memory://"):
        return
    is_async = uri.startswith("async+")
    ours: Mapping[str, object] = {
        "uri": f"async+{URI}" if is_async else URI,
        "args": {},
        "fixture": None,
        "expected_instance": AsyncLimiterStorage if is_async else LimiterStorage,
    }
    ours_alone = [pytest.param(*[ours[name] for name in names], id="limiter", marks=pytest.mark.limiter)]
    object.__setattr__(mark, "args", (mark.args[0], ours_alone, *mark.args[2:]))


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "limiter: runs on the limiter")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of the suite of `limits`, what runs on a storage; of slowapi's, everything."""
    if not any(item.get_closest_marker("limiter") for item in items):
        return
    ours = [item for item in items if item.get_closest_marker("limiter") and NOT_OURS not in item.nodeid]
    config.hook.pytest_deselected(items=[item for item in items if item not in ours])
    items[:] = ours


def pytest_unconfigure() -> None:
    SERVICE.stop()


@pytest.fixture(autouse=True)
def _nothing_counted() -> None:
    SERVICE.reset()
