"""Connections to one service, kept open for the next request."""

from __future__ import annotations

import ssl
from weakref import WeakSet

import anyio
import httpcore
import httpx

#: What it raises when there is no answer. An alert of TLS in place of one, certificates that can't be read and a name
#: that is not found are OSErrors, of which httpcore tells only some by its own names; TimeoutError is one too.
UNREACHABLE = (
    httpcore.NetworkError,
    httpcore.TimeoutException,
    httpcore.ProtocolError,
    anyio.BrokenResourceError,
    anyio.ClosedResourceError,
    OSError,
)

#: As with httpx: what is between here and the service may have forgotten a connection that was idle for longer.
_IDLE_SECONDS = 5.0


class Connections(httpx.AsyncBaseTransport):
    """
    In place of `httpx.AsyncHTTPTransport`, whose pool looks at the socket of every connection for each request: with 16
    of them that was most of what a decision cost the backend. Here the connection used last is used next, and of the
    others only the one used longest ago is looked at. Raises what httpcore raises.
    """

    def __init__(self, max_connections: int) -> None:
        # Made for the first connection that wants it, as it reads the certificates of this machine.
        self._ssl_context: ssl.SSLContext | None = None
        #: In the order of their last use.
        self._idle: list[httpcore.AsyncHTTPConnection] = []
        #: Those that may be used again.
        self._trusted: WeakSet[httpcore.AsyncHTTPConnection] = WeakSet()
        self._room = anyio.Semaphore(max_connections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answers with the whole body read, since a connection is free again only then."""
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
                # httpcore does so itself, but not when it is interrupted while it waits for a lock of its own.
                with anyio.CancelScope(shield=True):
                    await connection.aclose()
                raise
            if not connection.is_idle():
                pass
            elif connection in self._trusted:
                self._idle.append(connection)
            else:
                await connection.aclose()
            if len(self._idle) > 1 and self._idle[0].has_expired():
                await self._idle.pop(0).aclose()
        return httpx.Response(response.status, headers=response.headers, content=content)

    def distrust(self) -> None:
        """Has no connection that is open now be used again: an answer on one of them was not about its request."""
        self._trusted.clear()

    async def aclose(self) -> None:
        idle, self._idle = self._idle, []
        for connection in idle:
            await connection.aclose()

    async def _connection(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection:
        while self._idle:
            connection = self._idle.pop()
            if connection in self._trusted and not connection.has_expired():
                return connection
            await connection.aclose()
        if origin.scheme == b"https" and self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context()
        connection = httpcore.AsyncHTTPConnection(origin, ssl_context=self._ssl_context, keepalive_expiry=_IDLE_SECONDS)
        self._trusted.add(connection)
        return connection
