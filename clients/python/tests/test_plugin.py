"""The pytest plugin, in test suites like a backend's."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from exact_limiter import Limiter
from exact_limiter.testing import LimiterService

USER = {"user": "u_1", "ip": "203.0.113.7"}


def test_the_clock_stands_still_until_a_test_moves_it(limiter: LimiterService) -> None:
    before = limiter.now()
    assert limiter.now() == before
    assert limiter.advance(seconds=1.5) == before + timedelta(seconds=1.5)
    later = datetime(2040, 1, 1, 12, 0, 0, 123_000, tzinfo=timezone(timedelta(hours=2)))
    assert limiter.set_time(later) == later
    assert limiter.now() == later


def test_refuses_a_time_before_a_decision_without_a_reset(limiter: LimiterService) -> None:
    before = limiter.now()
    limiter.advance(seconds=60)
    with limiter.client() as client:
        client.consume("chat", USER)
    with pytest.raises(ValueError, match="reset first"):
        limiter.set_time(before)
    limiter.reset()
    assert limiter.set_time(before) == before


def test_refuses_an_instant_without_a_time_zone(limiter: LimiterService) -> None:
    with pytest.raises(ValueError, match="time zone"):
        limiter.set_time(datetime(2040, 1, 1))


@pytest.mark.parametrize("_", [1, 2])
def test_each_test_begins_with_empty_counters(client: Limiter, _: int) -> None:
    assert client.consume("chat", USER, cost=5)


def test_a_suite_uses_the_fixture_without_an_import(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def limiter_variables():
            return {"RATE_LIMIT_CHAT_PER_MIN": "2"}
        """
    )
    pytester.makepyfile(
        """
        import urllib.error, urllib.request

        def consume(limiter):
            request = urllib.request.Request(
                f"{limiter.url}/v1/consume", b'{"policy": "chat", "subject": {"user": "u_1", "ip": "203.0.113.7"}}',
                {"Authorization": f"Bearer {limiter.token}", "Content-Type": "application/json"})
            try:
                with urllib.request.urlopen(request) as response:
                    return response.status, None
            except urllib.error.HTTPError as response:
                with response:
                    return response.status, response.headers["Retry-After"]

        def test_waits(limiter):
            assert [consume(limiter)[0] for _ in range(2)] == [200, 200]
            assert consume(limiter) == (429, "60")
            limiter.advance(seconds=60)
            assert consume(limiter)[0] == 200

        def test_begins_anew(limiter):
            assert [consume(limiter)[0] for _ in range(3)] == [200, 200, 429]
        """
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=2)


def test_a_failed_start_shows_the_reason(pytester: pytest.Pytester) -> None:
    pytester.makeconftest(
        """
        import pytest

        @pytest.fixture(scope="session")
        def limiter_variables():
            return {"RATE_LIMIT_CHAT_PER_MIN": "many"}
        """
    )
    pytester.makepyfile("def test_it(limiter): ...")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*The limiter did not start*", "*RATE_LIMIT_CHAT_PER_MIN: must be a whole number*"])


def test_the_environment_can_name_the_command(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EXACT_LIMITER_COMMAND", "sh -c 'echo no limiter here'")
    pytester.makepyfile("def test_it(limiter): ...")
    result = pytester.runpytest_subprocess()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no limiter here*"])
