"""`drive.py SETTINGS` is a Python backend that does nothing but ask. Prints a `Result` (settings.ts)."""

import asyncio
import json
import os
import sys
import threading
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

SETTINGS: dict[str, Any] = json.loads(sys.argv[1])
PER_MINUTE, PER_HOUR, ADDRESS_PER_MINUTE = SETTINGS["limits"]
USERS = 1_000
#: Without a common factor with the number of users: spreads neighbours over the users, and uses all of them.
STRIDE = 37
WAIT_SECONDS = 10


def address_of(user: int) -> str:
    return f"10.0.{user >> 8}.{user & 255}"


def keys_of(user: int) -> list[str]:
    return [f"caller:user:u_{user}", f"ip:ip:{address_of(user)}"]


def arguments_of_script() -> list[object]:
    caller = [1, PER_MINUTE, 60_000, 1, PER_HOUR, 3_600_000]
    return [1, str(uuid.uuid4()), 3, *caller, 2, ADDRESS_PER_MINUTE, 60_000]


def hits_by_user() -> Callable[[int], list[tuple[Any, str]]]:
    """The limits in the words of `limits`, each with the key it counts by."""
    from limits import parse

    minute, hour = parse(f"{PER_MINUTE}/minute"), parse(f"{PER_HOUR}/hour")
    address_minute = parse(f"{ADDRESS_PER_MINUTE}/minute")

    def hits_of(user: int) -> list[tuple[Any, str]]:
        caller, address = keys_of(user)
        return [(minute, caller), (hour, caller), (address_minute, address)]

    return hits_of


def ask_limiter_async() -> Callable[[int], Awaitable[None]]:
    from exact_limiter import AsyncLimiter

    limiter = AsyncLimiter(
        SETTINGS["url"], SETTINGS["token"], deadline_seconds=WAIT_SECONDS, on_error="raise", transport="session"
    )

    async def ask(user: int) -> None:
        assert (await limiter.consume("chat", {"user": f"u_{user}", "ip": address_of(user)})).allowed

    return ask


def ask_limiter() -> Callable[[int], None]:
    from exact_limiter import Limiter

    limiter = Limiter(SETTINGS["url"], SETTINGS["token"], deadline_seconds=WAIT_SECONDS, on_error="raise")

    def ask(user: int) -> None:
        assert limiter.consume("chat", {"user": f"u_{user}", "ip": address_of(user)}).allowed

    return ask


def ask_limits_async() -> Callable[[int], Awaitable[None]]:
    from limits.aio.storage import RedisStorage
    from limits.aio.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(f"async+redis://127.0.0.1:{SETTINGS['redisPort']}"))
    hits_of = hits_by_user()

    async def ask(user: int) -> None:
        for limit, key in hits_of(user):
            assert await limiter.hit(limit, key)

    return ask


def ask_limits() -> Callable[[int], None]:
    from limits.storage import RedisStorage
    from limits.strategies import MovingWindowRateLimiter

    limiter = MovingWindowRateLimiter(RedisStorage(f"redis://127.0.0.1:{SETTINGS['redisPort']}"))
    hits_of = hits_by_user()

    def ask(user: int) -> None:
        for limit, key in hits_of(user):
            assert limiter.hit(limit, key)

    return ask


def ask_script_async() -> Callable[[int], Awaitable[None]]:
    from redis.asyncio import Redis

    script = Redis(port=SETTINGS["redisPort"]).register_script(SETTINGS["script"])

    async def ask(user: int) -> None:
        await script(keys=keys_of(user), args=arguments_of_script())

    return ask


def ask_script() -> Callable[[int], None]:
    from redis import Redis

    script = Redis(port=SETTINGS["redisPort"]).register_script(SETTINGS["script"])

    def ask(user: int) -> None:
        script(keys=keys_of(user), args=arguments_of_script())

    return ask


class Turns:
    """Users in turn, until the time is over, and the latency of each decision."""

    def __init__(self, seconds: float) -> None:
        self.ends_at = time.perf_counter() + seconds
        self.asked = 0
        self.latencies: list[float] = []

    def next(self) -> int:
        self.asked += 1
        return self.asked * STRIDE % USERS


async def keep_in_flight_async(ask: Callable[[int], Awaitable[None]], seconds: float) -> list[float]:
    turns = Turns(seconds)

    async def loop() -> None:
        while (start := time.perf_counter()) < turns.ends_at:
            await ask(turns.next())
            turns.latencies.append(time.perf_counter() - start)

    await asyncio.gather(*(loop() for _ in range(SETTINGS["inFlight"])))
    return turns.latencies


def keep_in_flight(ask: Callable[[int], None], seconds: float) -> list[float]:
    turns = Turns(seconds)

    def loop() -> None:
        while (start := time.perf_counter()) < turns.ends_at:
            ask(turns.next())
            turns.latencies.append(time.perf_counter() - start)

    threads = [threading.Thread(target=loop) for _ in range(SETTINGS["inFlight"])]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return turns.latencies


class Meter:
    """Measures from its start on: time, and processor time of this process and of the server's."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.client = time.process_time()
        self.server = self.server_seconds()

    @staticmethod
    def server_seconds() -> float:
        fields = Path(f"/proc/{SETTINGS['serverPid']}/stat").read_text().split(") ")[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def result(self, latencies: list[float]) -> dict[str, float]:
        took, client = time.perf_counter() - self.started, time.process_time() - self.client
        server = self.server_seconds() - self.server
        latencies.sort()
        count = len(latencies)
        return {
            "perSecond": count / took,
            "p50Ms": latencies[count // 2] * 1e3,
            "p99Ms": latencies[count * 99 // 100] * 1e3,
            "clientMicros": client / count * 1e6,
            "serverMicros": server / count * 1e6,
        }


async def drive_async(side: Callable[[], Callable[[int], Awaitable[None]]]) -> dict[str, float]:
    ask = side()
    await keep_in_flight_async(ask, SETTINGS["warmUpSeconds"])
    meter = Meter()
    return meter.result(await keep_in_flight_async(ask, SETTINGS["seconds"]))


def drive(side: Callable[[], Callable[[int], None]]) -> dict[str, float]:
    ask = side()
    keep_in_flight(ask, SETTINGS["warmUpSeconds"])
    meter = Meter()
    return meter.result(keep_in_flight(ask, SETTINGS["seconds"]))


ASYNC_SIDES = {"AsyncLimiter": ask_limiter_async, "limits, async": ask_limits_async, "script, async": ask_script_async}
SIDES = {"Limiter": ask_limiter, "limits": ask_limits, "script": ask_script}

name = SETTINGS["side"]
result = asyncio.run(drive_async(ASYNC_SIDES[name])) if name in ASYNC_SIDES else drive(SIDES[name])
print(json.dumps(result), flush=True)
# Without the work that a backend has when it ends.
os._exit(0)
