"""Whether it makes sense to wait for the limiter, by how it has answered lately."""

from __future__ import annotations

import random
import time

from .exchange import Call, policies_call

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
        #: Calls that failed in a row: what each asked about.
        self._row: list[tuple[str, object]] = []
        self._pause_seconds = _FIRST_PAUSE_SECONDS
        self._asks_at = 0.0
        self._asked_neutrally = False
        self._wanted: Call | None = None
        #: Answers so far. A call that began before the latest one says nothing about an outage.
        self.answers = 0

    @property
    def is_open(self) -> bool:
        return len(self._row) >= _FAILURES

    def wants(self, call: Call) -> None:
        """Keeps in mind what the latest check or consume wanted to know."""
        self._wanted = call

    def next_question(self) -> Call:
        """
        What to ask in the background. Every other question is about no subject: a subject that is never answered, since
        a firewall refuses its name for one, must not keep the breaker open for the others.
        """
        self._asked_neutrally = not self._asked_neutrally
        if self._asked_neutrally or self._wanted is None:
            return policies_call()
        return self._wanted.as_check

    def answered(self, call: Call) -> bool:
        """Somebody answered. True when that closes it."""
        was_open = self.is_open
        self.answers += 1
        self._row.clear()
        # The service may tell its policies and still decide nothing: the pauses go on growing then.
        if call.policy:
            self._pause_seconds = _FIRST_PAUSE_SECONDS
        return was_open

    def failed(self, call: Call, answers_before: int, *, is_about_subject: bool = False) -> bool:
        """
        Nobody answered this check or consume, which began after so many answers. One that failed by an answer
        `is_about_subject`: it counts once for each policy and subject in a row. True when that opens it.
        """
        if answers_before != self.answers or self.is_open:
            return False
        about = (call.policy, call.subject)
        if is_about_subject and about in self._row:
            return False
        self._row.append(about)
        self._asks_at = time.monotonic() + self._pause_seconds
        return self.is_open

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
