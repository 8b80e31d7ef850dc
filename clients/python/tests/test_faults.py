"""Both clients against real servers that hang, hang up, or send responses unlike the limiter's."""

from __future__ import annotations

import json
import time
from typing import Any

import anyio
import httpx
import pytest
from conftest import Make
from servers import Behaviour, hangs, hangs_up, misbehaving, responds, trickles

from exact_limiter import InvalidRequestError, Limiter, UnavailableError

USER = {"user": "u_1", "ip": "203.0.113.7"}
DECISION = {
    "allowed": True,
    "id": "x",
    "policy": "chat",
    "cost": 1,
    "replayed": False,
    "degraded": False,
    "retry_after_seconds": None,
    "limits": [],
}
LIMIT = {
    "layer": "caller",
    "key": "user:u_1",
    "limit": 5,
    "window_seconds": 60,
    "used": 1,
    "remaining": 4,
    "reset_seconds": 60,
}


def decides(fields: dict[str, object], *, is_kept_open: bool = False) -> Behaviour:
    """Responds with a decision that has these fields."""
    return responds(
        "200 OK", json.dumps(DECISION | fields), "Content-Type: application/json", is_kept_open=is_kept_open
    )


#: The first field of each has a wrong type.
WRONG_TYPES: list[dict[str, object]] = [
    {"allowed": "yes"},
    {"allowed": 1},
    {"id": 7},
    {"policy": None},
    {"cost": "1"},
    {"cost": True},
    {"replayed": None},
    {"degraded": 0},
    {"retry_after_seconds": 5},
    {"retry_after_seconds": "soon", "allowed": False},
    {"limits": {}},
    {"limits": ["a"]},
    {"limits": [LIMIT | {"used": "1"}]},
    {"limits": [LIMIT | {"key": 1}]},
    {"shadow": "no"},
    {"would_deny": None},
]

allows = decides({})
fails = responds("500 Internal Server Error", '{"detail": "The service failed. Its log has the details."}')
is_html = responds("200 OK", "<html>Welcome!</html>", "Content-Type: text/html")

TRANSIENT_FAULTS = [
    pytest.param(hangs, id="hangs"),
    pytest.param(hangs_up, id="hangs up"),
    pytest.param(trickles, id="trickles"),
    pytest.param(fails, id="500"),
    pytest.param(responds("502 Bad Gateway", "<html>"), id="502"),
    pytest.param(is_html, id="200 with HTML"),
    pytest.param(responds("200 OK", "[]"), id="200 with a list"),
    pytest.param(responds("200 OK", '{"allowed": true}'), id="200 with half a decision"),
    pytest.param(responds("429 Too Many Requests", "slow down"), id="429 of a proxy"),
    pytest.param(responds("403 Forbidden", "<html>"), id="403 of a proxy"),
    pytest.param(responds("404 Not Found", "nothing here"), id="404 of a proxy"),
    pytest.param(responds("404 Not Found", '{"detail": "Not Found"}'), id="404 of another FastAPI"),
    pytest.param(responds("403 Forbidden", '{"detail": "blocked"}'), id="403 of a firewall"),
    pytest.param(
        responds("400 Bad Request", '{"detail": "x", "status": 400, "errors": ["a"]}'), id="400 with malformed errors"
    ),
    pytest.param(responds("200 OK", "not compressed", "Content-Encoding: gzip"), id="200 with a wrong encoding"),
    pytest.param(responds("200 OK", '{"limits":' + "[" * 100_000), id="200 with deep nesting"),
    pytest.param(responds("429 Too Many Requests", json.dumps(DECISION)), id="429 that allows"),
]
#: Invalid decisions, and decisions about another request.
WRONG_DECISIONS = [
    *[pytest.param(decides(wrong), id=f"{next(iter(wrong.items()))}") for wrong in WRONG_TYPES],
    pytest.param(decides({"policy": "org"}), id="another policy"),
    pytest.param(decides({"limits": [{**LIMIT, "key": "user:u_2"}]}), id="another user"),
    pytest.param(decides({"limits": [{**LIMIT, "key": "ip:203.0.113.8"}]}), id="another address"),
    pytest.param(decides({"limits": [{**LIMIT, "key": "inline/u_1"}]}), id="inline limits"),
]
FAULTS = [
    *TRANSIENT_FAULTS,
    pytest.param(responds("503 Service Unavailable", "{}", "Retry-After: 60"), id="503 for a minute"),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_on_error_decides_without_a_response_of_the_service(make: Make, fault: Behaviour, on_error: str) -> None:
    with misbehaving([fault]) as server:
        limiter = make(server.url, deadline_seconds=0.4, on_error=on_error)
        for decision in (limiter.consume("chat", USER), limiter.check("chat", USER)):
            is_allowed = on_error == "allow"
            assert (decision.allowed, decision.degraded, decision.limits) == (is_allowed, True, ())
            assert decision.retry_after_seconds == (None if is_allowed else 1)
            assert decision.headers.get("Retry-After") == (None if is_allowed else "1")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_settle_or_a_release_without_a_response_is_unavailable(make: Make, fault: Behaviour) -> None:
    with misbehaving([fault]) as server:
        limiter = make(server.url, deadline_seconds=0.4)
        with pytest.raises(UnavailableError):
            limiter.settle("chat", USER, id="x", cost=0)
        with pytest.raises(UnavailableError):
            limiter.release("chat", USER, id="x")


@pytest.mark.parametrize(
    "wrong",
    [{"policy": "org"}, {"limits": [{**LIMIT, "key": "user:u_2"}]}, {"id": 7}, {"cost": "0", "released": 1}],
    ids=["another policy", "another user", "id", "cost, released"],
)
def test_retries_after_a_malformed_settlement_or_release(make: Make, wrong: dict[str, object]) -> None:
    right: dict[str, object] = {"released": True, "cost": 0}
    with misbehaving([decides(right | wrong), decides(right)] * 2) as server:
        limiter = make(server.url, deadline_seconds=3)
        assert limiter.settle("chat", USER, id="x", cost=0).cost == 0
        assert limiter.release("chat", USER, id="x").policy == "chat"
        assert len(server.requests) == 4


def test_retries_after_a_settlement_or_release_of_another_decision_or_cost(make: Make) -> None:
    right: dict[str, object] = {"released": True, "cost": 3}
    another = decides(right | {"id": "another"})
    with misbehaving([another, decides(right | {"cost": 4}), decides(right), another, decides(right)]) as server:
        limiter = make(server.url, deadline_seconds=3)
        assert limiter.settle("chat", USER, id="x", cost=3).cost == 3
        assert limiter.release("chat", USER, id="x").id == "x"
        assert len(server.requests) == 5


def test_does_not_reuse_a_connection_after_a_mismatched_response(make: Make) -> None:
    right, wrong = (decides({"cost": 0, "id": id}, is_kept_open=True) for id in ("x", "another"))
    with misbehaving([right, wrong, right]) as server:
        limiter = make(server.url, deadline_seconds=3)
        for _ in range(3):
            assert limiter.settle("chat", USER, id="x", cost=0).id == "x"
        first, mismatched, retried, last = server.peers
    assert (first, retried) == (mismatched, last)
    assert first != retried


def test_on_error_decides_without_a_server(make: Make) -> None:
    with misbehaving([hangs]) as server:
        url = server.url
    decision = make(url, deadline_seconds=0.3, on_error="allow").consume("chat", USER)
    assert (decision.allowed, decision.degraded) == (True, True)


@pytest.mark.parametrize("fault", [*TRANSIENT_FAULTS, *WRONG_DECISIONS])
def test_retries_a_consume_with_the_same_key(make: Make, fault: Behaviour) -> None:
    with misbehaving([fault, allows]) as server:
        decision = make(server.url, deadline_seconds=3).consume("chat", USER)
        assert (decision.allowed, decision.degraded) == (True, False)
        assert len(server.requests) == 2
        assert len(set(server.idempotency_keys)) == 1
        assert len(server.idempotency_keys) == 2


def test_sends_the_attempt_only_with_a_generated_key(make: Make) -> None:
    with misbehaving([hangs_up, allows]) as server:
        limiter = make(server.url, deadline_seconds=3)
        limiter.consume("chat", USER)
        limiter.consume("chat", USER, idempotency_key="mine")
        assert server.attempts == ["1", "2", None]


@pytest.mark.parametrize("key", ["", "a b", "k\n", "ä", "k" * 129])
def test_an_invalid_key_is_an_invalid_request(make: Make, key: str) -> None:
    with misbehaving([allows]) as server, pytest.raises(InvalidRequestError) as raised:
        make(server.url, on_error="allow").consume("chat", USER, idempotency_key=key)
    assert [error.pointer for error in raised.value.errors] == ["/idempotency_key"]
    assert server.requests == []


@pytest.mark.parametrize("token", ["", None, "tok\n", "to ken", "tök"])
def test_the_constructor_refuses_a_token_that_is_missing_or_unfit_for_a_header(make: Make, token: Any) -> None:
    with pytest.raises(ValueError, match="token"):
        make("http://127.0.0.1:1", token)


def test_a_pause_beyond_the_deadline_ends_the_call(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, anyio_sleep = time.sleep, anyio.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds + 0.5))
    monkeypatch.setattr(anyio, "sleep", lambda seconds: anyio_sleep(seconds + 0.5))
    with misbehaving([fails]) as server:
        assert make(server.url, deadline_seconds=0.4).consume("chat", USER).degraded
        assert len(server.requests) == 1


def test_a_transport_may_read_the_response_in_advance() -> None:
    def respond(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=DECISION)

    with Limiter("http://limiter.test", "token", transport=httpx.MockTransport(respond)) as limiter:
        assert limiter.consume("chat", USER).id == "x"


def test_two_consumes_have_two_keys(make: Make) -> None:
    with misbehaving([allows]) as server:
        limiter = make(server.url)
        limiter.consume("chat", USER)
        limiter.consume("chat", USER)
        assert len(set(server.idempotency_keys)) == 2


def test_does_not_retry_when_retry_after_is_beyond_the_deadline(make: Make) -> None:
    with misbehaving([responds("503 Service Unavailable", "{}", "Retry-After: 60"), allows]) as server:
        assert make(server.url, deadline_seconds=5).consume("chat", USER).degraded
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [hangs, trickles], ids=lambda fault: fault.__name__)
def test_the_deadline_covers_all_attempts_together(make: Make, fault: Behaviour) -> None:
    with misbehaving([fault]) as server:
        began = time.monotonic()
        make(server.url, deadline_seconds=0.5).consume("chat", USER)
        # A deadline for each attempt, or none, would take ten times as long.
        assert time.monotonic() - began < 5
        assert len(server.requests) >= 2


def test_keeps_the_base_path_of_the_url(make: Make) -> None:
    with misbehaving([allows]) as server:
        make(f"{server.url}/limiter/").consume("chat", USER)
        first = (server.handshakes or server.requests)[0]
        assert first.startswith(("POST /limiter/v1/consume HTTP/1.1", "GET /limiter/v1/session HTTP/1.1"))
