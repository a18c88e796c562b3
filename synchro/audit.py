"""Who did what: Django's admin log."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.contenttypes.models import ContentType

from synchro.models import ChangeLog

#: Of more entries than this the log gets one row, without an object.
MOST = 1000


def record(user: Any, sentence: str, entries: Sequence[ChangeLog] = ()) -> None:
    """Write to the admin log what a user did: a row for each entry that it was done to, or else one row."""
    if 0 < len(entries) <= MOST:
        LogEntry.objects.log_actions(user.pk, entries, CHANGE, sentence)
        return
    LogEntry.objects.create(
        user_id=user.pk,
        content_type=ContentType.objects.get_for_model(ChangeLog),
        object_repr=str(ChangeLog._meta.verbose_name_plural),
        action_flag=CHANGE,
        change_message=sentence,
    )
