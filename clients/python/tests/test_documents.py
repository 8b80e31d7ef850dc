"""The examples of the documents, against the real service and the real frameworks."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpResponse
from django.test import RequestFactory
from django.utils.decorators import decorator_from_middleware
from documents import example_of
from servers import hangs_up, misbehaving
from sites import django_settings

from exact_limiter.testing import LimiterService

MIGRATION = "docs/migrate-from-slowapi.md"


def uri_of(service: LimiterService) -> str:
    return service.url.replace("http://", f"limiter+http://{service.token}@")


def flask_example(uri: str) -> Callable[[], Any]:
    app = example_of(MIGRATION, "from flask_limiter", {"limiter+https://TOKEN@limiter.example": uri}).app
    return lambda: app.test_client().post("/chat/message")


def django_example(uri: str) -> Callable[[], Any]:
    """A new site with the middleware of the example."""
    example = example_of(MIGRATION, "from django", {"limiter+https://TOKEN@limiter.example": uri})
    with patch.dict(sys.modules, example=example), django_settings(MIDDLEWARE=["example.RateLimit"]):
        handler = WSGIHandler()
    return lambda: handler.get_response(RequestFactory().post("/chat/message"))


@pytest.mark.parametrize("example", [flask_example, django_example])
def test_an_example_over_limits_shares_five_in_a_minute_between_containers(
    limiter: LimiterService, example: Callable[[str], Callable[[], Any]]
) -> None:
    posts = [example(uri_of(limiter)) for _ in range(2)]
    assert [posts[i % 2]().status_code for i in range(6)] == [200] * 5 + [429]
    limiter.advance(seconds=59.999)
    assert posts[0]().status_code == 429
    limiter.advance(seconds=0.001)
    assert posts[1]().status_code == 200


def test_the_flask_example_says_when_to_try_again(limiter: LimiterService) -> None:
    post = flask_example(uri_of(limiter))
    # flask-limiter measures the wait by the clock of this machine.
    assert [post() for _ in range(6)][5].headers["Retry-After"] in ("59", "60")


def test_the_django_example_denies_in_an_outage() -> None:
    with misbehaving([hangs_up]) as server:
        post = django_example(server.url.replace("http://", "limiter+http://token@"))
        assert post().status_code == 429


def test_the_django_middleware_makes_a_decorator_for_single_views(limiter: LimiterService) -> None:
    uri = {"limiter+https://TOKEN@limiter.example": uri_of(limiter)}
    view = decorator_from_middleware(example_of(MIGRATION, "from django", uri).RateLimit)(lambda _: HttpResponse("hi"))
    with django_settings():
        assert [view(RequestFactory().post("/")).status_code for _ in range(6)] == [200] * 5 + [429]
