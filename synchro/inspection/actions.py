"""What operators do with changes that have not arrived."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterator

from django.contrib.contenttypes.models import ContentType
from django.db import transaction

from synchro.capture import announce
from synchro.conf import conf
from synchro.lookups import among
from synchro.models import ChangeLog, ChangeLogQuerySet
from synchro.registry import ModelClass, is_watched, model_label
from synchro.rows import batched

logger = logging.getLogger(__name__)

#: How many entries are made due, and announced, at once.
_BATCH = 1000

#: Reasons in one statement.
_REASONS = 100
#: After the label of a model comes the id of an object; what an awaited object waits for itself is another matter.
_PARTICULARS = re.compile(r"^(Waits for \w+\.\w+) .*|(REMOTE's \w+\.\w+) .*?(?= has the same )|\d+", re.DOTALL)

#: An entry's id, its model's content type and its object.
Named = tuple[int, int, str]


def choose(
    *,
    ids: Collection[int] = (),
    objects: Collection[tuple[ModelClass, str]] = (),
    models: Collection[ModelClass] = (),
    everything: bool = False,
) -> ChangeLogQuerySet:
    """Return entries to retry or to discard: any that have not arrived, by id and by object; by model, and where
    everything is meant, those that were tried.
    """
    log = ChangeLog.objects.using(conf.local)
    chosen = log.unsettled().filter(pk__in=ids)
    for model, object_id in objects:
        chosen |= log.unsettled().of_objects(model, [object_id])
    for model in models:
        chosen |= log.stuck().of(model)
    return chosen | log.stuck() if everything else chosen


def retry(entries: ChangeLogQuerySet) -> int:
    """Make failed and waiting entries due now, with a fresh count of attempts, and return how many.

    Whoever listens to ``changes_logged`` is told of their objects as if they had changed; others find them pending.
    """
    local = conf.local
    retried = 0
    for batch in _batches(entries.unsettled()):
        with transaction.atomic(using=local):
            retried += ChangeLog.objects.using(local).filter(among("pk", [pk for pk, _, _ in batch])).retry()
            announce(_watched(batch), using=local)
    logger.info("changes retried count=%s", retried)
    return retried


def retry_kinds(entries: ChangeLogQuerySet) -> int:
    """Retry the entries, and all others of the same models that did not arrive for reasons of the same kind.

    Which object a reason names, and how many, makes no difference.
    """
    kinds: dict[int, set[str]] = {}
    for type_id, reason in entries.stuck().order_by().values_list("content_type_id", "reason").distinct():
        kinds.setdefault(type_id, set()).add(_kind(reason))
    return sum(_retry_alike(type_id, of_type) for type_id, of_type in kinds.items())


def _retry_alike(type_id: int, kinds: Collection[str]) -> int:
    log = ChangeLog.objects.using(conf.local).stuck().filter(content_type_id=type_id)
    reasons = log.order_by().values_list("reason", flat=True).distinct()
    alike = [reason for reason in reasons if _kind(reason) in kinds]
    return sum(retry(log.filter(reason__in=some)) for some in batched(alike, _REASONS))


def _kind(reason: str) -> str:
    """Return a reason without what it says of one object: ids, numbers, and for what exactly it waits."""
    return _PARTICULARS.sub(lambda found: found[1] or found[2] or "", reason)


def discard(entries: ChangeLogQuerySet) -> int:
    """Give up entries that have not arrived, and return how many.

    Nothing is copied for them, and REMOTE keeps what it has, until the object changes again or a comparison of all rows
    finds the difference.
    """
    discarded = entries.discard()
    logger.info("changes discarded count=%s", discarded)
    return discarded


def _batches(entries: ChangeLogQuerySet) -> Iterator[list[Named]]:
    """Yield the entries in their order; what happens to those that were yielded does not matter."""
    named = entries.order_by("pk").values_list("pk", "content_type_id", "object_id")
    last = 0
    while batch := list(named.filter(pk__gt=last)[:_BATCH]):
        yield batch
        last = batch[-1][0]


def _watched(batch: list[Named]) -> Iterator[tuple[str, str]]:
    """Yield the label and id of objects that a task would copy."""
    types = ContentType.objects.db_manager(conf.local)
    for _, type_id, object_id in batch:
        model = types.get_for_id(type_id).model_class()
        if model is not None and is_watched(model):
            yield model_label(model), object_id
