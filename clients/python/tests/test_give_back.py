"""What is given back arrives, whatever is cancelled around it: against the real service."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import nullcontext, suppress
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import StreamingResponse
from servers import hangs, misbehaving

from exact_limiter import AsyncLimiter, Decision, Layer
from exact_limiter.fastapi import Charge, RateLimit
from exact_limiter.testing import LimiterService

USER = {"user": "u_1", "ip": "203.0.113.7"}
LAYERS = [Layer("job", "u_1", ["2 concurrent per 5 minutes", "10/minute"])]

BATCH = pytest.mark.parametrize("batch", [False, True], ids=["alone", "in batches"])


class Road(httpx.AsyncBaseTransport):
    """The way to the service, which is closed until it is opened."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.is_open = asyncio.Event()
        self.travellers = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.travellers += 1
        await self.is_open.wait()
        return await self._inner.handle_async_request(request)

    async def wait_for(self, travellers: int) -> None:
        with anyio.fail_after(30):
            while self.travellers < travellers:
                await anyio.lowlevel.checkpoint()

    async def aclose(self) -> None:
        await self._inner.aclose()


def client_of(limiter: LimiterService, batch: bool, **options: Any) -> AsyncLimiter:
    return AsyncLimiter(limiter.url, limiter.token, **{"deadline_seconds": 30, "batch": batch, **options})


async def take(client: AsyncLimiter) -> str:
    """Both places of the user, by policy and inline; names the decisions, which have the same id."""
    for key in ("first", "second"):
        assert await client.consume("jobs", USER, idempotency_key=key)
        assert await client.consume_inline(LAYERS, idempotency_key=key)
    return "first"


GiveBack = Callable[[AsyncLimiter, str], Awaitable[object]]


async def charge_of(client: AsyncLimiter, id: str) -> Charge:
    return Charge(Decision(True, id, "jobs", 1, False, False, None, ()), client, USER)


async def settle_charge(client: AsyncLimiter, id: str) -> object:
    return await (await charge_of(client, id)).settle(0)


async def release_charge(client: AsyncLimiter, id: str) -> object:
    return await (await charge_of(client, id)).release()


#: Each with whether it is of limits named inline, and what it leaves used of the two limits.
GIVE_BACKS: list[tuple[str, GiveBack, bool, list[int]]] = [
    ("settle", lambda client, id: client.settle("jobs", USER, id=id, cost=0), False, [2, 1]),
    ("release", lambda client, id: client.release("jobs", USER, id=id), False, [1, 2]),
    ("settle_inline", lambda client, id: client.settle_inline(LAYERS, id=id, cost=0), True, [2, 1]),
    ("release_inline", lambda client, id: client.release_inline(LAYERS, id=id), True, [1, 2]),
    ("Charge.settle", settle_charge, False, [2, 1]),
    ("Charge.release", release_charge, False, [1, 2]),
]
EACH = pytest.mark.parametrize(
    ("give_back", "inline", "left"), [pytest.param(*rest, id=name) for name, *rest in GIVE_BACKS]
)


async def used(client: AsyncLimiter, inline: bool) -> list[int]:
    decision = await (client.check_inline(LAYERS) if inline else client.check("jobs", USER))
    return [state.used for state in decision.limits]


@BATCH
@EACH
def test_a_give_back_in_a_cancelled_scope_arrives_and_what_follows_it_too(
    limiter: LimiterService, batch: bool, give_back: GiveBack, inline: bool, left: list[int]
) -> None:
    async def main() -> None:
        async with client_of(limiter, batch) as client:
            id = await take(client)
            told: list[object] = []
            with anyio.CancelScope() as scope:
                try:
                    scope.cancel()
                    await anyio.sleep_forever()
                finally:
                    told = [await give_back(client, id), await give_back(client, id)]
            assert scope.cancelled_caught
            assert None not in told
            assert await used(client, inline) == left

    anyio.run(main)


@BATCH
@EACH
def test_a_give_back_in_a_task_that_is_cancelled_again_and_again_arrives(
    limiter: LimiterService, batch: bool, give_back: GiveBack, inline: bool, left: list[int]
) -> None:
    async def main() -> None:
        road = Road()
        road.is_open.set()
        async with client_of(limiter, batch, transport=road) as client:
            id = await take(client)
            road.is_open.clear()
            before = road.travellers
            task = asyncio.ensure_future(give_back(client, id))
            await road.wait_for(before + 1)
            for _ in range(5):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
            road.is_open.set()
            # The cancellation is not lost: it goes on as soon as the work has been done.
            with pytest.raises(asyncio.CancelledError):
                await task
            assert road.travellers == before + 1
            assert await used(client, inline) == left

    asyncio.run(main())


@BATCH
@EACH
def test_a_give_back_while_asyncio_is_being_shut_down_arrives(
    limiter: LimiterService, batch: bool, give_back: GiveBack, inline: bool, left: list[int]
) -> None:
    client = client_of(limiter, batch)
    kept: list[asyncio.Task[None]] = []

    async def stream(id: str) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            await give_back(client, id)

    async def main() -> None:
        kept.append(asyncio.create_task(stream(await take(client))))
        await asyncio.sleep(0)

    async def look() -> None:
        assert await used(client, inline) == left

    asyncio.run(main())
    assert kept[0].cancelled()
    asyncio.run(look())


@BATCH
def test_a_give_back_that_asyncio_interrupts_with_all_other_tasks_is_begun_again(
    limiter: LimiterService, batch: bool
) -> None:
    async def main() -> None:
        road = Road()
        road.is_open.set()
        async with client_of(limiter, batch, transport=road) as client:
            id = await take(client)
            road.is_open.clear()
            before = road.travellers
            task = asyncio.ensure_future(client.release("jobs", USER, id=id))
            await road.wait_for(before + 1)
            for one in asyncio.all_tasks() - {asyncio.current_task()}:
                one.cancel()
            road.is_open.set()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await used(client, inline=False) == [1, 2]

    asyncio.run(main())


def test_a_give_back_that_nobody_answers_ends_within_the_deadline_and_is_logged(
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


class Lossy(Road):
    """The way to the service, on which answers are lost until it is open."""

    def __init__(self) -> None:
        super().__init__()
        self.arrived = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.travellers += 1
        response = await self._inner.handle_async_request(request)
        await response.aread()
        await response.aclose()
        if not self.is_open.is_set():
            self.arrived.set()
            await asyncio.sleep(3600)
        return response


async def look_at(limiter: LimiterService) -> list[list[int]]:
    async with client_of(limiter, False) as client:
        return [await used(client, inline=False), await used(client, inline=True)]


CONSUMES: list[Callable[[AsyncLimiter], Awaitable[object]]] = [
    lambda client: client.consume("jobs", USER),
    lambda client: client.consume_inline(LAYERS),
]


@BATCH
@pytest.mark.parametrize("consume", CONSUMES, ids=["by policy", "inline"])
@pytest.mark.parametrize("Way", [Road, Lossy], ids=["before it arrives", "before its answer"])
def test_a_consume_that_is_cancelled_is_given_back_in_the_background(
    limiter: LimiterService, batch: bool, consume: Callable[[AsyncLimiter], Awaitable[object]], Way: type[Road]
) -> None:
    async def main() -> None:
        road = Way()
        async with client_of(limiter, batch, transport=road) as client:
            task = asyncio.ensure_future(consume(client))
            await road.wait_for(1)
            if isinstance(road, Lossy):
                await road.arrived.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            road.is_open.set()
        # Closed: what was to be given back has been.
        assert await look_at(limiter) == [[0, 0], [0, 0]]
        assert road.travellers == 4

    asyncio.run(main())


@BATCH
def test_a_consume_that_ends_with_its_loop_is_given_back(limiter: LimiterService, batch: bool) -> None:
    client = client_of(limiter, batch)
    tasks: list[asyncio.Future[Decision]] = []

    async def main() -> None:
        await client.check("jobs", USER)
        tasks.append(asyncio.ensure_future(client.consume("jobs", USER)))
        await asyncio.sleep(0.002)

    asyncio.run(main())
    assert tasks[0].cancelled() or tasks[0].done()
    if tasks[0].cancelled():
        assert asyncio.run(look_at(limiter)) == [[0, 0], [0, 0]]


@BATCH
def test_a_cancelled_consume_with_a_key_of_the_caller_is_left_alone(limiter: LimiterService, batch: bool) -> None:
    async def main() -> None:
        road = Lossy()
        async with client_of(limiter, batch, transport=road) as client:
            with anyio.move_on_after(30) as scope:
                async with anyio.create_task_group() as group:
                    group.start_soon(lambda: client.consume("jobs", USER, idempotency_key="mine"))
                    await road.arrived.wait()
                    scope.cancel()
            road.is_open.set()
            assert await used(client, inline=False) == [1, 1]

    anyio.run(main)


def test_a_cancelled_consume_that_can_not_be_given_back_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def main(url: str) -> None:
        async with AsyncLimiter(url, "token", deadline_seconds=0.4) as client:
            with anyio.move_on_after(0.1):
                await client.consume("chat", USER)

    with misbehaving([hangs]) as server:
        anyio.run(main, server.url)
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == ["/v1/consume"]


@pytest.mark.parametrize("on_error", ["allow", "deny"])
def test_what_was_let_pass_without_an_answer_can_be_given_back(limiter: LimiterService, on_error: Any) -> None:
    async def main() -> None:
        road = Lossy()
        async with client_of(limiter, False, transport=road, on_error=on_error, deadline_seconds=1) as client:
            decision = await client.consume("jobs", USER)
            assert decision.degraded
            assert await look_at(limiter) == [[1, 1], [0, 0]]
            road.is_open.set()
            client.deadline_seconds = 30
            charge = Charge(decision, client, USER)
            if on_error == "allow":
                assert await charge.settle(0) is not None
                assert await charge.release() is not None
                assert await look_at(limiter) == [[0, 0], [0, 0]]

    asyncio.run(main())


def test_nothing_to_give_back_of_what_was_let_pass_is_no_trouble(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with client_of(limiter, False) as client:
            decision = Decision(True, "never", "jobs", 1, False, True, None, ())
            assert await Charge(decision, client, USER).settle(0) is None
            assert await Charge(decision, client, USER).release() is None

    asyncio.run(main())
    assert caplog.records == []


def test_why_nothing_could_be_given_back_is_logged_once_a_minute(caplog: pytest.LogCaptureFixture) -> None:
    async def main(url: str) -> None:
        async with AsyncLimiter(url, "token", deadline_seconds=0.1) as client:
            for _ in range(5):
                assert await (await charge_of(client, "x")).release() is None

    with misbehaving([hangs]) as server:
        asyncio.run(main(server.url))
    assert len(caplog.records) == 1


@BATCH
@pytest.mark.parametrize("spec_version", ["2.0", "2.4"])
def test_a_user_who_presses_stop_again_and_again_is_not_locked_out(
    limiter: LimiterService, batch: bool, spec_version: str
) -> None:
    """Starlette cancels the stream when its client hangs up: up to 2.3 by a scope, from 2.4 on when it can't send."""
    client = client_of(limiter, batch)
    application = FastAPI()
    rate_limit = RateLimit(client, trusted_proxies=0)
    rate_limit.install(application)
    limited = Depends(rate_limit("jobs"))

    @application.post("/")
    async def route(charge: Charge = limited) -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            try:
                while True:
                    yield "word "
                    await anyio.sleep(0.001)
            finally:
                await charge.settle(0)
                await charge.release()

        return StreamingResponse(words())

    async def press_stop() -> int:
        """Sends a request, and hangs up at the second word."""
        statuses: list[int] = []
        words: list[bytes] = []
        has_hung_up = anyio.Event()
        is_first = True

        async def receive() -> dict[str, Any]:
            nonlocal is_first
            if is_first:
                is_first = False
                return {"type": "http.request", "body": b"", "more_body": False}
            await has_hung_up.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            elif len(words) < 2:
                words.append(message.get("body", b""))
            else:
                has_hung_up.set()
                if spec_version == "2.4":
                    raise OSError("the client has hung up")

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": spec_version},
            "http_version": "1.1",
            "method": "POST",
            "path": "/",
            "raw_path": b"/",
            "root_path": "",
            "scheme": "http",
            "query_string": b"",
            "headers": [],
            "client": ("203.0.113.7", 1),
            "server": ("test", 80),
        }
        # How the application ends where it can't send is a matter of Starlette's version.
        with suppress(Exception) if spec_version == "2.4" else nullcontext():
            await application(scope, receive, send)
        return statuses[0]

    async def main() -> None:
        async with client:
            for _ in range(12):
                assert await press_stop() == 200
                # A stream that could not send is finished by the loop, in a task of its own.
                with anyio.fail_after(10):
                    while await used_by_visitor() != [0, 0]:
                        await anyio.lowlevel.checkpoint()

    async def used_by_visitor() -> list[int]:
        return [state.used for state in (await client.check("jobs", {"ip": "203.0.113.7"})).limits]

    anyio.run(main)
