"""Real servers that misbehave, and a way to the service that tests can block."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio
import anyio.lowlevel
import httpx

#: Responds to a request on its connection.
Behaviour = Callable[[socket.socket, str], None]


@dataclass
class Listening:
    port: int
    accepted: int = 0
    closed: int = 0


@contextmanager
def accepting(handle: Callable[[socket.socket], None]) -> Generator[Listening, None, None]:
    """A server that handles each connection in a thread, and then closes it."""
    listener = socket.create_server(("127.0.0.1", 0))
    listening = Listening(listener.getsockname()[1])
    connections: list[socket.socket] = []
    lock = threading.Lock()

    def handle_and_close(connection: socket.socket) -> None:
        # The client, or the end of the test, may close the connection at any time.
        with connection, suppress(OSError):
            handle(connection)
        with lock:
            listening.closed += 1

    def accept() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connections.append(connection)
                listening.accepted += 1
                threading.Thread(target=handle_and_close, args=[connection], daemon=True).start()

    thread = threading.Thread(target=accept, daemon=True)
    thread.start()
    try:
        yield listening
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)


@dataclass
class Misbehaving:
    listening: Listening
    #: All requests as text, in order.
    requests: list[str] = field(default_factory=list)
    #: The client's address of each request: requests with the same address shared a connection.
    peers: list[tuple[str, int]] = field(default_factory=list)
    in_flight: int = 0
    most_in_flight: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listening.port}"

    @property
    def connections(self) -> int:
        return self.listening.accepted

    @property
    def open_connections(self) -> int:
        return self.listening.accepted - self.listening.closed

    @property
    def idempotency_keys(self) -> list[str]:
        return [key for request in self.requests if (key := _field(request, "key")) is not None]

    @property
    def attempts(self) -> list[str | None]:
        return [_field(request, "attempt") for request in self.requests]


def _field(request: str, name: str) -> str | None:
    """The idempotency key or the attempt: a header of a single call, a field of the only call in a batch."""
    head, _, body = request.partition("\r\n\r\n")
    if "/v1/batch " in head:
        (item,) = json.loads(body)["requests"]
        value = item.get({"key": "idempotency_key"}.get(name, name))
        return None if value is None else str(value)
    values = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith(f"idempotency-{name}:")]
    return values[0] if values else None


@contextmanager
def misbehaving(behaviours: Sequence[Behaviour]) -> Generator[Misbehaving, None, None]:
    """A server with a behaviour for each request, in order. The last behaviour repeats."""
    lock = threading.Lock()

    def handle(connection: socket.socket) -> None:
        while (request := _read_request(connection)) is not None:
            with lock:
                behaviour = behaviours[min(len(server.requests), len(behaviours) - 1)]
                server.requests.append(request)
                server.peers.append(connection.getpeername())
                server.in_flight += 1
                server.most_in_flight = max(server.most_in_flight, server.in_flight)
            try:
                behaviour(connection, request)
            finally:
                with lock:
                    server.in_flight -= 1

    with accepting(handle) as listening:
        server = Misbehaving(listening)
        yield server


def hangs(_connection: socket.socket, _request: str) -> None:
    """Never responds."""


def hangs_up(connection: socket.socket, _request: str) -> None:
    """Closes the connection instead of a response."""
    connection.shutdown(socket.SHUT_RDWR)


def trickles(connection: socket.socket, _request: str) -> None:
    """Sends an endless body, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.02)


def responds(status: str, body: str, *headers: str, is_kept_open: bool = False) -> Behaviour:
    def respond(connection: socket.socket, _request: str) -> None:
        end = [] if is_kept_open else ["Connection: close"]
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", *end, *headers]
        connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        if not is_kept_open:
            connection.shutdown(socket.SHUT_RDWR)

    return respond


def switched(switch: threading.Event, *, on: Behaviour, off: Behaviour) -> Behaviour:
    return lambda connection, request: (on if switch.is_set() else off)(connection, request)


def _read_request(connection: socket.socket) -> str | None:
    """None if the client closes the connection before a whole request."""
    received = b""
    while not _is_complete(received):
        part = connection.recv(65_536)
        if part == b"":
            return None
        received += part
    return received.decode()


def _is_complete(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return end != b"" and len(body) >= sum(lengths)


class Road(httpx.AsyncBaseTransport):
    """The way to the service. While it is closed, requests wait before it."""

    def __init__(self, *, is_open: bool = True) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.bodies: list[dict[str, Any]] = []
        self.cancelled = 0
        self._opened = anyio.Event()
        if is_open:
            self.open()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened = anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        try:
            await self._opened.wait()
        except BaseException:
            self.cancelled += 1
            raise
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    @property
    def users(self) -> list[list[str]]:
        return [[item["subject"]["user"] for item in body["requests"]] for body in self.bodies]

    async def wait_for(self, requests: int) -> None:
        with anyio.fail_after(30):
            while len(self.bodies) < requests:
                await anyio.lowlevel.checkpoint()


class LossyRoad(Road):
    """Requests always arrive. Their responses are lost until the road is opened."""

    def __init__(self) -> None:
        super().__init__(is_open=False)
        self.arrived = anyio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        response = await self._inner.handle_async_request(request)
        await response.aread()
        await response.aclose()
        if not self._opened.is_set():
            self.arrived.set()
            await anyio.sleep_forever()
        return response
