"""A client outlives event loops, and keeps nothing of a closed loop."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from exact_limiter import AsyncLimiter
from exact_limiter.testing import LimiterService

USER = {"user": "u_1", "ip": "203.0.113.7"}

Job = Callable[[], Coroutine[Any, Any, None]]


def run(job: Job) -> None:
    asyncio.run(job())


def run_and_close(job: Job) -> None:
    """Test suites that make a loop for each test do this."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(job())
    loop.close()


@pytest.mark.parametrize("transport", ["http", "session"])
@pytest.mark.parametrize("run", [run, run_and_close])
def test_closing_a_loop_closes_its_connections(
    limiter: LimiterService, run: Callable[[Job], None], transport: Any
) -> None:
    client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, transport=transport)
    loops: list[weakref.ref[asyncio.AbstractEventLoop]] = []

    async def job() -> None:
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*[client.check("chat", USER) for _ in range(3)])

    run(job)
    before = len(os.listdir("/dev/fd"))
    for _ in range(30):
        run(job)
    assert len(os.listdir("/dev/fd")) <= before
    gc.collect()
    assert [loop() for loop in loops] == [None] * 31


@pytest.mark.parametrize("is_closed", [True, False], ids=["closed", "not closed"])
@pytest.mark.parametrize("transport", ["http", "session"])
# Without a session, the client is collected with open connections.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_loop_does_not_keep_an_unused_client_alive(limiter: LimiterService, transport: Any, is_closed: bool) -> None:
    async def main() -> None:
        client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, transport=transport)
        await client.check("chat", USER)
        if is_closed:
            await client.aclose()
        reference = weakref.ref(client)
        del client
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None

    asyncio.run(main())


@pytest.mark.parametrize("transport", ["http", "session"])
def test_works_on_uvloop_and_ends_with_it(limiter: LimiterService, transport: Any) -> None:
    uvloop = pytest.importorskip("uvloop")
    client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, on_error="raise", transport=transport)

    async def job() -> None:
        assert all(await asyncio.gather(*[client.check("chat", USER) for _ in range(300)]))

    open_files: list[int] = []
    for _ in range(3):
        loop = uvloop.new_event_loop()
        loop.run_until_complete(job())
        loop.run_until_complete(client.aclose())
        # uvloop closes sockets in the turns after.
        loop.run_until_complete(asyncio.sleep(0.1))
        loop.close()
        open_files.append(len(os.listdir("/dev/fd")))
    assert open_files[2] <= open_files[0]


# Tasks are eager from Python 3.12 on.
if sys.version_info >= (3, 12):

    def test_a_loop_with_eager_tasks_sends_a_message_without_delay(limiter: LimiterService) -> None:
        async def main() -> None:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            async with AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, transport="session") as client:
                # An attempt that was never sent would take half of the deadline.
                for calls in (1, 5, 1):
                    checks = asyncio.gather(*[client.check("chat", USER) for _ in range(calls)])
                    decisions = await asyncio.wait_for(checks, 10)
                    assert [decision.degraded for decision in decisions] == [False] * calls

        asyncio.run(main())
