"""Calls that travel together, against the real service."""

from __future__ import annotations

import functools
import json
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import anyio.lowlevel
import httpx
import pytest

from exact_limiter import AsyncLimiter, Decision, UnauthorizedError
from exact_limiter.testing import LimiterService


class Road(httpx.AsyncBaseTransport):
    """The way to the service, which keeps what travelled on it, and can be closed for a while."""

    def __init__(self) -> None:
        self._inner = httpx.AsyncHTTPTransport()
        self.bodies: list[dict[str, Any]] = []
        self.given_up = 0
        self.is_open = anyio.Event()
        self.is_open.set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.bodies.append(json.loads(request.content))
        try:
            await self.is_open.wait()
        except BaseException:
            self.given_up += 1
            raise
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()

    @property
    def users(self) -> list[list[str]]:
        return [[item["subject"]["user"] for item in body["requests"]] for body in self.bodies]

    async def wait_for(self, requests: int) -> None:
        with anyio.fail_after(30):
            while len(self.bodies) < requests:
                await anyio.lowlevel.checkpoint()


Test = Callable[[AsyncLimiter, Road], Awaitable[None]]


def run(limiter: LimiterService, test: Test, *, token: str | None = None, **given: object) -> None:
    async def main() -> None:
        road = Road()
        options = {"deadline_seconds": 30, "batch": True, "transport": road, **given}
        async with AsyncLimiter(limiter.url, token or limiter.token, **options) as client:  # type: ignore[arg-type]
            await test(client, road)

    anyio.run(main)


async def consume(client: AsyncLimiter, users: list[str], into: dict[str, Decision] | None = None) -> None:
    async def one(user: str) -> None:
        decision = await client.consume("chat", {"user": user, "ip": "203.0.113.7"})
        if into is not None:
            into[user] = decision

    async with anyio.create_task_group() as group:
        for user in users:
            group.start_soon(one, user)


def test_calls_made_at_once_travel_together_and_each_is_given_its_own_answer(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        decisions: dict[str, Decision] = {}
        await consume(client, ["a", "b", "c"], decisions)
        assert road.users == [["a", "b", "c"]]
        assert [decisions[user].limits[0].key for user in "abc"] == ["user:a", "user:b", "user:c"]
        assert (
            decisions["c"].headers["RateLimit"]
            == '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=27;t=60'
        )
        assert len({decision.id for decision in decisions.values()}) == 3

    run(limiter, test)


def test_calls_made_while_a_batch_is_under_way_are_the_next_one(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.is_open = anyio.Event()
        async with anyio.create_task_group() as group:
            group.start_soon(consume, client, ["a"])
            await road.wait_for(1)
            group.start_soon(consume, client, ["b", "c"])
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert road.users == [["a"]]
            road.is_open.set()
        assert road.users == [["a"], ["b", "c"]]

    run(limiter, test)


def test_releases_travel_in_batches(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        decision = await client.consume("jobs", {"user": "a"})
        assert decision.id is not None
        released = await client.release("jobs", {"user": "a"}, id=decision.id)
        assert released.limits[0].used == 0
        assert [[item["op"] for item in body["requests"]] for body in road.bodies] == [["consume"], ["release"]]

    run(limiter, test)


def test_a_batch_has_at_most_100_calls(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        await consume(client, [f"u_{i}" for i in range(101)])
        assert [len(users) for users in road.users] == [100, 1]

    run(limiter, test)


def test_a_call_that_is_cancelled_leaves_the_others_to_travel_on(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.is_open = anyio.Event()
        decisions: dict[str, Decision] = {}
        first = anyio.CancelScope()

        async def consume_first() -> None:
            with first:
                # With a key of its own: otherwise another batch would give it back.
                first_subject = {"user": "first", "ip": "203.0.113.7"}
                decisions["first"] = await client.consume("chat", first_subject, idempotency_key="first")

        async with anyio.create_task_group() as group:
            group.start_soon(consume_first)
            group.start_soon(client.consume, "chat", {"user": "second", "ip": "203.0.113.7"})
            await road.wait_for(1)
            first.cancel()
            road.is_open.set()
        assert (road.users, road.given_up) == ([["first", "second"]], 0)
        assert decisions == {}
        assert not await client.consume("chat", {"user": "second", "ip": "203.0.113.7"}, cost=5)

    run(limiter, test)


def test_a_batch_that_all_have_left_is_given_up_and_holds_up_nobody(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.is_open = anyio.Event()
        async with anyio.create_task_group() as group:
            for user in ("a", "b"):
                subject = {"user": user, "ip": "203.0.113.7"}
                group.start_soon(functools.partial(client.consume, "chat", subject, idempotency_key=user))
            await road.wait_for(1)
            group.cancel_scope.cancel()
        road.is_open.set()
        await consume(client, ["c"])
        assert (road.users, road.given_up) == ([["a", "b"], ["c"]], 1)

    run(limiter, test)


def test_each_call_has_its_own_deadline(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.is_open = anyio.Event()
        decisions: dict[str, Decision] = {}
        await consume(client, ["a"], decisions)
        assert (decisions["a"].allowed, decisions["a"].degraded) == (False, True)
        keys = {item["idempotency_key"] for body in road.bodies for item in body["requests"]}
        assert len(keys) == 1
        assert [body["requests"][0]["attempt"] for body in road.bodies][:2] == [1, 2]

    run(limiter, test, deadline_seconds=0.5)


def test_a_batch_that_is_refused_as_a_whole_is_each_calls_own_error(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        with pytest.raises(UnauthorizedError):
            await client.consume("chat", {"user": "a", "ip": "203.0.113.7"})

    run(limiter, test, token="wrong", on_error="raise")
