"""The limiter as a process, for tests. `exact_limiter.pytest_plugin` makes fixtures of it."""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import signal
import subprocess
import threading
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from types import TracebackType

import httpx

from .limiter import Limiter

#: The start bundles the Worker and starts a runtime, which takes seconds on a busy machine.
_START_SECONDS = 90


class LimiterService:
    """
    A running limiter. Its clock stands still until `advance` or `set_time` moves it. Inline limits are switched on, and
    counters are not kept after its end.
    """

    def __init__(self, process: subprocess.Popen[bytes], url: str, token: str, admin_token: str) -> None:
        self._process = process
        self._http = httpx.Client(base_url=url, timeout=30, trust_env=False)
        self.url = url
        self.token = token
        self.admin_token = admin_token

    @classmethod
    def start(cls, variables: Mapping[str, str] | None = None, *, near: Path | None = None) -> LimiterService:
        """
        Starts the limiter and waits until it serves. The command is EXACT_LIMITER_COMMAND, or that of a checkout of the
        limiter around this package or around `near`. Raises FileNotFoundError, with instructions, without any of them.
        """
        command, directory = _command(near or Path.cwd())
        token, admin_token = secrets.token_urlsafe(24), secrets.token_urlsafe(24)
        # Tests must not depend on the developer's shell.
        inherited = {name: os.environ[name] for name in os.environ if not name.startswith(("LIMITER_", "RATE_LIMIT_"))}
        process = subprocess.Popen(
            command,
            cwd=directory,
            env={
                **inherited,
                "HOST": "127.0.0.1",
                "PORT": "0",
                "RATE_LIMIT_INLINE": "1",
                **(variables or {}),
                "LIMITER_TOKENS": token,
                "LIMITER_ADMIN_TOKENS": admin_token,
            },
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return cls(process, _url_when_it_serves(process), token, admin_token)

    def advance(self, *, seconds: float) -> datetime:
        """Moves the clock forward, to the millisecond. Returns its new time."""
        return self._move({"advance_seconds": seconds})

    def set_time(self, instant: datetime) -> datetime:
        """Sets the clock. A time before the latest decision needs a reset first."""
        if instant.tzinfo is None:
            raise ValueError("the instant needs a time zone")
        utc = instant.astimezone(timezone.utc)
        return self._move({"now": utc.strftime("%Y-%m-%dT%H:%M:%S.") + f"{utc.microsecond // 1000:03}Z"})

    def now(self) -> datetime:
        """The time of the clock."""
        return _instant(_ok(self._http.get("/test/clock")))

    def reset(self) -> None:
        """Forgets all counters, and resets the clock."""
        _ok(self._http.post("/test/reset"))

    def client(self, *, deadline_seconds: float = 30) -> Limiter:
        """A client with a deadline for busy machines. It raises in an outage. Its waits move the clock."""
        return Limiter(self.url, self.token, deadline_seconds=deadline_seconds, on_error="raise", sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        """Moves the clock instead: for `Limiter(..., sleep=limiter.sleep)`, whose `wait_up_to` then takes no time."""
        self.advance(seconds=seconds)

    async def asleep(self, seconds: float) -> None:
        """As `sleep`, for an AsyncLimiter."""
        self.advance(seconds=seconds)

    def stop(self) -> None:
        """Stops the limiter, and waits for its end."""
        self._http.close()
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGTERM)
        self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()

    def __enter__(self) -> LimiterService:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _move(self, to: Mapping[str, object]) -> datetime:
        return _instant(_ok(self._http.post("/test/clock", json=to)))


def _command(near: Path) -> tuple[list[str], Path | None]:
    """The command that starts the limiter, and its directory."""
    command = os.environ.get("EXACT_LIMITER_COMMAND")
    if command:
        return shlex.split(command), None
    for directory in (*Path(__file__).resolve().parents, near.resolve(), *near.resolve().parents):
        if (directory / "src/local/start.ts").is_file() and (directory / "wrangler.toml").is_file():
            if not (directory / "node_modules").is_dir():
                raise FileNotFoundError(f"The limiter in {directory} is not installed: run `npm ci` there.")
            return ["node", "--import", "tsx", "src/local/start.ts", "--test-clock"], directory
    raise FileNotFoundError(
        "No limiter found for the tests. Set EXACT_LIMITER_COMMAND to a command that starts it, such as "
        "`npm --prefix /path/to/its/checkout start -- --test-clock`."
    )


def _url_when_it_serves(process: subprocess.Popen[bytes]) -> str:
    """Reads the output until the limiter serves, and in the background from then on: a full pipe would block it."""
    output: list[str] = []
    found: list[str] = []
    serves_or_ended = threading.Event()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            output.append(line.decode(errors="replace"))
            match = re.search(r"serves on (http://\S+),", output[-1])
            if match:
                found.append(match[1])
                serves_or_ended.set()
        serves_or_ended.set()

    threading.Thread(target=read, daemon=True).start()
    serves_or_ended.wait(_START_SECONDS)
    if not found:
        process.kill()
        raise RuntimeError("The limiter did not start:\n" + "".join(output))
    return found[0]


def _ok(response: httpx.Response) -> httpx.Response:
    if response.is_success:
        return response
    problem = json.loads(response.content)
    raise ValueError("; ".join(error["detail"] for error in problem.get("errors", [])) or problem["detail"])


def _instant(response: httpx.Response) -> datetime:
    return datetime.fromisoformat(response.json()["now"].replace("Z", "+00:00"))
