"""Real servers that misbehave, over HTTP and in sessions alike."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Protocol

from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol


class Connection(Protocol):
    """A socket, or a session in which an HTTP response becomes the answer to a message."""

    def sendall(self, data: bytes, /) -> None: ...
    def shutdown(self, how: int, /) -> None: ...


#: Responds to a request on its connection. A message of a session is a request too.
Behaviour = Callable[[Connection, str], None]


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
    #: The heads of the requests for a session.
    handshakes: list[str] = field(default_factory=list)
    pings: int = 0
    answers_pings: bool = True
    #: All other requests as text, in order.
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
    """The idempotency key or the attempt: a header over HTTP, a field of the only request of a message."""
    head, _, _ = request.partition("\r\n\r\n")
    if request.startswith("{"):
        (item,) = json.loads(request)["requests"]
        value = item.get({"key": "idempotency_key"}.get(name, name))
        return None if value is None else str(value)
    values = [line.partition(": ")[2] for line in head.split("\r\n") if line.lower().startswith(f"idempotency-{name}:")]
    return values[0] if values else None


@contextmanager
def misbehaving(
    behaviours: Sequence[Behaviour], *, handshake: Behaviour | None = None
) -> Generator[Misbehaving, None, None]:
    """
    A server with a behaviour for each request, in order. The last behaviour repeats. It opens sessions, unless there is
    a behaviour for the `handshake`.
    """
    lock = threading.Lock()

    def behave(connection: Connection, request: str, peer: tuple[str, int]) -> None:
        with lock:
            behaviour = behaviours[min(len(server.requests), len(behaviours) - 1)]
            server.requests.append(request)
            server.peers.append(peer)
            server.in_flight += 1
            server.most_in_flight = max(server.most_in_flight, server.in_flight)
        try:
            behaviour(connection, request)
        finally:
            with lock:
                server.in_flight -= 1

    def handle(connection: socket.socket) -> None:
        while (request := _read_request(connection)) is not None:
            peer = connection.getpeername()
            if not request.partition("\r\n")[0].endswith("/v1/session HTTP/1.1"):
                behave(connection, request, peer)
                continue
            with lock:
                server.handshakes.append(request)
            if handshake is None:
                return _serve_session(server, connection, request, peer, behave)
            handshake(connection, request)

    with accepting(handle) as listening:
        server = Misbehaving(listening)
        yield server


class SessionConnection:
    """Sends what a behaviour responds as the answer to a message, or what is no JSON object as it is."""

    def __init__(self, connection: socket.socket, framing: ServerProtocol, message: str) -> None:
        self._connection = connection
        self._framing = framing
        self._message = json.loads(message)
        self._is_inside_body = False

    def shutdown(self, how: int) -> None:
        self._connection.shutdown(how)

    def sendall(self, data: bytes) -> None:
        if self._is_inside_body:
            return self._connection.sendall(data)
        head, _, body = data.partition(b"\r\n\r\n")
        if not _is_complete(data):
            # The frame of a long text, without the text.
            self._is_inside_body = True
            return self._connection.sendall(b"\x81\x7f" + (100_000).to_bytes(8, "big"))
        self.send_text(self._answer(head.decode(), body) or body)

    def answer(self, **fields: object) -> None:
        """Answers the message with these fields, and its id."""
        self.send_text(json.dumps({"id": self._message["id"], **fields}).encode())

    def close(self, code: int, reason: str) -> None:
        self._framing.send_close(code, reason)
        self._connection.sendall(b"".join(self._framing.data_to_send()))

    def send_text(self, text: bytes) -> None:
        self._framing.send_text(text)
        self._connection.sendall(b"".join(self._framing.data_to_send()))

    def _answer(self, head: str, body: bytes) -> bytes | None:
        try:
            value = json.loads(body)
        except (ValueError, RecursionError):
            return None
        status, *lines = head.split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        result = {"status": int(status.split(" ")[1]), "headers": headers, "body": value}
        results = [result] * len(self._message["requests"])
        return json.dumps({"id": self._message["id"], "results": results}).encode()


def _serve_session(
    server: Misbehaving,
    connection: socket.socket,
    request: str,
    peer: tuple[str, int],
    behave: Callable[[Connection, str, tuple[str, int]], None],
) -> None:
    framing = ServerProtocol(max_size=None)
    data = request.encode()
    while data:
        framing.receive_data(data)
        for event in framing.events_received():
            if isinstance(event, Request):
                framing.send_response(framing.accept(event))
            elif isinstance(event, Frame) and event.opcode is Opcode.TEXT:
                text = bytes(event.data).decode()
                if text == "ping":
                    server.pings += 1
                    if server.answers_pings:
                        framing.send_text(b"pong")
                    continue
                behave(SessionConnection(connection, framing, text), text, peer)
        connection.sendall(b"".join(framing.data_to_send()))
        if framing.close_rcvd is not None:
            return
        data = connection.recv(65_536)


def hangs(_connection: Connection, _request: str) -> None:
    """Never responds."""


def hangs_up(connection: Connection, _request: str) -> None:
    """Closes the connection instead of a response."""
    connection.shutdown(socket.SHUT_RDWR)


def trickles(connection: Connection, _request: str) -> None:
    """Sends an endless body, a byte at a time."""
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n")
    while True:
        connection.sendall(b" ")
        threading.Event().wait(0.02)


def responds(status: str, body: str, *headers: str, is_kept_open: bool = False) -> Behaviour:
    def respond(connection: Connection, _request: str) -> None:
        end = [] if is_kept_open else ["Connection: close"]
        head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body.encode())}", *end, *headers]
        connection.sendall(("\r\n".join(head) + "\r\n\r\n" + body).encode())
        if not is_kept_open:
            connection.shutdown(socket.SHUT_RDWR)

    return respond


#: Responds, and keeps the connection open.
OK = responds("200 OK", "ok", is_kept_open=True)


def closes_unannounced(connection: Connection, request: str) -> None:
    """Responds as if the connection stayed open, and closes it."""
    OK(connection, request)
    connection.shutdown(socket.SHUT_RDWR)


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
