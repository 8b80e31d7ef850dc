"""The circuit breaker: both clients against servers that are unreachable, and come back."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time

import pytest
from conftest import HTTP_ONLY, Make
from servers import Behaviour, Connection, hangs, misbehaving, responds, switched
from test_faults import allows, decides

from exact_limiter import AsyncLimiter, InvalidRequestError, Limiter, UnavailableError
from exact_limiter.breaker import Breaker
from exact_limiter.calls import check_call, consume_call

USER = {"user": "u_1", "ip": "203.0.113.7"}
PROBLEM = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "An object is unreachable."}
UNDECIDED = responds("503 Service Unavailable", json.dumps(PROBLEM), "Retry-After: 60")


@pytest.mark.parametrize("on_error", ["deny", "allow", "raise"])
def test_on_error_decides_without_waiting_after_a_few_failures(make: Make, on_error: str) -> None:
    with misbehaving([hangs]) as server:
        client = make(server.url, deadline_seconds=0.4, on_error=on_error)

        def consume() -> None:
            if on_error == "raise":
                with pytest.raises(UnavailableError):
                    client.consume("chat", USER)
            else:
                decision = client.consume("chat", USER)
                assert (decision.allowed, decision.degraded) == (on_error == "allow", True)

        for _ in range(3):
            consume()
        began = time.monotonic()
        for _ in range(100):
            consume()
        # With a closed breaker, each of these would wait for the deadline.
        assert time.monotonic() - began < 10


def test_probes_in_the_background_and_recovers_with_the_first_response(make: Make) -> None:
    switch = threading.Event()
    with misbehaving([switched(switch, on=allows, off=hangs)]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for _ in range(3):
            client.consume("chat", USER)
        before = len(server.requests)
        # No call is made here, so only a probe can be the next request.
        while len(server.requests) == before:
            time.sleep(0.01)
        assert "/v1/consume" not in server.requests[-1]
        assert '"op":"consume"' not in server.requests[-1]
        switch.set()
        while client.consume("chat", USER).degraded:
            time.sleep(0.01)
        assert not client.check("chat", USER).degraded


def test_sends_a_settle_and_a_release_while_the_breaker_is_open(make: Make) -> None:
    with misbehaving([hangs]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for _ in range(3):
            client.consume("chat", USER)
        for change in (
            lambda: client.settle("chat", USER, id="x", cost=0),
            lambda: client.release("chat", USER, id="x"),
        ):
            before = sum("settle" in request or "release" in request for request in server.requests)
            with pytest.raises(UnavailableError):
                change()
            assert sum("settle" in request or "release" in request for request in server.requests) > before


def test_a_503_of_the_service_about_a_single_subject_does_not_open_the_breaker(make: Make) -> None:
    with misbehaving([UNDECIDED]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for _ in range(6):
            assert client.consume("chat", USER).degraded
        assert len(server.requests) == 6


def test_the_next_loop_probes_after_a_loop_that_ended_while_probing() -> None:
    switch = threading.Event()
    with misbehaving([switched(switch, on=allows, off=hangs)]) as server:
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


POLICIES = responds("200 OK", '{"policies": []}')
BLOCKED = responds("403 Forbidden", "<h1>Blocked</h1>", "Content-Type: text/html")


def by_subject(fault: Behaviour) -> Behaviour:
    """Shows the fault to subjects named evil, and decides for all others."""

    def behave(connection: Connection, request: str) -> None:
        is_evil = "evil" in request
        behaviour = POLICIES if "/v1/policies" in request else fault if is_evil else decides({"limits": []})
        behaviour(connection, request)

    return behave


@pytest.mark.parametrize("fault", [hangs, BLOCKED], ids=["hangs", "firewall page"])
def test_a_subject_without_responses_does_not_lock_out_the_others(make: Make, fault: Behaviour) -> None:
    with misbehaving([by_subject(fault)]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for n in range(3):
            assert client.consume("chat", {"user": f"evil {n}"}).degraded
        ends_at = time.monotonic() + 5
        while client.consume("chat", {"user": "evil"}).degraded and client.consume("chat", USER).degraded:
            assert time.monotonic() < ends_at
            time.sleep(0.01)


@HTTP_ONLY
def test_a_firewall_page_about_a_single_user_does_not_open_the_breaker(make: Make) -> None:
    with misbehaving([by_subject(BLOCKED)]) as server:
        client = make(server.url, deadline_seconds=0.2)
        for _ in range(4):
            assert client.consume("chat", {"user": "evil"}).degraded
        assert not client.consume("chat", USER).degraded


def test_a_503_about_three_subjects_in_a_row_opens_the_breaker(make: Make) -> None:
    with misbehaving([UNDECIDED]) as server:
        client = make(server.url, deadline_seconds=30)
        for user in ("a", "b", "b", "b", "c"):
            client.consume("chat", {"user": user})
        assert len(server.requests) == 5
        for _ in range(20):
            assert client.consume("chat", {"user": "d"}).degraded
        assert not any('"d"' in request and "consume" in request for request in server.requests)


def test_failures_of_calls_that_began_before_a_response_do_not_open_the_breaker() -> None:
    breaker = Breaker()
    call = consume_call("chat", USER, 1, None)
    responses_before = breaker.responses
    breaker.record_response(call)
    assert [breaker.record_failure(call, responses_before) for _ in range(4)] == [False] * 4
    assert not breaker.is_open


def test_does_not_send_a_request_above_8_kib(make: Make) -> None:
    with misbehaving([allows]) as server:
        client = make(server.url, on_error="allow")
        for _ in range(4):
            with pytest.raises(InvalidRequestError, match="8 KiB") as raised:
                client.consume("chat", {"user": "x" * 8_192})
            assert raised.value.status == 413
        assert server.requests == []
        assert not client.consume("chat", {"user": "x" * 5_000}).degraded


def test_joins_surrogate_pairs_and_refuses_half_a_pair(client: Limiter) -> None:
    state = client.check("trial", {"user": "\ud83d\ude00", "org": "o"}).limits[0]
    assert state.key == "user:\U0001f600"
    with pytest.raises(ValueError, match=r'subject\["user"\]'):
        client.check("chat", {"user": "a\ud800b"})


def test_a_collected_client_stops_probing() -> None:
    async def main() -> None:
        client = AsyncLimiter("http://127.0.0.1:1", "token", deadline_seconds=0.2)
        for _ in range(3):
            assert (await client.consume("chat", USER)).degraded
        assert len(asyncio.all_tasks()) == 2
        del client
        gc.collect()
        ends_at = time.monotonic() + 0.05
        while len(asyncio.all_tasks()) > 1:
            assert time.monotonic() < ends_at
            await asyncio.sleep(0)

    asyncio.run(main())


def test_pauses_grow_up_to_a_bound_and_start_over_after_a_response() -> None:
    breaker = Breaker()
    call = consume_call("chat", USER, 1, None)
    breaker.remember(call)
    assert [breaker.record_failure(call, 0) for _ in range(4)] == [False, False, True, False]
    assert breaker.next_probe().path == "/v1/policies"
    probe = breaker.next_probe()
    assert (probe.path, probe.idempotency_key) == ("/v1/check", None)
    assert probe.body == check_call("chat", USER, 1).body
    pauses = [breaker.next_pause_seconds() for _ in range(12)]
    for n, pause in enumerate(pauses):
        longest = min(0.2 * 2**n, 5.0)
        assert longest / 2 <= pause <= longest
    assert (breaker.record_response(call), breaker.is_open, breaker.record_response(call)) == (True, False, False)
    assert breaker.next_pause_seconds() <= 0.2
