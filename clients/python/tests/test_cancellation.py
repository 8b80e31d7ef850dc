"""Settles, releases and rollbacks finish despite cancellation: against the real service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from applications import a_streaming_app, press_stop
from roads import ClosedRoad, LossyRoad, Road
from servers import hangs, misbehaving

from exact_limiter import AsyncLimiter, Decision, Layer
from exact_limiter.fastapi import Charge
from exact_limiter.testing import LimiterService

USER = {"user": "u_1", "ip": "203.0.113.7"}
LAYERS = [Layer("job", "u_1", ["2 concurrent per 5 minutes", "10/minute"])]

EACH_TRANSPORT = pytest.mark.parametrize("transport", ["http", "session"])


def client_of(limiter: LimiterService, transport: Any, road: Road | None = None, **options: Any) -> AsyncLimiter:
    url = limiter.url if road is None else road.url
    return AsyncLimiter(url, limiter.token, **{"deadline_seconds": 30, "transport": transport, **options})


async def take(client: AsyncLimiter) -> str:
    """Takes both places of the user, by policy and inline. Returns the id of a decision of each."""
    for key in ("first", "second"):
        assert await client.consume("jobs", USER, idempotency_key=key)
        assert await client.consume_inline(LAYERS, idempotency_key=key)
    return "first"


Change = Callable[[AsyncLimiter, str], Awaitable[object]]


async def charge_of(client: AsyncLimiter, id: str) -> Charge:
    return Charge(Decision(True, id, "jobs", 1, False, False, None, ()), client, USER)


async def settle_charge(client: AsyncLimiter, id: str) -> object:
    return await (await charge_of(client, id)).settle(0)


async def release_charge(client: AsyncLimiter, id: str) -> object:
    return await (await charge_of(client, id)).release()


#: Each also has whether its limits are inline, and how much of both limits it leaves used.
CHANGES: list[tuple[str, Change, bool, list[int]]] = [
    ("settle", lambda client, id: client.settle("jobs", USER, id=id, cost=0), False, [2, 1]),
    ("release", lambda client, id: client.release("jobs", USER, id=id), False, [1, 2]),
    ("settle_inline", lambda client, id: client.settle_inline(LAYERS, id=id, cost=0), True, [2, 1]),
    ("release_inline", lambda client, id: client.release_inline(LAYERS, id=id), True, [1, 2]),
    ("Charge.settle", settle_charge, False, [2, 1]),
    ("Charge.release", release_charge, False, [1, 2]),
]
EACH = pytest.mark.parametrize(("change", "inline", "left"), [pytest.param(*rest, id=name) for name, *rest in CHANGES])


async def used(client: AsyncLimiter, inline: bool) -> list[int]:
    decision = await (client.check_inline(LAYERS) if inline else client.check("jobs", USER))
    return [state.used for state in decision.limits]


@EACH_TRANSPORT
@EACH
def test_changes_in_a_cancelled_scope_finish_one_after_the_other(
    limiter: LimiterService, transport: Any, change: Change, inline: bool, left: list[int]
) -> None:
    async def main() -> None:
        async with client_of(limiter, transport) as client:
            id = await take(client)
            changes: list[object] = []
            with anyio.CancelScope() as scope:
                try:
                    scope.cancel()
                    await anyio.sleep_forever()
                finally:
                    changes = [await change(client, id), await change(client, id)]
            assert scope.cancelled_caught
            assert None not in changes
            assert await used(client, inline) == left

    anyio.run(main)


@EACH_TRANSPORT
@EACH
def test_a_change_in_a_task_that_is_cancelled_repeatedly_finishes(
    limiter: LimiterService, transport: Any, change: Change, inline: bool, left: list[int]
) -> None:
    async def main() -> None:
        async with Road(limiter.url) as road, client_of(limiter, transport, road) as client:
            id = await take(client)
            road.close()
            before = len(road.bodies)
            task = asyncio.ensure_future(change(client, id))
            await road.wait_for(before + 1)
            for _ in range(5):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
            road.open()
            # The cancellation is not lost: it is raised after the work.
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(road.bodies) == before + 1
            assert await used(client, inline) == left

    asyncio.run(main())


@EACH_TRANSPORT
@EACH
def test_a_change_finishes_while_asyncio_shuts_down(
    limiter: LimiterService, transport: Any, change: Change, inline: bool, left: list[int]
) -> None:
    client = client_of(limiter, transport)
    kept: list[asyncio.Task[None]] = []

    async def stream(id: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await change(client, id)

    async def main() -> None:
        kept.append(asyncio.create_task(stream(await take(client))))
        await asyncio.sleep(0)

    async def look() -> None:
        assert await used(client, inline) == left

    asyncio.run(main())
    assert kept[0].cancelled()
    asyncio.run(look())


@EACH_TRANSPORT
def test_a_change_starts_again_after_asyncio_cancels_all_tasks(limiter: LimiterService, transport: Any) -> None:
    async def main() -> None:
        async with Road(limiter.url) as road, client_of(limiter, transport, road) as client:
            id = await take(client)
            road.close()
            before = len(road.bodies)
            task = asyncio.ensure_future(client.release("jobs", USER, id=id))
            await road.wait_for(before + 1)
            for other in asyncio.all_tasks() - {asyncio.current_task()}:
                other.cancel()
            road.open()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await used(client, inline=False) == [1, 2]

    asyncio.run(main())


def test_a_change_without_a_response_ends_within_the_deadline_and_is_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main(url: str) -> None:
        async with AsyncLimiter(url, "token", deadline_seconds=0.4) as client:
            charge = await charge_of(client, "x")
            with anyio.CancelScope() as scope:
                scope.cancel()
                assert (await charge.settle(0), await charge.release()) == (None, None)
                await anyio.sleep_forever()

    with misbehaving([hangs]) as server:
        began = time.monotonic()
        anyio.run(main, server.url)
        assert time.monotonic() - began < 5
    assert [(record.levelno, record.args[0]) for record in caplog.records if isinstance(record.args, tuple)] == [
        (logging.WARNING, "/v1/settle"),
        (logging.WARNING, "/v1/release"),
    ]


async def look_at(limiter: LimiterService) -> list[list[int]]:
    async with client_of(limiter, "auto") as client:
        return [await used(client, inline=False), await used(client, inline=True)]


Consume = Callable[[AsyncLimiter], Awaitable[object]]
CONSUMES: list[Consume] = [
    lambda client: client.consume("jobs", USER),
    lambda client: client.consume_inline(LAYERS),
]


@EACH_TRANSPORT
@pytest.mark.parametrize("consume", CONSUMES, ids=["by policy", "inline"])
@pytest.mark.parametrize("road_of", [ClosedRoad, LossyRoad], ids=["before arrival", "before response"])
def test_a_cancelled_consume_is_rolled_back_in_the_background(
    limiter: LimiterService,
    transport: Any,
    consume: Callable[[AsyncLimiter], Awaitable[object]],
    road_of: Callable[[str], Road],
) -> None:
    async def main() -> None:
        async with road_of(limiter.url) as road, client_of(limiter, transport, road) as client:
            task = asyncio.ensure_future(consume(client))
            await road.wait_for(1)
            if isinstance(road, LossyRoad):
                await road.arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            road.open()
        # `aclose` waits for the rollback.
        assert await look_at(limiter) == [[0, 0], [0, 0]]
        assert len(road.bodies) == 4

    asyncio.run(main())


@EACH_TRANSPORT
def test_a_consume_that_ends_with_its_loop_is_rolled_back(limiter: LimiterService, transport: Any) -> None:
    client = client_of(limiter, transport)
    tasks: list[asyncio.Future[Decision]] = []

    async def main() -> None:
        await client.check("jobs", USER)
        tasks.append(asyncio.ensure_future(client.consume("jobs", USER)))
        await asyncio.sleep(0.002)

    asyncio.run(main())
    assert tasks[0].cancelled() or tasks[0].done()
    if tasks[0].cancelled():
        assert asyncio.run(look_at(limiter)) == [[0, 0], [0, 0]]


@EACH_TRANSPORT
def test_a_cancelled_consume_with_a_key_of_the_caller_stays_charged(limiter: LimiterService, transport: Any) -> None:
    async def main() -> None:
        async with LossyRoad(limiter.url) as road, client_of(limiter, transport, road) as client:
            with anyio.move_on_after(30) as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: client.consume("jobs", USER, idempotency_key="mine"))
                    await road.arrived.wait()
                    scope.cancel()
            road.open()
            assert await used(client, inline=False) == [1, 1]

    anyio.run(main)


def test_a_failed_rollback_of_a_cancelled_consume_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(url: str) -> None:
        async with AsyncLimiter(url, "token", deadline_seconds=0.4) as client:
            with anyio.move_on_after(0.1):
                await client.consume("chat", USER)

    with misbehaving([hangs]) as server:
        anyio.run(main, server.url)
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == ["/v1/consume"]


@EACH_TRANSPORT
@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_a_consume_that_on_error_allowed_can_be_settled_and_released(
    limiter: LimiterService, transport: Any, on_error: Any
) -> None:
    async def main() -> None:
        async with (
            LossyRoad(limiter.url) as road,
            client_of(limiter, transport, road, on_error=on_error, deadline_seconds=1) as client,
        ):
            decision = await client.consume("jobs", USER)
            assert decision.degraded
            assert await look_at(limiter) == [[1, 1], [0, 0]]
            road.open()
            client.deadline_seconds = 30
            charge = Charge(decision, client, USER)
            if on_error == "allow":
                assert await charge.settle(0) is not None
                assert await charge.release() is not None
                assert await look_at(limiter) == [[0, 0], [0, 0]]

    asyncio.run(main())


def test_an_unrecorded_consume_that_on_error_allowed_is_not_logged_when_settled_or_released(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with client_of(limiter, "auto") as client:
            decision = Decision(True, "never", "jobs", 1, False, True, None, ())
            assert await Charge(decision, client, USER).settle(0) is None
            assert await Charge(decision, client, USER).release() is None

    asyncio.run(main())
    assert caplog.records == []


def test_a_failed_release_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def main(url: str) -> None:
        async with AsyncLimiter(url, "token", deadline_seconds=0.1) as client:
            for _ in range(5):
                assert await (await charge_of(client, "x")).release() is None

    with misbehaving([hangs]) as server:
        asyncio.run(main(server.url))
    assert len(caplog.records) == 1


@EACH_TRANSPORT
@pytest.mark.parametrize("spec_version", ["2.0", "2.4"])
def test_a_user_who_stops_streams_repeatedly_is_not_locked_out(
    limiter: LimiterService, transport: Any, spec_version: str
) -> None:
    """Starlette cancels the stream of a disconnected client: by a scope up to ASGI 2.3, by an OSError from 2.4 on."""
    client = client_of(limiter, transport)
    application = a_streaming_app(client)

    async def used_by_visitor() -> list[int]:
        return [state.used for state in (await client.check("jobs", {"ip": "203.0.113.7"})).limits]

    async def main() -> None:
        async with client:
            for _ in range(12):
                assert await press_stop(application, spec_version) == 200
                # The loop finishes a stream that could not send, in a task of its own.
                with anyio.fail_after(10):
                    while await used_by_visitor() != [0, 0]:
                        await anyio.lowlevel.checkpoint()

    anyio.run(main)
