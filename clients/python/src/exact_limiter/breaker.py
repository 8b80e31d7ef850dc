"""A circuit breaker: whether it makes sense to send a call, by how the latest calls ended."""

from __future__ import annotations

import random
import time

from .calls import Call, policies_call

#: This many calls in a row without a response open the breaker.
_FAILURES_TO_OPEN = 3
_FIRST_PAUSE_SECONDS = 0.2
_MAX_PAUSE_SECONDS = 5.0


class Breaker:
    """
    Opens after a few calls in a row without a response, and closes with the next response of any kind. Makes no calls:
    while it is open, the clients probe the service in the background, after longer and longer pauses.
    """

    def __init__(self) -> None:
        #: The policy and subject of each call that failed in a row.
        self._failed: list[tuple[str, object]] = []
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._next_try_at = 0.0
        self._is_probe_neutral = False
        self._latest: Call | None = None
        #: Responses so far. A failed call that began before the latest response is no sign of an outage.
        self.responses = 0

    @property
    def is_open(self) -> bool:
        return len(self._failed) >= _FAILURES_TO_OPEN

    def remember(self, call: Call) -> None:
        """Remembers the latest check or consume, for the probes."""
        self._latest = call

    def next_probe(self) -> Call:
        """
        The next call to send in the background. Every other probe has no subject: a subject that never gets a response,
        for example because a firewall refuses its name, must not keep the breaker open for the others.
        """
        self._is_probe_neutral = not self._is_probe_neutral
        if self._is_probe_neutral or self._latest is None:
            return policies_call()
        return self._latest.as_check

    def record_response(self, call: Call) -> bool:
        """True if this response closes the breaker."""
        was_open = self.is_open
        self.responses += 1
        self._failed.clear()
        # The service may list its policies and still decide nothing: the pauses keep growing then.
        if call.policy:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        return was_open

    def record_failure(self, call: Call, responses_before: int, *, is_about_subject: bool = False) -> bool:
        """
        Counts a check or a consume without a response, sent after `responses_before` responses. True if this failure
        opens the breaker. A failure that `is_about_subject` counts once in a row for each policy and subject.
        """
        if responses_before != self.responses or self.is_open:
            return False
        about = (call.policy, call.subject)
        if is_about_subject and about in self._failed:
            return False
        self._failed.append(about)
        self._next_try_at = time.monotonic() + self._pause_seconds
        return self.is_open

    def next_pause_seconds(self) -> float:
        """The pause before the next probe, with jitter: many clients may be waiting."""
        seconds = self._pause_seconds * random.uniform(0.5, 1)
        self._pause_seconds = min(self._pause_seconds * 2, _MAX_PAUSE_SECONDS)
        return seconds

    def may_try(self) -> bool:
        """Without background probes, one caller per pause may probe by its own call."""
        now = time.monotonic()
        if now < self._next_try_at:
            return False
        self._next_try_at = now + self.next_pause_seconds()
        return True
