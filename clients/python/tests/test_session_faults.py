"""Sessions against servers that refuse, break or end them."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from unittest import mock

import pytest
from servers import (
    Behaviour,
    Connection,
    Misbehaving,
    SessionConnection,
    hangs,
    hangs_up,
    misbehaving,
    responds,
)
from test_faults import DECISION, decides

from exact_limiter import AsyncLimiter, InvalidRequestError, UnauthorizedError, session

USER = {"user": "u_1", "ip": "203.0.113.7"}
PROBLEM = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "Too many are unanswered."}
ALLOWED = {"status": 200, "headers": {}, "body": DECISION}

allows = decides({}, is_kept_open=True)


def run(
    behaviours: Sequence[Behaviour],
    test: Callable[[AsyncLimiter, Misbehaving], Awaitable[None]],
    handshake: Behaviour | None = None,
    **options: Any,
) -> None:
    async def main() -> None:
        async with AsyncLimiter(server.url, "token", **{"deadline_seconds": 5, **options}) as client:
            await test(client, server)

    with misbehaving(behaviours, handshake=handshake) as server:
        asyncio.run(main())


async def until(is_reached: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + 10
    while not is_reached():
        assert time.monotonic() < ends_at
        await asyncio.sleep(0.01)


def in_session(behave: Callable[[SessionConnection, dict[str, Any]], None]) -> Behaviour:
    def behaviour(connection: Connection, request: str) -> None:
        assert isinstance(connection, SessionConnection)
        behave(connection, json.loads(request))

    return behaviour


NO_WEBSOCKETS = {
    "426": responds("426 Upgrade Required", "{}", "Upgrade: websocket", is_kept_open=True),
    "404": responds("404 Not Found", "nothing here"),
    "405": responds("405 Method Not Allowed", "{}"),
    "501": responds("501 Not Implemented", "<html>"),
    "200 of a proxy": responds("200 OK", "<html>Welcome!</html>"),
    "401 of a proxy": responds("401 Unauthorized", "<html>"),
}
REFUSALS = [pytest.param(refusal, id=name) for name, refusal in NO_WEBSOCKETS.items()]
FAILURES = [
    pytest.param(responds("502 Bad Gateway", "<html>"), id="502"),
    pytest.param(responds("101 Switching Protocols", "", "Upgrade: websocket"), id="101 without the rest"),
    pytest.param(lambda connection, _: connection.sendall(b"\x00\x01 no HTTP\r\n\r\n"), id="no HTTP"),
    pytest.param(hangs_up, id="hangs up"),
    pytest.param(hangs, id="hangs"),
]


@pytest.mark.parametrize("handshake", REFUSALS)
def test_goes_over_http_for_a_while_where_a_websocket_is_refused(handshake: Behaviour) -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        for _ in range(3):
            assert not (await client.consume("chat", USER)).degraded
        assert (len(server.handshakes), len(server.requests)) == (1, 3)
        with mock.patch.object(session, "REFUSED_SECONDS", 0):
            client._loops.current().session._refused_until = 0  # type: ignore[union-attr]
            assert not (await client.consume("chat", USER)).degraded
        assert (len(server.handshakes), len(server.requests)) == (2, 4)

    run([allows], test, handshake)


@pytest.mark.parametrize("handshake", FAILURES)
def test_goes_over_http_where_handshakes_fail_in_a_row(handshake: Behaviour) -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        ends_at = time.monotonic() + 3
        while time.monotonic() < ends_at:
            assert not (await client.consume("chat", USER)).degraded
            await asyncio.sleep(0.02)
        # After the second one it is remembered that HTTP works.
        assert len(server.handshakes) == 2

    run([allows], test, handshake, deadline_seconds=1)


def test_goes_over_http_where_a_proxy_lets_no_message_pass() -> None:
    def behave(connection: Connection, request: str) -> None:
        (hangs if isinstance(connection, SessionConnection) else allows)(connection, request)

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        for _ in range(3):
            assert not (await client.consume("chat", USER)).degraded
        assert len(server.handshakes) <= 2

    run([behave], test, deadline_seconds=3)


@pytest.mark.parametrize("handshake", [*REFUSALS, *FAILURES])
def test_a_session_that_is_asked_for_and_cannot_be_had_is_an_outage(handshake: Behaviour) -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        assert (await client.consume("chat", USER)).degraded
        assert server.requests == []
        assert len(server.handshakes) >= 1

    run([allows], test, handshake, deadline_seconds=0.4, transport="session")


def test_calls_share_openings_that_fail_and_are_spread_over_time() -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        await asyncio.gather(*[client.settle("chat", USER, id="x", cost=0) for _ in range(50)], return_exceptions=True)
        # A connection for each attempt would be some 300.
        assert 2 <= len(server.handshakes) <= 30

    run([allows], test, hangs_up, deadline_seconds=1, transport="session")


def test_a_close_with_4401_is_a_refused_token() -> None:
    closes = in_session(lambda connection, _: connection.close(4401, "The token is not in force."))

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        with pytest.raises(UnauthorizedError, match="refuses the token: The token is not in force"):
            await client.consume("chat", USER)
        assert (await client.consume("chat", USER)).allowed
        assert (len(server.requests), len(server.handshakes)) == (2, 2)

    run([closes, allows], test, on_error="raise")


@pytest.mark.parametrize("code", [1001, 1011, 1012])
def test_a_close_of_the_service_is_retried_in_another_session(code: int) -> None:
    closes = in_session(lambda connection, _: connection.close(code, ""))

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        assert not (await client.consume("chat", USER)).degraded
        assert len(set(server.idempotency_keys)) == 1
        assert (server.attempts, len(server.handshakes)) == (["1", "2"], 2)

    run([closes, allows], test)


@pytest.mark.parametrize(
    "text",
    [
        b"[]",
        b"{}",
        b"7",
        b'{"id":null,"error":{"status":400,"detail":"x"}}',
        b'{"id":99,"results":[]}',
        b'{"id":true,"results":[]}',
        b"[" * 100_000,
    ],
)
def test_a_message_that_answers_nothing_ends_the_session(text: bytes) -> None:
    breaks = in_session(lambda connection, _: connection.send_text(text))

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        assert not (await client.consume("chat", USER)).degraded
        assert (server.attempts, len(server.handshakes)) == (["1", "2"], 2)

    run([breaks, allows], test)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"results": []},
        {"results": [ALLOWED, ALLOWED]},
        {"results": [{}]},
        {"results": ["a"]},
        {"results": [ALLOWED | {"status": "200"}]},
        {"results": [ALLOWED | {"headers": None}]},
        {"results": [ALLOWED | {"body": "<html>"}]},
        {"error": {"status": 503}},
        {"error": {"status": 404, "detail": "x"}},
        {"error": "x"},
        {"error": PROBLEM},
    ],
)
def test_retries_in_the_same_session_after_an_answer_without_a_result(fields: dict[str, object]) -> None:
    breaks = in_session(lambda connection, _: connection.answer(**fields))

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        assert not (await client.consume("chat", USER)).degraded
        assert (server.attempts, len(server.handshakes)) == (["1", "2"], 1)

    run([breaks, allows], test)


def test_a_message_that_the_service_refuses_is_an_invalid_request() -> None:
    error = {"status": 400, "title": "Bad Request", "detail": "The message has a mistake."}
    refuses = in_session(lambda connection, _: connection.answer(error=error))

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        with pytest.raises(InvalidRequestError, match="mistake"):
            await client.consume("chat", USER)

    run([refuses], test)


def test_at_most_1000_requests_are_unanswered_and_answers_come_in_any_order() -> None:
    held: list[tuple[SessionConnection, dict[str, Any]]] = []
    holds = in_session(lambda connection, message: held.append((connection, message)))

    def count() -> int:
        return sum(len(message["requests"]) for _, message in held)

    def answer_all() -> None:
        for connection, message in reversed(held.copy()):
            held.remove((connection, message))
            results = [
                ALLOWED | {"body": DECISION | {"id": request["idempotency_key"]}} for request in message["requests"]
            ]
            connection.answer(results=results)

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        keys = [f"key-{i}" for i in range(1_101)]
        calls = [asyncio.ensure_future(client.consume("chat", USER, idempotency_key=key)) for key in keys]
        await until(lambda: count() >= 1_000)
        await asyncio.sleep(0.2)
        assert count() == 1_000
        answer_all()
        await until(lambda: count() >= 101)
        answer_all()
        assert [(await call).id for call in calls] == keys
        assert len(server.handshakes) == 1

    run([holds], test, deadline_seconds=60)


def test_a_session_that_leaves_a_message_unanswered_is_replaced() -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        with mock.patch.object(session, "_STALE_SECONDS", 0.2):
            slow = asyncio.ensure_future(client.consume("chat", USER))
            await until(lambda: len(server.requests) == 1)
            while not slow.done():
                await client.consume("chat", USER)
                await asyncio.sleep(0.02)
        assert not slow.result().degraded
        assert len(server.handshakes) == 2

    run([hangs, *[allows] * 10_000], test, deadline_seconds=1)


def test_each_request_ends_at_its_own_timeout_in_whatever_order_they_were_made() -> None:
    async def test(client: AsyncLimiter, _server: Misbehaving) -> None:
        await client.consume("chat", USER)
        opened = client._loops.current().session
        assert opened is not None
        ended: list[float] = []

        async def ask(timeout_seconds: float) -> None:
            began = time.monotonic()
            assert isinstance(await opened.ask(b"{}", timeout_seconds), TimeoutError)
            assert time.monotonic() - began > timeout_seconds - 0.01
            ended.append(timeout_seconds)

        await asyncio.gather(ask(0.9), ask(0.3), ask(0.6))
        assert ended == [0.3, 0.6, 0.9]

    # Something arrives after each message, so the connection counts as alive.
    run([allows, in_session(lambda connection, _: connection.send_text(b"pong"))], test)


def test_a_session_without_a_pong_is_replaced() -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        server.answers_pings = False
        with mock.patch.multiple(session, PING_SECONDS=0.1, PONG_SECONDS=0.1):
            await client.consume("chat", USER)
            await until(lambda: len(server.handshakes) >= 2)
            assert server.pings >= 1
            server.answers_pings = True
            handshakes, pings = len(server.handshakes), server.pings
            await until(lambda: server.pings >= pings + 3)
        assert not (await client.consume("chat", USER)).degraded
        assert len(server.handshakes) <= handshakes + 1

    run([allows], test)


def test_a_session_that_sends_messages_needs_no_pings() -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        with mock.patch.object(session, "PING_SECONDS", 0.3):
            for _ in range(20):
                await client.consume("chat", USER)
                await asyncio.sleep(0.03)
        assert (server.pings, len(server.handshakes)) == (0, 1)

    run([allows], test)


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "collected"])
def test_a_client_that_is_closed_or_collected_ends_its_session(is_closed: bool) -> None:
    async def main(server: Misbehaving) -> None:
        client = AsyncLimiter(server.url, "token")
        await client.consume("chat", USER)
        assert server.open_connections == 1
        if is_closed:
            await client.aclose()
        del client
        gc.collect()
        await until(lambda: server.open_connections == 0)

    with misbehaving([allows]) as server:
        asyncio.run(main(server))


def test_a_client_without_calls_opens_no_session() -> None:
    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        await asyncio.sleep(0.1)
        assert server.connections == 0

    run([allows], test)


def test_a_service_that_comes_back_gets_a_session_again() -> None:
    is_up = threading.Event()

    def behave(connection: Connection, request: str) -> None:
        (allows if is_up.is_set() else hangs_up)(connection, request)

    async def test(client: AsyncLimiter, server: Misbehaving) -> None:
        for _ in range(3):
            assert (await client.consume("chat", USER)).degraded
        is_up.set()
        ends_at = time.monotonic() + 10
        while (await client.consume("chat", USER)).degraded:
            assert time.monotonic() < ends_at
            await asyncio.sleep(0.01)

    run([behave], test, deadline_seconds=0.3, transport="session")


def test_refuses_a_transport_that_does_not_exist() -> None:
    with pytest.raises(ValueError, match='"auto", "http", "session"'):
        AsyncLimiter("http://limiter.example", "token", transport="websocket")  # type: ignore[arg-type]
