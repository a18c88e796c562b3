"""``manage.py synchro_retry``: list what has not arrived although it was tried, and have it tried again."""

from __future__ import annotations

from typing import Any

from synchro import inspection
from synchro.management.selection import SelectionCommand
from synchro.models import ChangeLogQuerySet


class Command(SelectionCommand):
    """Has the chosen changes tried again."""

    help = (
        "Have changes that failed, or that wait for their next attempt, tried again now, with a fresh count of "
        "attempts. Without arguments they are listed."
    )

    def act(self, chosen: ChangeLogQuerySet, **options: Any) -> str:
        """Retry them and tell how many they are."""
        return inspection.retried(inspection.retry(chosen))
