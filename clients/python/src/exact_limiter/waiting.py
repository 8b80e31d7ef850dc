"""Waits for room after a denial: no I/O here."""

from __future__ import annotations

import random
import time

from .decision import Decision

#: Many callers may wait for the same room: this spreads their next tries.
_JITTER_SECONDS = 0.25


class Wait:
    """The time that a consume may wait for room, all its pauses together."""

    def __init__(self, seconds: float) -> None:
        if not isinstance(seconds, (int, float)) or not seconds >= 0:
            raise ValueError("wait_up_to must be a number of seconds, 0 or more")
        self._ends_at = time.monotonic() + seconds
        #: Pauses count in full, also those of a test that moves a clock instead.
        self._unslept_seconds = seconds

    def next_pause_seconds(self, decision: Decision) -> float | None:
        """The pause before the next try. None if a try would not help, or not in time."""
        seconds = _seconds_until_it_fits(decision)
        left_seconds = min(self._unslept_seconds, self._ends_at - time.monotonic())
        if seconds is None or seconds > left_seconds:
            return None
        pause_seconds = min(seconds + random.uniform(0, _JITTER_SECONDS), left_seconds)
        self._unslept_seconds -= pause_seconds
        return pause_seconds


def _seconds_until_it_fits(decision: Decision) -> float | None:
    """None if allowed, if `on_error` decided, and under a ban."""
    seconds = decision.retry_after_seconds
    if seconds is None or decision.degraded or decision.is_banned:
        return None
    full = [state for state in decision.limits if state.remaining == 0 and not state.shadow]
    if decision.cost != 1 or not all(state.used == state.limit and state.frees_in_ms for state in full):
        return seconds
    # Inline limits say in milliseconds when some of them comes back, and any of it is enough for a cost of 1.
    wait_ms = max((state.frees_in_ms or 0 for state in full), default=0)
    return wait_ms / 1000 if (seconds - 1) * 1000 < wait_ms <= seconds * 1000 else seconds
