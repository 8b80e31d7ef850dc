"""
A limiter for tests, with a clock that tests move. The plugin is installed with the package, without an import:

    def test_the_sixth_message_waits(limiter, client):
        for _ in range(5):
            assert client.post("/chat/message").status_code == 200
        denied = client.post("/chat/message")
        assert (denied.status_code, denied.headers["Retry-After"]) == (429, "60")
        limiter.advance(seconds=60)
        assert client.post("/chat/message").status_code == 200

Pass `limiter.url` and `limiter.token` to the backend under test.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping

import pytest

from .testing import LimiterService


@pytest.fixture(scope="session")
def limiter_variables() -> Mapping[str, str]:
    """Variables of the limiter under test, such as RATE_LIMIT_POLICIES. Override this fixture in a conftest.py."""
    return {}


@pytest.fixture(scope="session")
def limiter_service(
    pytestconfig: pytest.Config, limiter_variables: Mapping[str, str]
) -> Generator[LimiterService, None, None]:
    """The limiter process, shared by all tests. Tests use `limiter`."""
    with LimiterService.start(limiter_variables, near=pytestconfig.rootpath) as service:
        yield service


@pytest.fixture
def limiter(limiter_service: LimiterService) -> LimiterService:
    """The limiter, with empty counters."""
    limiter_service.reset()
    return limiter_service
