"""A way to the service that tests can block: it carries HTTP and sessions."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel


class Road:
    """A proxy. While it is closed, requests and messages wait in it, and are lost if their client hangs up."""

    def __init__(self, url: str, *, is_open: bool = True) -> None:
        self._service = urlsplit(url)
        self._tasks: set[asyncio.Task[None]] = set()
        self._opened = asyncio.Event()
        #: The JSON of each request and message, in order.
        self.bodies: list[dict[str, Any]] = []
        #: Sessions so far.
        self.sessions = 0
        self.pings = 0
        #: Set when a response was lost.
        self.arrived = asyncio.Event()
        self._writers: list[asyncio.StreamWriter] = []
        if is_open:
            self.open()

    def open(self) -> None:
        self._opened.set()

    def close(self) -> None:
        self._opened.clear()

    def cut(self) -> None:
        """Cuts all connections, in the middle of whatever they carry."""
        for writer in self._writers:
            writer.transport.abort()

    @property
    def users(self) -> list[list[str]]:
        """The users of each message."""
        return [[request["subject"]["user"] for request in body["requests"]] for body in self.bodies]

    @property
    def url(self) -> str:
        host, port = self._server.sockets[0].getsockname()
        return f"http://{host}:{port}"

    async def wait_for(self, requests: int) -> None:
        with anyio.fail_after(30):
            while len(self.bodies) < requests:
                await anyio.lowlevel.checkpoint()

    async def __aenter__(self) -> Road:
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        with suppress(asyncio.CancelledError):
            back, there = await asyncio.open_connection(self._service.hostname, self._service.port)
            self._writers.append(writer)
            returning = asyncio.create_task(self._carry_back(back, writer))
            try:
                with suppress(OSError, EOFError):
                    await self._carry_there(reader, there)
            finally:
                for end in (there, writer):
                    end.close()
                returning.cancel()
                await asyncio.wait([returning])

    async def _carry_there(self, reader: asyncio.StreamReader, there: asyncio.StreamWriter) -> None:
        is_session = False
        while True:
            data, body = await (_read_frame(reader) if is_session else _read_request(reader))
            if b"/v1/session HTTP/1.1\r\n" in data:
                is_session = True
                self.sessions += 1
            elif body == b"ping":
                self.pings += 1
            elif body.startswith(b"{"):
                self.bodies.append(json.loads(body))
                await self._opened.wait()
                if reader.at_eof():
                    return
            there.write(data)

    async def _carry_back(self, back: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await back.read(65_536):
                if await self._may_return(data):
                    writer.write(data)
        writer.close()

    async def _may_return(self, data: bytes) -> bool:
        return True


class ClosedRoad(Road):
    """A road that is not open yet."""

    def __init__(self, url: str) -> None:
        super().__init__(url, is_open=False)


class LossyRoad(Road):
    """Requests always arrive. Their responses are lost until the road is opened."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self._is_lossy = True

    def open(self) -> None:
        self._is_lossy = False
        super().open()

    async def _may_return(self, data: bytes) -> bool:
        if not self._is_lossy or data.startswith(b"HTTP/1.1 101 "):
            return True
        self.arrived.set()
        return False


async def _read_request(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A request, and its body."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    body = await reader.readexactly(sum(lengths))
    return head + body, body


async def _read_frame(reader: asyncio.StreamReader) -> tuple[bytes, bytes]:
    """A frame of a client, and its payload without the mask."""
    head = await reader.readexactly(2)
    length = head[1] & 0x7F
    more = await reader.readexactly({126: 2, 127: 8}.get(length, 0))
    mask = await reader.readexactly(4)
    masked = await reader.readexactly(int.from_bytes(more, "big") if more else length)
    payload = bytes(byte ^ mask[i % 4] for i, byte in enumerate(masked))
    return head + more + mask + masked, payload
