"""Both sides of the replication, as two lines at the terminal."""

import time
from collections import deque

from django.apps import apps
from django.core.management.base import CommandError, OutputWrapper
from django.db import DEFAULT_DB_ALIAS

from synchro.models import ChangeLog

LOCAL, REMOTE = DEFAULT_DB_ALIAS, "remote"
PATIENCE = 60  # seconds without any arrival before we give up


class Progress:
    """Counts the objects of the atlas on both sides."""

    def __init__(self, out: OutputWrapper) -> None:
        self.out = out
        self.started = self.moved = time.monotonic()
        self.shown = 0.0
        self.before = self.saved = count(LOCAL)
        self.arrived = count(REMOTE)
        self.history: deque[tuple[float, int]] = deque()  # when LOCAL had how many objects

    def show(self, *, always: bool = False) -> None:
        """Write both lines: over the last ones on a terminal, every second in a log file."""
        self.update()
        terminal = self.out.isatty()
        if not (always or terminal or time.monotonic() - self.shown >= 1):
            return
        up = "\x1b[2A" if terminal and self.shown else ""
        self.out.write(
            f"{up}  LOCAL   saved   {self.saved:>8,}\n"
            f"  REMOTE  arrived {self.arrived:>8,}   lag {self.saved - self.arrived:>6,} objects, {self.lag():4.1f} s"
        )
        self.shown = time.monotonic()

    def update(self) -> None:
        """Count again."""
        now, arrived = time.monotonic(), count(REMOTE)
        self.saved = count(LOCAL)
        self.history.append((now, self.saved))
        if arrived != self.arrived:
            self.arrived, self.moved = arrived, now

    def lag(self) -> float:
        """Return how many seconds ago LOCAL was where REMOTE is now."""
        while self.history and self.history[0][1] <= self.arrived:
            self.history.popleft()
        return time.monotonic() - self.history[0][0] if self.history else 0.0

    def wait(self) -> None:
        """Show the lines until everything has arrived.

        Raises:
            CommandError: nothing arrived for a minute, or changes failed.
        """
        while ChangeLog.objects.pending().exists():
            if time.monotonic() - self.moved > PATIENCE:
                raise CommandError(f"Nothing arrived on REMOTE for {PATIENCE} seconds. Is a Celery worker running?")
            time.sleep(0.1)
            self.show()
        self.show(always=True)
        if failed := ChangeLog.objects.failed().count():
            raise CommandError(f"{failed:,} changes failed. The admin's list of attempts tells why.")

    def summary(self) -> str:
        """Say how much was saved, and how fast."""
        self.update()
        seconds = time.monotonic() - self.started
        objects = self.saved - self.before
        return f"{objects:,} objects in {seconds:.1f} s: {objects / seconds:,.0f} objects/s"


def count(using: str) -> int:
    """Return the number of objects of the atlas in a database."""
    return sum(model._base_manager.using(using).count() for model in apps.get_app_config("atlas").get_models())
