"""FastAPI with slowapi on Redis by its documentation, with its exact strategy: moving-window."""

import json
import os
from typing import Annotated, Any

from fastapi import Depends, FastAPI, HTTPException, Request
from slowapi import Limiter, _rate_limit_exceeded_handler
from slowapi.errors import RateLimitExceeded

LIMITS: dict[str, tuple[int, int, int]] = json.loads(os.environ["LIMITS"])

app = FastAPI()
limiter = Limiter(
    lambda request: "nobody",
    storage_uri=f"redis://127.0.0.1:{os.environ['REDIS_PORT']}",
    strategy="moving-window",
)
app.state.limiter = limiter
app.add_exception_handler(RateLimitExceeded, _rate_limit_exceeded_handler)


def caller_of(request: Request) -> str:
    return str(request.state.caller)


def address_of(request: Request) -> str:
    return str(request.state.address)


def per_caller(key: str) -> str:
    per_minute, per_hour, _ = LIMITS[key.partition("|")[0]]
    return f"{per_minute}/minute;{per_hour}/hour"


def per_address(key: str) -> str:
    return f"{LIMITS[key.partition('|')[0]][2]}/minute"


async def subject(request: Request, body: dict[str, Any]) -> dict[str, Any]:
    if request.headers.get("authorization") != f"Bearer {os.environ['TOKEN']}":
        raise HTTPException(401)
    ip = body["subject"]["ip"]
    user = body["subject"].get("user")
    caller = f"ip:{ip}" if user is None else f"user:{user}"
    request.state.caller = f"{body['policy']}|{caller}"
    request.state.address = f"{body['policy']}|ip:{ip}"
    return body


@app.post("/v1/consume")
@limiter.limit(per_caller, key_func=caller_of)
@limiter.limit(per_address, key_func=address_of)
async def consume(request: Request, body: Annotated[dict[str, Any], Depends(subject)]) -> dict[str, Any]:
    return {"allowed": True, "policy": body["policy"], "cost": 1}
