"""Connections of threads are reused, never for two requests at once, and never after an error."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import httpcore
import httpx
import pytest
import trustme
from servers import (
    OK,
    Behaviour,
    Connection,
    Misbehaving,
    accepting,
    closes_unannounced,
    hangs,
    hangs_up,
    misbehaving,
    responds,
    trickles,
)

from exact_limiter import Limiter
from exact_limiter.connections import UNREACHABLE, ThreadConnections

USER = {"user": "u_1", "ip": "203.0.113.7"}
LONG_SECONDS = 30


def get(connections: ThreadConnections, url: str, *, seconds: float = LONG_SECONDS) -> bytes | object:
    return connections.send(httpcore.Request("GET", url, headers={"Host": "localhost"}), seconds).content


def get_at_once(connections: ThreadConnections, url: str, count: int) -> list[bytes | object]:
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(lambda _: get(connections, url), range(count)))


def together(count: int, response: Behaviour = OK) -> Behaviour:
    """Responds once this many requests are in flight."""
    barrier = threading.Barrier(count)

    def respond(connection: Connection, request: str) -> None:
        barrier.wait(LONG_SECONDS)
        response(connection, request)

    return respond


def after(event: threading.Event) -> Behaviour:
    """Responds once the event is set."""

    def respond(connection: Connection, request: str) -> None:
        event.wait(LONG_SECONDS)
        OK(connection, request)

    return respond


def wait_until(condition: Callable[[], bool]) -> None:
    ends_at = time.monotonic() + LONG_SECONDS
    while not condition():
        assert time.monotonic() < ends_at
        time.sleep(0)


def closes_down_to(server: Misbehaving, connections: int) -> None:
    """Waits until the server has seen the client close all but these connections."""
    wait_until(lambda: server.open_connections <= connections)


class Clock:
    """The clock of the pool and of its connections, which a test can move forward."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ahead_seconds = 0.0
        moved = SimpleNamespace(monotonic=lambda: time.monotonic() + self._ahead_seconds)
        monkeypatch.setattr("httpcore._sync.http11.time", moved)
        monkeypatch.setattr("exact_limiter.connections.time", moved)

    def advance(self, seconds: float) -> None:
        self._ahead_seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_sequential_requests_share_a_connection() -> None:
    with misbehaving([OK]) as server:
        connections = ThreadConnections(10)
        assert [get(connections, server.url) for _ in range(5)] == [b"ok"] * 5
        assert server.connections == 1
        connections.invalidate()


def test_threads_have_a_connection_each_up_to_the_maximum() -> None:
    with misbehaving([together(3)]) as server:
        connections = ThreadConnections(3)
        assert get_at_once(connections, server.url, 21) == [b"ok"] * 21
        assert (server.connections, server.most_in_flight) == (3, 3)
        connections.invalidate()


def test_reuses_the_connection_used_last() -> None:
    is_released = threading.Event()
    with misbehaving([after(is_released), OK]) as server:
        connections = ThreadConnections(10)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(get, connections, server.url)
            wait_until(lambda: server.in_flight == 1)
            get(connections, server.url)
            is_released.set()
            first.result()
        for _ in range(4):
            get(connections, server.url)
        assert server.peers[0] != server.peers[1]
        assert server.peers[2:] == [server.peers[0]] * 4
        connections.invalidate()


def test_polls_only_the_connection_that_it_reuses() -> None:
    with misbehaving([together(5)] * 5 + [OK]) as server:
        connections = ThreadConnections(10)
        get_at_once(connections, server.url, 5)
        with mock.patch("httpcore._backends.sync.is_socket_readable", return_value=False) as is_readable:
            get(connections, server.url)
        assert is_readable.call_count == 1
        connections.invalidate()


def test_does_not_reuse_a_connection_that_was_idle_for_too_long(clock: Clock) -> None:
    with misbehaving([together(3)] * 3 + [OK]) as server:
        connections = ThreadConnections(10)
        get_at_once(connections, server.url, 3)
        clock.advance(5.001)
        assert get(connections, server.url) == b"ok"
        closes_down_to(server, 1)
        assert server.connections == 4
        connections.invalidate()


def test_closes_connections_that_idle_while_others_are_used(clock: Clock) -> None:
    with misbehaving([together(3)] * 3 + [OK]) as server:
        connections = ThreadConnections(10)
        get_at_once(connections, server.url, 3)
        clock.advance(3)
        get(connections, server.url)
        assert server.open_connections == 3
        clock.advance(2.001)
        for still_open in (2, 1, 1):
            get(connections, server.url)
            closes_down_to(server, still_open)
        assert (server.connections, server.open_connections) == (3, 1)
        connections.invalidate()


def test_does_not_reuse_a_connection_that_the_service_closed() -> None:
    with misbehaving([closes_unannounced]) as server:
        connections = ThreadConnections(10)
        for _ in range(3):
            assert get(connections, server.url) == b"ok"
            closes_down_to(server, 0)
        assert server.connections == 3
        connections.invalidate()


def test_does_not_reuse_a_connection_that_the_service_announces_to_close() -> None:
    with misbehaving([responds("200 OK", "ok")]) as server:
        connections = ThreadConnections(10)
        assert [get(connections, server.url) for _ in range(3)] == [b"ok"] * 3
        assert server.connections == 3


def speaks_no_http(connection: Connection, _request: str) -> None:
    connection.sendall(b"\x00\x01\r\n\r\n")


@pytest.mark.parametrize("fault", [hangs, hangs_up, trickles, speaks_no_http], ids=lambda fault: fault.__name__)
def test_closes_a_connection_after_an_error_so_that_its_response_reaches_no_other_request(fault: Behaviour) -> None:
    with misbehaving([OK, fault, OK]) as server:
        connections = ThreadConnections(1)
        assert get(connections, server.url) == b"ok"
        # The error's traceback keeps the response alive: that it is collected must not be what closes the connection.
        with pytest.raises(UNREACHABLE) as raised:
            get(connections, server.url, seconds=0.1)
        closes_down_to(server, 0)
        assert raised.traceback
        assert get(connections, server.url) == b"ok"
        assert server.connections == 2
        connections.invalidate()


def test_raises_when_no_server_listens() -> None:
    with misbehaving([OK]) as server:
        pass
    connections = ThreadConnections(1)
    for _ in range(2):
        with pytest.raises(httpcore.ConnectError):
            get(connections, server.url)


def test_waits_for_a_connection_no_longer_than_the_timeout() -> None:
    is_released = threading.Event()
    with misbehaving([after(is_released), OK]) as server, ThreadPoolExecutor(2) as pool:
        connections = ThreadConnections(1)
        first = pool.submit(get, connections, server.url)
        wait_until(lambda: len(server.requests) == 1)
        with pytest.raises(httpcore.PoolTimeout):
            get(connections, server.url, seconds=0.05)
        waiting = pool.submit(get, connections, server.url)
        is_released.set()
        assert (first.result(), waiting.result()) == (b"ok", b"ok")
        assert (server.connections, len(server.requests)) == (1, 2)
        connections.invalidate()


def test_the_wait_for_a_connection_counts_as_time_of_the_request(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    class SlowSemaphore(threading.Semaphore):
        def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
            clock.advance(20)
            return super().acquire(blocking, timeout)

    monkeypatch.setattr("exact_limiter.connections.threading.Semaphore", SlowSemaphore)
    with misbehaving([responds("200 OK", "ok")]) as server:
        request = httpcore.Request("GET", server.url, headers={"Host": "localhost"})
        assert ThreadConnections(1).send(request, 30).content == b"ok"
    timeouts = request.extensions["timeout"]
    assert timeouts.keys() == {"connect", "read", "write"}
    assert max(timeouts.values()) <= 10


def test_calls_that_find_all_connections_in_use_end_at_their_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("exact_limiter.limiter.MAX_CONNECTIONS", 2)
    with misbehaving([hangs]) as server, Limiter(server.url, "token", deadline_seconds=1) as limiter:
        began = time.monotonic()
        with ThreadPoolExecutor(40) as pool:
            decisions = list(pool.map(lambda _: limiter.consume("chat", USER), range(40)))
        assert all(decision.degraded for decision in decisions)
        # Calls that took turns on the two connections would take twenty deadlines.
        assert time.monotonic() - began < 10


def test_invalidate_closes_idle_connections_at_once_and_the_others_after_their_response() -> None:
    is_released = threading.Event()
    with misbehaving([together(2)] * 2 + [after(is_released), OK]) as server, ThreadPoolExecutor(1) as pool:
        connections = ThreadConnections(10)
        get_at_once(connections, server.url, 2)
        in_use = pool.submit(get, connections, server.url)
        wait_until(lambda: len(server.requests) == 3)
        connections.invalidate()
        closes_down_to(server, 1)
        assert get(connections, server.url) == b"ok"
        is_released.set()
        assert in_use.result() == b"ok"
        closes_down_to(server, 1)
        assert get(connections, server.url) == b"ok"
        assert server.peers[3] == server.peers[4]
        assert server.peers[3] not in server.peers[:3]
        connections.invalidate()


def test_a_closed_client_keeps_no_connection_open() -> None:
    body = json.dumps({"released": True, "id": "x", "policy": "chat", "limits": []})
    with misbehaving([together(4, responds("200 OK", body, is_kept_open=True))]) as server:
        with Limiter(server.url, "token", deadline_seconds=LONG_SECONDS) as limiter, ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: limiter.release("chat", USER, id="x"), range(4)))
            assert server.open_connections == 4
        closes_down_to(server, 0)


def test_sends_the_head_and_the_body_of_a_request_together() -> None:
    parts: list[bytes] = []

    def handle(connection: socket.socket) -> None:
        parts.append(connection.recv(65_536))
        connection.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with accepting(handle) as listening:
        connections = ThreadConnections(1)
        url = f"http://127.0.0.1:{listening.port}"
        request = httpcore.Request("POST", url, headers={"Host": "localhost", "Content-Length": "4"}, content=b"body")
        assert connections.send(request, LONG_SECONDS).status == 204
        connections.invalidate()
    (part,) = parts
    assert part.endswith(b"\r\n\r\nbody")


def test_passes_on_the_headers_of_a_decision_in_any_case_and_joins_repeated_ones() -> None:
    headers = ["ratelimit: a", "RateLimit: b", "RETRY-AFTER: 5", "Date: now"]
    with misbehaving([responds("429 Too Many Requests", "ok", *headers)]) as server:
        request = httpcore.Request("GET", server.url, headers={"Host": "localhost"})
        response = ThreadConnections(1).send(request, LONG_SECONDS)
        assert response.headers == {"RateLimit": "a, b", "Retry-After": "5"}


def serving_tls(authority: trustme.CA) -> Callable[[socket.socket], None]:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("localhost").configure_cert(context)

    def handle(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while request := secured.recv(65_536):
                OK(secured, request.decode())

    return handle


def test_reads_the_certificates_once_for_the_first_connection_with_tls(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with (
        mock.patch("httpx.create_ssl_context", wraps=httpx.create_ssl_context) as create,
        misbehaving([OK]) as plain,
        accepting(serving_tls(authority)) as listening,
    ):
        connections = ThreadConnections(4)
        assert get(connections, plain.url) == b"ok"
        connections.invalidate()
        assert create.call_count == 0
        url = f"https://localhost:{listening.port}"
        assert get_at_once(connections, url, 8) == [b"ok"] * 8
        connections.invalidate()
        assert get(connections, url) == b"ok"
        assert create.call_count == 1
        assert listening.accepted <= 5
        connections.invalidate()


def test_no_two_threads_share_a_connection_at_once() -> None:
    with misbehaving([OK]) as server:
        connections = ThreadConnections(8)
        with ThreadPoolExecutor(16) as pool:
            bodies = list(pool.map(lambda _: get(connections, server.url), range(800)))
        assert bodies == [b"ok"] * 800
        assert server.connections <= 8
        connections.invalidate()


def test_a_transport_of_the_caller_is_read_within_the_deadline_and_closed_with_the_client() -> None:
    with misbehaving([trickles]) as server:
        transport = httpx.HTTPTransport()
        with Limiter(server.url, "token", deadline_seconds=0.4, transport=transport) as limiter:
            began = time.monotonic()
            assert limiter.consume("chat", USER).degraded
            assert time.monotonic() - began < 5
            assert server.connections >= 2
        closes_down_to(server, 0)
