"""Newest wins: what REMOTE's own log says about objects that LOCAL is about to overwrite."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.db.models import Max

from synchro.engine.link import Link
from synchro.keys import pk_to_text
from synchro.models import ChangeLog
from synchro.registry import ModelClass


def lost(
    link: Link, model: ModelClass, dates: Mapping[str, datetime], remote_pks: Mapping[str, Any]
) -> dict[str, datetime]:
    """Return the objects that were changed on REMOTE after LOCAL's newest change, with the moment of REMOTE's change.

    What the engine writes is not logged where it is written, so REMOTE's log holds only REMOTE's own changes.

    Args:
        dates: the date of LOCAL's newest entry, by object id.
        remote_pks: the counterparts, by object id.
    """
    if not (link.has_mirrors and dates):
        return {}
    texts = {pk_to_text(model, remote_pks[each]): each for each in dates}
    changes = ChangeLog.objects.using(link.remote).of_objects(model, texts).filter(date__gt=min(dates.values()))
    newest = changes.order_by().values_list("object_id").annotate(Max("date"))
    return {texts[text]: date for text, date in newest if date > dates[texts[text]]}
