"""Whether it makes sense to wait for the limiter, by how it has answered lately."""

from __future__ import annotations

import random
import time

from .exchange import Call

#: So many calls in a row that nobody answered, and the next are not sent.
_FAILURES = 3
_FIRST_PAUSE_SECONDS = 0.2
_LONGEST_PAUSE_SECONDS = 5.0


class Breaker:
    """
    Opens when nobody has answered a few calls in a row, and closes with the next answer of any kind. Knows no clock but
    `time.monotonic` and makes no calls: the clients ask in the background while it is open, each pause longer.
    """

    def __init__(self) -> None:
        self._failures = 0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._asks_at = 0.0
        #: What to ask in the background.
        self.question: Call | None = None

    @property
    def is_open(self) -> bool:
        return self._failures >= _FAILURES

    def answered(self) -> bool:
        """Somebody answered. True when that closes it."""
        was_open = self.is_open
        self._failures = 0
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        return was_open

    def failed(self, call: Call) -> bool:
        """Nobody answered this check or consume. True when that opens it."""
        was_open = self.is_open
        self._failures += 1
        self.question = call.as_check
        self._asks_at = time.monotonic() + self._pause_seconds
        return self.is_open and not was_open

    def next_pause_seconds(self) -> float:
        """How long to wait before the limiter is asked again: shorter by chance, as many clients may be waiting."""
        seconds = self._pause_seconds * random.uniform(0.5, 1)
        self._pause_seconds = min(self._pause_seconds * 2, _LONGEST_PAUSE_SECONDS)
        return seconds

    def may_try(self) -> bool:
        """Of those who ask where nothing is asked in the background, one in each pause may find out by its own call."""
        now = time.monotonic()
        if now < self._asks_at:
            return False
        self._asks_at = now + self.next_pause_seconds()
        return True
