"""Run one checkpoint as a worker does, in a process that does nothing else.

Prints, in JSON, how many seconds it took, how many MB the process has grown by, and how many tasks are in the queue.
"""

from __future__ import annotations

import json
import os

import django


def main() -> None:
    """Run and report."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    import benchmarks.celery_app  # noqa: F401
    from benchmarks.memory import forget_peak, peak
    from benchmarks.timing import seconds
    from benchmarks.workers import queue_length
    from synchro_tasks.tasks import checkpoint

    checkpoint.push_request(called_directly=False, is_eager=False)
    forget_peak()
    before = peak()
    took = seconds(checkpoint.run)
    print(json.dumps({"seconds": took, "grown": peak() - before, "handed out": queue_length()}))


if __name__ == "__main__":
    main()
