"""A pool of connections to the service."""

from __future__ import annotations

import ssl
from weakref import WeakSet

import anyio
import httpcore
import httpx

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


class Connections(httpx.AsyncBaseTransport):
    """
    Replaces `httpx.AsyncHTTPTransport`, whose pool polls the socket of every connection for each request: with 16
    connections, that was most of a decision's cost for the backend. This pool reuses the connection used last, and
    polls only that and the connection used longest ago. Raises httpcore's errors.
    """

    def __init__(self, max_connections: int) -> None:
        # Made for the first TLS connection: this reads the machine's certificates.
        self._ssl_context: ssl.SSLContext | None = None
        #: In the order of their last use.
        self._idle: list[httpcore.AsyncHTTPConnection] = []
        #: Connections that may be used again.
        self._valid: WeakSet[httpcore.AsyncHTTPConnection] = WeakSet()
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
                pass
            elif connection in self._valid:
                self._idle.append(connection)
            else:
                await connection.aclose()
            if len(self._idle) > 1 and self._idle[0].has_expired():
                await self._idle.pop(0).aclose()
        return httpx.Response(response.status, headers=response.headers, content=content)

    def invalidate(self) -> None:
        """Keeps all open connections from being used again: a response on one of them was about another request."""
        self._valid.clear()

    def ssl_context(self) -> ssl.SSLContext:
        """Raises OSError for unreadable certificates."""
        if self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        return self._ssl_context

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.aclose()

    async def _connection(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection in self._valid and not connection.has_expired():
                return connection
            await connection.aclose()
        context = self.ssl_context() if origin.scheme == b"https" else None
        connection = httpcore.AsyncHTTPConnection(origin, ssl_context=context, keepalive_expiry=_IDLE_SECONDS)
        self._valid.add(connection)
        return connection
