"""Event loops come and go, and take with them what the client has on them."""

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
    """As test suites do that make a loop for each test."""
    loop = asyncio.new_event_loop()
    loop.run_until_complete(job())
    loop.close()


@pytest.mark.parametrize("batch", [False, True], ids=["alone", "in batches"])
@pytest.mark.parametrize("run", [run, run_and_close])
def test_a_loop_that_is_closed_takes_its_connections_along(
    limiter: LimiterService, run: Callable[[Job], None], batch: bool
) -> None:
    client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, batch=batch)
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


def test_a_client_that_nobody_has_any_more_is_not_kept_by_its_loop(limiter: LimiterService) -> None:
    async def main() -> None:
        async with AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30) as client:
            await client.check("chat", USER)
        known = weakref.ref(client)
        del client
        await asyncio.sleep(0)
        gc.collect()
        assert known() is None

    asyncio.run(main())


# Tasks are eager from Python 3.12 on.
if sys.version_info >= (3, 12):

    def test_a_batch_is_sent_at_once_by_a_loop_whose_tasks_are_eager(limiter: LimiterService) -> None:
        async def main() -> None:
            asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
            async with AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, batch=True) as client:
                # Half of the deadline would be the end of an attempt that was never sent.
                for calls in (1, 5, 1):
                    checks = asyncio.gather(*[client.check("chat", USER) for _ in range(calls)])
                    told = await asyncio.wait_for(checks, 10)
                    assert [decision.degraded for decision in told] == [False] * calls

        asyncio.run(main())
