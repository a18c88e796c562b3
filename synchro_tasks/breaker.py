"""When to leave something alone that has just failed."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock


class Breaker:
    """Keeps callers away from what fails, and lets one of them through now and then to see whether it is back.

    The pause between two tries is ``shortest`` seconds, or fifty times as long as the last failure took where that is
    more: what fails slowly costs its callers two per cent of their time at most. Any number of threads may use it.
    """

    _COST = 50

    def __init__(
        self, *, shortest: float = 5.0, longest: float = 300.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._shortest = shortest
        self._longest = longest
        self._clock = clock
        self._lock = Lock()
        self._pause = shortest
        self._next_try: float | None = None

    @property
    def is_open(self) -> bool:
        """Whether the last try failed."""
        return self._next_try is not None

    def allows(self) -> bool:
        """Tell whether to try now. Who is let through after a failure is the only one until the next pause is over."""
        if self._next_try is None:
            return True
        with self._lock:
            now = self._clock()
            if self._next_try is not None:
                if now < self._next_try:
                    return False
                self._next_try = now + self._pause
            return True

    def failed(self, seconds: float) -> bool:
        """Note a failure that took so long; return True if it is the first one after a success."""
        with self._lock:
            was_open = self.is_open
            self._pause = min(max(self._shortest, seconds * self._COST), self._longest)
            self._next_try = self._clock() + self._pause
        return not was_open

    def succeeded(self) -> bool:
        """Note a success; return True if it is the first one after a failure."""
        if self._next_try is None:
            return False
        with self._lock:
            was_open = self.is_open
            self._next_try = None
        return was_open
