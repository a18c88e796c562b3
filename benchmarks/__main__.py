"""Run the measurements one after the other."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from pathlib import Path
from typing import Any

import django

#: Each is a module of this package with a function ``measure``.
MEASUREMENTS = (
    *("catch_up", "latency", "burst", "request_save", "pending_queries", "batch_queries"),
    *("by_kind", "compare", "initial_load", "publishing", "delivery_faults", "poison", "checkpoint"),
)
#: Says something only of very many rows, which takes an hour and 40 GB.
BY_NAME = ("compare_size",)
RESULTS = Path(__file__).parent / "results" / "latest.json"


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure how fast synchro is here.")
    parser.add_argument(
        "names", nargs="*", metavar="name", help=f"{', '.join(MEASUREMENTS)}: all of them without; {', '.join(BY_NAME)}"
    )
    parser.add_argument("--rows", type=int, default=20_000, help="rows of the catch-up; the rest is in proportion")
    parser.add_argument("--repeat", type=int, default=3, help="how often to measure; the medians are shown")
    parser.add_argument("--json", type=Path, default=RESULTS, metavar="FILE", help="where all figures go")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.names if name not in MEASUREMENTS + BY_NAME]:
        parser.error(f"there is no measurement {unknown[0]!r}; there are {', '.join(MEASUREMENTS + BY_NAME)}")
    if arguments.rows < 100 or arguments.repeat < 1:
        parser.error("--rows must be at least 100, and --repeat at least 1")
    return arguments


def main() -> int:
    """Measure and report; return 1 if a goal was missed."""
    arguments = parse()
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    # Only now can models be imported; without the Celery app nothing could be dispatched.
    import benchmarks.celery_app  # noqa: F401
    from benchmarks.databases import databases
    from benchmarks.report import write_json
    from benchmarks.sizes import Sizes

    sizes = Sizes(arguments.rows, arguments.repeat)
    results: list[Any] = []
    with databases():
        for name in arguments.names or MEASUREMENTS:
            result = importlib.import_module(f"benchmarks.{name}").measure(sizes)
            print(result.as_markdown(), flush=True)
            results.append(result)
            write_json(arguments.json, results, sizes)
    print(f"All figures: {arguments.json}")
    missed = [goal.what for result in results for goal in result.goals if not goal.is_met]
    if missed:
        print(f"Goals missed: {'; '.join(missed)}")
    return int(bool(missed))


if __name__ == "__main__":
    sys.exit(main())
