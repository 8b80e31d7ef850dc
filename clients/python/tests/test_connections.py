"""Connections of event loops are reused, never for two requests at once, and never after an error."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from functools import wraps
from types import SimpleNamespace
from unittest import mock

import anyio
import anyio.lowlevel
import httpx
import pytest
from servers import OK, Misbehaving, closes_unannounced, hangs, misbehaving, responds, switched

from exact_limiter.connections import UNREACHABLE, Connections


async def closes_down_to(server: Misbehaving, connections: int) -> None:
    """Waits until the server has seen the client close all but these connections."""
    with anyio.fail_after(5):
        while server.open_connections > connections:
            await anyio.lowlevel.checkpoint()


def on_a_loop(test: Callable[[], Awaitable[None]]) -> Callable[[], None]:
    @wraps(test)
    def run() -> None:
        async def main() -> None:
            await test()

        asyncio.run(main())

    # Else pytest would look for fixtures in the signature of the wrapped function.
    del run.__wrapped__
    return run


async def get(connections: Connections, server: Misbehaving) -> str:
    return (await connections.handle_async_request(httpx.Request("GET", server.url))).text


@on_a_loop
async def test_sequential_requests_share_a_connection() -> None:
    with misbehaving([OK]) as server:
        connections = Connections(10)
        assert [await get(connections, server) for _ in range(5)] == ["ok"] * 5
        assert server.connections == 1
        await connections.aclose()


@on_a_loop
async def test_concurrent_requests_have_a_connection_each_up_to_the_maximum() -> None:
    with misbehaving([OK]) as server:
        connections = Connections(3)
        bodies = await asyncio.gather(*[get(connections, server) for _ in range(20)])
        assert bodies == ["ok"] * 20
        assert server.connections == 3
        assert server.most_in_flight <= 3
        await connections.aclose()


@on_a_loop
async def test_does_not_reuse_a_connection_that_the_service_closed() -> None:
    with misbehaving([closes_unannounced]) as server:
        connections = Connections(10)
        for _ in range(3):
            assert await get(connections, server) == "ok"
            await closes_down_to(server, 0)
        assert server.connections == 3
        await connections.aclose()


@on_a_loop
async def test_does_not_reuse_a_connection_that_the_service_announces_to_close() -> None:
    with misbehaving([responds("200 OK", "ok")]) as server:
        connections = Connections(10)
        assert [await get(connections, server) for _ in range(3)] == ["ok"] * 3
        assert server.connections == 3


@on_a_loop
async def test_a_request_that_times_out_closes_its_connection_so_that_its_response_reaches_no_other_request() -> None:
    with misbehaving([hangs, OK]) as server:
        connections = Connections(1)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(get(connections, server), 0.05)
        assert await get(connections, server) == "ok"
        assert server.connections == 2
        await connections.aclose()


@on_a_loop
async def test_raises_when_no_server_listens() -> None:
    with misbehaving([OK]) as server:
        pass
    connections = Connections(1)
    for _ in range(2):
        with pytest.raises(UNREACHABLE):
            await get(connections, server)


@on_a_loop
async def test_closes_every_connection_that_was_idle_for_too_long() -> None:
    with misbehaving([OK]) as server:
        connections = Connections(10)
        await asyncio.gather(*[get(connections, server) for _ in range(3)])
        assert (server.connections, server.open_connections) == (3, 3)
        with mock.patch("httpcore._async.http11.time", SimpleNamespace(monotonic=lambda: time.monotonic() + 5.001)):
            for _ in range(3):
                assert await get(connections, server) == "ok"
        await closes_down_to(server, 1)
        assert (server.connections, server.open_connections) == (4, 1)
        await connections.aclose()


@on_a_loop
async def test_a_request_cancelled_at_any_moment_leaves_no_connection_open() -> None:
    is_hanging = threading.Event()
    with misbehaving([switched(is_hanging, on=hangs, off=OK)]) as server:
        connections = Connections(10)
        assert await get(connections, server) == "ok"
        is_hanging.set()
        for turns in range(12):
            task = asyncio.ensure_future(get(connections, server))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            # Before Python 3.11 anyio may mistake this cancellation for its own, and swallow it.
            while sys.version_info < (3, 11) and not task.done():
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await connections.aclose()
        is_hanging.clear()
        # The server accepts connections in order, so after this request it has counted all the others.
        last = Connections(1)
        assert await get(last, server) == "ok"
        await last.aclose()
        await closes_down_to(server, 0)
