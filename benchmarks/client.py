"""Compare one model as ``manage.py synchronize --full --dry-run`` does, in a process that does nothing else.

Prints the number of differences, and the most MB that the process has had.
"""

from __future__ import annotations

import os
import sys

import django


def main() -> None:
    """Compare and report."""
    label, *ways = sys.argv[1:]
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    from benchmarks.memory import peak
    from synchro.compare import Request, digests, run

    if "by-rows" in ways:
        digests.plan = lambda link, model: None
    (tally,) = run(Request(models=(label,), dry_run=True), restart=True)
    print(tally.differences, peak())


if __name__ == "__main__":
    main()
