"""Logging differences as ordinary entries. The engine does the rest, as with any change."""

from __future__ import annotations

from collections.abc import Sequence

from django.contrib.contenttypes.models import ContentType
from django.utils import timezone

from synchro.compare.confirm import Confirmed
from synchro.compare.surplus import Surplus, unused_ids
from synchro.engine.acknowledge import write_references
from synchro.engine.link import Link
from synchro.models import ChangeLog, ChangeRow
from synchro.registry import ModelClass

Action = ChangeLog.Action


def log_objects(link: Link, model: ModelClass, confirmed: Confirmed) -> list[str]:
    """Log what is to be written, and return the objects."""
    compared = confirmed.compared
    actions = [
        *((each, Action.ADD) for each in compared.missing),
        *((each, Action.CHANGE) for each in compared.rows),
        *((each, Action.M2M) for each in compared.members),
    ]
    type_id = _type_id(link, model)
    entries = [ChangeRow(type_id, each, int(action), confirmed.dates[each]) for each, action in actions]
    _append(link, entries)
    return list(dict.fromkeys(each for each, _ in actions))


def log_deletes(link: Link, model: ModelClass, surplus: Sequence[Surplus]) -> list[str]:
    """Log that objects are gone, and return them. Rows that never were LOCAL's become the copies of nothing first."""
    strangers = unused_ids(link, model, [each.key for each in surplus if not each.owner])
    write_references(link, model, {object_id: key for key, object_id in strangers.items()})
    gone = {object_id: each.date for each in surplus if (object_id := each.owner or strangers.get(each.key))}
    type_id = _type_id(link, model)
    _append(link, [ChangeRow(type_id, each, int(Action.DELETE), date) for each, date in gone.items()])
    return list(gone)


def log_living(link: Link, model: ModelClass, object_ids: Sequence[str]) -> None:
    """Log objects as added whose keys live again although their deletion has been logged last."""
    type_id = _type_id(link, model)
    _append(link, [ChangeRow(type_id, each, int(Action.ADD), timezone.now()) for each in object_ids])


def _append(link: Link, entries: Sequence[ChangeRow]) -> None:
    if entries:
        ChangeLog.objects.using(link.local).append(entries)


def _type_id(link: Link, model: ModelClass) -> int:
    return ContentType.objects.db_manager(link.local).get_for_model(model).pk
