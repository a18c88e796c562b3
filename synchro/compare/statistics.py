"""What PostgreSQL must know of the references while a load makes them: by itself it counts them a minute later.

A planner that knows nothing of the table may look for some keys in the index of the other side's, and read all of it.
"""

from __future__ import annotations

from django.db import connections

from synchro.engine.link import Link
from synchro.models import Reference

#: After so many new references, and then whenever there are ten times as many.
_FIRST = 1000
_NEVER_COUNTED = "SELECT reltuples < 0 OR relpages = 0 FROM pg_class WHERE oid = %s::regclass"


class Statistics:
    """Has the references counted when a comparison begins to need it."""

    def __init__(self, link: Link) -> None:
        self._aliases = [each for each in (link.local, link.remote) if connections[each].vendor == "postgresql"]
        if not link.has_mirrors:
            self._aliases = [each for each in self._aliases if each != link.remote]
        self._made = 0
        self._next = _FIRST
        for using in self._aliases:
            with connections[using].cursor() as cursor:
                cursor.execute(_NEVER_COUNTED, [Reference._meta.db_table])
                is_needed = cursor.fetchone()[0]
            if is_needed:
                _analyze(using)

    def note(self, count: int) -> None:
        """Note that so many references have been made."""
        self._made += count
        if self._made >= self._next:
            self._next = self._made * 10
            for using in self._aliases:
                _analyze(using)


def _analyze(using: str) -> None:
    with connections[using].cursor() as cursor:
        cursor.execute(f"ANALYZE (SKIP_LOCKED) {Reference._meta.db_table}")
