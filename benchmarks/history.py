"""A log that has been in use for long."""

from __future__ import annotations

from django.contrib.contenttypes.models import ContentType

from benchmarks.databases import LOCAL, execute
from benchmarks.models import Row
from synchro.models import ChangeLog

#: How often each object was changed in the past.
_CHANGES_EACH = 10


def add_synced_entries(count: int) -> None:
    """Log so many changes of rows, one a second until now, that have long arrived."""
    execute(
        LOCAL,
        """
        INSERT INTO synchro_changelog (content_type_id, object_id, action, date, state, attempts, synced_at, reason)
        SELECT %s, 1 + n %% %s, %s, moment, %s, 0, moment, ''
        FROM generate_series(1, %s) AS n, LATERAL (SELECT now() - (%s - n) * interval '1 second' AS moment) AS then_
        """,
        ContentType.objects.get_for_model(Row).pk,
        max(count // _CHANGES_EACH, 1),
        ChangeLog.Action.CHANGE,
        ChangeLog.State.SYNCED,
        count,
        count,
    )
