"""Pools of connections to the service: one for event loops, one for threads."""

from __future__ import annotations

import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any
from weakref import WeakSet

import anyio
import httpcore
import httpx

from .decision import PASSED_ON
from .responses import Response

#: The errors of a request without a response. A TLS alert, unreadable certificates and a failed name look-up are
#: OSErrors, of which httpcore maps only some to its own; TimeoutError is an OSError too.
UNREACHABLE = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
)

#: httpx's own value. A middlebox may have dropped a connection that was idle for longer.
_IDLE_SECONDS = 5.0


class _TlsContext:
    """Made for the first TLS connection: this reads the machine's certificates."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._context: ssl.SSLContext | None = None

    def get(self) -> ssl.SSLContext:
        """Raises OSError for unreadable certificates."""
        with self._lock:
            if self._context is None:
                self._context = httpx.create_ssl_context()
            return self._context


class Connections(httpx.AsyncBaseTransport):
    """
    Replaces `httpx.AsyncHTTPTransport`, whose pool polls the socket of every connection for each request: with 16
    connections, that was most of a decision's cost for the backend. This pool reuses the connection used last, and
    polls only that and the connection used longest ago. Raises httpcore's errors.
    """

    def __init__(self, max_connections: int) -> None:
        self._tls = _TlsContext()
        #: In the order of their last use.
        self._idle: list[_Connection] = []
        #: Connections that may be used again.
        self._valid: WeakSet[_Connection] = WeakSet()
        self._room = anyio.Semaphore(max_connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Reads the whole body: the connection is free only then."""
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        forwarded = httpcore.Request(request.method, url, headers=request.headers.raw, content=request.content)
        async with self._room:
            connection = await self._connection(url.origin)
            try:
                response = await connection.handle_async_request(forwarded)
                content = await response.aread()
                await response.aclose()
            except BaseException:
                # httpcore closes it too, but not if it is cancelled while it waits for its own lock.
                with anyio.CancelScope(shield=True):
                    await connection.aclose()
                raise
            if not connection.is_idle():
                pass  # httpcore has closed it.
            elif connection in self._valid:
                self._idle.append(connection)
            else:
                await connection.aclose()
            if len(self._idle) > 1 and self._idle[0].has_expired():
                await self._idle.pop(0).aclose()
        return httpx.Response(response.status, headers=response.headers, content=content)

    def invalidate(self) -> None:
        """Keeps all open connections from being used again: one of them has answered another request than was sent."""
        self._valid.clear()

    def ssl_context(self) -> ssl.SSLContext:
        """Raises OSError for unreadable certificates."""
        return self._tls.get()

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.aclose()

    async def _connection(self, origin: httpcore.Origin) -> _Connection:
        while self._idle:
            connection = self._idle.pop()
            if connection in self._valid and not connection.has_expired():
                return connection
            await connection.aclose()
        context = self.ssl_context() if origin.scheme == b"https" else None
        connection = _Connection(origin, context)
        self._valid.add(connection)
        return connection


class _Connection(httpcore.AsyncHTTPConnection):
    def __init__(self, origin: httpcore.Origin, context: ssl.SSLContext | None) -> None:
        self._backend = _RememberingBackend()
        super().__init__(origin, ssl_context=context, keepalive_expiry=_IDLE_SECONDS, network_backend=self._backend)

    async def aclose(self) -> None:
        await super().aclose()
        if self._backend.stream is not None:
            await self._backend.stream.aclose()


class _RememberingBackend(httpcore.AnyIOBackend):
    """
    Holds the stream of a connection that is not established yet: if a request times out or is cancelled during the TLS
    handshake, httpcore forgets the stream without closing it.
    """

    stream: httpcore.AsyncNetworkStream | None = None

    async def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.AsyncNetworkStream:
        self.stream = await super().connect_tcp(*args, **kwargs)
        return self.stream


#: Connections that may be used again, each with the instant of its last use, in that order.
_Idle = list[tuple[httpcore.HTTPConnection, float]]


class ThreadConnections:
    """
    Replaces `httpx.HTTPTransport`. For each request, its pool takes time that grows with the square of the connections:
    with 64 threads, that was most of a decision's cost. `invalidate` replaces the list of idle connections, so one lock
    guards everything. Takes httpcore's requests, since httpx's take longer to make. Raises httpcore's errors.
    """

    def __init__(self, max_connections: int) -> None:
        self._tls = _TlsContext()
        self._room = threading.Semaphore(max_connections)
        #: Guards `_idle`.
        self._lock = threading.Lock()
        #: Replaced by `invalidate`: a connection goes back only to the list that was here when its request began.
        self._idle: _Idle = []

    def send(self, request: httpcore.Request, timeout_seconds: float) -> Response:
        """Reads the whole body within the timeout, which covers the wait for a connection too."""
        ends_at = time.monotonic() + timeout_seconds
        if not self._room.acquire(timeout=timeout_seconds):
            raise httpcore.PoolTimeout("all connections are in use")
        try:
            # Room may come at the last moment, and 0 would mean not to wait at all.
            left_seconds = max(ends_at - time.monotonic(), 0.001)
            request.extensions["timeout"] = dict.fromkeys(("connect", "read", "write"), left_seconds)
            idle = self._idle
            connection = self._connection(request.url.origin)
            try:
                response = connection.handle_request(request)
                content = read_within(ends_at, response.iter_stream())
                response.close()
            except BaseException:
                connection.close()
                raise
            self._give_back(connection, idle)
        finally:
            self._room.release()
        return Response(response.status, _passed_on(response.headers), content)

    def invalidate(self) -> None:
        """
        Keeps all open connections from being used again: closes the idle ones now, and the others after their response.
        """
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _connection(self, origin: httpcore.Origin) -> httpcore.HTTPConnection:
        while True:
            with self._lock:
                if not self._idle:
                    break
                connection, _ = self._idle.pop()
            if not connection.has_expired():
                return connection
            connection.close()
        context = self._tls.get() if origin.scheme == b"https" else None
        return httpcore.HTTPConnection(
            origin, ssl_context=context, keepalive_expiry=_IDLE_SECONDS, network_backend=_BACKEND
        )

    def _give_back(self, connection: httpcore.HTTPConnection, idle: _Idle) -> None:
        to_close = connection
        with self._lock:
            if idle is self._idle and connection.is_idle():
                now = time.monotonic()
                idle.append((connection, now))
                if now - idle[0][1] <= _IDLE_SECONDS:
                    return
                to_close, _ = idle.pop(0)
        to_close.close()


class _Backend(httpcore.SyncBackend):
    def connect_tcp(self, *args: Any, **kwargs: Any) -> httpcore.NetworkStream:
        return _Stream(super().connect_tcp(*args, **kwargs))


_BACKEND = _Backend()


class _Stream(httpcore.NetworkStream):
    """
    Keeps what is written until the next read, so that head and body go in one system call. Each call releases the
    interpreter's lock, and the thread then queues for it behind all others. HTTP/1.1 reads after each request.
    """

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream
        self._unsent = b""

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._unsent += buffer

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            self._stream.write(unsent, timeout)
        return self._stream.read(max_bytes, timeout)

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def read_within(ends_at: float, chunks: Iterable[bytes]) -> bytes:
    """Raises httpcore.ReadTimeout if a chunk comes later."""
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if time.monotonic() > ends_at:
            raise httpcore.ReadTimeout("the response's body takes longer than the attempt may")
    return bytes(content)


_PASSED_ON = {name.lower().encode(): name for name in PASSED_ON}


def _passed_on(headers: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """The headers that a decision passes on, by their usual names."""
    found: dict[str, str] = {}
    for raw_name, raw_value in headers:
        if (name := _PASSED_ON.get(raw_name.lower())) is not None:
            value = raw_value.decode("latin-1")
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found
