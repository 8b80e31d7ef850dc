"""WebSocket routes with rate limits, against the real service."""

import time
from contextlib import suppress
from typing import Annotated, Any

import pytest
from applications import IP
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import Charge, RateLimit
from exact_limiter.testing import LimiterService

VISITOR = {"ip": "203.0.113.7"}


class WithoutDenialResponses:
    """A server that can't answer a handshake with an HTTP response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope.pop("extensions", None)
        await self._app(scope, receive, send)


def an_app(limiter: LimiterService, **options: Any) -> FastAPI:
    application = FastAPI()
    client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30)
    rate_limit = RateLimit(client, trusted_proxies=1)
    rate_limit.install(application)

    @application.websocket("/chat")
    async def chat(websocket: WebSocket, charge: Annotated[Charge, Depends(rate_limit("chat", **options))]) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            decision = await client.consume("org", {**charge.subject, "org": text})
            await websocket.send_json({"allowed": decision.allowed, "wait": decision.retry_after_seconds})

    @application.websocket("/jobs")
    async def jobs(websocket: WebSocket, charge: Annotated[Charge, Depends(rate_limit("jobs", **options))]) -> None:
        assert websocket.state.rate_limit is charge
        await websocket.accept()
        if await websocket.receive_text() == "fail":
            raise RuntimeError("a bug")

    async def accepted(websocket: WebSocket) -> None:
        await websocket.accept()

    @application.websocket("/accepted", dependencies=[Depends(accepted), Depends(rate_limit("chat", cost=5))])
    async def is_accepted(websocket: WebSocket) -> None:
        await websocket.send_text("hello")

    return application


def used(limiter: LimiterService) -> list[int]:
    """How many connections of the visitor are concurrent, and how many count in the minute."""
    with limiter.client() as client:
        return [state.used for state in client.check("jobs", VISITOR).limits]


def wait_until_used(limiter: LimiterService, expected: list[int]) -> None:
    """The test client does not wait until the application has ended."""
    deadline = time.monotonic() + 10
    while (now := used(limiter)) != expected:
        assert time.monotonic() < deadline, now


def test_an_accepted_websocket_has_the_headers(limiter: LimiterService) -> None:
    with TestClient(an_app(limiter), headers=IP) as app, app.websocket_connect("/chat") as websocket:
        headers = {name.decode(): value.decode() for name, value in websocket.extra_headers or ()}
        assert headers["ratelimit"].startswith('"caller/60s";r=4;t=60')


def test_a_websocket_is_denied_with_a_429_before_it_is_accepted(limiter: LimiterService) -> None:
    with TestClient(an_app(limiter), headers=IP) as app:
        for _ in range(5):
            with app.websocket_connect("/chat"):
                pass
        with pytest.raises(WebSocketDenialResponse) as denial, app.websocket_connect("/chat"):
            pass
    response = denial.value
    assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
    assert response.headers["Content-Type"] == "application/problem+json"
    assert response.json()["retry_after_seconds"] == 60


def test_a_server_without_denial_responses_closes_with_1008(limiter: LimiterService) -> None:
    with TestClient(WithoutDenialResponses(an_app(limiter, cost=5)), headers=IP) as app:
        with app.websocket_connect("/chat"):
            pass
        with pytest.raises(WebSocketDisconnect) as disconnect, app.websocket_connect("/chat"):
            pass
    assert (disconnect.value.code, disconnect.value.reason) == (1008, "Too many requests: try again in 60 s.")


def test_a_websocket_that_is_accepted_already_is_closed_with_1008(limiter: LimiterService) -> None:
    with TestClient(an_app(limiter), headers=IP) as app:
        with app.websocket_connect("/accepted") as websocket:
            assert websocket.receive_text() == "hello"
        with app.websocket_connect("/accepted") as websocket, pytest.raises(WebSocketDisconnect) as disconnect:
            websocket.receive_text()
    assert disconnect.value.code == 1008


def test_an_invalid_user_is_refused_before_the_websocket_is_accepted(limiter: LimiterService) -> None:
    with (
        TestClient(an_app(limiter), headers=IP) as app,
        pytest.raises(WebSocketDenialResponse) as denial,
        app.websocket_connect("/chat", headers={"X-User-Id": "u" * 257}),
    ):
        pass
    assert denial.value.status_code == 400


def test_messages_are_limited_by_the_subject_of_the_charge(limiter: LimiterService) -> None:
    with TestClient(an_app(limiter), headers=IP) as app, app.websocket_connect("/chat") as websocket:
        answers = []
        for _ in range(3):
            websocket.send_text("acme")
            answers.append(websocket.receive_json())
        assert answers == [{"allowed": True, "wait": None}] * 2 + [{"allowed": False, "wait": 60}]


def test_an_open_websocket_holds_its_place_until_it_ends(limiter: LimiterService) -> None:
    with TestClient(an_app(limiter, release_after_response=True), headers=IP) as app:
        with app.websocket_connect("/jobs") as first, app.websocket_connect("/jobs") as second:
            with pytest.raises(WebSocketDenialResponse), app.websocket_connect("/jobs"):
                pass
            assert used(limiter) == [2, 2]
            second.send_text("end")
            first.send_text("end")
        wait_until_used(limiter, [0, 2])


@pytest.mark.parametrize(("text", "left"), [("end", [0, 1]), ("fail", [0, 0]), (None, [0, 1])])
def test_a_websocket_is_refunded_when_its_route_fails_and_not_when_the_visitor_hangs_up(
    limiter: LimiterService, text: str | None, left: list[int]
) -> None:
    application = an_app(limiter, refund=lambda status: status >= 500, release_after_response=True)
    # The route does not catch the disconnect either.
    with (
        TestClient(application, headers=IP, raise_server_exceptions=False) as app,
        suppress(RuntimeError, WebSocketDisconnect),
        app.websocket_connect("/jobs") as websocket,
    ):
        if text is not None:
            websocket.send_text(text)
    wait_until_used(limiter, left)


def test_a_denied_handshake_is_no_message_of_the_application(limiter: LimiterService) -> None:
    """What a server gets: one response, and no close after it."""
    sent: list[Message] = []

    class Recording(WithoutDenialResponses):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            async def record(message: Message) -> None:
                sent.append(message)
                await send(message)

            await self._app(scope, receive, record if scope["type"] == "websocket" else send)

    with TestClient(Recording(an_app(limiter, cost=5)), headers=IP) as app:
        with app.websocket_connect("/chat"):
            pass
        sent.clear()
        with pytest.raises(WebSocketDenialResponse), app.websocket_connect("/chat"):
            pass
    assert [message["type"] for message in sent] == ["websocket.http.response.start", "websocket.http.response.body"]
