"""Compare one model as ``manage.py synchronize --full --dry-run`` does, in a process that does nothing else.

Prints the keys of the rows that differ, and the most MB that the process has had.
"""

from __future__ import annotations

import json
import os
import sys

import django


def main() -> None:
    """Compare and report."""
    way, label = sys.argv[1:]
    os.environ["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    django.setup()
    from django.apps import apps

    from benchmarks import compare
    from benchmarks.memory import peak

    keys = getattr(compare, way)(apps.get_model(label))()
    print(json.dumps([sorted(keys), peak()]))


if __name__ == "__main__":
    main()
