"""
A pytest plugin that runs other projects' test suites unchanged, with the limiter in place of their memory storage:

- slowapi's tests name no storage, so RATELIMIT_STORAGE_URL decides.
- The tests of `limits` are parametrised by storages. The plugin replaces each list with our storage alone.

The service's clock follows `time.time()`, which a suite may mock. Each test begins with empty counters.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone

import pytest

from exact_limiter.base import BaseLimiter
from exact_limiter.calls import Call
from exact_limiter.limits import AsyncLimiterStorage, LimiterStorage
from exact_limiter.testing import LimiterService

SERVICE = LimiterService.start()
URI = SERVICE.url.replace("http://", f"limiter+http://{SERVICE.token}@")
os.environ["RATELIMIT_STORAGE_URL"] = URI

#: A strategy of `limits` that does not use our storage.
NOT_OURS = "sliding_window"

#: Every request over HTTP begins with its headers, and calls with inline limits always go over HTTP.
_headers_of = BaseLimiter._headers_of


def _headers_at_suite_time(self: BaseLimiter, call: Call, attempt: int) -> dict[str, str]:
    # Threads may set the clock in another order than they read the time: the latest time stays.
    with contextlib.suppress(ValueError):
        SERVICE.set_time(datetime.fromtimestamp(time.time(), timezone.utc))
    return _headers_of(self, call, attempt)


BaseLimiter._headers_of = _headers_at_suite_time  # type: ignore[method-assign]


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
    """Keeps the tests of `limits` that use a storage. Slowapi's tests have no mark, and all stay."""
    if not any(item.get_closest_marker("limiter") for item in items):
        return
    ours = [item for item in items if item.get_closest_marker("limiter") and NOT_OURS not in item.nodeid]
    config.hook.pytest_deselected(items=[item for item in items if item not in ours])
    items[:] = ours


def pytest_unconfigure() -> None:
    SERVICE.stop()


@pytest.fixture(autouse=True)
def _empty_counters() -> None:
    SERVICE.reset()
