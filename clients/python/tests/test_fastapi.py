"""The dependency in a real application, against the real service."""

import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from applications import IP, an_app
from fastapi import Depends, FastAPI
from fastapi.testclient import TestClient
from servers import hangs_up, misbehaving

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import Charge, RateLimit
from exact_limiter.testing import LimiterService


def test_admits_five_messages_and_the_sixth_a_minute_later(app: TestClient, limiter: LimiterService) -> None:
    for _ in range(5):
        assert app.post("/chat/message").status_code == 200
    denied = app.post("/chat/message")
    assert (denied.status_code, denied.headers["Retry-After"]) == (429, "60")
    assert denied.json()["retry_after_seconds"] == 60
    assert denied.headers["Content-Type"] == "application/problem+json"
    assert denied.headers["RateLimit"].startswith('"caller/60s";r=0;t=60')
    limiter.advance(seconds=59.999)
    assert app.post("/chat/message").json()["retry_after_seconds"] == 1
    limiter.advance(seconds=0.001)
    assert app.post("/chat/message").status_code == 200


@pytest.mark.parametrize("path", ["/chat/message", "/stream", "/fails"])
def test_a_response_to_an_admitted_request_has_the_headers(app: TestClient, path: str) -> None:
    response = app.post(path)
    assert response.status_code in (200, 418)
    assert response.headers["RateLimit"] == '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=29;t=60'
    assert response.headers["RateLimit-Policy"].startswith('"caller/60s";q=5;w=60')
    assert "Retry-After" not in response.headers


def test_each_user_has_their_own_limits(app: TestClient) -> None:
    for _ in range(5):
        assert app.post("/chat/message", headers={"X-User-Id": "u_1"}).status_code == 200
    assert app.post("/chat/message", headers={"X-User-Id": "u_1"}).status_code == 429
    assert app.post("/chat/message", headers={"X-User-Id": "u_2"}).status_code == 200
    assert app.post("/chat/message").status_code == 200


def test_counts_a_user_in_utf_8_by_the_decoded_name(app: TestClient, limiter: LimiterService) -> None:
    response = app.post("/chat/message", headers=[(b"X-User-Id", "Ünal 🙂".encode())])
    assert response.status_code == 200
    for _ in range(4):
        app.post("/chat/message", headers=[(b"X-User-Id", "Ünal 🙂".encode())])
    with httpx.Client(base_url=limiter.url, headers={"Authorization": f"Bearer {limiter.admin_token}"}) as admin:
        state = admin.get(f"/v1/keys/{quote('user:Ünal 🙂', safe='')}").json()
    assert state["counters"][0]["limits"][0]["used"] == 5


def is_for_the_public(body: dict[str, Any]) -> bool:
    return body.keys() <= {"type", "title", "status", "detail", "violated-policies", "retry_after_seconds"}


def test_a_denial_shows_the_visitor_only_the_public_body(app: TestClient) -> None:
    for _ in range(5):
        app.post("/chat/message", headers={"X-User-Id": "u_1"})
    denied = app.post("/chat/message", headers={"X-User-Id": "u_1"})
    assert denied.json() == {
        "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
        "title": "Quota Exceeded",
        "status": 429,
        "detail": "Too many requests: try again in 60 s.",
        "violated-policies": ["caller/60s"],
        "retry_after_seconds": 60,
    }


def test_a_ban_shows_its_title_and_no_wait(app: TestClient, limiter: LimiterService) -> None:
    until = (limiter.now() + timedelta(seconds=600)).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    with httpx.Client(base_url=limiter.url, headers={"Authorization": f"Bearer {limiter.admin_token}"}) as admin:
        override = {"kind": "ban", "reason": "a test", "expires_at": until}
        assert admin.put("/v1/keys/user:u_1/override", json=override).status_code == 200
    denied = app.post("/chat/message", headers={"X-User-Id": "u_1"})
    body = denied.json()
    assert (denied.status_code, body["title"], body["retry_after_seconds"]) == (429, "Banned", None)
    assert is_for_the_public(body)
    assert "600" not in denied.text
    assert [name for name in denied.headers if name.startswith(("ratelimit", "retry"))] == []
    assert app.post("/chat/message", headers={"X-User-Id": "u_2"}).status_code == 200


def test_public_body_changes_the_body_of_a_denial(limiter: LimiterService) -> None:
    application = an_app(AsyncLimiter(limiter.url, limiter.token), public_body=lambda decision: decision.body)
    with TestClient(application, headers=IP) as app:
        bodies = [app.post("/chat/message", headers={"X-User-Id": "u_1"}) for _ in range(6)]
        assert bodies[5].json()["limits"][0]["key"] == "user:u_1"


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_cost_above_the_limit_is_a_403_and_logged(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, on_error: Any
) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token, on_error=on_error), trusted_proxies=0)
    rate_limit.install(application)
    application.post("/", dependencies=[Depends(rate_limit("chat", cost=6))])(lambda: "hello")
    with TestClient(application) as app:
        for _ in range(2):
            response = app.post("/")
            assert (response.status_code, response.headers.get("Retry-After")) == (403, None)
            assert is_for_the_public(response.json())
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert (record.levelno, "5" in record.getMessage()) == (logging.ERROR, True)


def test_ids_may_be_numbers_and_uuids(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30), trusted_proxies=0)
    rate_limit.install(application)
    organisation = UUID(int=7)

    def signed_in() -> int:
        return 4711

    def attributes() -> dict[str, UUID]:
        return {"org": organisation}

    @application.post("/")
    async def route(
        of_user: Annotated[Charge, Depends(rate_limit("chat", user=signed_in))],
        of_org: Annotated[Charge, Depends(rate_limit("org", attributes=attributes))],
    ) -> list[str]:
        return [of_user.decision.limits[0].key, of_org.decision.limits[0].key]

    with TestClient(application) as app:
        assert app.post("/").json() == ["user:4711", f"org:{organisation}"]


@dataclass
class Account:
    name: str


def test_a_type_error_names_the_dependency_that_returned_no_id(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)
    rate_limit.install(application)

    def current_account() -> Any:
        return Account("ann")

    def attributes() -> Any:
        return {"org": Account("acme")}

    def nothing() -> Any:
        return None

    application.post("/user", dependencies=[Depends(rate_limit("chat", user=current_account))])(lambda: "")
    application.post("/org", dependencies=[Depends(rate_limit("org", attributes=attributes))])(lambda: "")
    application.post("/none", dependencies=[Depends(rate_limit("org", attributes=nothing))])(lambda: "")
    with TestClient(application) as app:
        with pytest.raises(TypeError, match=r"current_account .*\"chat\".* as \"user\" must be .* not Account"):
            app.post("/user")
        with pytest.raises(TypeError, match=r"attributes .* as \"org\" must be .* not Account"):
            app.post("/org")
        with pytest.raises(TypeError, match=r"nothing must return a mapping"):
            app.post("/none")


@pytest.mark.parametrize("user", [b"a\x01b", b"u" * 257])
def test_an_invalid_user_is_a_bad_request(app: TestClient, user: bytes) -> None:
    response = app.post("/chat/message", headers=[(b"X-User-Id", user)])
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")
    assert "/subject/user" in response.json()["detail"]
    assert "errors" not in response.text


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_user_above_the_request_limit_is_a_bad_request_and_does_not_pass(
    limiter: LimiterService, on_error: Any
) -> None:
    with TestClient(an_app(AsyncLimiter(limiter.url, limiter.token, on_error=on_error)), headers=IP) as app:
        response = app.post("/chat/message", headers={"X-User-Id": "u" * 9_000})
        assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize(
    ("policy", "user", "attributes", "status"),
    [
        ("org", "u_1", {}, 403),
        ("org", "u_1", {"org": "o" * 300}, 403),
        ("org", "u_1", {"org": "o" * 9_000}, 403),
        ("org", "u_1", {"org": "\ud800"}, 403),
        ("org", "u" * 300, {}, 403),
        ("trial", None, {"org": "o"}, 403),
        ("trial", "u" * 300, {"org": "o"}, 400),
        ("trial", "\ud800", {"org": "o"}, 400),
        ("trial", "u" * 9_000, {"org": "o"}, 400),
    ],
)
def test_shows_visitors_their_own_mistakes_and_logs_all_others(
    limiter: LimiterService,
    caplog: pytest.LogCaptureFixture,
    policy: str,
    user: str | None,
    attributes: dict[str, str],
    status: int,
    on_error: Any,
) -> None:
    application = FastAPI()
    client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, on_error=on_error)
    rate_limit = RateLimit(client, trusted_proxies=0)
    rate_limit.install(application)
    limited = rate_limit(policy, user=lambda: user, attributes=lambda: attributes)
    application.post("/", dependencies=[Depends(limited)])(lambda: "hello")
    with TestClient(application) as app:
        response = app.post("/")
        assert response.status_code == status
        assert "layer" not in response.text
        if status == 403:
            assert response.json()["detail"] == "This request is not accepted."
    levels = [record.levelno for record in caplog.records if record.name == "exact_limiter"]
    assert levels == ([logging.ERROR] if status == 403 else [])


def test_the_user_may_come_from_a_dependency_of_the_application(app: TestClient) -> None:
    for _ in range(5):
        assert app.post("/own-user", headers={"Authorization": "Bearer u_1"}).status_code == 200
    assert app.post("/own-user", headers={"Authorization": "Bearer u_1"}).status_code == 429
    assert app.post("/own-user", headers={"X-User-Id": "u_1"}).status_code == 200
    assert app.post("/own-user", headers={"Authorization": "Bearer forged"}).status_code == 401


def test_a_policy_may_count_by_other_attributes_and_the_headers_show_all_policies(app: TestClient) -> None:
    response = app.post("/by-org", headers={"X-Org": "acme"})
    assert response.status_code == 200
    assert response.headers.get_list("RateLimit", split_commas=True)[-1] == '"org/60s";r=1;t=60'
    assert app.post("/by-org", headers={"X-Org": "acme"}).status_code == 200
    denied = app.post("/by-org", headers={"X-Org": "acme"})
    assert (denied.status_code, denied.json()["violated-policies"]) == (429, ["org/60s"])


def test_settles_a_charge_at_its_real_cost(app: TestClient) -> None:
    assert app.post("/settled/1").json() == {"charged": 5, "settled": 1}
    for _ in range(4):
        assert app.post("/chat/message").status_code == 200
    assert app.post("/chat/message").status_code == 429


def test_a_released_charge_frees_its_place(app: TestClient) -> None:
    assert [app.post(f"/jobs/{is_over}").status_code for is_over in (0, 1, 1, 0, 0)] == [200, 200, 200, 200, 429]


def test_settles_a_charge_at_0(app: TestClient) -> None:
    assert app.post("/settled/0").json() == {"charged": 5, "settled": 0}
    assert app.post("/settled/0").status_code == 200


@pytest.mark.parametrize(("on_error", "status"), [("deny", 503), ("allow", 200)])
def test_on_error_decides_in_an_outage(on_error: Any, status: int) -> None:
    with misbehaving([hangs_up]) as server:
        limiter = AsyncLimiter(server.url, "token", deadline_seconds=0.3, on_error=on_error)
        with TestClient(an_app(limiter)) as app:
            for path in ("/chat/message", "/stream", "/settled/1"):
                response = app.post(path)
                assert (response.status_code, response.headers.get("RateLimit")) == (status, None)
                if status == 503:
                    assert (response.headers["Retry-After"], response.json()["retry_after_seconds"]) == ("1", 1)


@pytest.mark.parametrize(("on_error", "status"), [("deny", 503), ("allow", 200)])
@pytest.mark.parametrize(("path", "token"), [("/unknown-policy", None), ("/chat/message", "wrong")])
def test_on_error_decides_after_a_wrong_configuration_which_is_logged(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, on_error: Any, status: int, path: str, token: str | None
) -> None:
    with TestClient(an_app(AsyncLimiter(limiter.url, token or limiter.token, on_error=on_error)), headers=IP) as app:
        assert app.post(path).status_code == status
    assert [record.levelno for record in caplog.records if record.name == "exact_limiter"] == [logging.ERROR]


def test_a_failed_settle_or_release_does_not_break_the_route(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)
    rate_limit.install(application)

    @application.post("/")
    async def route(charge: Annotated[Charge, Depends(rate_limit("chat"))]) -> bool:
        limiter.reset()
        return await charge.settle(0) is None and await charge.release() is None

    with TestClient(application) as app:
        assert app.post("/").json() is True
