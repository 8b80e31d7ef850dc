"""A WebSocket on asyncio, without tasks and streams: `websockets` frames the bytes, callbacks get the messages."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Mapping
from typing import Any, cast

import httpx
from websockets.client import ClientProtocol
from websockets.exceptions import InvalidStatus
from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Response as HandshakeResponse
from websockets.protocol import CLOSING, OPEN
from websockets.uri import parse_uri

#: Bounds the memory that a wrong server can take. 100 decisions with all their limits have about 1 MiB.
_MAX_MESSAGE_BYTES = 16 * 1024 * 1024

#: A close frame is sent at once; a server that keeps the connection open is not waited for any longer.
_CLOSING_SECONDS = 1.0


class HandshakeError(Exception):
    """The connection stands, but there is no WebSocket on it."""


class HandshakeRefused(HandshakeError):
    """A response other than 101."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(f"the WebSocket handshake was answered with status {status}")
        self.status = status
        self.headers = headers
        self.body = body


#: Gets a text message as UTF-8.
OnText = Callable[[bytes], None]
#: Gets the code and the reason of the close: 1006 if there was no close.
OnLost = Callable[["WebSocket", int, str], None]


class WebSocket(asyncio.Protocol):
    """Compression is not offered: a message would cost more than it saves."""

    def __init__(self, url: httpx.URL, headers: Mapping[str, str], on_text: OnText, on_lost: OnLost) -> None:
        scheme = "wss" if url.scheme == "https" else "ws"
        self._framing = ClientProtocol(parse_uri(str(url.copy_with(scheme=scheme))), max_size=_MAX_MESSAGE_BYTES)
        self._headers = headers
        self._on_text = on_text
        self._on_lost = on_lost
        self._fragments: list[bytes] = []
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        #: Done with the handshake. A result and not an exception: nobody may wait for it any more.
        self._handshake: asyncio.Future[Exception | None] = loop.create_future()
        self._is_lost: asyncio.Future[None] = loop.create_future()

    @property
    def is_open(self) -> bool:
        return self._framing.state is OPEN and not self._is_lost.done()

    async def shake_hands(self) -> None:
        """Raises HandshakeError."""
        error = await self._handshake
        if error is not None:
            raise error

    def send_text(self, text: bytes) -> None:
        """Sends UTF-8. A connection that is lost sends nothing: `on_lost` tells."""
        if self._framing.state is OPEN:
            self._framing.send_text(text)
            self._write()

    def abort(self) -> None:
        """Ends the connection without a close."""
        if self._transport is not None:
            self._transport.abort()

    def close(self) -> None:
        """Sends a close and ends the connection: no answer is needed, since nothing is sent on it any more."""
        if self._framing.state is OPEN:
            self._framing.send_close(CloseCode.NORMAL_CLOSURE)
            self._write()
        elif self._transport is not None:
            self._transport.close()

    async def aclose(self) -> None:
        """Closes, and waits until the socket is closed."""
        self.close()
        if self._transport is not None:
            await asyncio.wait([self._is_lost], timeout=_CLOSING_SECONDS)
            self._transport.abort()
            await self._is_lost

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # A cast and no check: uvloop's transports are of no such class.
        self._transport = cast(asyncio.Transport, transport)
        request = self._framing.connect()
        request.headers.update(self._headers)
        self._framing.send_request(request)
        self._write()

    def data_received(self, data: bytes) -> None:
        self._framing.receive_data(data)
        self._handle_events()
        self._write()

    def eof_received(self) -> None:
        self._framing.receive_eof()
        self._handle_events()

    def connection_lost(self, error: Exception | None) -> None:
        if not self._handshake.done():
            self._handshake.set_result(HandshakeError("the connection ended during the WebSocket handshake"))
        if not self._is_lost.done():
            self._is_lost.set_result(None)
        close = self._framing.close_rcvd
        self._on_lost(self, close.code if close else CloseCode.ABNORMAL_CLOSURE, close.reason if close else "")

    def _handle_events(self) -> None:
        for event in self._framing.events_received():
            if isinstance(event, Frame):
                self._handle_frame(event)
        if not self._handshake.done():
            self._handle_handshake()

    def _handle_handshake(self) -> None:
        error = self._framing.handshake_exc
        if isinstance(error, InvalidStatus):
            self._handshake.set_result(_refused(error.response))
        elif error is not None:
            self._handshake.set_result(HandshakeError(f"the WebSocket handshake failed: {error}"))
        elif self._framing.state is OPEN:
            self._handshake.set_result(None)

    def _handle_frame(self, frame: Frame) -> None:
        if frame.opcode is Opcode.TEXT and frame.fin:
            self._on_text(bytes(frame.data))
        elif frame.opcode in (Opcode.TEXT, Opcode.CONT):
            self._fragments.append(bytes(frame.data))
            if frame.fin:
                text, self._fragments = b"".join(self._fragments), []
                self._on_text(text)

    def _write(self) -> None:
        assert self._transport is not None
        self._transport.write(b"".join(self._framing.data_to_send()))
        if self._framing.state is CLOSING:
            # The server has closed, or broke the protocol. Our close is written, and nothing else is waited for.
            self._transport.close()


def _refused(response: HandshakeResponse) -> HandshakeRefused:
    headers = httpx.Headers(list(response.headers.raw_items()))
    return HandshakeRefused(response.status_code, headers, bytes(response.body or b""))


async def open_websocket(
    url: httpx.URL, headers: Mapping[str, str], context: ssl.SSLContext | None, on_text: OnText, on_lost: OnLost
) -> WebSocket:
    """Raises OSError without a connection, HandshakeError without a WebSocket on it."""
    loop = asyncio.get_running_loop()
    host = url.raw_host.decode().strip("[]")
    options: dict[str, Any] = {} if context is None else {"ssl": context, "server_hostname": host}
    # No `happy_eyeballs_delay`: on Python 3.13.0 it hung with eager tasks, and our tests saw it leave sockets open.
    # https://github.com/python/cpython/issues/124309. Where IPv6 leads nowhere, HTTP finds the other address.
    port = url.port or (80 if context is None else 443)
    _, websocket = await loop.create_connection(
        lambda: WebSocket(url, headers, on_text, on_lost), host, port, **options
    )
    try:
        await websocket.shake_hands()
    except BaseException:
        websocket.abort()
        raise
    return websocket
