"""One container of a Python backend: decides with `limits`, in the order and with the wait that slowapi takes from it.

Reads a JSON line for each request, writes one for each answer.
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


def decide(asked: dict[str, Any]) -> dict[str, Any]:
    limiter = limiter_of(asked["storage"], asked["strategy"])
    for layer, key, most, seconds in asked["limits"]:
        item = RateLimitItemPerSecond(most, seconds, namespace=asked["strategy"])
        if not limiter.hit(item, layer, key, cost=asked["cost"]):
            # The limits that come after it are not asked, those before it stay charged.
            return {"allowed": False, "reset": limiter.get_window_stats(item, layer, key).reset_time}
    return {"allowed": True}


for line in sys.stdin:
    request = json.loads(line)
    try:
        answer = decide(request)
    except Exception as error:  # The store that cannot be reached is what is looked at, among others.
        answer = {"error": repr(error)}
    print(json.dumps({"id": request["id"], **answer}), flush=True)
