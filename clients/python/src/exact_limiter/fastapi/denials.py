"""The exception of a request that does not pass, and the reply to it."""

from __future__ import annotations

from collections.abc import Mapping

from fastapi import HTTPException, Request, WebSocket
from fastapi.responses import JSONResponse
from starlette.websockets import WebSocketState

from ..decision import Decision
from ..visitors import Reply

#: RFC 6455: the message, or here the request, violates a policy.
_POLICY_VIOLATION = 1008

#: The longest reason that a close frame can carry.
_MAX_REASON_BYTES = 123


class RateLimited(HTTPException):
    """
    The request does not pass: 429 denied, 503 in an outage (`on_error="deny"`), 400 for an invalid user or address,
    413 for a cost by a function that no limit could ever admit, 403 for any other request that the limiter refuses,
    which is the application's mistake. An exception handler of the application may reply in another way.
    """

    def __init__(
        self,
        status_code: int,
        body: Mapping[str, object],
        headers: Mapping[str, str],
        decision: Decision | None = None,
    ) -> None:
        super().__init__(status_code, detail=body.get("detail"), headers=dict(headers))
        #: For the visitor.
        self.body = body
        #: For the application, with keys and all limits. None for 400, 403 and 413.
        self.decision = decision


def rate_limited(reply: Reply, decision: Decision | None = None) -> RateLimited:
    return RateLimited(reply.status, reply.body, reply.headers, decision)


async def reply_to(connection: Request | WebSocket, error: Exception) -> JSONResponse | None:
    assert isinstance(error, RateLimited)
    response = JSONResponse(error.body, error.status_code, headers=error.headers, media_type="application/problem+json")
    if not isinstance(connection, WebSocket):
        return response
    is_connecting = connection.application_state is WebSocketState.CONNECTING
    if is_connecting and "websocket.http.response" in (connection.scope.get("extensions") or {}):
        await connection.send_denial_response(response)
    else:
        # Before the handshake, the server turns this into a 403.
        reason = str(error.detail).encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
        await connection.close(_POLICY_VIOLATION, reason)
    return None
