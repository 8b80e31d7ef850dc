"""What docs/fastapi.md shows, run as it is shown, against the real service."""

import re
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from exact_limiter.testing import LimiterService

DOCUMENT = (Path(__file__).parents[3] / "docs/fastapi.md").read_text()


@pytest.fixture
def shown(limiter: LimiterService) -> dict[str, Any]:
    """The names that the snippets define, run in order."""
    names: dict[str, Any] = {"TOKEN": limiter.token, "__name__": "shown"}
    for snippet in re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL):
        # The last one replaces the limits of all others.
        if "enabled=False" not in snippet:
            exec(snippet.replace("http://127.0.0.1:8787", limiter.url), names)
    return names


@pytest.fixture
def app(shown: dict[str, Any]) -> Generator[TestClient, None, None]:
    with TestClient(shown["app"]) as client:
        yield client


def used(limiter: LimiterService, policy: str) -> int:
    with limiter.client() as client:
        return client.check(policy, {"ip": "127.0.0.1"}).limits[0].used


def test_every_snippet_after_the_first_has_at_most_ten_lines() -> None:
    snippets = re.findall(r"```python\n(.*?)```", DOCUMENT, re.DOTALL)
    assert len(snippets) > 5
    assert [snippet for snippet in snippets[1:] if len(snippet.strip().splitlines()) > 10] == []


def test_costs_policies_and_addresses_come_from_the_request(app: TestClient, limiter: LimiterService) -> None:
    assert app.post("/llm", json={"text": "x" * 40}).status_code == 200
    assert used(limiter, "llm") == 10
    assert app.post("/llm", json={"text": "x" * 500_000}).status_code == 413

    def search(address: str, plan: str = "free") -> int:
        response = app.get("/search", headers={"CF-Connecting-IP": address, "X-Plan": plan})
        return int(response.status_code)

    assert [search("198.51.100.1") for _ in range(11)] == [200] * 10 + [429]
    assert [search("198.51.100.2"), search("198.51.100.1", "pro")] == [200, 200]


def test_charges_are_given_back_and_settled(app: TestClient, limiter: LimiterService) -> None:
    assert app.post("/llm/refunded", json={}).status_code == 422
    assert used(limiter, "llm") == 0
    assert app.post("/llm/settled", json={"text": "four"}).json() == "FOUR"
    assert app.post("/llm/blocking", json={"text": "four"}).status_code == 200
    assert used(limiter, "llm") == 8


def test_exports_are_concurrent_only_while_they_run(app: TestClient, limiter: LimiterService) -> None:
    for path in ("/export", "/export/part"):
        assert [app.get(path).status_code for _ in range(4)] == [200] * 4
        assert used(limiter, "exports") == 0


def test_connections_and_messages_are_limited(app: TestClient) -> None:
    with app.websocket_connect("/talk") as websocket:
        answers = []
        for _ in range(11):
            websocket.send_text("hi")
            answers.append(websocket.receive_json())
        assert answers == [{"echo": "hi"}] * 10 + [{"wait": 60}]
    for _ in range(4):
        with app.websocket_connect("/talk"):
            pass
    with pytest.raises(WebSocketDenialResponse) as denial, app.websocket_connect("/talk"):
        pass
    assert denial.value.status_code == 429


def test_one_limit_may_be_overridden(app: TestClient, shown: dict[str, Any]) -> None:
    shown["app"].dependency_overrides[shown["rate_limit"]("chat")] = lambda: None
    assert [app.post("/chat/message").status_code for _ in range(7)] == [200] * 7
