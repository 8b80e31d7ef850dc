"""The middleware around applications of real frameworks, under a real server: lifespans and WebSockets."""

from __future__ import annotations

import json
import logging
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import litestar
import pytest
import quart
import uvicorn
from anyio.from_thread import BlockingPortal
from applications import IP
from django.core.handlers.asgi import ASGIHandler
from documents import example_of
from fastapi import FastAPI
from fastapi.testclient import TestClient
from servers import hangs, misbehaving
from sites import django_settings
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.websockets import WebSocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from exact_limiter import AsyncLimiter
from exact_limiter.asgi import RateLimitMiddleware
from exact_limiter.testing import LimiterService


def client_of(service: LimiterService, **options: Any) -> AsyncLimiter:
    return AsyncLimiter(service.url, service.token, deadline_seconds=30, **options)


def starlette_app() -> Any:
    return Starlette(routes=[Route("/chat/message", lambda _: PlainTextResponse("hello"))])


def fastapi_app() -> Any:
    app = FastAPI()
    app.get("/chat/message")(lambda: "hello")
    return app


def litestar_app() -> Any:
    @litestar.get("/chat/message")
    async def message() -> str:
        return "hello"

    return litestar.Litestar([message])


def quart_app() -> Any:
    app = quart.Quart("app")

    @app.route("/chat/message")
    async def message() -> str:
        return "hello"

    return app


def django_app() -> Any:
    with django_settings():
        return ASGIHandler()


@pytest.mark.parametrize("make", [starlette_app, fastapi_app, litestar_app, quart_app, django_app])
def test_limits_an_application_of_any_framework(limiter: LimiterService, make: Callable[[], Any]) -> None:
    app = RateLimitMiddleware(make(), client_of(limiter), "chat", trusted_proxies=1, exempt=["/chat/message"])
    with TestClient(app, headers=IP) as client:
        for left in (4, 3, 2, 1, 0):
            unknown = client.get("/unknown")
            assert unknown.status_code == 404
            assert unknown.headers["RateLimit"].startswith(f'"caller/60s";r={left};t=60')
        denied = client.get("/unknown")
        assert (denied.status_code, denied.headers["Retry-After"]) == (429, "60")
        response = client.get("/chat/message")
        assert (response.status_code, "hello" in response.text) == (200, True)
        limiter.advance(seconds=60)
        assert client.get("/unknown").status_code == 404


def test_the_import_needs_no_framework() -> None:
    code = (
        "import sys; sys.modules.update(fastapi=None, starlette=None, limits=None); "
        "import exact_limiter.asgi; print(exact_limiter.asgi.RateLimitMiddleware.__name__)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.split() == [
        b"RateLimitMiddleware"
    ]


def test_the_example_of_the_documents_limits_an_application(limiter: LimiterService) -> None:
    filled_in = {'"https://limiter.example", TOKEN': f'"{limiter.url}", "{limiter.token}"'}
    app = example_of("docs/migrate-from-slowapi.md", "add_middleware(", filled_in).app
    with TestClient(app, headers=IP) as client:
        assert [client.get("/unknown").status_code for _ in range(6)] == [404] * 5 + [429]
        assert client.get("/healthz").status_code == 404
        assert client.get("/static/app.js").status_code == 404


class Recorded(AsyncLimiter):
    """Counts how often it was closed."""

    closed = 0

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


async def live(app: Any) -> list[str]:
    """Starts and ends an application as a server does. Returns what it answered."""
    asked = ["lifespan.startup", "lifespan.shutdown"]
    answers: list[str] = []

    async def receive() -> Any:
        return {"type": asked.pop(0)}

    async def send(message: Any) -> None:
        answers.append(message["type"])

    await app({"type": "lifespan", "asgi": {"version": "3.0"}}, receive, send)
    assert asked == []
    return answers


async def raises_at_once(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("no lifespan")


async def raises_later(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    raise ValueError("no lifespan")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    return None


NO_LIFESPAN = [django_app, lambda: raises_at_once, lambda: raises_later, lambda: returns]


@pytest.mark.parametrize("make", [starlette_app, *NO_LIFESPAN])
def test_closes_the_connections_at_the_end_also_of_applications_without_a_lifespan(
    limiter: LimiterService, portal: BlockingPortal, make: Callable[[], Any]
) -> None:
    client = Recorded(limiter.url, limiter.token, deadline_seconds=30)
    app = RateLimitMiddleware(make(), client, "chat", trusted_proxies=0)
    assert portal.call(live, app) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert client.closed == 1


def test_closes_the_connections_when_the_application_fails_to_end(
    limiter: LimiterService, portal: BlockingPortal
) -> None:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        yield
        raise LookupError("no database")

    client = Recorded(limiter.url, limiter.token, deadline_seconds=30)
    app = RateLimitMiddleware(Starlette(lifespan=lifespan), client, "chat", trusted_proxies=0)
    with pytest.raises(LookupError, match="no database"):
        portal.call(live, app)
    assert client.closed == 1


def test_a_failed_start_of_the_application_is_its_own(limiter: LimiterService) -> None:
    @asynccontextmanager
    async def lifespan(_: object) -> AsyncIterator[None]:
        raise LookupError("no database")
        yield

    app = RateLimitMiddleware(Starlette(lifespan=lifespan), client_of(limiter), "chat", trusted_proxies=0)
    with pytest.raises(LookupError, match="no database"), TestClient(app):
        pass


@pytest.mark.parametrize(("policy", "token", "message"), [("chat", "wrong", "token"), ("nope", None, "nope")])
def test_logs_a_wrong_configuration_when_the_application_starts(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, policy: str, token: str | None, message: str
) -> None:
    client = AsyncLimiter(limiter.url, token or limiter.token, deadline_seconds=30)
    app = RateLimitMiddleware(starlette_app(), client, policy, trusted_proxies=1, exempt=["/chat/message"])

    def logged() -> list[logging.LogRecord]:
        return [record for record in caplog.records if record.name == "exact_limiter"]

    with TestClient(app, headers=IP) as test_client:
        ends_at = time.monotonic() + 60
        while not logged():
            assert time.monotonic() < ends_at
            assert test_client.get("/chat/message").status_code == 200
        assert test_client.get("/").status_code == 503
    (record,) = logged()
    assert (record.levelno, message in record.getMessage()) == (logging.ERROR, True)


def test_an_application_starts_and_ends_while_the_limiter_hangs() -> None:
    with misbehaving([hangs]) as server:
        client = AsyncLimiter(server.url, "token", deadline_seconds=600)
        app = RateLimitMiddleware(starlette_app(), client, "chat", trusted_proxies=0, exempt=["/chat/message"])
        with TestClient(app) as test_client:
            assert test_client.get("/chat/message").status_code == 200


@contextmanager
def serving(app: Any) -> Generator[int, None, None]:
    """Serves the application with uvicorn. Yields the port."""
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


async def echo(scope: Any, receive: Any, send: Any) -> None:
    assert scope["type"] == "websocket"
    connection = WebSocket(scope, receive, send)
    await connection.accept()
    await connection.send_text(await connection.receive_text())
    await connection.close()


def test_denies_a_web_socket_with_an_http_response(limiter: LimiterService) -> None:
    with serving(RateLimitMiddleware(echo, client_of(limiter), "chat", trusted_proxies=0)) as port:
        for left in (4, 3, 2, 1, 0):
            with connect(f"ws://127.0.0.1:{port}/") as connection:
                connection.send("hello")
                assert connection.recv() == "hello"
                assert connection.response is not None
                assert connection.response.headers["RateLimit"].startswith(f'"caller/60s";r={left};t=60')
        with pytest.raises(InvalidStatus) as raised, connect(f"ws://127.0.0.1:{port}/"):
            pass
        response = raised.value.response
        assert (response.status_code, response.headers["Retry-After"]) == (429, "60")
        assert response.headers["Content-Type"] == "application/problem+json"
        assert json.loads(response.body or b"")["retry_after_seconds"] == 60
        limiter.advance(seconds=60)
        with connect(f"ws://127.0.0.1:{port}/") as connection:
            connection.send("hello")
            assert connection.recv() == "hello"


def test_denies_a_web_socket_by_a_close_where_the_server_has_no_response_for_it(limiter: LimiterService) -> None:
    middleware = RateLimitMiddleware(echo, client_of(limiter), "chat", trusted_proxies=0)

    async def without_extensions(scope: Any, receive: Any, send: Any) -> None:
        await middleware({name: scope[name] for name in scope if name != "extensions"}, receive, send)

    with serving(without_extensions) as port:
        for _ in range(5):
            with connect(f"ws://127.0.0.1:{port}/") as connection:
                connection.send("hello")
                assert connection.recv() == "hello"
        with pytest.raises(InvalidStatus) as raised, connect(f"ws://127.0.0.1:{port}/"):
            pass
        assert raised.value.response.status_code == 403


@pytest.mark.parametrize(
    ("event", "sent"), [("connect", [{"type": "websocket.close", "code": 1008}]), ("disconnect", [])]
)
def test_a_denied_web_socket_is_closed_with_1008_unless_it_has_gone(
    limiter: LimiterService, portal: BlockingPortal, event: str, sent: list[Any]
) -> None:
    async def denied() -> list[Any]:
        messages: list[Any] = []

        async def receive() -> Any:
            return {"type": f"websocket.{event}"}

        async def send(message: Any) -> None:
            messages.append(message)

        client = client_of(limiter)
        await client.consume("chat", {"ip": "203.0.113.7"}, cost=5)
        app = RateLimitMiddleware(echo, client, "chat", trusted_proxies=0)
        await app({"type": "websocket", "path": "/", "headers": [], "client": ("203.0.113.7", 1)}, receive, send)
        await client.aclose()
        return messages

    assert portal.call(denied) == sent


def test_denies_an_upload_before_it_is_sent(limiter: LimiterService) -> None:
    with serving(RateLimitMiddleware(fastapi_app(), client_of(limiter), "chat", trusted_proxies=0)) as port:
        head = b"POST /chat/message HTTP/1.1\r\nHost: test\r\nContent-Length: 1000000000\r\n\r\n"
        statuses = []
        for _ in range(6):
            with socket.create_connection(("127.0.0.1", port)) as connection:
                connection.sendall(head)
                statuses.append(connection.recv(65_536).split()[1])
    assert statuses == [b"405"] * 5 + [b"429"]
