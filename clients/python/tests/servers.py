"""Real servers that misbehave."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

#: Answers one request on its connection, given what was sent.
Behaviour = Callable[[socket.socket], None]


@dataclass(frozen=True)
class ByRequest:
    """A behaviour that depends on what was sent."""

    choose: Callable[[str], Behaviour]

    def __call__(self, connection: socket.socket) -> None:
        raise AssertionError("chosen by the request")


@dataclass
class Misbehaving:
    url: str
    #: Every request as it came.
    requests: list[str] = field(default_factory=list)

    @property
    def idempotency_keys(self) -> list[str]:
        return [key for request in self.requests if (key := _told(request, "key")) is not None]

    @property
    def attempts(self) -> list[str | None]:
        return [_told(request, "attempt") for request in self.requests]


def _told(request: str, about: str) -> str | None:
    """Its idempotency key or attempt: a header of a call that goes alone, a field of one that is a batch's only one."""
    head, _, body = request.partition("\r\n\r\n")
    if "/v1/batch " in head:
        (item,) = json.loads(body)["requests"]
        value = item.get({"key": "idempotency_key"}.get(about, about))
        return None if value is None else str(value)
    values = [
        line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith(f"idempotency-{about}:")
    ]
    return values[0] if values else None


@contextmanager
def misbehaving(behaviours: Sequence[Behaviour]) -> Generator[Misbehaving, None, None]:
    """A server that does with each request, one after another, as the behaviours say; the last goes on for ever."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Misbehaving(f"http://127.0.0.1:{listener.getsockname()[1]}")
    connections: list[socket.socket] = []

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connections.append(connection)
            request = _read_request(connection)
            if request is None:
                continue
            server.requests.append(request)
            behaviour = behaviours[min(len(server.requests), len(behaviours)) - 1]
            if isinstance(behaviour, ByRequest):
                behaviour = behaviour.choose(request)
            threading.Thread(target=_behave, args=[behaviour, connection], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join()
        for connection in connections:
            connection.close()


def _behave(behaviour: Behaviour, connection: socket.socket) -> None:
    # A client that has read all of it, or gave up, may have closed the connection, and so may the end of the test.
    with suppress(OSError):
        behaviour(connection)


def hangs(_: socket.socket) -> None:
    """Never answers."""


def hangs_up(connection: socket.socket) -> None:
    """Closes the connection in place of an answer."""
    connection.shutdown(socket.SHUT_RDWR)


def trickles(connection: socket.socket) -> None:
    """Begins an answer that goes on for ever, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.02)


def answers(status: str, body: str, *headers: str) -> Behaviour:
    def answer(connection: socket.socket) -> None:
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", "Connection: close", *headers]
        connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        connection.shutdown(socket.SHUT_RDWR)

    return answer


def _read_request(connection: socket.socket) -> str | None:
    """None if the client gave up before it had sent all of it."""
    received = b""
    try:
        while not _is_complete(received):
            part = connection.recv(65_536)
            if part == b"":
                return None
            received += part
    except OSError:
        return None
    return received.decode()


def _is_complete(request: bytes) -> bool:
    head, end, body = request.partition(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    return end != b"" and len(body) >= sum(lengths)
