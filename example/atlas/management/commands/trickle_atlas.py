import argparse
import statistics
import time
from itertools import count
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from atlas.edits import edit

PATIENCE = 30  # seconds for one edit to arrive
POLL = 0.001  # seconds between two looks at REMOTE


class Command(BaseCommand):
    help = "Makes random edits on LOCAL and measures how long each takes from its commit until REMOTE shows it."

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        parser.add_argument("--edits", type=int, metavar="N", help="stop after N edits and tell the percentiles")
        parser.add_argument("--rate", type=float, default=0.5, metavar="R", help="edits a second (default: 0.5)")

    def handle(self, *, edits: int | None, rate: float, **options: Any) -> None:
        latencies = []
        for _ in count() if edits is None else range(edits):
            time.sleep(1 / rate)
            description, latency = measure()
            latencies.append(latency)
            if edits is None:
                self.stdout.write(f"  {description}: on REMOTE after {latency:.0f} ms")
        self.stdout.write(percentiles(latencies))


def measure() -> tuple[str, float]:
    """Make an edit; return its description and the milliseconds until REMOTE showed it.

    Raises:
        CommandError: it did not arrive in time.
    """
    committed: list[float] = []
    with transaction.atomic():
        # Registered before synchro's own hook: the time that the task takes into the queue counts.
        transaction.on_commit(lambda: committed.append(time.perf_counter()))
        description, arrived = edit()
    while not arrived():
        if time.perf_counter() - committed[0] > PATIENCE:
            raise CommandError(f"{description}: not on REMOTE after {PATIENCE} seconds. Is a Celery worker running?")
        time.sleep(POLL)
    return description, (time.perf_counter() - committed[0]) * 1000


def percentiles(latencies: list[float]) -> str:
    """Say within how many milliseconds a half, 95% and 99% of the edits were visible."""
    cuts = statistics.quantiles(latencies, n=100, method="inclusive")
    return "latency from commit to visible: " + ", ".join(f"p{n} {cuts[n - 1]:.1f} ms" for n in (50, 95, 99))
