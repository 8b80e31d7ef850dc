"""The 429 of limited routes in the OpenAPI document of the application."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI, routing
from fastapi.dependencies.models import Dependant

from .dependency import Dependency

#: The name of the response among the document's components.
_NAME = "RateLimited"

_HEADERS = {
    "Retry-After": {"description": "The wait in seconds. Missing for a ban.", "schema": {"type": "integer"}},
    "RateLimit": {"description": "What is left in each limit.", "schema": {"type": "string"}},
    "RateLimit-Policy": {"description": "The limits.", "schema": {"type": "string"}},
}

_PUBLIC_BODY = {
    "type": "object",
    "title": "RateLimited",
    "required": ["type", "title", "status", "detail", "retry_after_seconds"],
    "properties": {
        "type": {"type": "string", "format": "uri-reference"},
        "title": {"type": "string"},
        "status": {"type": "integer", "const": 429},
        "detail": {"type": "string"},
        "violated-policies": {
            "type": "array",
            "items": {"type": "string"},
            "description": "The limits that deny, by their names in the headers.",
        },
        "retry_after_seconds": {
            "anyOf": [{"type": "integer", "minimum": 1}, {"type": "null"}],
            "description": "The wait until the request would pass, if nobody else asks. null for a ban.",
        },
    },
}


def describe_denials(app: FastAPI, limit: object, *, has_public_body: bool) -> None:
    """Adds a 429 to the limited routes in `app.openapi()`, in the way that FastAPI documents for extensions."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        for route in _routes(app):
            dependant = getattr(route, "dependant", None)
            if dependant is None or not _is_limited(dependant, limit):
                continue
            for method in getattr(route, "methods", None) or ():
                operation = document.get("paths", {}).get(route.path_format, {}).get(method.lower())
                if operation is not None:
                    reference = {"$ref": f"#/components/responses/{_NAME}"}
                    operation.setdefault("responses", {}).setdefault("429", reference)
                    responses = document.setdefault("components", {}).setdefault("responses", {})
                    responses.setdefault(_NAME, _response(has_public_body=has_public_body))
        return document

    vars(app)["openapi"] = openapi


def _routes(app: FastAPI) -> Iterable[Any]:
    """All routes. Newer releases of FastAPI keep those of included routers apart."""
    contexts = getattr(routing, "iter_route_contexts", None)
    return app.routes if contexts is None else contexts(app.routes)


def _is_limited(dependant: Dependant, limit: object) -> bool:
    call = dependant.call
    is_own = isinstance(call, Dependency) and call.rate_limit is limit
    return is_own or any(_is_limited(inner, limit) for inner in dependant.dependencies)


def _response(*, has_public_body: bool) -> dict[str, Any]:
    return {
        "description": "Too many requests: a limit denies this one.",
        "headers": _HEADERS,
        "content": {"application/problem+json": {"schema": _PUBLIC_BODY if has_public_body else {"type": "object"}}},
    }
