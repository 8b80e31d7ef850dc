"""Messages of a session: requests in, responses out. No I/O here."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx

from .calls import Call
from .responses import Response

#: The service's limits for one message.
MAX_REQUESTS = 100
_MAX_BYTES = 64 * 1024

_OPENING = b'{"id":%d,"headers":true,"requests":['
_CLOSING = b"]}"
#: An id has at most 16 digits.
MAX_REQUEST_BYTES = _MAX_BYTES - len(_OPENING) - 16 - len(_CLOSING)

_OPS = {f"/v1/{op}": b'{"op":"%b",' % op.encode() for op in ("check", "consume", "settle", "release")}

#: Statuses that the service gives to single requests, and never to a message.
_SINGLE_REQUEST_STATUSES = (404, 429)


def request_of(call: Call, attempt: int) -> bytes | None:
    """The call as a request of a message; None if a session does not take it."""
    op = _OPS.get(call.path)
    if op is None or call.idempotency_key is None:
        return op and op + call.body[1:]
    # A key needs no escapes: it has only characters that a header may have.
    key = call.idempotency_key.encode()
    if call.has_new_key:
        return b'%b"idempotency_key":"%b","attempt":%d,%b' % (op, key, attempt, call.body[1:])
    return b'%b"idempotency_key":"%b",%b' % (op, key, call.body[1:])


def message_of(id: int, requests: Sequence[bytes]) -> bytes:
    return _OPENING % id + b",".join(requests) + _CLOSING


def read_answer(text: bytes) -> tuple[int, dict[str, Any]]:
    """The id of a message and its answer. Raises ValueError if the text is no answer."""
    try:
        answer = json.loads(text)
        id = answer["id"]
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not an answer") from error
    if type(id) is not int:
        raise ValueError("an answer without an id")
    return id, answer


def outcomes_of(answer: dict[str, Any], count: int) -> Sequence[Response | Exception]:
    """The outcomes of `count` requests: all the same if the service refused the message as a whole."""
    results = answer.get("results")
    if isinstance(results, list) and len(results) == count:
        return [_outcome_of(result) for result in results]
    problem = answer.get("error")
    if isinstance(problem, dict):
        status = problem.get("status")
        if isinstance(status, int) and status not in _SINGLE_REQUEST_STATUSES:
            return [Response(status, {}, problem)] * count
    return [_malformed()] * count


def _outcome_of(result: Any) -> Response | Exception:
    try:
        status, headers, body = result["status"], result["headers"], result["body"]
    except (KeyError, TypeError):
        return _malformed()
    if type(status) is int and isinstance(headers, dict) and isinstance(body, dict):
        return Response(status, headers, body)
    return _malformed()


def _malformed() -> Exception:
    return httpx.RemoteProtocolError("the answer in a session does not have its results")
