"""Charges that are given back or released when a response has ended, against the real service."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from typing import Annotated, Any

import anyio
import httpx
import pytest
from applications import IP, press_stop, request_scope
from fastapi import BackgroundTasks, Depends, FastAPI, HTTPException, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from fastapi.testclient import TestClient
from pydantic import BaseModel
from servers import hangs_up, misbehaving
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.types import Message

from exact_limiter import AsyncLimiter
from exact_limiter.fastapi import Charge, RateLimit
from exact_limiter.testing import LimiterService

VISITOR = {"ip": "203.0.113.7"}


class Body(BaseModel):
    text: str


def is_failure(status: int) -> bool:
    return status >= 500


def recorded() -> tuple[list[int], Callable[[int], bool]]:
    """A refund of every charge, and the statuses that it gets."""
    statuses: list[int] = []

    def refund(status: int) -> bool:
        statuses.append(status)
        return True

    return statuses, refund


def an_installed(limiter: LimiterService, **options: Any) -> tuple[FastAPI, RateLimit]:
    application = FastAPI()
    client = AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30, **options)
    rate_limit = RateLimit(client, trusted_proxies=1)
    rate_limit.install(application)
    return application, rate_limit


def client_of(application: FastAPI) -> TestClient:
    return TestClient(application, headers=IP, raise_server_exceptions=False)


def used(limiter: LimiterService) -> list[int]:
    """How many requests of the visitor are concurrent, and how many count in the minute."""
    with limiter.client() as client:
        return [state.used for state in client.check("jobs", VISITOR).limits]


async def used_async(rate_limit: RateLimit) -> list[int]:
    return [state.used for state in (await rate_limit.limiter.check("jobs", VISITOR)).limits]


def add_outcomes(application: FastAPI, dependency: Callable[..., Awaitable[Charge]]) -> None:
    """Routes for each way to end a request."""

    def refuses() -> None:
        raise HTTPException(503)

    async def words() -> AsyncIterator[str]:
        yield "one"
        raise RuntimeError("the model has failed")

    limited = [Depends(dependency)]

    @application.post("/status/{status}", dependencies=limited)
    async def answers(status: int) -> JSONResponse:
        return JSONResponse({}, status)

    @application.post("/http-exception/{status}", dependencies=limited)
    async def raises_http(status: int) -> None:
        raise HTTPException(status)

    @application.post("/raises", dependencies=limited)
    async def raises() -> None:
        raise RuntimeError("a bug")

    @application.post("/body", dependencies=limited)
    async def takes_body(body: Body) -> str:
        return body.text

    @application.post("/dependency", dependencies=[*limited, Depends(refuses)])
    async def has_dependency() -> None: ...

    @application.post("/stream-fails", dependencies=limited)
    async def stream_fails() -> StreamingResponse:
        return StreamingResponse(words())


@pytest.mark.parametrize(
    ("path", "status", "left"),
    [
        ("/status/200", 200, 1),
        ("/status/404", 404, 1),
        ("/status/500", 500, 0),
        ("/http-exception/502", 502, 0),
        ("/http-exception/418", 418, 1),
        ("/raises", 500, 0),
        ("/body", 422, 1),
        ("/dependency", 503, 0),
    ],
)
def test_a_charge_is_given_back_by_the_status(limiter: LimiterService, path: str, status: int, left: int) -> None:
    application, rate_limit = an_installed(limiter)
    add_outcomes(application, rate_limit("jobs", refund=is_failure))
    with client_of(application) as app:
        response = app.post(path)
        assert response.status_code == status
        # The middleware of Starlette that replies to an unexpected exception is around all others.
        assert ("RateLimit" in response.headers) == (path != "/raises")
        assert used(limiter) == [left, left]


def test_a_charge_may_be_given_back_for_a_422_before_the_route(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    add_outcomes(application, rate_limit("jobs", refund=lambda status: status == 422))
    with client_of(application) as app:
        assert app.post("/body", json={}).status_code == 422
        assert used(limiter) == [0, 0]
        assert app.post("/body", json={"text": "a"}).status_code == 200
        assert used(limiter) == [1, 1]


def test_a_stream_that_fails_counts_as_a_500(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    statuses, refund = recorded()
    add_outcomes(application, rate_limit("jobs", refund=refund))
    with client_of(application) as app:
        app.post("/stream-fails")
        assert (statuses, used(limiter)) == ([500], [0, 0])


def test_a_charge_without_a_refund_stays_when_the_route_fails(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    add_outcomes(application, rate_limit("jobs"))
    with client_of(application) as app:
        assert app.post("/raises").status_code == 500
        assert used(limiter) == [1, 1]


def test_a_denied_request_gives_back_what_the_other_limits_charged_and_nothing_else(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    denied = [
        Depends(rate_limit("jobs", refund=lambda status: status == 429)),
        Depends(rate_limit("org", attributes=lambda: {"org": "acme"}, refund=lambda status: status == 429)),
    ]
    application.post("/", dependencies=denied)(lambda: "hello")
    application.post("/jobs", dependencies=denied[:1])(lambda: "hello")
    with client_of(application) as app, limiter.client() as client:
        for _ in range(2):
            assert app.post("/").status_code == 200
            client.release("jobs", VISITOR, id=latest(limiter))
        assert used(limiter) == [0, 2]
        assert app.post("/").status_code == 429
        assert used(limiter) == [0, 2]
        assert client.check("org", {"org": "acme"}).limits[0].used == 2


def latest(limiter: LimiterService) -> str:
    """The id of the visitor's latest decision."""
    with httpx.Client(base_url=limiter.url, headers={"Authorization": f"Bearer {limiter.admin_token}"}) as admin:
        counters = admin.get("/v1/keys/ip:203.0.113.7").json()["counters"]
        return str(next(counter for counter in counters if counter["policy"] == "jobs")["events"][0]["id"])


@pytest.mark.parametrize("path", ["/status/200", "/raises", "/body", "/dependency", "/stream-fails"])
def test_a_charge_is_released_when_the_response_has_ended(limiter: LimiterService, path: str) -> None:
    application, rate_limit = an_installed(limiter)
    add_outcomes(application, rate_limit("jobs", release_after_response=True))
    with client_of(application) as app:
        app.post(path)
        assert used(limiter) == [0, 1]


def test_a_charge_is_released_although_an_override_has_other_limits_meanwhile(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    limited = rate_limit("jobs", release_after_response=True), rate_limit("jobs", refund=lambda status: True)
    for path, dependency in zip(("/released", "/refunded"), limited, strict=True):
        application.post(path, dependencies=[Depends(dependency)])(lambda: "hello")
    override = {"kind": "limits", "reason": "a test", "expires_in_seconds": 10}
    override |= {"limits": [{"policy": "jobs", "layer": "caller", "limits": ["100/minute"]}]}
    with httpx.Client(base_url=limiter.url, headers={"Authorization": f"Bearer {limiter.admin_token}"}) as admin:
        assert admin.put("/v1/keys/ip:203.0.113.7/override", json=override).is_success
    with client_of(application) as app:
        for path in ("/released", "/released", "/refunded"):
            assert app.post(path).status_code == 200
    limiter.advance(seconds=10)
    assert used(limiter) == [0, 2]


def a_streaming(limiter: LimiterService, **options: Any) -> tuple[FastAPI, RateLimit]:
    """An endless stream."""
    application, rate_limit = an_installed(limiter)

    @application.post("/", dependencies=[Depends(rate_limit("jobs", **options))])
    async def route() -> StreamingResponse:
        async def words() -> AsyncIterator[str]:
            while True:
                yield "word "
                await anyio.sleep(0.001)

        return StreamingResponse(words())

    return application, rate_limit


@pytest.mark.parametrize("spec_version", ["2.0", "2.4"])
def test_a_visitor_who_hangs_up_gets_no_refund_and_frees_the_place(limiter: LimiterService, spec_version: str) -> None:
    application, rate_limit = a_streaming(limiter, refund=is_failure, release_after_response=True)

    async def main() -> None:
        async with rate_limit.limiter:
            assert await press_stop(application, spec_version) == 200
            assert await used_async(rate_limit) == [0, 1]

    anyio.run(main)


def test_a_response_that_can_not_be_sent_keeps_its_status(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    statuses, refund = recorded()
    application.post("/", dependencies=[Depends(rate_limit("jobs", refund=refund))])(lambda: "hello")

    def hang_up(_: Message) -> None:
        raise OSError("the client has disconnected")

    async def main() -> None:
        async with rate_limit.limiter:
            with pytest.raises(OSError, match="disconnected"):
                await run(application, hang_up)
            assert statuses == [200]

    asyncio.run(main())


def test_a_request_that_is_cancelled_before_its_response_has_the_status_499(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    statuses, refund = recorded()

    async def main() -> None:
        has_begun = asyncio.Event()

        @application.post("/", dependencies=[Depends(rate_limit("jobs", refund=refund))])
        async def route() -> None:
            has_begun.set()
            await anyio.sleep_forever()

        async with rate_limit.limiter:
            task = asyncio.create_task(run(application, lambda _: None))
            await has_begun.wait()
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert (statuses, await used_async(rate_limit)) == ([499], [0, 0])

    asyncio.run(main())


async def run(application: FastAPI, on_send: Callable[[Message], object]) -> None:
    """Sends a request to the application as a server does, without a test client in between."""
    messages: list[Message] = [{"type": "http.request", "body": b"", "more_body": False}]

    async def receive() -> Message:
        if messages:
            return messages.pop()
        await anyio.sleep_forever()
        raise AssertionError("never ends")

    async def send(message: Message) -> None:
        result = on_send(message)
        if isinstance(result, Awaitable):
            await result

    await application(request_scope("2.3"), receive, send)


def is_last(message: Message) -> bool:
    return message["type"] == "http.response.body" and not message.get("more_body", False)


def test_a_refund_does_not_delay_the_last_byte(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    application.post("/", dependencies=[Depends(rate_limit("jobs", refund=bool))])(lambda: "hello")
    at_last_byte: list[list[int]] = []

    async def look(message: Message) -> None:
        if is_last(message):
            at_last_byte.append(await used_async(rate_limit))

    async def main() -> None:
        async with rate_limit.limiter:
            await run(application, look)
            assert (at_last_byte, await used_async(rate_limit)) == ([[1, 1]], [0, 0])

    asyncio.run(main())


def test_a_refund_finishes_although_the_request_is_cancelled(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    application.post("/", dependencies=[Depends(rate_limit("jobs", refund=bool))])(lambda: "hello")

    def cancel(message: Message) -> None:
        task = asyncio.current_task()
        if is_last(message) and task is not None:
            task.cancel()

    async def main() -> None:
        async with rate_limit.limiter:
            with suppress(asyncio.CancelledError):
                await asyncio.create_task(run(application, cancel))
            assert await used_async(rate_limit) == [0, 0]

    asyncio.run(main())


def test_background_tasks_change_no_outcome_and_do_not_hold_the_place(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    in_background: list[list[int]] = []
    dependency = rate_limit("jobs", refund=is_failure, release_after_response=True)

    @application.post("/", dependencies=[Depends(dependency)])
    async def route(tasks: BackgroundTasks) -> None:
        async def fail() -> None:
            in_background.append(await used_async(rate_limit))
            raise RuntimeError("a bug")

        tasks.add_task(fail)

    with client_of(application) as app:
        assert app.post("/").status_code == 200
        assert (in_background, used(limiter)) == ([[0, 1]], [0, 1])


@pytest.mark.parametrize("is_installed_first", [True, False])
def test_a_middleware_of_the_application_may_be_inside_and_outside(
    limiter: LimiterService, is_installed_first: bool
) -> None:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30), trusted_proxies=1)

    async def pass_on(request: Request, call_next: Callable[[Request], Awaitable[Any]]) -> Any:
        return await call_next(request)

    if is_installed_first:
        rate_limit.install(application)
    application.add_middleware(BaseHTTPMiddleware, dispatch=pass_on)
    if not is_installed_first:
        rate_limit.install(application)
    add_outcomes(application, rate_limit("jobs", refund=is_failure))
    with client_of(application) as app:
        for path in ("/raises", "/stream-fails", "/status/500"):
            app.post(path)
            assert used(limiter) == [0, 0]
        assert app.post("/status/200").status_code == 200
        assert used(limiter) == [1, 1]


def test_a_mounted_application_refunds_by_its_own_status(limiter: LimiterService) -> None:
    inner, rate_limit = an_installed(limiter)
    add_outcomes(inner, rate_limit("jobs", refund=is_failure))
    outer = FastAPI()
    rate_limit.install(outer)
    outer.mount("/inner", inner)
    with client_of(outer) as app:
        assert app.post("/inner/status/500").status_code == 500
        assert used(limiter) == [0, 0]
        assert app.post("/inner/status/200").status_code == 200
        assert used(limiter) == [1, 1]


def test_a_refund_that_raises_is_logged_and_the_charge_stays(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(status: int) -> bool:
        raise RuntimeError("a bug")

    application, rate_limit = an_installed(limiter)
    add_outcomes(application, rate_limit("jobs", refund=broken))
    with client_of(application) as app:
        assert app.post("/status/200").status_code == 200
        assert used(limiter) == [1, 1]
    (record,) = [record for record in caplog.records if record.name == "exact_limiter"]
    assert (record.levelno, "refund=" in record.getMessage()) == (logging.ERROR, True)


async def asynchronous(status: int) -> bool:
    return True


@pytest.mark.parametrize("refund", [asynchronous, 500])
def test_a_refund_is_a_plain_function(limiter: LimiterService, refund: Any) -> None:
    _, rate_limit = an_installed(limiter)
    with pytest.raises(TypeError, match="refund must be a plain function"):
        rate_limit("jobs", refund=refund)


def test_a_failed_refund_does_not_break_the_response(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    @application.post("/", dependencies=[Depends(rate_limit("jobs", refund=bool, release_after_response=True))])
    async def route() -> str:
        limiter.reset()
        return "hello"

    with client_of(application) as app:
        assert app.post("/").json() == "hello"


def test_an_admission_in_an_outage_is_changed_without_an_error() -> None:
    with misbehaving([hangs_up]) as server:
        application = FastAPI()
        client = AsyncLimiter(server.url, "token", deadline_seconds=0.3, on_error="allow")
        rate_limit = RateLimit(client, trusted_proxies=0)
        rate_limit.install(application)
        add_outcomes(application, rate_limit("jobs", refund=is_failure, release_after_response=True))
        with client_of(application) as app:
            assert [app.post(path).status_code for path in ("/status/200", "/status/500", "/raises")] == [200, 500, 500]


def test_async_with_releases_a_charge_however_the_block_ends(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    @application.post("/{fails}")
    async def route(fails: bool, charge: Annotated[Charge, Depends(rate_limit("jobs"))]) -> list[int]:
        async with charge:
            inside = await used_async(rate_limit)
            if fails:
                raise HTTPException(500)
        return inside

    with client_of(application) as app:
        assert app.post("/false").json() == [1, 1]
        assert app.post("/true").status_code == 500
        assert used(limiter) == [0, 2]


def test_a_def_route_settles_and_releases(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    dependency = rate_limit("jobs", cost=5)

    @application.post("/calls")
    def calls(charge: Annotated[Charge, Depends(dependency)]) -> list[Any]:
        settlement, release = charge.settle_from_thread(1), charge.release_from_thread()
        return [settlement and settlement.cost, release and release.limits[0].used]

    @application.post("/block")
    def block(charge: Annotated[Charge, Depends(dependency)]) -> list[int]:
        with charge:
            return used(limiter)

    with client_of(application) as app:
        assert app.post("/calls").json() == [1, 0]
        assert used(limiter) == [0, 1]
        assert app.post("/block").json() == [1, 6]
        assert used(limiter) == [0, 6]


def test_a_charge_does_not_block_the_event_loop(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    @application.post("/")
    async def route(charge: Annotated[Charge, Depends(rate_limit("jobs"))]) -> None:
        with pytest.raises(RuntimeError, match=r"await charge\.settle\(cost\)"):
            charge.settle_from_thread(0)
        with pytest.raises(RuntimeError, match=r"await charge\.release\(\)"):
            charge.release_from_thread()
        with pytest.raises(RuntimeError, match="async with charge"), charge:
            pass

    with client_of(application) as app:
        assert app.post("/").status_code == 200


def test_an_exception_handler_may_give_the_charge_back(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    add_outcomes(application, rate_limit("jobs", release_after_response=True))

    @application.exception_handler(RequestValidationError)
    async def reply(request: Request, error: RequestValidationError) -> JSONResponse:
        await request.state.rate_limit.settle(0)
        return JSONResponse({}, 422)

    with client_of(application) as app:
        assert app.post("/body").status_code == 422
        assert used(limiter) == [0, 0]
