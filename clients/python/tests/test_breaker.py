"""While nobody answers, nobody waits: both clients against servers that are silent, and come back."""

from __future__ import annotations

import asyncio
import json
import threading
import time

import pytest
from conftest import Make
from servers import Behaviour, answers, hangs, misbehaving
from test_faults import allows

from exact_limiter import AsyncLimiter, UnavailableError
from exact_limiter.breaker import Breaker
from exact_limiter.exchange import check_call, consume_call

USER = {"user": "u_1", "ip": "203.0.113.7"}


def behaving(switch: threading.Event) -> Behaviour:
    """Silent until it is switched on."""
    return lambda connection: allows(connection) if switch.is_set() else hangs(connection)


@pytest.mark.parametrize("on_error", ["deny", "allow", "raise"])
def test_after_a_few_failures_on_error_decides_at_once(make: Make, on_error: str) -> None:
    with misbehaving([hangs]) as server:
        client = make(server.url, deadline_seconds=0.4, on_error=on_error)

        def ask() -> None:
            if on_error == "raise":
                with pytest.raises(UnavailableError):
                    client.consume("chat", USER)
            else:
                decision = client.consume("chat", USER)
                assert (decision.allowed, decision.degraded) == (on_error == "allow", True)

        for _ in range(3):
            ask()
        began = time.monotonic()
        for _ in range(100):
            ask()
        # Each of these would wait for the deadline.
        assert time.monotonic() - began < 10


def test_it_asks_again_in_the_background_and_goes_on_as_soon_as_somebody_answers(make: Make) -> None:
    switch = threading.Event()
    with misbehaving([behaving(switch)]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for _ in range(3):
            client.consume("chat", USER)
        known = len(server.requests)
        # Nobody asks for anything, and it does all the same.
        while len(server.requests) == known:
            time.sleep(0.01)
        assert "/v1/consume" not in server.requests[-1]
        assert '"op":"consume"' not in server.requests[-1]
        switch.set()
        while client.consume("chat", USER).degraded:
            time.sleep(0.01)
        assert not client.check("chat", USER).degraded


def test_a_settle_and_a_release_are_always_tried(make: Make) -> None:
    with misbehaving([hangs]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for _ in range(3):
            client.consume("chat", USER)
        for give_back in (
            lambda: client.settle("chat", USER, id="x", cost=0),
            lambda: client.release("chat", USER, id="x"),
        ):
            known = sum("settle" in request or "release" in request for request in server.requests)
            with pytest.raises(UnavailableError):
                give_back()
            assert sum("settle" in request or "release" in request for request in server.requests) > known


def test_a_service_that_says_it_can_not_decide_is_no_reason_to_ask_it_no_more(make: Make) -> None:
    problem = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "One object is silent."}
    body = json.dumps(problem | {"results": [{"status": 503, "headers": {"Retry-After": "60"}, "body": problem}]})
    with misbehaving([answers("503 Service Unavailable", body, "Retry-After: 60")]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for _ in range(6):
            assert client.consume("chat", USER).degraded
        assert len(server.requests) == 6


def test_a_loop_that_ends_while_it_asks_leaves_that_to_the_next_one() -> None:
    switch = threading.Event()
    with misbehaving([behaving(switch)]) as server:
        client = AsyncLimiter(server.url, "token", deadline_seconds=0.4)

        async def job() -> bool:
            return (await client.consume("chat", USER)).degraded

        for _ in range(3):
            assert asyncio.run(job())
        switch.set()
        ends_at = time.monotonic() + 30
        while asyncio.run(job()):
            assert time.monotonic() < ends_at
            time.sleep(0.01)


def test_pauses_grow_up_to_a_bound_and_begin_anew_after_an_answer() -> None:
    breaker = Breaker()
    call = consume_call("chat", USER, 1, None)
    assert [breaker.failed(call) for _ in range(4)] == [False, False, True, False]
    assert breaker.question is not None
    assert (breaker.question.path, breaker.question.idempotency_key) == ("/v1/check", None)
    assert breaker.question.body == check_call("chat", USER, 1).body
    pauses = [breaker.next_pause_seconds() for _ in range(12)]
    for n, pause in enumerate(pauses):
        longest = min(0.2 * 2**n, 5.0)
        assert longest / 2 <= pause <= longest
    assert (breaker.answered(), breaker.is_open, breaker.answered()) == (True, False, False)
    assert breaker.next_pause_seconds() <= 0.2
