"""The dependency in a real application, against the real service."""

import logging
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any
from urllib.parse import quote
from uuid import UUID

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, HTTPException, Request
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from servers import hangs, hangs_up, misbehaving
from starlette.requests import HTTPConnection

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import Charge, RateLimit, RateLimited, client_address
from exact_limiter.testing import LimiterService

IP = {"X-Forwarded-For": "203.0.113.7"}


def an_app(limiter: AsyncLimiter, **options: Any) -> FastAPI:
    """An application with a route for each way to be limited."""
    app = FastAPI()
    rate_limit = RateLimit(limiter, trusted_proxies=1, **options)
    rate_limit.install(app)

    @app.post("/chat/message", dependencies=[Depends(rate_limit("chat"))])
    async def message() -> str:
        return "hello"

    # Names that a limiter might want for itself.
    @app.post("/named", dependencies=[Depends(rate_limit("chat"))])
    async def named(request: dict[str, Any], response: str = "r", limiter: int = 1, policy: str = "p") -> list[Any]:
        return [request, response, limiter, policy]

    @app.post("/stream", dependencies=[Depends(rate_limit("chat"))])
    async def stream() -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            yield "one "
            yield "two"

        return StreamingResponse(words(), media_type="text/plain")

    @app.post("/settled/{cost}")
    async def settled(cost: int, charge: Annotated[Charge, Depends(rate_limit("chat", cost=5))]) -> dict[str, Any]:
        settlement = await charge.settle(cost)
        return {"charged": charge.decision.cost, "settled": settlement and settlement.cost}

    @app.post("/jobs/{is_over}")
    async def jobs(is_over: int, charge: Annotated[Charge, Depends(rate_limit("jobs"))]) -> None:
        if is_over:
            released = await charge.release()
            assert released is not None
            assert released.id == charge.decision.id

    @app.post("/fails", dependencies=[Depends(rate_limit("chat"))])
    async def fails() -> None:
        raise HTTPException(418, "a teapot")

    @app.post("/unknown-policy", dependencies=[Depends(rate_limit("nope"))])
    async def unknown_policy() -> str:
        return "hello"

    async def signed_in(authorization: Annotated[str | None, Header()] = None) -> str | None:
        if authorization == "Bearer forged":
            raise HTTPException(401)
        return authorization and authorization.removeprefix("Bearer ")

    router = APIRouter(dependencies=[Depends(rate_limit("chat", user=signed_in))])

    @router.post("/own-user")
    async def own_user() -> str:
        return "hello"

    def organisation(x_org: Annotated[str, Header()]) -> dict[str, str]:
        return {"org": x_org}

    @router.post("/by-org", dependencies=[Depends(rate_limit("org", attributes=organisation))])
    async def by_org() -> str:
        return "hello"

    app.include_router(router)
    return app


@pytest.fixture
def app(limiter: LimiterService) -> Iterator[TestClient]:
    with TestClient(an_app(AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30)), headers=IP) as client:
        yield client


def test_five_pass_the_sixth_waits_a_minute_and_then_passes(app: TestClient, limiter: LimiterService) -> None:
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
def test_an_answer_that_passes_carries_the_headers(app: TestClient, path: str) -> None:
    answer = app.post(path)
    assert answer.status_code in (200, 418)
    assert answer.headers["RateLimit"] == '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=29;t=60'
    assert answer.headers["RateLimit-Policy"].startswith('"caller/60s";q=5;w=60')
    assert "Retry-After" not in answer.headers


def test_it_does_not_matter_what_the_route_calls_its_parameters(app: TestClient) -> None:
    answer = app.post("/named", json={"a": 1})
    assert (answer.status_code, answer.json()) == (200, [{"a": 1}, "r", 1, "p"])


def test_a_user_has_limits_of_his_own(app: TestClient) -> None:
    for _ in range(5):
        assert app.post("/chat/message", headers={"X-User-Id": "u_1"}).status_code == 200
    assert app.post("/chat/message", headers={"X-User-Id": "u_1"}).status_code == 429
    assert app.post("/chat/message", headers={"X-User-Id": "u_2"}).status_code == 200
    assert app.post("/chat/message").status_code == 200


def test_a_user_in_utf_8_is_counted_by_his_name(app: TestClient, limiter: LimiterService) -> None:
    answer = app.post("/chat/message", headers=[(b"X-User-Id", "Ünal 🙂".encode())])
    assert answer.status_code == 200
    for _ in range(4):
        app.post("/chat/message", headers=[(b"X-User-Id", "Ünal 🙂".encode())])
    with httpx.Client(base_url=limiter.url, headers={"Authorization": f"Bearer {limiter.admin_token}"}) as admin:
        told = admin.get(f"/v1/keys/{quote('user:Ünal 🙂', safe='')}").json()
    assert told["counters"][0]["limits"][0]["used"] == 5


def is_for_the_public(body: dict[str, Any]) -> bool:
    return body.keys() <= {"type", "title", "status", "detail", "violated-policies", "retry_after_seconds"}


def test_a_denial_tells_the_visitor_what_a_page_needs_and_nothing_else(app: TestClient) -> None:
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


def test_a_ban_says_that_it_is_one_and_no_wait(app: TestClient, limiter: LimiterService) -> None:
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


def test_public_body_changes_what_the_visitor_is_told(limiter: LimiterService) -> None:
    application = an_app(AsyncLimiter(limiter.url, limiter.token), public_body=lambda decision: decision.body)
    with TestClient(application, headers=IP) as app:
        bodies = [app.post("/chat/message", headers={"X-User-Id": "u_1"}) for _ in range(6)]
        assert bodies[5].json()["limits"][0]["key"] == "user:u_1"


@pytest.mark.parametrize("is_installed_first", [True, False])
def test_a_handler_of_the_application_answers_in_its_own_way_and_knows_the_decision(
    limiter: LimiterService, is_installed_first: bool
) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)

    async def answer(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RateLimited)
        assert error.decision is not None
        return JSONResponse({"wait": error.decision.retry_after_seconds}, error.status_code)

    if is_installed_first:
        rate_limit.install(application)
    application.add_exception_handler(RateLimited, answer)
    if not is_installed_first:
        rate_limit.install(application)
    application.post("/", dependencies=[Depends(rate_limit("chat"))])(lambda: "hello")
    with TestClient(application) as app:
        answers = [app.post("/") for _ in range(6)]
        assert (answers[5].status_code, answers[5].json()) == (429, {"wait": 60})


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_cost_above_the_limit_is_a_plain_refusal_and_the_developer_is_told(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, on_error: Any
) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token, on_error=on_error), trusted_proxies=0)
    rate_limit.install(application)
    application.post("/", dependencies=[Depends(rate_limit("chat", cost=6))])(lambda: "hello")
    with TestClient(application) as app:
        for _ in range(2):
            answer = app.post("/")
            assert (answer.status_code, answer.headers.get("Retry-After")) == (403, None)
            assert is_for_the_public(answer.json())
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert (record.levelno, "5" in record.getMessage()) == (logging.ERROR, True)


def test_ids_are_numbers_and_uuids_too(limiter: LimiterService) -> None:
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


def test_what_is_no_id_is_a_type_error_that_names_the_dependency(limiter: LimiterService) -> None:
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


@pytest.mark.parametrize(("token", "told"), [("wrong", "token"), (None, "nope")])
def test_what_is_wrong_with_the_configuration_is_logged_when_the_application_starts(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, token: str | None, told: str
) -> None:
    limited = AsyncLimiter(limiter.url, token or limiter.token, deadline_seconds=30)
    with TestClient(an_app(limited), headers=IP) as app:
        while not caplog.records:
            assert app.get("/openapi.json").status_code == 200
        assert app.post("/chat/message").status_code == (503 if token else 200)
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert (record.levelno, told in record.getMessage()) == (logging.ERROR, True)


def test_an_application_starts_and_ends_while_nobody_answers() -> None:
    with misbehaving([hangs]) as server, TestClient(an_app(AsyncLimiter(server.url, "token"))) as app:
        assert app.get("/openapi.json").status_code == 200


@pytest.mark.parametrize("user", [b"a\x01b", b"u" * 257])
def test_a_user_that_can_be_nobody_is_a_bad_request(app: TestClient, user: bytes) -> None:
    answer = app.post("/chat/message", headers=[(b"X-User-Id", user)])
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")
    assert "/subject/user" in answer.json()["detail"]
    assert "errors" not in answer.text


@pytest.mark.parametrize("on_error", ["deny", "allow"])
def test_a_user_too_long_to_be_asked_about_is_a_bad_request_and_not_let_pass(
    limiter: LimiterService, on_error: Any
) -> None:
    with TestClient(an_app(AsyncLimiter(limiter.url, limiter.token, on_error=on_error)), headers=IP) as app:
        answer = app.post("/chat/message", headers={"X-User-Id": "u" * 9_000})
        assert (answer.status_code, answer.headers["Content-Type"]) == (400, "application/problem+json")


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
def test_the_visitor_is_told_of_his_own_mistakes_and_the_developer_of_all_others(
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
        answer = app.post("/")
        assert answer.status_code == status
        assert "layer" not in answer.text
        if status == 403:
            assert answer.json()["detail"] == "This request is not accepted."
    told = [record.levelno for record in caplog.records if record.name == "exact_limiter"]
    assert told == ([logging.ERROR] if status == 403 else [])


def test_an_application_that_is_mounted_needs_an_installation_of_its_own(limiter: LimiterService) -> None:
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=1)

    def with_mounted(inner: FastAPI) -> FastAPI:
        outer = FastAPI()
        rate_limit.install(outer)
        outer.mount("/inner", inner)
        inner.post("/", dependencies=[Depends(rate_limit("chat"))])(lambda: "hello")
        return outer

    with TestClient(with_mounted(FastAPI()), headers=IP) as client, pytest.raises(RuntimeError, match="install"):
        client.post("/inner/")
    installed = FastAPI()
    rate_limit.install(installed)
    with TestClient(with_mounted(installed), headers=IP) as client:
        answers = [client.post("/inner/") for _ in range(6)]
        assert [answer.status_code for answer in answers] == [200] * 5 + [429]
        assert answers[0].headers.get_list("RateLimit") == [
            '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=29;t=60'
        ]
        assert answers[5].json()["retry_after_seconds"] == 60


def test_a_limiter_that_raises_when_it_is_down_is_refused() -> None:
    with pytest.raises(ValueError, match="on_error"):
        RateLimit(AsyncLimiter("http://127.0.0.1:1", "token", on_error="raise"), trusted_proxies=0)


def test_one_limiter_serves_one_event_loop_after_another(limiter: LimiterService) -> None:
    application = an_app(AsyncLimiter(limiter.url, limiter.token))
    for _ in range(2):
        with TestClient(application, headers=IP) as app:
            assert app.post("/chat/message").status_code == 200


def test_the_user_can_come_from_a_dependency_of_the_application(app: TestClient) -> None:
    for _ in range(5):
        assert app.post("/own-user", headers={"Authorization": "Bearer u_1"}).status_code == 200
    assert app.post("/own-user", headers={"Authorization": "Bearer u_1"}).status_code == 429
    assert app.post("/own-user", headers={"X-User-Id": "u_1"}).status_code == 200
    assert app.post("/own-user", headers={"Authorization": "Bearer forged"}).status_code == 401


def test_a_policy_can_count_by_other_attributes_and_both_limits_are_told(app: TestClient) -> None:
    answer = app.post("/by-org", headers={"X-Org": "acme"})
    assert answer.status_code == 200
    assert answer.headers.get_list("RateLimit", split_commas=True)[-1] == '"org/60s";r=1;t=60'
    assert app.post("/by-org", headers={"X-Org": "acme"}).status_code == 200
    denied = app.post("/by-org", headers={"X-Org": "acme"})
    assert (denied.status_code, denied.json()["violated-policies"]) == (429, ["org/60s"])


def test_a_charge_is_settled_at_its_real_cost(app: TestClient) -> None:
    assert app.post("/settled/1").json() == {"charged": 5, "settled": 1}
    for _ in range(4):
        assert app.post("/chat/message").status_code == 200
    assert app.post("/chat/message").status_code == 429


def test_a_charge_is_released_when_its_work_is_over(app: TestClient) -> None:
    assert [app.post(f"/jobs/{is_over}").status_code for is_over in (0, 1, 1, 0, 0)] == [200, 200, 200, 200, 429]


def test_a_charge_can_be_given_back(app: TestClient) -> None:
    assert app.post("/settled/0").json() == {"charged": 5, "settled": 0}
    assert app.post("/settled/0").status_code == 200


@pytest.mark.parametrize(("on_error", "status"), [("deny", 503), ("allow", 200)])
def test_with_the_limiter_down_on_error_decides(on_error: Any, status: int) -> None:
    with misbehaving([hangs_up]) as server:
        limiter = AsyncLimiter(server.url, "token", deadline_seconds=0.3, on_error=on_error)
        with TestClient(an_app(limiter)) as app:
            for path in ("/chat/message", "/stream", "/settled/1"):
                answer = app.post(path)
                assert (answer.status_code, answer.headers.get("RateLimit")) == (status, None)
                if status == 503:
                    assert (answer.headers["Retry-After"], answer.json()["retry_after_seconds"]) == ("1", 1)


@pytest.mark.parametrize(("on_error", "status"), [("deny", 503), ("allow", 200)])
@pytest.mark.parametrize(("path", "token"), [("/unknown-policy", None), ("/chat/message", "wrong")])
def test_a_limiter_that_refuses_to_decide_is_logged_and_on_error_decides(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, on_error: Any, status: int, path: str, token: str | None
) -> None:
    with TestClient(an_app(AsyncLimiter(limiter.url, token or limiter.token, on_error=on_error)), headers=IP) as app:
        assert app.post(path).status_code == status
    assert [record.levelno for record in caplog.records if record.name == "exact_limiter"] == [logging.ERROR]


def test_a_settle_or_a_release_that_fails_does_not_break_the_route(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)
    rate_limit.install(application)

    @application.post("/")
    async def route(charge: Annotated[Charge, Depends(rate_limit("chat"))]) -> bool:
        limiter.reset()
        return await charge.settle(0) is None and await charge.release() is None

    with TestClient(application) as app:
        assert app.post("/").json() is True


def test_an_application_that_was_not_told_of_the_limits_says_so(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)

    @application.post("/", dependencies=[Depends(rate_limit("chat"))])
    async def route() -> None: ...

    with TestClient(application) as app, pytest.raises(RuntimeError, match=r"rate_limit\.install"):
        app.post("/")


def test_a_limiter_lives_through_the_event_loops_of_many_tests(limiter: LimiterService) -> None:
    application = an_app(AsyncLimiter(limiter.url, limiter.token))
    for _ in range(3):
        with TestClient(application, headers=IP) as app:
            assert app.post("/chat/message").status_code == 200


@pytest.mark.parametrize(
    ("trusted_proxies", "forwarded", "peer", "address"),
    [
        (0, ["198.51.100.9"], "203.0.113.7", "203.0.113.7"),
        (1, ["198.51.100.9"], "10.0.0.1", "198.51.100.9"),
        # What the client wrote stands first, and is not believed.
        (1, ["6.6.6.6, 198.51.100.9"], "10.0.0.1", "198.51.100.9"),
        (2, ["6.6.6.6, 198.51.100.9, 10.0.0.2"], "10.0.0.1", "198.51.100.9"),
        # A header sent twice is one list.
        (2, ["6.6.6.6", "198.51.100.9", "10.0.0.2"], "10.0.0.1", "198.51.100.9"),
        # Whoever came past the proxies is counted by the address that can't be forged.
        (2, ["6.6.6.6"], "203.0.113.7", "203.0.113.7"),
        (1, [], "203.0.113.7", "203.0.113.7"),
        (1, ["unknown"], "10.0.0.1", "10.0.0.1"),
        (1, [""], "10.0.0.1", "10.0.0.1"),
        (1, ["198.51.100.9:4711"], "10.0.0.1", "198.51.100.9"),
        (1, ["[2001:db8::1]:4711"], "10.0.0.1", "2001:db8::1"),
        (1, ["2001:db8::1"], "10.0.0.1", "2001:db8::1"),
        (1, ["fe80::1%eth0"], "10.0.0.1", "fe80::1"),
        (0, [], "testclient", "127.0.0.1"),
        (0, [], None, "127.0.0.1"),
    ],
)
def test_the_address_is_the_one_that_the_trusted_proxies_saw(
    trusted_proxies: int, forwarded: list[str], peer: str | None, address: str
) -> None:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    connection = HTTPConnection({"type": "http", "headers": headers, "client": peer and (peer, 1)})
    assert client_address(connection, trusted_proxies) == address


def test_a_client_cannot_choose_its_address(app: TestClient) -> None:
    for i in range(5):
        forged = {"X-Forwarded-For": f"6.6.6.{i}, 203.0.113.9"}
        assert app.post("/chat/message", headers=forged).status_code == 200
    assert app.post("/chat/message", headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.9"}).status_code == 429


def test_the_documentation_of_the_application_does_not_show_the_limits(app: TestClient) -> None:
    operation = app.get("/openapi.json").json()["paths"]["/chat/message"]["post"]
    assert "parameters" not in operation
    assert "requestBody" not in operation


def test_a_request_of_the_route_is_not_touched(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)
    rate_limit.install(application)

    @application.post("/", dependencies=[Depends(rate_limit("chat"))])
    async def route(request: Request) -> int:
        return len(await request.body())

    with TestClient(application) as app:
        assert app.post("/", content=b"x" * 100_000).json() == 100_000
