"""The options of a limited route that are functions, and equal dependencies, against the real service."""

import logging
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import pytest
from applications import IP
from fastapi import APIRouter, Depends, FastAPI, Header, Request
from fastapi.testclient import TestClient
from pydantic import BaseModel
from servers import hangs_up, misbehaving

from exact_limiter import AsyncLimiter, Cost
from exact_limiter.fastapi import Charge, RateLimit
from exact_limiter.testing import LimiterService


class Message(BaseModel):
    text: str


def cost_of(message: Message) -> int:
    return len(message.text)


async def cost_of_header(x_cost: Annotated[int, Header()]) -> int:
    return x_cost


def an_installed(limiter: LimiterService, **options: Any) -> tuple[FastAPI, RateLimit]:
    application = FastAPI()
    rate_limit = RateLimit(AsyncLimiter(limiter.url, limiter.token, deadline_seconds=30), trusted_proxies=1, **options)
    rate_limit.install(application)
    return application, rate_limit


def charged(application: FastAPI, dependency: Callable[..., Awaitable[Charge]]) -> TestClient:
    """A route that returns who was charged, by which policy and how much."""

    @application.post("/")
    async def route(charge: Annotated[Charge, Depends(dependency)]) -> list[Any]:
        return [charge.decision.policy, charge.decision.cost, charge.subject]

    return TestClient(application, headers=IP)


def test_the_cost_may_be_the_length_of_the_prompt(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    @application.post("/")
    async def route(message: Message, charge: Annotated[Charge, Depends(rate_limit("chat", cost=cost_of))]) -> Cost:
        return charge.decision.cost

    with TestClient(application, headers=IP) as app:
        assert app.post("/", json={"text": "four"}).json() == 4
        assert app.post("/", json={"text": "two"}).status_code == 429
        assert app.post("/", json={"txt": "four"}).status_code == 422
        assert app.post("/", json={"text": "1"}).json() == 1


def test_a_cost_may_come_from_an_asynchronous_dependency(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    with charged(application, rate_limit("chat", cost=cost_of_header)) as app:
        assert app.post("/", headers={"X-Cost": "3"}).json()[1] == 3
        assert app.post("/", headers={"X-Cost": "many"}).status_code == 422


def test_a_function_of_the_request_alone_needs_no_annotation(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    async def signed_in(request: Request) -> str | None:
        return request.headers.get("X-Account")

    dependency = rate_limit(
        lambda request: request.headers.get("X-Plan", "chat"),
        cost=lambda request: int(request.headers["X-Cost"]),
        user=lambda request: signed_in(request),
        address=lambda request: request.headers.get("CF-Connecting-IP"),
        attributes=lambda request: {"org": request.headers.get("X-Org")},
    )
    with charged(application, dependency) as app:
        headers = {"X-Cost": "2", "X-Account": "ann", "CF-Connecting-IP": "198.51.100.9", "X-Org": "acme"}
        subject = {"user": "ann", "ip": "198.51.100.9", "org": "acme"}
        assert app.post("/", headers={**headers, "X-Plan": "trial"}).json() == ["trial", 2, subject]
        assert app.post("/", headers={"X-Cost": "1"}).json() == ["chat", 1, {"user": None, "ip": "203.0.113.7"}]
    assert "parameters" not in application.openapi()["paths"]["/"]["post"]


def test_the_policy_may_be_the_plan_of_the_customer(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    def plan(x_plan: Annotated[str, Header()]) -> str:
        return x_plan

    with charged(application, rate_limit(plan, attributes=lambda: {"org": "acme"})) as app:
        assert [app.post("/", headers={"X-Plan": "org"}).status_code for _ in range(3)] == [200, 200, 429]
        assert app.post("/", headers={"X-Plan": "chat"}).json()[0] == "chat"


@pytest.mark.parametrize(
    ("sent", "address"),
    [
        ("198.51.100.9", "198.51.100.9"),
        ("198.51.100.9:4711", "198.51.100.9"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("", "203.0.113.7"),
        (None, "203.0.113.7"),
    ],
)
def test_the_address_may_come_from_a_header_of_the_host(
    limiter: LimiterService, sent: str | None, address: str
) -> None:
    application, rate_limit = an_installed(limiter)

    def address_of(cf_connecting_ip: Annotated[str | None, Header()] = None) -> str | None:
        return cf_connecting_ip

    with charged(application, rate_limit("chat", address=address_of)) as app:
        headers = {} if sent is None else {"CF-Connecting-IP": sent}
        assert app.post("/", headers=headers).json()[2]["ip"] == address


def test_an_address_that_is_none_is_a_bad_request(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    with charged(application, rate_limit("chat", address=lambda request: request.headers["X-Address"])) as app:
        for address in ("somewhere", "1" * 9_000):
            response = app.post("/", headers={"X-Address": address})
            assert (response.status_code, "/subject/ip" in response.json()["detail"]) == (400, True)


def test_a_user_or_an_ip_among_the_attributes_is_used(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    def attributes(x_ip: Annotated[str | None, Header()] = None) -> dict[str, str | None]:
        return {"user": "ann", "ip": x_ip}

    with charged(application, rate_limit("chat", attributes=attributes, address=lambda: "198.51.100.1")) as app:
        headers = {"X-User-Id": "forged", "X-Ip": "198.51.100.9"}
        assert app.post("/", headers=headers).json()[2] == {"user": "ann", "ip": "198.51.100.9"}
        assert app.post("/").json()[2] == {"user": "ann", "ip": "198.51.100.1"}


def no_cost() -> Any:
    return 0


def half() -> Any:
    return 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"cost": no_cost}, r"no_cost .*\"chat\".* must be at least 1, not 0"),
        ({"cost": half}, r"half .* must be an int.*, not float"),
        ({"cost": lambda: {"caller": -1}}, r"lambda.* must be at least 0, not -1"),
    ],
)
def test_an_error_names_the_function_that_returned_no_cost(
    limiter: LimiterService, options: dict[str, Any], message: str
) -> None:
    application, rate_limit = an_installed(limiter)
    with (
        charged(application, rate_limit("chat", **options)) as app,
        pytest.raises((TypeError, ValueError), match=message),
    ):
        app.post("/")


def test_an_error_names_the_function_that_returned_no_policy(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    with (
        charged(application, rate_limit(no_cost)) as app,
        pytest.raises(TypeError, match=r"no_cost returns to rate_limit\(no_cost\) must be a str, not int"),
    ):
        app.post("/")


def test_without_a_user_everybody_counts_by_their_address(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    with charged(application, rate_limit("chat", user=None)) as app:
        assert app.post("/", headers={"X-User-Id": "u_1"}).json() == ["chat", 1, {"user": None, "ip": "203.0.113.7"}]


@pytest.mark.parametrize("option", ["user", "address", "attributes"])
def test_an_option_that_is_no_function_is_refused_when_it_is_declared(limiter: LimiterService, option: str) -> None:
    _, rate_limit = an_installed(limiter)
    options: dict[str, Any] = {option: "u_1"}
    no_name: Any = 5
    with pytest.raises(TypeError, match=f"^{option} must be a function that returns the {option}, not str"):
        rate_limit("chat", **options)
    with pytest.raises(TypeError, match=r"^policy must be a name or a function that returns one, not int"):
        rate_limit(no_name)


@pytest.mark.parametrize("cost", [0, -1, True, 1.5, {"caller": -1}])
def test_a_constant_cost_is_checked_when_it_is_declared(limiter: LimiterService, cost: Any) -> None:
    _, rate_limit = an_installed(limiter)
    with pytest.raises((TypeError, ValueError), match=r"^cost .*must be (at least|an int)"):
        rate_limit("chat", cost=cost)


@pytest.mark.parametrize("cost", [6, 2_000_000_000_000])
def test_a_request_that_costs_more_than_any_limit_admits_is_too_large(
    limiter: LimiterService, caplog: pytest.LogCaptureFixture, cost: int
) -> None:
    application, rate_limit = an_installed(limiter)
    with charged(application, rate_limit("chat", cost=cost_of_header)) as app:
        response = app.post("/", headers={"X-Cost": str(cost)})
        assert (response.status_code, response.headers.get("Retry-After")) == (413, None)
        assert response.json()["title"] == "Content Too Large"
    # The visitor chose the size: it is not the application's mistake.
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("layer", "cost", "status"), [("tokens", 100_001, 413), ("tokens", 2_000_000_000_000, 413), ("words", 1, 403)]
)
def test_a_request_that_costs_too_much_in_a_layer_is_too_large_and_an_unknown_layer_is_a_mistake(
    limiter: LimiterService, layer: str, cost: int, status: int
) -> None:
    application, rate_limit = an_installed(limiter)
    limited = rate_limit("llm", cost=lambda request: {layer: int(request.headers["X-Cost"])})
    with charged(application, limited) as app:
        assert app.post("/", headers={"X-Cost": str(cost)}).status_code == status


def test_equal_dependencies_are_equal(limiter: LimiterService) -> None:
    _, rate_limit = an_installed(limiter)
    _, other = an_installed(limiter)
    assert rate_limit("chat") == rate_limit("chat")
    assert hash(rate_limit("chat")) == hash(rate_limit("chat"))
    assert rate_limit("chat", cost={"caller": 2, "ip": 1}) == rate_limit("chat", cost={"ip": 1, "caller": 2})
    different = [
        other("chat"),
        rate_limit("org"),
        rate_limit("chat", cost=2),
        rate_limit("chat", cost=cost_of),
        rate_limit("chat", cost={"caller": 2}),
        rate_limit("chat", user=no_cost),
        rate_limit("chat", address=no_cost),
        rate_limit("chat", attributes=no_cost),
        rate_limit("chat", refund=bool),
        rate_limit("chat", release_after_response=True),
    ]
    assert rate_limit("chat") not in different
    assert len(set(different)) == len(different)


def test_a_request_is_charged_once_by_equal_dependencies(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    router = APIRouter(dependencies=[Depends(rate_limit("chat"))])

    @router.post("/")
    async def route(charge: Annotated[Charge, Depends(rate_limit("chat"))]) -> int:
        return charge.decision.limits[0].used

    application.include_router(router)
    with TestClient(application, headers=IP) as app:
        assert [app.post("/").json() for _ in range(2)] == [1, 2]


def test_an_equal_dependency_overrides_the_one_of_a_route(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    application.post("/", dependencies=[Depends(rate_limit("chat", cost=5))])(lambda: "hello")
    with TestClient(application, headers=IP) as app:
        application.dependency_overrides[rate_limit("chat", cost=5)] = lambda: None
        assert [app.post("/").status_code for _ in range(3)] == [200] * 3
        application.dependency_overrides.clear()
        assert [app.post("/").status_code for _ in range(2)] == [200, 429]


def test_a_dependency_of_an_option_can_be_overridden(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    with charged(application, rate_limit("chat", cost=cost_of_header)) as app:
        application.dependency_overrides[cost_of_header] = lambda: 4
        assert app.post("/").json()[1] == 4


def test_a_disabled_limit_admits_all_requests_and_asks_no_limiter(caplog: pytest.LogCaptureFixture) -> None:
    with misbehaving([hangs_up]) as server:
        application = FastAPI()
        rate_limit = RateLimit(AsyncLimiter(server.url, "token"), trusted_proxies=0, enabled=False)
        rate_limit.install(application)

        @application.post("/")
        async def route(
            charge: Annotated[Charge, Depends(rate_limit("chat", cost=3, refund=bool, release_after_response=True))],
        ) -> list[Any]:
            return [charge.decision.allowed, charge.decision.cost, await charge.settle(1), await charge.release()]

        with TestClient(application) as app:
            for _ in range(7):
                response = app.post("/")
                assert (response.json(), response.headers.get("RateLimit")) == ([True, 3, None, None], None)
        assert server.connections == 0
    assert [record for record in caplog.records if record.name == "exact_limiter"] == []


def test_limits_may_be_switched_while_the_application_runs(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    with charged(application, rate_limit("chat", cost=5)) as app:
        assert app.post("/").status_code == 200
        rate_limit.enabled = False
        assert app.post("/").status_code == 200
        rate_limit.enabled = True
        assert app.post("/").status_code == 429


def test_options_may_have_the_names_of_parameters_of_the_path(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    def user_of(user: str) -> str:
        return user

    def cost_of_path(cost: int) -> int:
        return cost

    @application.post("/{policy}/{user}/{cost}/{connection}")
    async def route(
        policy: str, charge: Annotated[Charge, Depends(rate_limit("chat", user=user_of, cost=cost_of_path))]
    ) -> list[Any]:
        return [policy, charge.subject["user"], charge.decision.cost]

    with TestClient(application, headers=IP) as app:
        assert app.post("/any/ann/2/none").json() == ["any", "ann", 2]


def test_the_charge_is_in_the_state_of_the_request(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)

    @application.post("/", dependencies=[Depends(rate_limit("chat", cost=5))])
    async def route(request: Request) -> Cost:
        charge: Charge = request.state.rate_limit
        await charge.settle(1)
        return charge.decision.cost

    with TestClient(application, headers=IP) as app:
        assert app.post("/").json() == 5
        assert app.post("/").status_code == 429
        limiter.reset()
        assert app.post("/").status_code == 200


def test_the_openapi_document_describes_the_429_of_limited_routes(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter)
    router = APIRouter(prefix="/deep", dependencies=[Depends(rate_limit("chat"))])

    def indirect(charge: Annotated[Charge, Depends(rate_limit("org"))]) -> Charge:
        return charge

    router.post("/router/{id}")(lambda id: id)
    application.include_router(router, prefix="/api")
    application.get("/nested", dependencies=[Depends(indirect)])(lambda: "")
    application.get("/free")(lambda: "")
    limited = [Depends(rate_limit("chat"))]
    application.get("/own", dependencies=limited, responses={429: {"description": "My own."}})(lambda: "")
    for _ in range(2):
        document = TestClient(application).get("/openapi.json").json()
        paths = document["paths"]
        reference = {"$ref": "#/components/responses/RateLimited"}
        assert paths["/api/deep/router/{id}"]["post"]["responses"]["429"] == reference
        assert paths["/nested"]["get"]["responses"]["429"] == reference
        assert "429" not in paths["/free"]["get"]["responses"]
        assert paths["/own"]["get"]["responses"]["429"]["description"] == "My own."
        response = document["components"]["responses"]["RateLimited"]
        assert "Retry-After" in response["headers"]
        schema = response["content"]["application/problem+json"]["schema"]
        assert schema["required"] == ["type", "title", "status", "detail", "retry_after_seconds"]


def test_the_openapi_document_promises_no_body_that_the_application_changes(limiter: LimiterService) -> None:
    application, rate_limit = an_installed(limiter, public_body=lambda decision: decision.body)
    application.get("/", dependencies=[Depends(rate_limit("chat"))])(lambda: "")
    response = application.openapi()["components"]["responses"]["RateLimited"]
    assert response["content"]["application/problem+json"]["schema"] == {"type": "object"}


def test_an_application_without_limited_routes_keeps_its_openapi_document(limiter: LimiterService) -> None:
    application, _ = an_installed(limiter)
    assert application.openapi().get("components") is None
