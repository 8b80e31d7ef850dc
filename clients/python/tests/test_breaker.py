"""While nobody answers, nobody waits: both clients against servers that are silent, and come back."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import time

import pytest
from conftest import Make
from servers import Behaviour, ByRequest, answers, hangs, misbehaving
from test_faults import allows, decides

from exact_limiter import AsyncLimiter, InvalidRequestError, Limiter, UnavailableError
from exact_limiter.breaker import Breaker
from exact_limiter.calls import check_call, consume_call

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


POLICIES = answers("200 OK", '{"policies": []}')
BLOCKED = answers("403 Forbidden", "<h1>Blocked</h1>", "Content-Type: text/html")
UNDECIDED = {"type": "about:blank", "title": "Service Unavailable", "status": 503, "detail": "One object is silent."}


def by_subject(mischief: Behaviour, *, policies: Behaviour = POLICIES) -> ByRequest:
    """Of whoever is called evil nothing good comes, while all others are answered."""

    def choose(request: str) -> Behaviour:
        if "/v1/policies" in request:
            return policies
        return mischief if "evil" in request else decides({"limits": []})

    return ByRequest(choose)


@pytest.mark.parametrize("mischief", [hangs, BLOCKED], ids=["silence", "the page of a firewall"])
def test_a_subject_that_is_never_answered_does_not_keep_the_others_out(make: Make, mischief: Behaviour) -> None:
    with misbehaving([by_subject(mischief)]) as server:
        client = make(server.url, deadline_seconds=0.4)
        for n in range(3):
            assert client.consume("chat", {"user": f"evil {n}"}).degraded
        ends_at = time.monotonic() + 5
        while client.consume("chat", {"user": "evil"}).degraded and client.consume("chat", USER).degraded:
            assert time.monotonic() < ends_at
            time.sleep(0.01)


def test_the_page_of_a_firewall_about_one_user_opens_nothing(make: Make) -> None:
    with misbehaving([by_subject(BLOCKED)]) as server:
        client = make(server.url, deadline_seconds=0.2)
        for _ in range(4):
            assert client.consume("chat", {"user": "evil"}).degraded
        assert not client.consume("chat", USER).degraded


def test_what_the_service_can_not_decide_about_three_subjects_in_a_row_opens_it(make: Make) -> None:
    body = json.dumps(UNDECIDED | {"results": [{"status": 503, "headers": {"Retry-After": "60"}, "body": UNDECIDED}]})
    with misbehaving([answers("503 Service Unavailable", body, "Retry-After: 60")]) as server:
        client = make(server.url, deadline_seconds=30)
        for user in ("a", "b", "b", "b", "c"):
            client.consume("chat", {"user": user})
        assert len(server.requests) == 5
        for _ in range(20):
            assert client.consume("chat", {"user": "d"}).degraded
        assert not any('"d"' in request and "consume" in request for request in server.requests)


def test_calls_that_began_before_an_answer_open_nothing() -> None:
    breaker = Breaker()
    call = consume_call("chat", USER, 1, None)
    responses_before = breaker.responses
    breaker.record_response(call)
    assert [breaker.record_failure(call, responses_before) for _ in range(4)] == [False] * 4
    assert not breaker.is_open


def test_a_request_that_is_too_long_is_a_mistake_that_is_not_sent(make: Make) -> None:
    with misbehaving([allows]) as server:
        client = make(server.url, on_error="allow")
        for _ in range(4):
            with pytest.raises(InvalidRequestError, match="8 KiB") as raised:
                client.consume("chat", {"user": "x" * 8_192})
            assert raised.value.status == 413
        assert server.requests == []
        assert not client.consume("chat", {"user": "x" * 5_000}).degraded


def test_halves_of_a_character_are_joined_and_a_half_alone_is_refused(client: Limiter) -> None:
    state = client.check("trial", {"user": "\ud83d\ude00", "org": "o"}).limits[0]
    assert state.key == "user:\U0001f600"
    with pytest.raises(ValueError, match=r'subject\["user"\]'):
        client.check("chat", {"user": "a\ud800b"})


def test_a_client_that_nobody_has_any_more_asks_nothing() -> None:
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


def test_pauses_grow_up_to_a_bound_and_begin_anew_after_an_answer() -> None:
    breaker = Breaker()
    call = consume_call("chat", USER, 1, None)
    breaker.remember(call)
    assert [breaker.record_failure(call, 0) for _ in range(4)] == [False, False, True, False]
    assert breaker.next_probe().path == "/v1/policies"
    question = breaker.next_probe()
    assert (question.path, question.idempotency_key) == ("/v1/check", None)
    assert question.body == check_call("chat", USER, 1).body
    pauses = [breaker.next_pause_seconds() for _ in range(12)]
    for n, pause in enumerate(pauses):
        longest = min(0.2 * 2**n, 5.0)
        assert longest / 2 <= pause <= longest
    assert (breaker.record_response(call), breaker.is_open, breaker.record_response(call)) == (True, False, False)
    assert breaker.next_pause_seconds() <= 0.2
