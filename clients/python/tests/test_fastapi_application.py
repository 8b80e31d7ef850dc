"""A FastAPI application with rate limits, against the real service: its installation, lifespan and addresses."""

import logging

import pytest
from applications import IP, an_app
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from fastapi.testclient import TestClient
from servers import hangs, misbehaving
from starlette.requests import HTTPConnection

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import RateLimit, RateLimited, client_address
from exact_limiter.testing import LimiterService


def test_the_parameters_of_the_route_may_have_any_name(app: TestClient) -> None:
    response = app.post("/named", json={"a": 1})
    assert (response.status_code, response.json()) == (200, [{"a": 1}, "r", 1, "p"])


@pytest.mark.parametrize(("token", "message"), [("wrong", "token"), (None, "nope")])
def test_logs_a_wrong_configuration_when_the_application_starts(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, token: str | None, message: str
) -> None:
    limited = AsyncLimiter(limiter.url, token or limiter.token, deadline_seconds=30)
    with TestClient(an_app(limited), headers=IP) as app:
        while not caplog.records:
            assert app.get("/openapi.json").status_code == 200
        assert app.post("/chat/message").status_code == (503 if token else 200)
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert (record.levelno, message in record.getMessage()) == (logging.ERROR, True)


def test_an_application_starts_and_ends_while_the_limiter_hangs() -> None:
    with misbehaving([hangs]) as server, TestClient(an_app(AsyncLimiter(server.url, "token"))) as app:
        assert app.get("/openapi.json").status_code == 200


def test_a_mounted_application_needs_its_own_installation(limiter: LimiterService) -> None:
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
        responses = [client.post("/inner/") for _ in range(6)]
        assert [response.status_code for response in responses] == [200] * 5 + [429]
        assert responses[0].headers.get_list("RateLimit") == [
            '"caller/60s";r=4;t=60, "caller/3600s";r=59;t=3600, "ip/60s";r=29;t=60'
        ]
        assert responses[5].json()["retry_after_seconds"] == 60


def test_refuses_a_limiter_that_raises_in_an_outage() -> None:
    with pytest.raises(ValueError, match="on_error"):
        RateLimit(AsyncLimiter("http://127.0.0.1:1", "token", on_error="raise"), trusted_proxies=0)


def test_raises_in_an_application_without_an_installation(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)

    @application.post("/", dependencies=[Depends(rate_limit("chat"))])
    async def route() -> None: ...

    with TestClient(application) as app, pytest.raises(RuntimeError, match=r"rate_limit\.install"):
        app.post("/")


def test_a_limiter_outlives_the_event_loops_of_many_tests(limiter: LimiterService) -> None:
    application = an_app(AsyncLimiter(limiter.url, limiter.token))
    for _ in range(3):
        with TestClient(application, headers=IP) as app:
            assert app.post("/chat/message").status_code == 200


def test_the_openapi_document_of_the_application_does_not_show_the_limits(app: TestClient) -> None:
    operation = app.get("/openapi.json").json()["paths"]["/chat/message"]["post"]
    assert "parameters" not in operation
    assert "requestBody" not in operation


def test_leaves_the_body_of_the_request_to_the_route(limiter: LimiterService) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)
    rate_limit.install(application)

    @application.post("/", dependencies=[Depends(rate_limit("chat"))])
    async def route(request: Request) -> int:
        return len(await request.body())

    with TestClient(application) as app:
        assert app.post("/", content=b"x" * 100_000).json() == 100_000


@pytest.mark.parametrize(
    ("trusted_proxies", "forwarded", "peer", "address"),
    [
        (0, ["198.51.100.9"], "203.0.113.7", "203.0.113.7"),
        (1, ["198.51.100.9"], "10.0.0.1", "198.51.100.9"),
        # The first entry is the client's, perhaps forged, and is ignored.
        (1, ["6.6.6.6, 198.51.100.9"], "10.0.0.1", "198.51.100.9"),
        (2, ["6.6.6.6, 198.51.100.9, 10.0.0.2"], "10.0.0.1", "198.51.100.9"),
        # Headers with the same name form a single list.
        (2, ["6.6.6.6", "198.51.100.9", "10.0.0.2"], "10.0.0.1", "198.51.100.9"),
        # A client that bypasses the proxies counts by its peer address, which can't be forged.
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
def test_the_address_comes_from_the_outermost_trusted_proxy(
    trusted_proxies: int, forwarded: list[str], peer: str | None, address: str
) -> None:
    headers = [(b"x-forwarded-for", line.encode()) for line in forwarded]
    connection = HTTPConnection({"type": "http", "headers": headers, "client": peer and (peer, 1)})
    assert client_address(connection, trusted_proxies) == address


def test_a_client_can_not_choose_its_address(app: TestClient) -> None:
    for i in range(5):
        forged = {"X-Forwarded-For": f"6.6.6.{i}, 203.0.113.9"}
        assert app.post("/chat/message", headers=forged).status_code == 200
    assert app.post("/chat/message", headers={"X-Forwarded-For": "6.6.6.6, 203.0.113.9"}).status_code == 429


@pytest.mark.parametrize("is_installed_first", [True, False])
def test_an_exception_handler_of_the_application_gets_the_decision(
    limiter: LimiterService, is_installed_first: bool
) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token), trusted_proxies=0)

    async def reply(_: Request, error: Exception) -> JSONResponse:
        assert isinstance(error, RateLimited)
        assert error.decision is not None
        return JSONResponse({"wait": error.decision.retry_after_seconds}, error.status_code)

    if is_installed_first:
        rate_limit.install(application)
    application.add_exception_handler(RateLimited, reply)
    if not is_installed_first:
        rate_limit.install(application)
    application.post("/", dependencies=[Depends(rate_limit("chat"))])(lambda: "hello")
    with TestClient(application) as app:
        responses = [app.post("/") for _ in range(6)]
        assert (responses[5].status_code, responses[5].json()) == (429, {"wait": 60})
