"""Sessions against the real service: what shares a message, and what survives the end of a session."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any
from unittest import mock

import anyio
import pytest
from roads import LossyRoad, Road

from exact_limiter import AsyncLimiter, Decision, Layer, UnauthorizedError, session
from exact_limiter.testing import LimiterService

Test = Callable[[AsyncLimiter, Road], Awaitable[None]]


def run(limiter: LimiterService, test: Test, *, road: type[Road] = Road, **options: Any) -> None:
    async def main() -> None:
        async with road(limiter.url) as way:
            given = {"token": limiter.token, "deadline_seconds": 30, **options}
            async with AsyncLimiter(way.url, **given) as client:
                await test(client, way)

    asyncio.run(main())


async def consume(client: AsyncLimiter, users: list[str]) -> list[Decision]:
    return await asyncio.gather(*[client.consume("chat", subject(user)) for user in users])


def subject(user: str) -> dict[str, str]:
    return {"user": user, "ip": "203.0.113.7"}


def test_calls_of_one_turn_share_a_message_and_each_gets_its_own_decision(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        decisions = await consume(client, ["a", "b", "c"])
        assert road.users == [["a", "b", "c"]]
        assert [decision.limits[0].key for decision in decisions] == ["user:a", "user:b", "user:c"]
        assert (
            decisions[2].headers["RateLimit"] == '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=27;t=60'
        )
        assert len({decision.id for decision in decisions}) == 3

    run(limiter, test)


def test_a_call_does_not_wait_for_the_answer_to_an_earlier_message(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        await consume(client, ["a"])
        road.close()
        first = asyncio.ensure_future(consume(client, ["b"]))
        await road.wait_for(2)
        # The road holds the first message, and reads the second when it is opened.
        second = asyncio.ensure_future(consume(client, ["c", "d"]))
        await asyncio.sleep(0.01)
        third = asyncio.ensure_future(consume(client, ["e"]))
        await asyncio.sleep(0.01)
        road.open()
        await asyncio.gather(first, second, third)
        assert (road.users, road.sessions) == ([["a"], ["b"], ["c", "d"], ["e"]], 1)

    run(limiter, test)


def test_checks_settles_and_releases_go_over_the_session_and_inline_limits_over_http(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        decision = await client.consume("jobs", {"user": "a"})
        assert decision.id is not None
        assert await client.check("jobs", {"user": "a"})
        assert (await client.settle("jobs", {"user": "a"}, id=decision.id, cost=3)).limits[1].used == 3
        assert (await client.release("jobs", {"user": "a"}, id=decision.id)).limits[0].used == 0
        ops = [[request["op"] for request in body["requests"]] for body in road.bodies]
        assert ops == [["consume"], ["check"], ["settle"], ["release"]]
        assert await client.consume_inline([Layer("login", "a", ["5/minute"])])
        assert "layers" in road.bodies[-1]

    run(limiter, test)


def test_http_opens_no_session(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        await consume(client, ["a"])
        assert road.sessions == 0

    run(limiter, test, transport="http")


def test_a_message_has_at_most_100_requests(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        await consume(client, [f"u_{i}" for i in range(201)])
        assert [len(users) for users in road.users] == [100, 100, 1]

    run(limiter, test)


def test_a_message_has_at_most_64_kib(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        # An attribute that the policy does not count by.
        subjects = [{**subject("a"), "note": "x" * length} for length in range(7_000, 7_020)]
        decisions = await asyncio.gather(*[client.check("chat", subject) for subject in subjects])
        assert [decision.degraded for decision in decisions] == [False] * 20
        lengths = [len(json.dumps(body, separators=(",", ":"))) for body in road.bodies]
        assert len(lengths) == 3
        assert max(lengths) <= 65_536
        assert road.sessions == 1

    run(limiter, test)


def test_more_calls_than_a_session_may_have_unanswered_are_all_decided(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        decisions = await asyncio.gather(*[client.check("trial", {"user": f"u_{i}"}) for i in range(2_500)])
        assert sum(decision.allowed for decision in decisions) == 2_500
        assert road.sessions == 1

    run(limiter, test, on_error="raise")


def test_a_cancelled_call_does_not_cancel_the_rest_of_its_message(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        road.close()
        # With a key of the caller: otherwise the charge would be rolled back.
        first = asyncio.ensure_future(client.consume("chat", subject("first"), idempotency_key="first"))
        second = asyncio.ensure_future(client.consume("chat", subject("second")))
        await road.wait_for(1)
        first.cancel()
        road.open()
        assert (await second).limits[0].used == 1
        assert road.users == [["first", "second"]]
        assert first.cancelled()

    run(limiter, test)


def test_a_call_cancelled_before_the_session_is_open_is_not_sent(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        first = asyncio.ensure_future(client.consume("chat", subject("first"), idempotency_key="first"))
        await asyncio.sleep(0)
        first.cancel()
        await consume(client, ["second"])
        assert road.users == [["second"]]

    run(limiter, test)


def test_what_was_lost_with_its_session_is_sent_again_and_charged_once(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        charging = asyncio.ensure_future(consume(client, ["a", "b"]))
        await road.arrived.wait()
        road.cut()
        road.open()
        for decision in await charging:
            assert (decision.allowed, decision.degraded, decision.limits[0].used) == (True, False, 1)
        sent = [request for body in road.bodies for request in body["requests"]]
        keys = {user: {r["idempotency_key"] for r in sent if r["subject"]["user"] == user} for user in "ab"}
        assert [len(keys["a"]), len(keys["b"])] == [1, 1]
        assert sorted(request["attempt"] for request in sent) == [1, 1, 2, 2]
        assert road.sessions == 2

    run(limiter, test, road=LossyRoad)


def test_each_call_has_its_own_deadline_and_a_silent_session_is_replaced(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        await consume(client, ["a"])
        road.close()
        (decision,) = await consume(client, ["b"])
        assert (decision.allowed, decision.degraded) == (False, True)
        sent = [body["requests"][0] for body in road.bodies[1:]]
        assert len({request["idempotency_key"] for request in sent}) == 1
        assert [request["attempt"] for request in sent][:2] == [1, 2]
        assert road.sessions >= 2

    run(limiter, test, deadline_seconds=1, transport="session")


def test_an_idle_session_is_kept_alive_by_pings(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        with mock.patch.multiple(session, PING_SECONDS=0.05, PONG_SECONDS=0.2):
            await consume(client, ["a"])
            await asyncio.sleep(1.2)
            await consume(client, ["b"])
        assert (road.sessions, road.pings >= 3) == (1, True)

    run(limiter, test)


@pytest.mark.parametrize("transport", ["auto", "session"])
def test_a_refused_token_is_unauthorized_for_every_call(limiter: LimiterService, transport: str) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        for _ in range(2):
            for outcome in await asyncio.gather(
                *[client.check("chat", subject(user)) for user in "ab"], return_exceptions=True
            ):
                assert isinstance(outcome, UnauthorizedError)
        # The handshake says it: nothing is asked over HTTP.
        assert (road.sessions, road.bodies) == (2, [])

    run(limiter, test, token="wrong", on_error="raise", transport=transport)


def test_a_session_goes_on_while_its_clients_are_cancelled(limiter: LimiterService) -> None:
    async def test(client: AsyncLimiter, road: Road) -> None:
        await consume(client, ["a"])
        for _ in range(20):
            with anyio.move_on_after(0.001):
                await client.check("chat", subject("a"))
        assert not (await client.check("chat", subject("a"))).degraded
        assert road.sessions == 1

    run(limiter, test)
