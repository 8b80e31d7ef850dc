"""The storage under the strategies of `limits`, slowapi and flask-limiter, against the real service."""

from __future__ import annotations

import gc
import logging
import queue
import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import flask
import flask_limiter
import limits
import limits.aio.strategies
import limits.storage
import limits.strategies
import pytest
from anyio.from_thread import BlockingPortal
from conftest import Blocking
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from servers import hangs_up, misbehaving, responds

from exact_limiter import InvalidRequestError, Limiter, LimiterError, UnauthorizedError, UnavailableError
from exact_limiter.limits import AsyncLimiterStorage, LimiterStorage
from exact_limiter.testing import LimiterService

FIVE = limits.parse("5/minute")


def uri_of(service: LimiterService) -> str:
    return service.url.replace("http://", f"limiter+http://{service.token}@")


class Held:
    """A strategy that keeps its storage alive. The strategies of the oldest `limits` hold only a weak reference."""

    def __init__(self, kind: Callable[..., Any], storage: object) -> None:
        self._storage = storage
        self._strategy = kind(storage)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._strategy, name)


Strategies = Callable[..., Any]


@pytest.mark.parametrize("scheme", ["limiter+https", "async+limiter+https"])
@pytest.mark.parametrize("token", ["sec:ret", "sec/ret", "sec#ret", "sec?ret", "sec@ret"])
def test_refuses_a_token_that_is_not_percent_encoded_without_showing_it(scheme: str, token: str) -> None:
    with pytest.raises(ValueError, match="percent-encode the token") as raised:
        limits.storage.storage_from_string(f"{scheme}://{token}@limiter.example")
    assert "ret" not in str(raised.value)


@pytest.fixture
def opened(portal: BlockingPortal) -> Generator[Callable[..., Any], None, None]:
    """Opens storages by their URI, and closes those of the event loop at the end of the test."""
    storages: list[Any] = []

    def open_storage(uri: str, **options: Any) -> Any:
        storages.append(limits.storage.storage_from_string(uri, **options))
        return storages[-1]

    yield open_storage
    for storage in storages:
        if isinstance(storage, AsyncLimiterStorage):
            portal.call(storage._limiter.aclose)


@pytest.fixture(params=["threads", "event loop"])
def strategy(
    request: pytest.FixtureRequest, portal: BlockingPortal, limiter: LimiterService, opened: Callable[..., Any]
) -> Strategies:
    """Makes a strategy of `limits`, blocking or async, over a storage opened by its URI."""

    def make(name: str = "moving-window", uri: str = uri_of(limiter), **options: Any) -> Any:
        if request.param == "threads":
            kinds: Any = limits.strategies.STRATEGIES
            return Held(kinds[name], opened(uri, **options))
        kinds = limits.aio.strategies.STRATEGIES
        return Blocking(portal, Held(kinds[name], opened(f"async+{uri}", **options)))

    return make


STRATEGIES = pytest.mark.parametrize("name", ["moving-window", "fixed-window"])


@STRATEGIES
def test_admits_five_hits_in_a_minute(strategy: Strategies, limiter: LimiterService, name: str) -> None:
    window = strategy(name)
    assert [window.hit(FIVE, "u_1") for _ in range(6)] == [True] * 5 + [False]
    assert window.test(FIVE, "u_1") is False
    assert window.test(FIVE, "u_2") is True
    limiter.advance(seconds=59.999)
    assert window.hit(FIVE, "u_1") is False
    limiter.advance(seconds=0.001)
    assert window.hit(FIVE, "u_1") is True


@STRATEGIES
def test_a_denied_hit_is_not_charged(strategy: Strategies, limiter: LimiterService, name: str) -> None:
    window = strategy(name)
    assert window.hit(FIVE, "u_1", cost=4)
    assert not window.hit(FIVE, "u_1", cost=2)
    assert window.hit(FIVE, "u_1")


@STRATEGIES
def test_a_cost_above_the_limit_is_denied_and_not_charged(strategy: Strategies, name: str) -> None:
    window = strategy(name)
    assert not window.hit(FIVE, "u_1", cost=6)
    assert window.get_window_stats(FIVE, "u_1")[1] == 5


@STRATEGIES
def test_rounds_a_fractional_cost_up(strategy: Strategies, name: str) -> None:
    window = strategy(name)
    assert window.hit(FIVE, "u_1", cost=3.5)
    assert not window.hit(FIVE, "u_1", cost=1.5)
    assert window.get_window_stats(FIVE, "u_1")[1] == 1


@STRATEGIES
def test_a_cost_of_0_is_admitted_and_not_charged(strategy: Strategies, name: str) -> None:
    window = strategy(name)
    assert window.hit(FIVE, "u_1", cost=0)
    assert window.get_window_stats(FIVE, "u_1")[1] == 5


@STRATEGIES
def test_the_stats_show_the_remaining_hits_and_when_more_come_back(
    strategy: Strategies, limiter: LimiterService, name: str
) -> None:
    window = strategy(name)
    assert window.get_window_stats(FIVE, "u_1")[1] == 5
    window.hit(FIVE, "u_1", cost=2)
    limiter.advance(seconds=45)
    window.hit(FIVE, "u_1")
    reset_at, remaining = window.get_window_stats(FIVE, "u_1")
    assert remaining == 2
    # The first two come back in 15 s. The tolerance is for the test's own run time.
    assert -10 < reset_at - (time.time() + 15) < 10


@STRATEGIES
def test_clears_a_key(strategy: Strategies, name: str) -> None:
    window = strategy(name)
    window.hit(FIVE, "u_1", cost=5)
    window.clear(FIVE, "u_1")
    assert window.hit(FIVE, "u_1", cost=5)


@pytest.mark.parametrize("item", ["1/second", "2 per 5 minute", "3/hour", "4/day", "6/month", "1000000000/month"])
def test_limits_with_windows_up_to_a_month_hold(strategy: Strategies, item: str) -> None:
    limit = limits.parse(item)
    assert strategy().hit(limit, "u_1", cost=limit.amount)
    assert not strategy().hit(limit, "u_1")


@pytest.mark.parametrize("scheme", ["limiter+https", "async+limiter+https"])
def test_named_limits_out_of_bounds_are_refused_when_the_storage_is_made(scheme: str) -> None:
    def make(named: object, query: str = "") -> object:
        options: dict[str, Any] = {"limits": named} if named else {}
        return limits.storage.storage_from_string(f"{scheme}://token@limiter.example{query}", **options)

    for named in ("5/minute;1000000000/month", ["31 per 31 day", "1/second"], None):
        make(named)
    for named, query in (("5/minute;5/year", ""), (["5/minute", "5/year"], ""), (None, "/?limits=5/minute;5/year")):
        with pytest.raises(ValueError, match=r"5 per 1 year: a window must be from 1 second to 31 days$"):
            make(named, query)
    with pytest.raises(ValueError, match=r"1000000001 per 1 day: a limit .*; 1 per 2 month: a window "):
        make("1000000001/day;1 per 2 months")


def test_slowapi_and_flask_limiter_refuse_a_year_at_start_when_the_limits_are_named() -> None:
    import flask_limiter
    import slowapi

    uri = "limiter+https://token@limiter.example"
    with pytest.raises(ValueError, match="5 per 1 year"):
        slowapi.Limiter(lambda: "somebody", storage_uri=uri, storage_options={"limits": "5/year"})
    from flask import Flask

    with pytest.raises(ValueError, match="5 per 1 year"):
        flask_limiter.Limiter(
            key_func=lambda: "somebody", app=Flask("app"), storage_uri=uri, storage_options={"limits": "5/year"}
        )


@pytest.mark.parametrize("item", ["1/year", "1000000001/minute"])
def test_a_limit_out_of_bounds_is_an_invalid_request(strategy: Strategies, item: str) -> None:
    with pytest.raises(InvalidRequestError, match="must be from 1"):
        strategy().hit(limits.parse(item), "u_1")


def test_keeps_keys_of_any_text_and_length_apart(strategy: Strategies) -> None:
    window = strategy()
    keys = ["", " ", "a", "a ", " a", "ä", "ä ", "a\nb", "\ufeffa", "\ud800", "x" * 300, "x" * 301]
    for key in keys:
        assert window.hit(FIVE, key, cost=5)
    for key in keys:
        assert not window.hit(FIVE, key)


def test_a_key_that_does_not_end_with_a_limit_needs_the_moving_window(limiter: LimiterService) -> None:
    storage = LimiterStorage(uri_of(limiter))
    calls: list[Callable[[], object]] = [
        lambda: storage.incr("key", 60),
        lambda: storage.get("key"),
        lambda: storage.get_expiry("key"),
    ]
    for call in calls:
        with pytest.raises(NotImplementedError, match="moving-window"):
            call()
    assert storage.acquire_entry("key", 1, 60)
    assert not storage.acquire_entry("key", 1, 60)


def test_refuses_elastic_windows(limiter: LimiterService) -> None:
    with pytest.raises(NotImplementedError, match="moving-window"):
        LimiterStorage(uri_of(limiter)).incr("LIMITER/u/5/1/minute", 60, elastic_expiry=True)


def test_refuses_a_reset_of_all_keys(limiter: LimiterService) -> None:
    with pytest.raises(NotImplementedError):
        LimiterStorage(uri_of(limiter)).reset()


def test_is_healthy_while_it_can_count(
    limiter: LimiterService, portal: BlockingPortal, opened: Callable[..., Any]
) -> None:
    wrong = uri_of(limiter).replace(limiter.token, "wrong")
    assert opened(uri_of(limiter)).check()
    assert not opened(wrong).check()
    assert portal.call(opened(f"async+{uri_of(limiter)}").check)
    assert not portal.call(opened(f"async+{wrong}").check)


def test_raises_a_base_exception_of_the_storage_in_an_outage(strategy: Strategies) -> None:
    with misbehaving([hangs_up]) as server:
        window = strategy(uri=server.url.replace("http://", "limiter+http://token@"), deadline_seconds=0.2)
        with pytest.raises(UnavailableError):
            window.hit(FIVE, "u_1")
    assert issubclass(UnavailableError, LimiterError)


@pytest.mark.parametrize(("on_error", "is_allowed"), [("deny", False), ("allow", True)])
@STRATEGIES
def test_on_error_decides_in_an_outage(strategy: Strategies, name: str, on_error: str, is_allowed: bool) -> None:
    with misbehaving([hangs_up]) as server:
        uri = server.url.replace("http://", "limiter+http://token@") + f"/?deadline_seconds=0.2&on_error={on_error}"
        window = strategy(name, uri=uri)
        # A login route tests the limit before it checks the password, and hits it after a wrong password.
        for _ in range(4):
            assert window.test(FIVE, "u_1") is is_allowed
            assert window.hit(FIVE, "u_1") is is_allowed
        reset_at, remaining = window.get_window_stats(FIVE, "u_1")
        assert remaining == (5 if is_allowed else 0)
        assert is_allowed or -10 < reset_at - (time.time() + 1) < 10
        window.clear(FIVE, "u_1")


@pytest.mark.parametrize(("on_error", "is_allowed"), [("deny", False), ("allow", True)])
@STRATEGIES
def test_on_error_decides_with_a_refused_token(
    strategy: Strategies, limiter: LimiterService, name: str, on_error: str, is_allowed: bool
) -> None:
    window = strategy(name, uri=uri_of(limiter).replace(limiter.token, "wrong"), on_error=on_error)
    assert (window.test(FIVE, "u_1"), window.hit(FIVE, "u_1")) == (is_allowed, is_allowed)
    assert window.get_window_stats(FIVE, "u_1")[1] == (5 if is_allowed else 0)
    window.clear(FIVE, "u_1")


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@STRATEGIES
def test_a_limit_that_the_service_refuses_never_admits(
    strategy: Strategies, caplog: pytest.LogCaptureFixture, name: str, on_error: str
) -> None:
    window = strategy(name, on_error=on_error)
    year = limits.parse("5/year")
    assert (window.test(year, "u_1"), window.hit(year, "u_1")) == (False, False)
    assert window.get_window_stats(year, "u_1")[1] == 0
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert (record.levelno, "must be from 1" in record.getMessage()) == (logging.ERROR, True)


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize("uri", ["limiter+http", "async+limiter+http"])
def test_logs_a_refused_clear_and_does_not_raise(
    opened: Callable[..., Any], portal: BlockingPortal, caplog: pytest.LogCaptureFixture, uri: str, on_error: str
) -> None:
    refused = responds("400 Bad Request", '{"status": 400, "detail": "No such key."}')
    with misbehaving([refused]) as server:
        storage = opened(server.url.replace("http", f"{uri}", 1).replace("://", "://token@"), on_error=on_error)
        if uri.startswith("async"):
            storage = Blocking(portal, storage)
        storage.clear("LIMITER/u_1/5/1/minute")
        assert len(server.requests) == 1
    assert [record.levelno for record in caplog.records if record.name == "exact_limiter"] == [logging.ERROR]


def test_raises_for_a_wrong_token(strategy: Strategies, limiter: LimiterService) -> None:
    with pytest.raises(UnauthorizedError):
        strategy(uri=uri_of(limiter).replace(limiter.token, "wrong")).hit(FIVE, "u_1")


def test_percent_decodes_the_token() -> None:
    storage = LimiterStorage("limiter+https://a%2Fb%40c@limiter.example:8443/base?on_error=deny")
    assert storage._limiter._headers["Authorization"] == "Bearer a/b@c"
    assert str(storage._limiter.url) == "https://limiter.example:8443/base"


def test_refuses_an_unknown_option() -> None:
    with pytest.raises(ValueError, match="max_connections"):
        LimiterStorage("limiter+https://token@limiter.example", max_connections=5)


@pytest.mark.parametrize("strategy_name", [None, "moving-window"])
def test_slowapi_works_with_a_storage_uri(limiter: LimiterService, strategy_name: str | None) -> None:
    slowapi = pytest.importorskip("slowapi")
    from slowapi.errors import RateLimitExceeded

    apps = []
    for _ in range(2):
        slow = slowapi.Limiter(
            lambda: "somebody", storage_uri=uri_of(limiter), strategy=strategy_name, headers_enabled=True
        )
        app = FastAPI()
        app.state.limiter = slow
        app.add_exception_handler(RateLimitExceeded, slowapi._rate_limit_exceeded_handler)

        def message(request: Request, response: Any = None) -> str:
            return "hello"

        from fastapi import Response

        message.__annotations__ = {"request": Request, "response": Response, "return": str}
        app.post("/chat/message")(slow.limit("5/minute")(message))
        apps.append(TestClient(app))
    # Two containers share the limit.
    statuses = [apps[i % 2].post("/chat/message").status_code for i in range(6)]
    assert statuses == [200] * 5 + [429]
    denied = apps[0].post("/chat/message")
    assert (denied.headers["X-RateLimit-Remaining"], denied.headers["Retry-After"]) == ("0", "60")
    limiter.advance(seconds=60)
    assert apps[1].post("/chat/message").status_code == 200


def test_flask_limiter_works_with_a_storage_uri(limiter: LimiterService) -> None:
    clients = []
    for _ in range(2):
        app = flask.Flask("app")
        limit = flask_limiter.Limiter(
            key_func=lambda: "somebody",
            app=app,
            storage_uri=uri_of(limiter),
            strategy="moving-window",
            headers_enabled=True,
        )
        app.route("/chat/message", methods=["POST"])(limit.limit("5/minute")(lambda: "hello"))
        clients.append(app.test_client())
    statuses = [clients[i % 2].post("/chat/message").status_code for i in range(6)]
    assert statuses == [200] * 5 + [429]
    limiter.advance(seconds=60)
    assert clients[1].post("/chat/message").status_code == 200


def test_a_collected_storage_is_not_closed_by_the_collecting_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed_by: queue.Queue[int] = queue.Queue()
    close = Limiter.close

    def close_and_record(limiter: Limiter) -> None:
        close(limiter)
        closed_by.put(threading.get_ident())

    monkeypatch.setattr(Limiter, "close", close_and_record)
    storage = LimiterStorage("limiter+http://token@limiter.test")
    del storage
    gc.collect()
    assert closed_by.get(timeout=10) != threading.get_ident()
