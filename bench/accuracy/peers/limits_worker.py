"""One container of a Python backend: decides with `limits` as slowapi uses it, with the same order and wait.

Reads one JSON line for each request and writes one for each answer.
"""

import json
import os
import sys
from typing import Any

from limits import RateLimitItemPerSecond
from limits.storage import storage_from_string
from limits.strategies import STRATEGIES, RateLimiter

REDIS = os.environ.get("REDIS_PORT")
limiters: dict[str, RateLimiter] = {}


def limiter_of(storage: str, strategy: str) -> RateLimiter:
    name = f"{storage} {strategy}"
    if name not in limiters:
        uri = "memory://" if storage == "memory" else f"redis://127.0.0.1:{REDIS}"
        limiters[name] = STRATEGIES[strategy](storage_from_string(uri))
    return limiters[name]


def decide(request: dict[str, Any]) -> dict[str, Any]:
    limiter = limiter_of(request["storage"], request["strategy"])
    for layer, key, most, seconds, cost in request["limits"]:
        item = RateLimitItemPerSecond(most, seconds, namespace=request["strategy"])
        if not limiter.hit(item, layer, key, cost=cost):
            # Later limits are not asked, and earlier ones stay charged.
            return {"allowed": False, "reset": limiter.get_window_stats(item, layer, key).reset_time}
    return {"allowed": True}


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = decide(request)
    except Exception as error:  # Such as a store that is unreachable.
        answer = {"error": repr(error)}
    print(json.dumps({"id": request["id"], **answer}), flush=True)
