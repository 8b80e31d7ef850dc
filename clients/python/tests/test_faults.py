"""Both clients against real servers that hang, hang up, or answer what no limiter answers."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx
import pytest
from conftest import Make
from servers import Behaviour, answers, hangs, hangs_up, misbehaving, trickles

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


def decides(told: dict[str, object]) -> Behaviour:
    """Answers a decision in which some fields are others: of a call that goes alone, and of a batch of one."""
    decision = DECISION | told
    body = json.dumps(decision | {"results": [{"status": 200, "headers": {}, "body": decision}]})
    return answers("200 OK", body, "Content-Type: application/json")


#: The first field of each is of another type than it must be.
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

ALLOWED = json.dumps(DECISION | {"results": [{"status": 200, "headers": {}, "body": DECISION}]})
allows = decides({})
fails = answers("500 Internal Server Error", '{"detail": "The service failed. Its log has the details."}')
is_html = answers("200 OK", "<html>Welcome!</html>", "Content-Type: text/html")

FAULTS_OF_A_MOMENT = [
    pytest.param(hangs, id="hangs"),
    pytest.param(hangs_up, id="hangs up"),
    pytest.param(trickles, id="trickles"),
    pytest.param(fails, id="500"),
    pytest.param(answers("502 Bad Gateway", "<html>"), id="502"),
    pytest.param(is_html, id="200 that is HTML"),
    pytest.param(answers("200 OK", "[]"), id="200 that is no object"),
    pytest.param(answers("200 OK", '{"allowed": true}'), id="200 that is half a decision"),
    pytest.param(answers("429 Too Many Requests", "slow down"), id="429 of somebody else"),
    pytest.param(answers("403 Forbidden", "<html>"), id="403 of somebody else"),
    pytest.param(answers("404 Not Found", "nothing here"), id="404 of somebody else"),
    pytest.param(answers("404 Not Found", '{"detail": "Not Found"}'), id="404 of another FastAPI"),
    pytest.param(answers("403 Forbidden", '{"detail": "blocked"}'), id="403 of a firewall"),
    pytest.param(
        answers("400 Bad Request", '{"detail": "x", "status": 400, "errors": ["a"]}'), id="errors that are none"
    ),
    pytest.param(answers("200 OK", "not compressed", "Content-Encoding: gzip"), id="200 that can't be decoded"),
    pytest.param(answers("200 OK", '{"results":' + "[" * 100_000), id="200 that is nested too deeply"),
    pytest.param(
        answers("200 OK", '{"results":[{"status":Infinity,"headers":{},"body":{}}]}'), id="a status without end"
    ),
    pytest.param(
        answers(
            "429 Too Many Requests",
            json.dumps(DECISION),
        ),
        id="429 that allows",
    ),
]
#: Decisions that are none, or none about what was asked.
NO_DECISIONS = [
    *[pytest.param(decides(wrong), id=f"{next(iter(wrong.items()))}") for wrong in WRONG_TYPES],
    pytest.param(decides({"policy": "org"}), id="another policy"),
    pytest.param(decides({"limits": [{**LIMIT, "key": "user:u_2"}]}), id="another user"),
    pytest.param(decides({"limits": [{**LIMIT, "key": "ip:203.0.113.8"}]}), id="another address"),
    pytest.param(decides({"limits": [{**LIMIT, "key": "inline/u_1"}]}), id="limits named inline"),
]
FAULTS = [
    *FAULTS_OF_A_MOMENT,
    pytest.param(answers("503 Service Unavailable", "{}", "Retry-After: 60"), id="503 for a minute"),
]


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_without_an_answer_of_the_service_on_error_decides(make: Make, fault: Behaviour, on_error: str) -> None:
    with misbehaving([fault]) as server:
        limiter = make(server.url, deadline_seconds=0.4, on_error=on_error)
        for decision in (limiter.consume("chat", USER), limiter.check("chat", USER)):
            is_allowed = on_error == "allow"
            assert (decision.allowed, decision.degraded, decision.limits) == (is_allowed, True, ())
            assert decision.retry_after_seconds == (None if is_allowed else 1)
            assert decision.headers.get("Retry-After") == (None if is_allowed else "1")


@pytest.mark.parametrize("fault", FAULTS)
def test_a_settle_or_a_release_that_nobody_answers_is_unavailable(make: Make, fault: Behaviour) -> None:
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
def test_a_settlement_and_a_release_that_are_none_are_tried_again(make: Make, wrong: dict[str, object]) -> None:
    told: dict[str, object] = {"released": True, "cost": 0}
    with misbehaving([decides(told | wrong), decides(told)] * 2) as server:
        limiter = make(server.url, deadline_seconds=3)
        assert limiter.settle("chat", USER, id="x", cost=0).cost == 0
        assert limiter.release("chat", USER, id="x").policy == "chat"
        assert len(server.requests) == 4


def test_a_settlement_and_a_release_of_another_decision_or_cost_are_none(make: Make) -> None:
    told: dict[str, object] = {"released": True, "cost": 3}
    another = decides(told | {"id": "another"})
    with misbehaving([another, decides(told | {"cost": 4}), decides(told), another, decides(told)]) as server:
        limiter = make(server.url, deadline_seconds=3)
        assert limiter.settle("chat", USER, id="x", cost=3).cost == 3
        assert limiter.release("chat", USER, id="x").id == "x"
        assert len(server.requests) == 5


# A pool that is given up is collected with its connections.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_connection_on_which_something_else_was_answered_is_not_used_again(make: Make) -> None:
    told: list[tuple[str, int]] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            told.append(self.client_address)
            decision = DECISION | {"cost": 0, "id": "another" if len(told) == 2 else "x"}
            body = json.dumps(decision | {"results": [{"status": 200, "headers": {}, "body": decision}]}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        # It would wait for connections that are kept open.
        block_on_close = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        limiter = make(f"http://127.0.0.1:{server.server_port}", deadline_seconds=3)
        for _ in range(3):
            assert limiter.settle("chat", USER, id="x", cost=0).id == "x"
        server.shutdown()
        thread.join()
    first, wrong, second, third = told
    assert (first, second) == (wrong, third)
    assert first != second


def test_without_a_server_on_error_decides(make: Make) -> None:
    with misbehaving([hangs]) as server:
        url = server.url
    decision = make(url, deadline_seconds=0.3, on_error="allow").consume("chat", USER)
    assert (decision.allowed, decision.degraded) == (True, True)


@pytest.mark.parametrize("fault", [*FAULTS_OF_A_MOMENT, *NO_DECISIONS])
def test_a_consume_is_tried_again_with_the_same_key(make: Make, fault: Behaviour) -> None:
    with misbehaving([fault, allows]) as server:
        decision = make(server.url, deadline_seconds=3).consume("chat", USER)
        assert (decision.allowed, decision.degraded) == (True, False)
        assert len(server.requests) == 2
        assert len(set(server.idempotency_keys)) == 1
        assert len(server.idempotency_keys) == 2


def test_which_attempt_it_is_is_told_of_a_key_that_was_made_up_alone(make: Make) -> None:
    with misbehaving([hangs_up, allows]) as server:
        limiter = make(server.url, deadline_seconds=3)
        limiter.consume("chat", USER)
        limiter.consume("chat", USER, idempotency_key="mine")
        assert server.attempts == ["1", "2", None]


@pytest.mark.parametrize("key", ["", "a b", "k\n", "ä", "k" * 129])
def test_a_key_that_can_be_none_is_a_mistake_of_the_caller(make: Make, key: str) -> None:
    with misbehaving([allows]) as server, pytest.raises(InvalidRequestError) as raised:
        make(server.url, on_error="allow").consume("chat", USER, idempotency_key=key)
    assert [error.pointer for error in raised.value.errors] == ["/idempotency_key"]
    assert server.requests == []


@pytest.mark.parametrize("token", ["", None, "tok\n", "to ken", "tök"])
def test_a_token_that_is_missing_or_that_no_header_can_carry_is_refused_at_once(make: Make, token: Any) -> None:
    with pytest.raises(ValueError, match="token"):
        make("http://127.0.0.1:1", token)


def test_a_pause_that_takes_longer_than_is_left_ends_the_call(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    sleep, anyio_sleep = time.sleep, anyio.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: sleep(seconds + 0.5))
    monkeypatch.setattr(anyio, "sleep", lambda seconds: anyio_sleep(seconds + 0.5))
    with misbehaving([fails]) as server:
        assert make(server.url, deadline_seconds=0.4).consume("chat", USER).degraded
        assert len(server.requests) == 1


def test_a_transport_can_be_given_that_has_its_answers_ready() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=json.loads(ALLOWED))

    with Limiter("http://limiter.test", "token", transport=httpx.MockTransport(answer)) as limiter:
        assert limiter.consume("chat", USER).id == "x"


def test_two_consumes_have_two_keys(make: Make) -> None:
    with misbehaving([allows]) as server:
        limiter = make(server.url)
        limiter.consume("chat", USER)
        limiter.consume("chat", USER)
        assert len(set(server.idempotency_keys)) == 2


def test_a_service_that_asks_for_longer_than_is_left_is_not_asked_again(make: Make) -> None:
    with misbehaving([answers("503 Service Unavailable", "{}", "Retry-After: 60"), allows]) as server:
        assert make(server.url, deadline_seconds=5).consume("chat", USER).degraded
        assert len(server.requests) == 1


@pytest.mark.parametrize("fault", [hangs, trickles], ids=lambda fault: fault.__name__)
def test_the_deadline_holds_for_all_attempts_together(make: Make, fault: Behaviour) -> None:
    with misbehaving([fault]) as server:
        began = time.monotonic()
        make(server.url, deadline_seconds=0.5).consume("chat", USER)
        # Ten times as long would be a deadline for each attempt, or none.
        assert time.monotonic() - began < 5
        assert len(server.requests) >= 2


def test_a_base_path_is_kept(make: Make) -> None:
    with misbehaving([allows]) as server:
        make(f"{server.url}/limiter/").consume("chat", USER)
        assert server.requests[0].startswith(("POST /limiter/v1/consume HTTP/1.1", "POST /limiter/v1/batch HTTP/1.1"))
