"""Connections are used again, never twice at once, and never after something went wrong on them."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import wraps
from types import SimpleNamespace
from unittest import mock

import httpx
import pytest

from exact_limiter.connections import UNREACHABLE, Connections

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n%s\r\nok"


class Server:
    """Answers as it is told, and counts connections and requests."""

    def __init__(self) -> None:
        self.url = ""
        self.connections = 0
        self.requests = 0
        self.most_at_once = 0
        self.extra_headers = b""
        self.closes_after_answer = False
        self.silent = False
        self.under_way = 0
        self.open = 0
        self._has_closed = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                self.requests += 1
                self.under_way += 1
                self.most_at_once = max(self.most_at_once, self.under_way)
                await asyncio.sleep(0)
                self.under_way -= 1
                if self.silent:
                    continue
                writer.write(OK % self.extra_headers)
                await writer.drain()
                if self.closes_after_answer:
                    break
        except asyncio.IncompleteReadError:
            pass
        finally:
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            self.open -= 1
            self._has_closed.set()

    async def has_open(self, connections: int) -> None:
        """Waits until no more than these are open: the server has seen the others close."""
        while self.open > connections:
            self._has_closed.clear()
            await asyncio.wait_for(self._has_closed.wait(), 5)


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    try:
        yield server
    finally:
        listener.close()


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def main() -> None:
            await test()

        asyncio.run(main())

    # Else pytest would look for the arguments of the function that is wrapped.
    del run.__wrapped__
    return run


async def ask(connections: Connections, server: Server) -> str:
    return (await connections.handle_async_request(httpx.Request("GET", server.url))).text


@on_a_loop
async def test_requests_one_after_the_other_share_a_connection() -> None:
    async with serving() as server:
        connections = Connections(10)
        assert [await ask(connections, server) for _ in range(5)] == ["ok"] * 5
        assert server.connections == 1
        await connections.aclose()


@on_a_loop
async def test_requests_at_once_have_a_connection_each_up_to_the_most_there_may_be() -> None:
    async with serving() as server:
        connections = Connections(3)
        answers = await asyncio.gather(*[ask(connections, server) for _ in range(20)])
        assert answers == ["ok"] * 20
        assert server.connections == 3
        assert server.most_at_once <= 3
        await connections.aclose()


@on_a_loop
async def test_a_connection_that_the_service_closed_is_not_used_again() -> None:
    async with serving() as server:
        server.closes_after_answer = True
        connections = Connections(10)
        for _ in range(3):
            assert await ask(connections, server) == "ok"
            await server.has_open(0)
        assert server.connections == 3
        await connections.aclose()


@on_a_loop
async def test_a_connection_that_the_service_says_it_closes_is_not_used_again() -> None:
    async with serving() as server:
        server.extra_headers = b"Connection: close\r\n"
        connections = Connections(10)
        assert [await ask(connections, server) for _ in range(3)] == ["ok"] * 3
        assert server.connections == 3


@on_a_loop
async def test_a_request_given_up_takes_its_connection_with_it_so_that_no_answer_reaches_another_request() -> None:
    async with serving() as server:
        connections = Connections(1)
        server.silent = True
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ask(connections, server), 0.05)
        server.silent = False
        assert await ask(connections, server) == "ok"
        assert server.connections == 2
        await connections.aclose()


@on_a_loop
async def test_raises_when_nobody_listens() -> None:
    async with serving() as server:
        pass
    connections = Connections(1)
    for _ in range(2):
        with pytest.raises(UNREACHABLE):
            await ask(connections, server)


@on_a_loop
async def test_a_connection_that_was_idle_for_long_is_closed_whichever_it_is() -> None:
    async with serving() as server:
        connections = Connections(10)
        await asyncio.gather(*[ask(connections, server) for _ in range(3)])
        assert (server.connections, server.open) == (3, 3)
        with mock.patch("httpcore._async.http11.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 5.001)):
            for _ in range(3):
                assert await ask(connections, server) == "ok"
        await server.has_open(1)
        assert (server.connections, server.open) == (4, 1)
        await connections.aclose()


@on_a_loop
async def test_a_request_that_is_cancelled_at_any_moment_leaves_no_connection_open() -> None:
    async with serving() as server:
        connections = Connections(10)
        assert await ask(connections, server) == "ok"
        server.silent = True
        for turns in range(12):
            task = asyncio.ensure_future(ask(connections, server))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            # Before Python 3.11 anyio can take such a cancellation for one of its own, and goes on until the next.
            while sys.version_info < (3, 11) and not task.done():
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await connections.aclose()
        server.silent = False
        # Its turn comes after those of all that were connected before: then they are counted.
        last = Connections(1)
        assert await ask(last, server) == "ok"
        await last.aclose()
        await server.has_open(0)
