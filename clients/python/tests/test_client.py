"""Both clients against the real service."""

from __future__ import annotations

import logging
import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from enum import IntEnum
from types import MappingProxyType
from typing import Any, cast
from uuid import UUID

import pytest
from conftest import Make

from exact_limiter import (
    Id,
    InvalidField,
    InvalidRequestError,
    Layer,
    Limiter,
    LimitState,
    UnauthorizedError,
    UnavailableError,
    UnknownDecisionError,
    UnknownPolicyError,
)
from exact_limiter.testing import LimiterService

USER = {"user": "u_1", "ip": "203.0.113.7"}


def test_an_admission_has_all_fields_and_headers(client: Limiter) -> None:
    decision = client.consume("chat", USER, cost=2)
    assert decision
    assert decision.allowed
    assert decision.id is not None
    assert (decision.policy, decision.cost, decision.replayed, decision.degraded) == ("chat", 2, False, False)
    assert decision.retry_after_seconds is None
    assert decision.limits == (
        LimitState("caller", "user:u_1", limit=5, window_seconds=60, used=2, remaining=3, reset_seconds=60),
        LimitState("caller", "user:u_1", limit=60, window_seconds=3600, used=2, remaining=58, reset_seconds=3600),
        LimitState("ip", "ip:203.0.113.7", limit=30, window_seconds=60, used=2, remaining=28, reset_seconds=60),
    )
    assert dict(decision.headers) == {
        "RateLimit": '"caller/60s";r=3;t=60, "caller/3600s";r=58;t=3600, "ip/60s";r=28;t=60',
        "RateLimit-Policy": '"caller/60s";q=5;w=60, "caller/3600s";q=60;w=3600, "ip/60s";q=30;w=60',
    }


def test_the_limits_of_a_decision_are_there_whenever_they_are_asked_for(client: Limiter) -> None:
    decision = client.consume("chat", USER)
    copied, changed = pickle.loads(pickle.dumps(decision)), replace(decision, cost=3)
    cast(dict[str, object], decision.body).clear()
    assert [limit.remaining for limit in decision.limits] == [4, 59, 29]
    assert decision.limits is decision.limits
    assert copied.limits == changed.limits == decision.limits
    assert "remaining=59" in repr(copied)
    with pytest.raises(AttributeError, match="'Decision' object has no attribute 'limit'"):
        decision.limit  # type: ignore[attr-defined]  # noqa: B018


def test_a_denial_is_a_false_value(client: Limiter, limiter: LimiterService) -> None:
    assert client.consume("chat", USER, cost=5)
    denied = client.consume("chat", USER)
    assert not denied
    assert (denied.id, denied.retry_after_seconds, denied.headers["Retry-After"]) == (None, 60, "60")
    assert denied.body["violated-policies"] == ["caller/60s"]
    limiter.advance(seconds=59.999)
    assert client.consume("chat", USER).retry_after_seconds == 1
    limiter.advance(seconds=0.001)
    assert client.consume("chat", USER)


def test_a_check_records_nothing(client: Limiter) -> None:
    assert client.check("chat", USER, cost=5)
    checked = client.check("chat", USER, cost=5)
    assert checked.id is None
    assert [state.used for state in checked.limits] == [0, 0, 0]


def test_none_counts_as_a_missing_attribute(client: Limiter) -> None:
    decision = client.consume("chat", {"user": None, "ip": "203.0.113.7"})
    assert decision.limits[0].key == "ip:203.0.113.7"


def test_charges_an_idempotency_key_once(client: Limiter) -> None:
    first = client.consume("chat", USER, cost=3, idempotency_key="once")
    second = client.consume("chat", USER, cost=3, idempotency_key="once")
    assert [(decision.id, decision.replayed, decision.limits[0].used) for decision in (first, second)] == [
        ("once", False, 3),
        ("once", True, 3),
    ]


def test_a_settle_corrects_the_cost(client: Limiter) -> None:
    decision = client.consume("chat", USER, cost=5)
    assert decision.id is not None
    settled = client.settle("chat", USER, id=decision.id, cost=1)
    assert (settled.id, settled.policy, settled.cost) == (decision.id, "chat", 1)
    assert [state.used for state in settled.limits] == [1, 1, 1]
    client.settle("chat", USER, id=decision.id, cost=0)
    assert client.consume("chat", USER, cost=5)


def test_a_cost_by_layer_is_decided_replayed_and_settled(client: Limiter) -> None:
    cost = MappingProxyType({"ip": 0, "caller": 4})
    decision = client.consume("chat", USER, cost=cost, idempotency_key="layers")
    assert (decision.allowed, decision.cost) == (True, {"caller": 4, "ip": 0})
    assert [state.used for state in decision.limits] == [4, 4, 0]
    assert client.consume("chat", USER, cost=cost, idempotency_key="layers").replayed
    assert client.check("chat", USER, cost={"caller": 0, "ip": 30})
    denied = client.consume("chat", USER, cost={"caller": 2})
    assert (denied.allowed, denied.cost) == (False, {"caller": 2, "ip": 1})
    with pytest.raises(InvalidRequestError, match="another policy or cost"):
        client.consume("chat", USER, cost=4, idempotency_key="layers")
    with pytest.raises(InvalidRequestError) as caught:
        client.consume("chat", USER, cost={"tokens": 1, "ip": -1})
    assert [error.pointer for error in caught.value.errors] == ["/cost/ip", "/cost/tokens"]
    settled = client.settle("chat", USER, id="layers", cost={"ip": 7})
    assert settled.cost == {"ip": 7}
    assert [state.used for state in settled.limits] == [4, 4, 7]
    assert client.settle("chat", USER, id="layers", cost={}).cost == {}


def test_a_cost_by_layer_of_inline_limits(client: Limiter) -> None:
    layers = [Layer("requests", "k", ["3/minute"]), Layer("tokens", "k", ["1000/minute"])]
    decision = client.consume_inline(layers, cost={"tokens": 900}, idempotency_key="i")
    assert (decision.cost, [state.used for state in decision.limits]) == ({"requests": 1, "tokens": 900}, [1, 900])
    assert not client.check_inline(layers, cost={"requests": 0, "tokens": 101})
    settled = client.settle_inline(layers, id="i", cost={"tokens": 10})
    assert [state.used for state in settled.limits] == [1, 10]


def test_a_settle_of_an_unknown_id_is_an_unknown_decision(client: Limiter) -> None:
    with pytest.raises(UnknownDecisionError):
        client.settle("chat", USER, id="never-seen", cost=0)


def test_a_settle_by_an_unknown_policy_is_an_invalid_request(client: Limiter) -> None:
    with pytest.raises(InvalidRequestError, match="decision") as caught:
        client.settle("decision", USER, id="never-seen", cost=0)
    assert caught.value.status == 404


def test_a_release_frees_a_place_and_may_be_repeated(client: Limiter, limiter: LimiterService) -> None:
    first = client.consume("jobs", USER, cost=3)
    assert first.id is not None
    assert first.limits[:1] == (
        LimitState("caller", "user:u_1", 2, 300, used=1, remaining=1, reset_seconds=300, concurrent=True),
    )
    assert not first.limits[1].concurrent
    assert client.consume("jobs", USER)
    denied = client.consume("jobs", USER)
    assert (denied.allowed, denied.retry_after_seconds) == (False, 300)
    assert denied.body["violated-policies"] == ["caller/300s-concurrent"]
    for _ in range(2):
        released = client.release("jobs", USER, id=first.id)
        assert (released.id, released.policy) == (first.id, "jobs")
        assert [state.used for state in released.limits] == [1, 4]
    assert client.consume("jobs", USER)
    limiter.advance(seconds=300)
    assert [state.used for state in client.check("jobs", USER).limits] == [0, 0]


def test_a_release_of_an_unknown_id_is_an_unknown_decision(client: Limiter) -> None:
    with pytest.raises(UnknownDecisionError):
        client.release("jobs", USER, id="never-seen")
    with pytest.raises(InvalidRequestError, match="policy"):
        client.release("nope", USER, id="never-seen")


def test_an_invalid_request_lists_every_mistake(client: Limiter) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        client.consume("chat", {"user": "a\0b", "ip": "1.2.3"}, cost=0)
    assert caught.value.status == 400
    assert {error.pointer for error in caught.value.errors} == {"/cost", "/subject/user", "/subject/ip"}
    assert InvalidField("/cost", "must be at least 1") in caught.value.errors
    assert "/subject/ip" in str(caught.value)


@pytest.mark.parametrize("on_error", ["deny", "allow", "raise"])
def test_a_cost_that_can_never_fit_is_an_invalid_request_whatever_on_error_says(
    make: Make, limiter: LimiterService, on_error: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        make(limiter.url, limiter.token, on_error=on_error).consume("chat", USER, cost=6)
    assert caught.value.status == 422


def test_an_unknown_policy_error_names_the_policy(make: Make, limiter: LimiterService) -> None:
    with pytest.raises(UnknownPolicyError, match="nope") as caught:
        make(limiter.url, limiter.token, on_error="raise").consume("nope", USER)
    assert (caught.value.status, caught.value.policies) == (404, ("nope",))


def test_a_wrong_token_is_unauthorized(make: Make, limiter: LimiterService) -> None:
    with pytest.raises(UnauthorizedError, match="token"):
        make(limiter.url, "wrong", on_error="raise").check("chat", USER)


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize(("policy", "token"), [("nope", None), ("chat", "wrong")])
def test_on_error_decides_after_a_wrong_configuration_which_is_logged_once(
    make: Make, limiter: LimiterService, caplog: pytest.LogCaptureFixture, on_error: str, policy: str, token: str | None
) -> None:
    client = make(limiter.url, token or limiter.token, on_error=on_error)
    for decision in [client.consume(policy, USER), client.check(policy, USER), client.consume(policy, USER)]:
        assert (decision.allowed, decision.degraded, decision.policy) == (on_error == "allow", True, policy)
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert record.levelno == logging.ERROR
    assert ("nope" if policy == "nope" else "token") in record.getMessage()


def test_ready_passes_with_a_right_configuration(client: Limiter) -> None:
    client.ready()
    client.ready("chat", "org", inline=True)


def test_ready_raises_for_a_wrong_configuration(make: Make, limiter: LimiterService) -> None:
    with pytest.raises(UnauthorizedError, match="token"):
        make(limiter.url, "wrong").ready()
    with pytest.raises(UnknownPolicyError, match=r'no policy "none", "nope".*It has: chat, org'):
        make(limiter.url, limiter.token).ready("org", "nope", "none")
    with pytest.raises(UnavailableError, match=r"http://127\.0\.0\.1:1 is unreachable"):
        make("http://127.0.0.1:1", deadline_seconds=0.2, on_error="allow").ready()


def test_ready_names_the_switch_of_inline_limits(make: Make) -> None:
    with LimiterService.start({"RATE_LIMIT_INLINE": "0"}) as service:
        client = make(service.url, service.token, deadline_seconds=30, on_error="allow")
        client.ready("chat")
        with pytest.raises(UnauthorizedError, match="RATE_LIMIT_INLINE"):
            client.ready(inline=True)
        assert client.check_inline([Layer("login", "a", ["5/minute"])]).degraded


class Level(IntEnum):
    ONE = 1


@pytest.mark.parametrize(
    ("user", "key"),
    [
        (4711, "user:4711"),
        (-1, "user:-1"),
        (Level.ONE, "user:1"),
        (UUID("8E03978E-40D5-43DD-BC93-6894A57F9324"), "user:8e03978e-40d5-43dd-bc93-6894a57f9324"),
    ],
)
def test_numbers_and_uuids_are_ids(client: Limiter, user: Id, key: str) -> None:
    subject = {"user": user, "ip": "203.0.113.7"}
    decision = client.consume("chat", subject, idempotency_key=UUID(int=1))
    assert (decision.limits[0].key, decision.id) == (key, str(UUID(int=1)))
    assert client.settle("chat", subject, id=UUID(int=1), cost=0).limits[0].used == 0
    assert client.consume_inline([Layer("login", user, ["5/minute"])]).limits[0].key == f"inline/{key[5:]}"


@pytest.mark.parametrize("user", [True, 1.5, b"u_1", ["u_1"], object()])
def test_a_type_error_names_the_attribute_that_is_not_an_id(client: Limiter, user: Any) -> None:
    with pytest.raises(TypeError, match=r'subject\["user"\] must be .* not ' + type(user).__name__):
        client.consume("chat", {"user": user, "ip": "203.0.113.7"})


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("203.0.113.7", "ip:203.0.113.7"),
        (" ::ffff:203.0.113.7 ", "ip:203.0.113.7"),
        ("2001:DB8:1:2:3:4:5:6", "ip:2001:db8:1:2::/64"),
    ],
)
def test_accepts_any_spelling_of_an_address(client: Limiter, address: str, key: str) -> None:
    assert [state.key for state in client.consume("chat", {"ip": address}).limits] == [key] * 3


def test_ignores_white_space_around_an_id(client: Limiter) -> None:
    assert client.consume("chat", {"user": "\ufeff u_1\u00a0", "ip": "203.0.113.7"}).limits[0].key == "user:u_1"
    assert client.consume_inline([Layer("login", " a ", ["5/minute"])]).limits[0].key == "inline/a"


def test_consumes_settles_and_forgets_inline_limits(client: Limiter) -> None:
    layers = [Layer("login", "a/ä?#%/..", ["2/minute", "3 per 2 hours"])]
    decision = client.consume_inline(layers, cost=2)
    assert decision.id is not None
    assert not client.consume_inline(layers)
    assert client.settle_inline(layers, id=decision.id, cost=1).limits[0].used == 1
    assert client.check_inline(layers).limits[0].remaining == 1
    client.forget_inline(layers[0].key)
    assert client.check_inline(layers, cost=2)


def test_inline_limits_can_be_concurrent(client: Limiter) -> None:
    layers = [Layer("job", "a", ["1 concurrent/hour"])]
    decision = client.consume_inline(layers, cost=100)
    assert decision.id is not None
    assert not client.consume_inline(layers)
    assert client.release_inline(layers, id=decision.id).limits[0].used == 0
    assert client.consume_inline(layers)


def test_admits_exactly_the_limit_to_many_threads_that_share_a_client(client: Limiter) -> None:
    with ThreadPoolExecutor(40) as pool:
        admitted = list(pool.map(lambda _: client.consume("chat", USER).allowed, range(40)))
    assert sum(admitted) == 5


@pytest.mark.parametrize(
    "url",
    [
        "",
        "limiter.example",
        "ftp://limiter.example",
        "http://",
        "http://user:secret@limiter.example",
        "user:secret@limiter.example",
        "ftp://user:secret@limiter.example",
        "https://user:secret@limiter example",
        "https://user:secret@limiter.example:port",
        "http://a..b",
        "http://.limiter.example",
        f"http://{'a' * 70}.example",
        "http://limiter.example:99999",
        "http://[::1",
    ],
)
def test_the_constructor_refuses_an_invalid_url(make: Make, url: str) -> None:
    with pytest.raises(ValueError, match="not the URL") as caught:
        make(url)
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("options", [{"on_error": "maybe"}, {"deadline_seconds": 0}])
def test_the_constructor_refuses_invalid_options(make: Make, options: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        make("http://limiter.example", **options)


def test_an_admission_shows_whether_layers_in_shadow_would_deny(client: Limiter) -> None:
    subject = {"user": "u_1", "org": "o_1"}
    first, second = (client.consume("trial", subject, cost=cost) for cost in (2, 1))
    assert (first.allowed, first.shadow, first.would_deny) == (True, True, False)
    assert (second.allowed, second.shadow, second.would_deny) == (True, True, True)
    assert [(state.layer, state.used, state.shadow) for state in second.limits] == [
        ("user", 3, False),
        ("org", 2, True),
    ]
    live = client.consume("chat", USER)
    assert (live.shadow, live.would_deny, live.limits[0].shadow) == (False, False, False)


def test_logs_each_problem_once_a_minute_by_policy_and_message(caplog: pytest.LogCaptureFixture) -> None:
    client = Limiter("http://limiter.example", "token")
    for _ in range(2):
        for policy in ("chat", "org"):
            for detail in ("a cost above the limit", "an attribute is missing"):
                client.report(InvalidRequestError(422, detail), policy)
            client.report(UnauthorizedError("the token is refused"), policy)
            client.report(UnauthorizedError("inline limits are off"), policy)
    assert len(caplog.records) == 6
