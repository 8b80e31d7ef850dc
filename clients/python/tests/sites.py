"""A Django site. Django has one configuration for each process."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import django
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from django.urls import path


def _message(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


urlpatterns = [path("chat/message", _message)]


@contextmanager
def django_settings(**changed: Any) -> Generator[None, None, None]:
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], MIDDLEWARE=[])
        django.setup()
    with override_settings(**changed):
        yield
