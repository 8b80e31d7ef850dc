"""The middleware around an application, against the real service."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from anyio.from_thread import BlockingPortal
from applications import IP
from fastapi import Depends, FastAPI, Header, HTTPException
from fastapi.testclient import TestClient
from pydantic import BaseModel
from servers import hangs_up, misbehaving
from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware

from exact_limiter import AsyncLimiter
from exact_limiter.asgi import RateLimitMiddleware, user_from_header
from exact_limiter.fastapi import RateLimit
from exact_limiter.testing import LimiterService


def client_of(service: LimiterService, **options: Any) -> AsyncLimiter:
    return AsyncLimiter(service.url, service.token, deadline_seconds=30, **options)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """An application without any framework."""
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": b"hello"})


@pytest.fixture
def around(limiter: LimiterService) -> Callable[..., TestClient]:
    """Makes a client of the application with the middleware around it."""

    def make(policy: Any = "chat", **options: Any) -> TestClient:
        options = {"limiter": client_of(limiter), "trusted_proxies": 1, **options}
        return TestClient(RateLimitMiddleware(hello, policy=policy, **options), headers=IP)

    return make


Around = Callable[..., TestClient]


def test_admits_five_requests_and_the_sixth_a_minute_later(around: Around, limiter: LimiterService) -> None:
    with around() as app:
        for left in (4, 3, 2, 1, 0):
            response = app.get("/")
            assert (response.status_code, response.text) == (200, "hello")
            assert response.headers["RateLimit"].startswith(f'"caller/60s";r={left};t=60')
            assert "Retry-After" not in response.headers
        limiter.advance(seconds=59.999)
        denied = app.get("/")
        assert (denied.status_code, denied.headers["Retry-After"]) == (429, "1")
        assert denied.headers["Content-Type"] == "application/problem+json"
        assert denied.headers["RateLimit"].startswith('"caller/60s";r=0;t=1')
        assert denied.json() == {
            "type": "https://iana.org/assignments/http-problem-types#quota-exceeded",
            "title": "Quota Exceeded",
            "status": 429,
            "detail": "Too many requests: try again in 1 s.",
            "violated-policies": ["caller/60s"],
            "retry_after_seconds": 1,
        }
        limiter.advance(seconds=0.001)
        assert app.get("/").status_code == 200


def test_replies_without_reading_the_body(limiter: LimiterService, portal: BlockingPortal) -> None:
    async def receive() -> Any:
        raise AssertionError("the middleware read the body")

    async def statuses() -> list[int]:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        app = RateLimitMiddleware(hello, client_of(limiter), "chat", trusted_proxies=0)
        for _ in range(6):
            await app({"type": "http", "path": "/", "headers": [], "client": ("203.0.113.7", 1)}, receive, send)
        await app.limiter.aclose()
        assert sent[1] == {"type": "http.response.body", "body": b"hello"}
        return [message["status"] for message in sent if message["type"] == "http.response.start"]

    assert portal.call(statuses) == [200] * 5 + [429]


class Item(BaseModel):
    name: str


def signed_in(authorization: Annotated[str, Header()] = "") -> str:
    if authorization == "forged":
        raise HTTPException(401)
    return authorization


def an_api(rate_limit: Callable[..., Any]) -> FastAPI:
    """An application with a middleware of its own, and a limit on each route."""
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"], allow_methods=["*"])

    @app.post("/items", dependencies=[Depends(rate_limit("chat", user=signed_in))])
    async def items(item: Item) -> str:
        return item.name

    return app


CORS = {"Origin": "https://example.org", "Access-Control-Request-Method": "POST"}

#: Requests that never reach a dependency of the route, with their statuses.
UNSEEN = pytest.mark.parametrize(
    ("request_", "status"),
    [
        ({"method": "GET", "url": "/unknown"}, 404),
        ({"method": "GET", "url": "/items"}, 405),
        ({"method": "POST", "url": "/items", "content": b"{", "headers": {"Content-Type": "application/json"}}, 422),
        ({"method": "POST", "url": "/items", "json": {"name": "a"}, "headers": {"Authorization": "forged"}}, 401),
        ({"method": "OPTIONS", "url": "/items", "headers": CORS}, 200),
    ],
)


@UNSEEN
def test_counts_what_the_dependency_does_not_see(
    limiter: LimiterService, request_: dict[str, Any], status: int
) -> None:
    api = an_api(lambda *_, **__: signed_in)
    api.add_middleware(RateLimitMiddleware, limiter=client_of(limiter), policy="chat", trusted_proxies=1)
    with TestClient(api, headers=IP) as app:
        assert [app.request(**request_).status_code for _ in range(6)] == [status] * 5 + [429]


@UNSEEN
def test_the_dependency_does_not_count_these_requests(
    limiter: LimiterService, request_: dict[str, Any], status: int
) -> None:
    rate_limit = RateLimit(client_of(limiter), trusted_proxies=1)
    api = an_api(rate_limit)
    rate_limit.install(api)
    with TestClient(api, headers=IP) as app:
        assert [app.request(**request_).status_code for _ in range(6)] == [status] * 6


def test_a_denial_has_the_headers_of_a_cors_middleware_that_is_added_later(limiter: LimiterService) -> None:
    api = FastAPI()
    api.add_middleware(RateLimitMiddleware, limiter=client_of(limiter), policy="chat", trusted_proxies=1)
    api.add_middleware(CORSMiddleware, allow_origins=["*"])
    with TestClient(api, headers={**IP, "Origin": "https://example.org"}) as app:
        denied = [app.get("/") for _ in range(6)][5]
        assert (denied.status_code, denied.headers["Access-Control-Allow-Origin"]) == (429, "*")


def test_the_dependency_counts_a_request_with_a_wrong_field(limiter: LimiterService) -> None:
    rate_limit = RateLimit(client_of(limiter), trusted_proxies=1)
    api = an_api(rate_limit)
    rate_limit.install(api)
    with TestClient(api, headers=IP) as app:
        assert [app.post("/items", json={}).status_code for _ in range(6)] == [422] * 5 + [429]


def test_exempt_paths_pass_without_a_question(around: Around) -> None:
    paths = ["/healthz", "/static/app.js", "/static/", "/static/deep/../app.css/..x"]
    limited = ["/static", "/healthz/", "/healthz/x", "/statics/x", "/x/healthz", "/static/%2e%2e/chat"]
    with around(exempt=["/healthz", "/static/*"]) as app:
        for path in paths[:3]:
            for _ in range(6):
                response = app.get(path)
                assert (response.status_code, "RateLimit" in response.headers) == (200, False)
        for path in limited:
            assert ("RateLimit" in app.get(path).headers) is True


def test_exempt_paths_are_those_of_the_application_below_its_root(limiter: LimiterService) -> None:
    app = RateLimitMiddleware(hello, client_of(limiter), "chat", trusted_proxies=0, exempt=["/healthz"])
    with TestClient(app, root_path="/api") as client:
        assert "RateLimit" not in client.get("/api/healthz").headers
        assert "RateLimit" not in client.get("/healthz").headers
        assert "RateLimit" in client.get("/apihealthz").headers


def test_a_function_of_the_scope_may_exempt_requests(around: Around) -> None:
    with around(exempt=lambda scope: scope["method"] == "OPTIONS") as app:
        assert "RateLimit" not in app.options("/").headers
        assert "RateLimit" in app.get("/").headers


@pytest.mark.parametrize("path", ["healthz", "*", "/a*", "/a/*/b", "/**"])
def test_refuses_an_exempt_path_that_it_would_not_match(around: Around, path: str) -> None:
    with pytest.raises(ValueError, match=r'write paths as "/healthz", or "/static/\*"'):
        around(exempt=[path])


def test_refuses_a_single_text_as_exempt_paths(around: Around) -> None:
    with pytest.raises(TypeError, match=r'\["/healthz"\]'):
        around(exempt="/healthz")


def test_counts_by_the_address_alone_unless_told_who_the_user_is(around: Around) -> None:
    with around() as app:
        responses = [app.get("/", headers={"X-User-Id": f"u_{i}"}) for i in range(6)]
    assert [response.status_code for response in responses] == [200] * 5 + [429]


def test_counts_each_address_alone_and_ignores_forged_entries(around: Around) -> None:
    with around() as app:
        forged = [app.get("/", headers={"X-Forwarded-For": f"6.6.6.{i}, 203.0.113.9"}) for i in range(6)]
        assert [response.status_code for response in forged] == [200] * 5 + [429]
        assert app.get("/").status_code == 200


def test_the_user_may_come_from_a_header_of_the_gateway(around: Around) -> None:
    with around(user=user_from_header) as app:
        for name in ("Ünal", "u_2"):
            user = [(b"X-User-Id", name.encode())]
            assert [app.get("/", headers=user).status_code for _ in range(6)] == [200] * 5 + [429]
        assert app.get("/").status_code == 200


def test_policy_cost_user_and_attributes_may_be_functions_of_the_scope(around: Around) -> None:
    async def policy(scope: Any) -> str:
        return "org" if scope["path"].startswith("/org") else "chat"

    options = {
        "user": lambda scope: int(Headers(scope=scope)["x-number"]),
        "attributes": lambda scope: {"org": "acme"},
        "cost": lambda scope: 2 if scope["method"] == "POST" else 1,
    }
    with around(policy, **options) as app:
        one = {"X-Number": "1"}
        assert app.post("/", headers=one).headers["RateLimit"].startswith('"caller/60s";r=3')
        assert app.get("/", headers=one).headers["RateLimit"].startswith('"caller/60s";r=2')
        assert app.get("/", headers={"X-Number": "2"}).headers["RateLimit"].startswith('"caller/60s";r=4')
        assert app.post("/org", headers=one).headers["RateLimit"] == '"org/60s";r=0;t=60'
        assert app.get("/org", headers=one).json()["violated-policies"] == ["org/60s"]


def cloudflare(scope: Any) -> str | None:
    return Headers(scope=scope).get("cf-connecting-ip")


@pytest.mark.parametrize("options", [{"address": cloudflare}, {"attributes": lambda scope: {"ip": cloudflare(scope)}}])
def test_the_address_may_come_from_a_function(around: Around, options: Any) -> None:
    with around(**options) as app:
        for address in ("198.51.100.1", "[2001:db8::1]:4711"):
            statuses = [app.get("/", headers={"CF-Connecting-IP": address}).status_code for _ in range(6)]
            assert statuses == [200] * 5 + [429]
        assert app.get("/", headers={"CF-Connecting-IP": "2001:db8::1"}).status_code == 429
        assert app.get("/", headers={"CF-Connecting-IP": "nowhere"}).status_code == 400
        assert app.get("/").status_code == 200


def test_a_user_and_an_address_among_the_attributes_are_used_instead_of_others(around: Around) -> None:
    attributes = {"user": "ann", "ip": "198.51.100.1"}
    options = {
        "user": lambda _: "bob",
        "address": lambda _: "198.51.100.2",
        "public_body": lambda decision: decision.body,
    }
    with around(attributes=lambda _: attributes, **options) as app:
        keys = [limit["key"] for limit in [app.get("/") for _ in range(6)][5].json()["limits"]]
    assert keys == ["user:ann", "user:ann", "ip:198.51.100.1"]


@pytest.mark.parametrize("nobody", [None, ""])
def test_a_function_that_knows_no_address_leaves_it_to_the_proxies(around: Around, nobody: str | None) -> None:
    options = {"user": lambda _: "bob", "attributes": lambda _: {"user": None, "ip": None}}
    with around(address=lambda _: nobody, public_body=lambda decision: decision.body, **options) as app:
        keys = [limit["key"] for limit in [app.get("/") for _ in range(6)][5].json()["limits"]]
    assert keys == ["user:bob", "user:bob", "ip:203.0.113.7"]


def test_a_cost_by_a_function_that_no_limit_could_admit_is_too_large(
    around: Around, caplog: pytest.LogCaptureFixture
) -> None:
    with around(cost=lambda scope: int(Headers(scope=scope)["content-length"])) as app:
        for length in (6, 10_000_000_000):
            assert app.post("/", headers={"Content-Length": str(length)}).status_code == 413
        assert app.post("/", content=b"12345").status_code == 200
        with pytest.raises(ValueError, match=r"lambda> returns must be at least 1, not 0"):
            app.post("/", headers={"Content-Length": "0"})
    assert caplog.records == []


@pytest.mark.parametrize(
    ("cost", "kind", "message"),
    [
        (0, ValueError, "cost must be at least 1, not 0"),
        (1.5, TypeError, "cost must be an int, not float"),
        (True, TypeError, "cost must be an int, not bool"),
        ({"caller": -1}, ValueError, 'cost for the layer "caller" must be at least 0, not -1'),
        ({"caller": "1"}, TypeError, 'cost for the layer "caller" must be an int, not str'),
    ],
)
def test_refuses_a_constant_cost_that_makes_no_sense(
    around: Around, cost: Any, kind: type[Exception], message: str
) -> None:
    with pytest.raises(kind, match=message):
        around(cost=cost)


def test_a_type_error_names_the_function_that_returned_no_id(around: Around) -> None:
    def current_account(scope: Any) -> Any:
        return object()

    def nothing(scope: Any) -> Any:
        return None

    with around(user=current_account) as app, pytest.raises(TypeError, match=r"current_account returns as \"user\""):
        app.get("/")
    organisation = {"attributes": lambda scope: {"org": current_account(scope)}}
    with around("org", **organisation) as app, pytest.raises(TypeError, match=r"lambda> returns as \"org\""):
        app.get("/")
    with around(attributes=nothing) as app, pytest.raises(TypeError, match="nothing must return a mapping"):
        app.get("/")


@pytest.mark.parametrize("option", ["user", "address", "attributes"])
def test_refuses_an_option_that_is_no_function(around: Around, option: str) -> None:
    with pytest.raises(TypeError, match=f"^{option} must be a function that returns the {option}, not str"):
        around(**{option: "u_1"})


def test_an_error_names_the_function_that_returned_no_policy(around: Around) -> None:
    with around(lambda scope: None) as app, pytest.raises(TypeError, match=r"lambda> returns must be a str, not None"):
        app.get("/")


@pytest.mark.parametrize("user", ["a\x01b", "u" * 257, "u" * 9_000, "\ud800"])
def test_an_invalid_user_is_a_bad_request(around: Around, user: str) -> None:
    with around(user=lambda scope: user) as app:
        response = app.get("/")
    assert (response.status_code, response.headers["Content-Type"]) == (400, "application/problem+json")


@pytest.mark.parametrize("on_error", ["deny", "allow"])
@pytest.mark.parametrize("options", [{"policy": "org"}, {"policy": "chat", "cost": 6}])
def test_a_request_that_the_limiter_refuses_is_a_403_and_logged(
    around: Around, limiter: LimiterService, caplog: pytest.LogCaptureFixture, options: Any, on_error: Any
) -> None:
    with around(limiter=client_of(limiter, on_error=on_error), **options) as app:
        response = app.get("/")
    assert (response.status_code, response.json()["detail"]) == (403, "This request is not accepted.")
    assert [record.levelno for record in caplog.records if record.name == "exact_limiter"] == [logging.ERROR]


@pytest.mark.parametrize(("on_error", "status"), [("deny", 503), ("allow", 200)])
def test_on_error_decides_in_an_outage(around: Around, on_error: Any, status: int) -> None:
    with misbehaving([hangs_up]) as server:
        client = AsyncLimiter(server.url, "token", deadline_seconds=0.3, on_error=on_error)
        with around(limiter=client) as app:
            response = app.get("/")
    assert (response.status_code, response.headers.get("RateLimit")) == (status, None)
    if status == 503:
        assert (response.headers["Retry-After"], response.json()["retry_after_seconds"]) == ("1", 1)


def test_public_body_changes_the_body_of_a_denial(around: Around) -> None:
    with around(public_body=lambda decision: {"wait": decision.retry_after_seconds}) as app:
        assert [app.get("/") for _ in range(6)][5].json() == {"wait": 60}


def test_a_disabled_middleware_asks_nobody(around: Around) -> None:
    with misbehaving([hangs_up]) as server:
        app = around(limiter=AsyncLimiter(server.url, "token"), enabled=False)
        assert [app.get("/").status_code for _ in range(6)] == [200] * 6
        assert server.listening.accepted == 0


def test_refuses_options_that_make_no_sense(around: Around) -> None:
    with pytest.raises(ValueError, match="on_error"):
        around(limiter=AsyncLimiter("http://127.0.0.1:1", "token", on_error="raise"))
    with pytest.raises(ValueError, match="trusted_proxies"):
        around(trusted_proxies=-1)
