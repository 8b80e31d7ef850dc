"""Calls that share a request, against the real service."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel
import pytest
from servers import Road

from exact_limiter import AsyncLimiter, Decision, UnauthorizedError
from exact_limiter.testing import LimiterService

Test = Callable[[AsyncLimiter, Road], Awaitable[None]]


def run(limiter: LimiterService, test: Test, *, token: str | None = None, **overrides: object) -> None:
    async def main() -> None:
        road = Road()
        options = {"deadline_seconds": 30, "batch": True, "transport": road, **overrides}
        async with AsyncLimiter(limiter.url, token or limiter.token, **options) as client:  # type: ignore[arg-type]
            await test(client, road)

    anyio.run(main)


async def consume(client: AsyncLimiter, users: list[str], into: dict[str, Decision] | None = None) -> None:
    async def consume_for(user: str) -> None:
        decision = await client.consume("chat", {"user": user, "ip": "203.0.113.7"})
        if into is not None:
            into[user] = decision

    async with anyio.create_task_group() as group:
        for user in users:
            group.start_soon(consume_for, user)


def test_concurrent_calls_share_a_request_and_each_gets_its_own_decision(limiter: LimiterService) -> None:
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


def test_calls_made_while_a_batch_is_in_flight_form_the_next_batch(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.close()
        async with anyio.create_task_group() as group:
            group.start_soon(consume, client, ["a"])
            await road.wait_for(1)
            group.start_soon(consume, client, ["b", "c"])
            for _ in range(10):
                await anyio.lowlevel.checkpoint()
            assert road.users == [["a"]]
            road.open()
        assert road.users == [["a"], ["b", "c"]]

    run(limiter, test)


def test_sends_releases_in_batches(limiter: LimiterService) -> None:
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


def test_a_cancelled_call_does_not_cancel_the_rest_of_its_batch(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.close()
        decisions: dict[str, Decision] = {}
        first = anyio.CancelScope()

        async def consume_first() -> None:
            with first:
                # With a key of the caller: otherwise another batch would roll it back.
                first_subject = {"user": "first", "ip": "203.0.113.7"}
                decisions["first"] = await client.consume("chat", first_subject, idempotency_key="first")

        async with anyio.create_task_group() as group:
            group.start_soon(consume_first)
            group.start_soon(client.consume, "chat", {"user": "second", "ip": "203.0.113.7"})
            await road.wait_for(1)
            first.cancel()
            road.open()
        assert (road.users, road.cancelled) == ([["first", "second"]], 0)
        assert decisions == {}
        assert not await client.consume("chat", {"user": "second", "ip": "203.0.113.7"}, cost=5)

    run(limiter, test)


def test_a_batch_whose_calls_are_all_cancelled_is_cancelled_and_delays_no_other(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.close()
        async with anyio.create_task_group() as group:
            for user in ("a", "b"):
                subject = {"user": user, "ip": "203.0.113.7"}
                group.start_soon(functools.partial(client.consume, "chat", subject, idempotency_key=user))
            await road.wait_for(1)
            group.cancel_scope.cancel()
        road.open()
        await consume(client, ["c"])
        assert (road.users, road.cancelled) == ([["a", "b"], ["c"]], 1)

    run(limiter, test)


def test_each_call_has_its_own_deadline(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.close()
        decisions: dict[str, Decision] = {}
        await consume(client, ["a"], decisions)
        assert (decisions["a"].allowed, decisions["a"].degraded) == (False, True)
        keys = {item["idempotency_key"] for body in road.bodies for item in body["requests"]}
        assert len(keys) == 1
        assert [body["requests"][0]["attempt"] for body in road.bodies][:2] == [1, 2]

    run(limiter, test, deadline_seconds=0.5)


def test_raises_the_refusal_of_a_whole_batch_from_each_call(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        with pytest.raises(UnauthorizedError):
            await client.consume("chat", {"user": "a", "ip": "203.0.113.7"})

    run(limiter, test, token="wrong", on_error="raise")
