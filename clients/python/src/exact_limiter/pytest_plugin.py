"""
A limiter for tests, with a clock that moves when it is told to. Installed with the package, nothing to import:

    def test_the_sixth_waits(limiter, client):
        for _ in range(5):
            assert client.post("/chat/message").status_code == 200
        denied = client.post("/chat/message")
        assert (denied.status_code, denied.headers["Retry-After"]) == (429, "60")
        limiter.advance(seconds=60)
        assert client.post("/chat/message").status_code == 200

`limiter.url` and `limiter.token` are what the backend under test is given.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

import pytest

from .testing import LimiterService


@pytest.fixture(scope="session")
def limiter_variables() -> Mapping[str, str]:
    """Variables of the limiter under test, such as RATE_LIMIT_POLICIES: to be overridden in a conftest.py."""
    return {}


@pytest.fixture(scope="session")
def limiter_service(
    pytestconfig: pytest.Config, limiter_variables: Mapping[str, str]
) -> Generator[LimiterService, None, None]:
    """The limiter, started once for all tests. Tests ask for `limiter`."""
    with LimiterService.start(limiter_variables, near=pytestconfig.rootpath) as service:
        yield service


@pytest.fixture
def limiter(limiter_service: LimiterService) -> LimiterService:
    """The limiter as if it had just been started: nothing counted."""
    limiter_service.reset()
    return limiter_service
