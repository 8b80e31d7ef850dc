"""A consume that waits for room: both clients, by policy and inline. Pauses move the clock, so no test waits."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Generator
from contextlib import suppress
from typing import Any

import httpx
import pytest
from conftest import Make
from roads import Road
from servers import Behaviour, hangs_up, misbehaving, responds
from test_faults import DECISION, LIMIT, allows

from exact_limiter import AsyncLimiter, Decision, InvalidRequestError, Layer, Limiter, async_limiter, waiting
from exact_limiter import limiter as limiter_module
from exact_limiter.testing import LimiterService

USER = {"user": "u_1", "ip": "203.0.113.7"}
LAYERS = [Layer("login", "a", ["5/minute"])]
JITTER = 0.25

Consume = Callable[..., Decision]


class Sleeper:
    """Moves the clock of the service in place of a pause, for both clients."""

    def __init__(self, limiter: LimiterService | None = None) -> None:
        self._limiter = limiter
        self.pauses: list[float] = []
        #: Runs after the clock was moved, before the client tries again.
        self.then: Callable[[], object] = lambda: None

    def __call__(self, seconds: float) -> Sleeper:
        self.pauses.append(seconds)
        if self._limiter is not None:
            self._limiter.advance(seconds=seconds)
        self.then()
        return self

    def __await__(self) -> Generator[None, None, None]:
        yield from ()


@pytest.fixture
def sleeper(limiter: LimiterService) -> Sleeper:
    return Sleeper(limiter)


@pytest.fixture
def client(make: Make, limiter: LimiterService, sleeper: Sleeper) -> Limiter:
    return make(limiter.url, limiter.token, deadline_seconds=30, sleep=sleeper)


@pytest.fixture(params=[False, True], ids=["by policy", "inline"])
def is_inline(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def consume_by(client: Limiter, is_inline: bool) -> Consume:
    """Consumes by a limit of 5 a minute."""
    if is_inline:
        return lambda **options: client.consume_inline(LAYERS, **options)
    return lambda **options: client.consume("chat", USER, **options)


@pytest.fixture
def consume(client: Limiter, is_inline: bool) -> Consume:
    return consume_by(client, is_inline)


@pytest.fixture
def other(limiter: LimiterService, is_inline: bool) -> Generator[Consume, None, None]:
    """Consumes by the same limit, with a client of its own."""
    with limiter.client() as client:
        yield consume_by(client, is_inline)


def between(seconds: float) -> list[Any]:
    return [pytest.approx(seconds + JITTER / 2, abs=JITTER / 2)]


def test_a_denied_consume_waits_and_tries_again(consume: Consume, sleeper: Sleeper) -> None:
    assert consume(cost=5)
    decision = consume(cost=2, wait_up_to=61)
    assert (decision.allowed, decision.replayed, decision.limits[0].used) == (True, False, 2)
    assert sleeper.pauses == between(60)


def test_a_consume_that_fits_does_not_wait(consume: Consume, sleeper: Sleeper) -> None:
    assert consume(wait_up_to=60)
    assert sleeper.pauses == []


def test_waits_again_when_another_took_the_room(consume: Consume, other: Consume, sleeper: Sleeper) -> None:
    assert consume(cost=5)
    sleeper.then = lambda: len(sleeper.pauses) < 3 and other(cost=5)
    assert consume(wait_up_to=200)
    assert sleeper.pauses == between(60) * 3


def test_does_not_wait_for_room_that_comes_too_late(consume: Consume, sleeper: Sleeper) -> None:
    assert consume(cost=5)
    denied = consume(wait_up_to=59.9)
    assert (denied.allowed, denied.degraded, denied.retry_after_seconds) == (False, False, 60)
    assert sleeper.pauses == []


def test_all_pauses_together_are_at_most_wait_up_to(consume: Consume, other: Consume, sleeper: Sleeper) -> None:
    assert consume(cost=5)
    sleeper.then = lambda: other(cost=5)
    denied = consume(wait_up_to=120.01)
    assert (denied.allowed, denied.retry_after_seconds) == (False, 60)
    assert 60 <= sum(sleeper.pauses) <= 120.01
    assert min(sleeper.pauses) >= 60


def test_time_that_a_try_takes_counts_too(client: Limiter, sleeper: Sleeper, monkeypatch: pytest.MonkeyPatch) -> None:
    assert client.consume("chat", USER, cost=5)

    class SlowTry(waiting.Wait):
        def next_pause_seconds(self, decision: Decision) -> float | None:
            self._ends_at -= 10
            return super().next_pause_seconds(decision)

    for module in (async_limiter, limiter_module):
        monkeypatch.setattr(module, "Wait", SlowTry)
    assert not client.consume("chat", USER, wait_up_to=69)
    assert sleeper.pauses == []


def test_a_ban_is_answered_at_once(client: Limiter, limiter: LimiterService, sleeper: Sleeper) -> None:
    url = f"{limiter.url}/v1/keys/user%3Au_1/override"
    headers = {"Authorization": f"Bearer {limiter.admin_token}"}
    order = {"kind": "ban", "reason": "spam", "expires_in_seconds": 30}
    assert httpx.put(url, json=order, headers=headers).is_success
    denied = client.consume("chat", USER, wait_up_to=60)
    assert (denied.is_banned, denied.retry_after_seconds) == (True, 30)
    assert sleeper.pauses == []


def test_a_ban_in_a_layer_that_decides_nothing_does_not_end_the_wait(
    client: Limiter, limiter: LimiterService, sleeper: Sleeper
) -> None:
    headers = {"Authorization": f"Bearer {limiter.admin_token}"}
    order = {"kind": "ban", "reason": "spam", "expires_in_seconds": 3_600}
    assert httpx.put(f"{limiter.url}/v1/keys/org%3Aacme/override", json=order, headers=headers).is_success
    subject = {"user": "u_1", "org": "acme"}
    assert client.consume("team", subject, cost={"user": 2, "org": 0})
    denied = client.consume("team", subject, cost={"org": 0})
    assert (denied.is_banned, denied.retry_after_seconds) == (False, 60)
    assert client.consume("team", subject, cost={"org": 0}, wait_up_to=61)
    assert sleeper.pauses == between(60)
    banned = client.consume("team", subject, wait_up_to=3_600)
    assert (banned.is_banned, len(sleeper.pauses)) == (True, 1)


def test_a_cost_that_never_fits_raises_at_once(consume: Consume, sleeper: Sleeper) -> None:
    with pytest.raises(InvalidRequestError, match="never"):
        consume(cost=6, wait_up_to=60)
    assert sleeper.pauses == []


def test_on_error_decides_an_outage_at_once(make: Make) -> None:
    sleeper = Sleeper()
    client = make("http://127.0.0.1:1", deadline_seconds=0.2, sleep=sleeper)
    for _ in range(5):
        assert client.consume("chat", USER, wait_up_to=60).degraded
    assert sleeper.pauses == []


def test_an_outage_after_a_wait_is_not_waited_for(make: Make) -> None:
    sleeper = Sleeper()
    with misbehaving([denies(1), hangs_up]) as server:
        client = make(server.url, deadline_seconds=0.4, sleep=sleeper)
        assert client.consume("chat", USER, wait_up_to=60).degraded
        assert sleeper.pauses == between(1)


@pytest.mark.parametrize("seconds", [-1, float("nan"), "5"])
def test_refuses_a_wait_that_is_no_time(consume: Consume, seconds: Any) -> None:
    with pytest.raises(ValueError, match="wait_up_to must be"):
        consume(wait_up_to=seconds)


def test_inline_limits_are_waited_for_to_the_millisecond(
    client: Limiter, limiter: LimiterService, sleeper: Sleeper
) -> None:
    layers = [Layer("second", "a", ["1/second"]), Layer("minute", "a", ["2/minute"])]
    assert client.consume_inline(layers)
    limiter.advance(seconds=0.4)
    assert client.consume_inline(layers, wait_up_to=1)
    # A cost above 1 may have to wait for more than the first event.
    assert client.consume_inline(layers[1:], wait_up_to=60)
    assert sleeper.pauses == [*between(0.6), pytest.approx(59.1, abs=0.4)]
    assert not client.consume_inline(layers[1:], cost=2, wait_up_to=1)


def denies(retry_after_seconds: int, **of_the_limit: object) -> Behaviour:
    limits = [LIMIT | {"used": 5, "remaining": 0} | of_the_limit]
    denial = DECISION | {"allowed": False, "id": None, "retry_after_seconds": retry_after_seconds, "limits": limits}
    return responds("429 Too Many Requests", json.dumps(denial), f"Retry-After: {retry_after_seconds}")


def test_all_tries_have_the_same_key_and_only_the_first_says_that_it_is_new(make: Make) -> None:
    sleeper = Sleeper()
    with misbehaving([hangs_up, denies(1), denies(2), allows]) as server:
        client = make(server.url, deadline_seconds=5, sleep=sleeper)
        assert client.consume("chat", USER, wait_up_to=60)
        assert len(set(server.idempotency_keys)) == 1
        first, *later = server.attempts
        assert (first, len(later) >= 3, "1" in later, None in later) == ("1", True, False, False)
        assert sleeper.pauses == between(1) + between(2)
    with misbehaving([denies(1), allows]) as server:
        assert make(server.url, sleep=sleeper).consume("chat", USER, idempotency_key="mine", wait_up_to=60)
        assert [key.strip('"') for key in server.idempotency_keys] == ["mine", "mine"]
        assert server.attempts == [None, None]


def test_waits_in_real_time_by_default(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "_JITTER_SECONDS", 0)
    with misbehaving([denies(1, frees_in_ms=30), allows]) as server:
        client = make(server.url, deadline_seconds=5)
        began = time.monotonic()
        assert client.consume("chat", USER, wait_up_to=1)
        assert time.monotonic() - began >= 0.03


def test_many_that_wait_for_the_same_room_come_at_different_times() -> None:
    denied = Decision(False, None, "chat", 1, False, False, 7, ())
    pauses = [waiting.Wait(60).next_pause_seconds(denied) for _ in range(50)]
    assert len(set(pauses)) > 40
    assert all(pause is not None and 7 <= pause <= 7 + JITTER for pause in pauses)
    # What is left of the wait bounds the pause.
    assert all((waiting.Wait(7.01).next_pause_seconds(denied) or 0) <= 7.01 for _ in range(50))


@pytest.mark.parametrize("transport", ["http", "session"])
def test_a_consume_that_is_cancelled_while_it_waits_charges_and_sends_nothing(
    limiter: LimiterService, transport: Any
) -> None:
    async def main() -> None:
        waits = asyncio.Event()

        async def sleep(_: float) -> None:
            waits.set()
            await asyncio.Event().wait()

        async with (
            Road(limiter.url) as road,
            AsyncLimiter(road.url, limiter.token, deadline_seconds=30, transport=transport, sleep=sleep) as client,
        ):
            assert await client.consume("chat", USER, cost=5)
            task = asyncio.ensure_future(client.consume("chat", USER, wait_up_to=90))
            await waits.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert task.cancelled()
            limiter.advance(seconds=60)
            assert (await client.check("chat", USER)).limits[0].used == 0
            assert len(road.bodies) == 3

    asyncio.run(main())


def test_the_waits_of_clients_for_tests_move_the_clock(limiter: LimiterService) -> None:
    began = limiter.now()
    with limiter.client() as client:
        assert client.consume("chat", USER, cost=5)
        assert client.consume("chat", USER, cost=5, wait_up_to=90)

    async def main() -> Decision:
        async with AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, sleep=limiter.asleep) as client:
            return await client.consume("chat", USER, wait_up_to=90)

    assert asyncio.run(main())
    assert 120 <= (limiter.now() - began).total_seconds() < 121
