"""From a signal to the log: receivers that append what changed on LOCAL, in the caller's own transaction.

What Django announces, and what it does not, as of Django 5.2 and 6.0:

- ``post_save`` and ``post_delete`` are sent for each object: with a proxy as the sender where a proxy was saved, and
  with the child alone where a multi-table child was saved. A delete announces the parents, too. ``m2m_changed`` has no
  ``pk_set`` when a relation is cleared. https://docs.djangoproject.com/en/5.2/ref/signals/
- ``update()``, ``bulk_create()``, ``bulk_update()`` and the managers of reverse foreign keys with ``bulk=True`` tell
  nobody. https://docs.djangoproject.com/en/5.2/ref/models/querysets/ and
  https://docs.djangoproject.com/en/5.2/ref/models/relations/
- ``add()`` and ``set()`` insert the rows of an explicit through model in bulk: ``_add_items()`` in
  ``django.db.models.fields.related_descriptors``. Where the relation is symmetrical, they insert those of the other
  direction after the signal, and announce nothing more: these rows are logged as soon as they are committed.
- A delete sets its children to NULL or to a default by ``update()``, and a receiver without a sender would keep it from
  deleting rows of any model the fast way: ``can_fast_delete()`` and ``delete()`` of
  ``django.db.models.deletion.Collector``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.signals import setting_changed
from django.db import connections, transaction
from django.db.models import CASCADE, DO_NOTHING, PROTECT, RESTRICT, Model, Q, QuerySet
from django.db.models.signals import m2m_changed, post_delete, post_save, pre_delete
from django.dispatch import Signal
from django.utils import timezone

from synchro import rows
from synchro.conf import conf
from synchro.exceptions import SettingError, SynchroError
from synchro.keys import MAX_LENGTH, natural_key_to_json, pk_to_text
from synchro.models import ChangeLog, ChangeRow
from synchro.natural_keys import has_natural_key
from synchro.pausing import is_paused
from synchro.registry import (
    ManyToMany,
    ModelClass,
    all_many_to_many,
    explicit_many_to_many,
    is_watched,
    keys_to,
    model_label,
    proxies_of,
    watched_models,
)
from synchro.signals import changes_logged

logger = logging.getLogger(__name__)

Action = ChangeLog.Action
Connection = tuple[Signal, Callable[..., None], ModelClass]

#: What on_delete does to the children: these do not change a child that lives on.
_LEAVES_CHILDREN = (CASCADE, PROTECT, RESTRICT, DO_NOTHING)
_TOUCH_BATCH = 1000
_connected: list[Connection] = []

#: A row by its model and primary key.
Row = tuple[ModelClass, Any]
#: Where saves on another database than LOCAL are noted: its alias, and the rows.
_noted: ContextVar[tuple[str, list[Row]] | None] = ContextVar("synchro_noted", default=None)


@dataclass(frozen=True, slots=True)
class Entry:
    """One change to append to the log."""

    model: ModelClass
    object_id: str
    action: ChangeLog.Action
    natural_key: list[Any] | None = None


def connect() -> None:
    """Connect the receivers to what SYNCHRO_MODELS watches now, and to changes of that setting."""
    disconnect()
    try:
        _connected.extend(_connections())
    except SettingError as error:
        # The system check says the same; a management command must still be able to start and print it.
        logger.error("nothing is logged error=%s", error)
    for signal, receiver, sender in _connected:
        signal.connect(receiver, sender=sender, weak=False)
    setting_changed.connect(_follow_setting)


def disconnect() -> None:
    """Disconnect all receivers of this module."""
    for signal, receiver, sender in _connected:
        signal.disconnect(receiver, sender=sender)
    _connected.clear()


def is_own(receiver: Callable[..., Any]) -> bool:
    """Tell whether a signal receiver is one of this module's."""
    return getattr(receiver, "func", receiver).__module__ == __name__


def touch(objects: QuerySet[Any] | Model | Iterable[Model]) -> int:
    """Log as changed what update(), bulk_create(), bulk_update() or raw SQL changed behind the signals' back.

    Args:
        objects: a queryset, an object, or objects, of watched models on LOCAL.

    Returns:
        The number of objects logged.

    Raises:
        SynchroError: a model is not watched, or an object was never saved or is not LOCAL's.
    """
    local = conf.local
    count = 0
    for model, batch in _touched(objects, local):
        lineage = _lineage(model)
        pairs = [(each, pk) for keys in batch for (each, _), pk in zip(lineage, keys, strict=True)]
        _append(local, [_entry(each, pk, Action.CHANGE) for each, pk in pairs])
        count += len(batch)
    return count


@contextmanager
def noting_saves(using: str) -> Iterator[list[Row]]:
    """Note the watched rows that handlers save on REMOTE, as often as they do, without pausing the log."""
    saved: list[Row] = []
    token = _noted.set((using, saved))
    try:
        yield saved
    finally:
        _noted.reset(token)


def rows_of(instance: Model) -> list[Row]:
    """Return the rows in which an instance is kept: its own, and those of its multi-table parents."""
    lineage = _lineage(instance._meta.concrete_model)  # type: ignore[arg-type]
    return [(model, getattr(instance, name)) for model, name in lineage]


# Receivers


def log_save(sender: ModelClass, instance: Model, created: bool, using: str, **kwargs: Any) -> None:
    """Log an added or changed object; note one that is saved where somebody wants to know."""
    if _logs(using):
        action = Action.ADD if created else Action.CHANGE
        _append(using, [_entry(model, pk, action) for model, pk in rows_of(instance)])
    elif (noted := _noted.get()) is not None and noted[0] == using and not is_paused():
        noted[1].extend(rows_of(instance))


def remember_natural_key(sender: ModelClass, instance: Model, using: str, **kwargs: Any) -> None:
    """Keep the natural key of an object that is about to be deleted while what it points to is still there."""
    if _logs(using) and has_natural_key(sender):
        try:
            instance._synchro_natural_key = natural_key_to_json(instance.natural_key())  # type: ignore[attr-defined]
        except Exception as error:  # whatever the model's own code raises; its message may quote the row
            frames = "".join(traceback.format_tb(error.__traceback__))
            label, name = model_label(sender), type(error).__name__
            logger.error("no natural key for a delete model=%s error=%s\n%s", label, name, frames)


def log_delete(sender: ModelClass, instance: Model, using: str, **kwargs: Any) -> None:
    """Log a deleted object."""
    if not _logs(using):
        return
    model: Any = sender._meta.concrete_model
    natural_key = getattr(instance, "_synchro_natural_key", None)
    _append(using, [_entry(model, instance.pk, Action.DELETE, natural_key)])


def log_orphans(sender: ModelClass, instance: Model, using: str, **kwargs: Any) -> None:
    """Log the children that Django sets to NULL or to a default, without a signal, when their parent is deleted."""
    if not _logs(using):
        return
    for field in _orphaned_by(sender):
        children = field.model._base_manager.using(using).filter(**{field.name: instance})
        model = field.model._meta.concrete_model
        _append(using, [_entry(model, pk, Action.CHANGE) for pk in children.values_list("pk", flat=True)])


def log_many_to_many(
    sender: ModelClass,
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: Collection[Any] | None,
    using: str,
    *,
    relation: ManyToMany,
    **kwargs: Any,
) -> None:
    """Log the owners whose set of members changed; a clear is read before it happens."""
    if action not in ("post_add", "post_remove", "pre_clear") or not _logs(using):
        return
    is_owner = reverse != relation.owner_declares
    near, far = (relation.source, relation.target) if is_owner else (relation.target, relation.source)
    here = near.get_foreign_related_value(instance)[0]  # type: ignore[attr-defined]
    owners: set[Any] = {here} if is_owner else set()
    if not is_owner or relation.symmetrical:
        if pk_set is None:
            links = sender._base_manager.using(using).filter(**{near.attname: here})
            pk_set = set(links.values_list(far.attname, flat=True))
        owners |= set(pk_set)
    elif pk_set is not None and not pk_set:
        return
    _append(using, [_entry(relation.owner, pk, Action.M2M) for pk in sorted(owners, key=str)])


def log_through_rows(
    sender: ModelClass,
    instance: Model,
    action: str,
    reverse: bool,
    pk_set: Collection[Any] | None,
    using: str,
    *,
    field: Any,
    **kwargs: Any,
) -> None:
    """Log the rows of an explicit through model that add() and set() insert in bulk; deletes have their own signals."""
    if action != "post_add" or not pk_set or not _logs(using):
        return
    names = field.m2m_field_name(), field.m2m_reverse_field_name()
    near, far = reversed(names) if reverse else names
    link: Any = sender._meta.get_field(near)
    key = link.get_foreign_related_value(instance)[0]
    _log_added(using, sender, Q(**{near: key, f"{far}__in": pk_set}))
    if field.remote_field.symmetrical:
        mirrored = Q(**{far: key, f"{near}__in": pk_set})
        transaction.on_commit(partial(_log_added, using, sender, mirrored), using=using, robust=True)


def _log_added(using: str, model: ModelClass, condition: Q) -> None:
    pks = model._base_manager.using(using).filter(condition).values_list("pk", flat=True)
    _append(using, [_entry(model, pk, Action.ADD) for pk in pks])


# Connecting


def _connections() -> Iterator[Connection]:
    for model in watched_models():
        for sender in (model, *proxies_of(model)):
            yield post_save, log_save, sender
            yield pre_delete, remember_natural_key, sender
            yield post_delete, log_delete, sender
    for model in apps.get_models():
        if any(_orphaned_by(model)):
            yield pre_delete, log_orphans, model
    for relation in all_many_to_many():
        yield m2m_changed, partial(log_many_to_many, relation=relation), relation.through
    for field in explicit_many_to_many():
        yield m2m_changed, partial(log_through_rows, field=field), field.remote_field.through


def _follow_setting(*, setting: str, **kwargs: Any) -> None:
    if setting == "SYNCHRO_MODELS":
        connect()


def _orphaned_by(model: ModelClass) -> Iterator[Any]:
    """Return the watched models' foreign keys that a delete of this model's objects resets."""
    return (
        key for key in keys_to(model) if key.remote_field.on_delete not in _LEAVES_CHILDREN and is_watched(key.model)
    )


# Entries


def _logs(using: str) -> bool:
    return using == conf.local and not is_paused()


def _lineage(model: ModelClass) -> list[tuple[ModelClass, str]]:
    """Return the model and its multi-table parents, each with the attribute of the child that holds its primary key.

    A save of the child writes a row in each of their tables, but sends signals only for the child.
    """
    parents = model._meta.get_parent_list()
    return [*((parent, parent._meta.pk.attname) for parent in reversed(parents)), (model, "pk")]


def _touched(objects: Any, local: str) -> Iterator[tuple[ModelClass, list[tuple[Any, ...]]]]:
    """Yield batches of one model: for each object the primary keys of its lineage."""
    if isinstance(objects, QuerySet):
        if objects.db != local:
            raise SynchroError(f"touch() logs changes of LOCAL ({local!r}); this queryset reads {objects.db!r}.")
        model: Any = objects.model._meta.concrete_model
        _require_watched(model)
        unordered = objects if objects.query.is_sliced else objects.order_by()
        keys = unordered.values_list(*(name for _, name in _lineage(model)))
        for batch in rows.batched(keys.iterator(_TOUCH_BATCH), _TOUCH_BATCH):
            yield model, batch
        return
    by_model: dict[Any, list[tuple[Any, ...]]] = {}
    for instance in [objects] if isinstance(objects, Model) else objects:
        if instance._state.db != local:
            raise SynchroError(
                f"touch() logs objects of LOCAL ({local!r}); "
                f"this {model_label(type(instance))} is of {instance._state.db!r}."
            )
        model = instance._meta.concrete_model
        _require_watched(model)
        by_model.setdefault(model, []).append(tuple(getattr(instance, name) for _, name in _lineage(model)))
    for model, keys_of_model in by_model.items():
        for batch in rows.batched(keys_of_model, _TOUCH_BATCH):
            yield model, batch


def _require_watched(model: ModelClass) -> None:
    if not is_watched(model):
        raise SynchroError(f"{model_label(model)} is not watched. Add it to SYNCHRO_MODELS to synchronize it.")


def _entry(model: ModelClass, pk: Any, action: Action, natural_key: list[Any] | None = None) -> Entry:
    return Entry(model, pk_to_text(model, pk), action, natural_key)


def _append(using: str, entries: Sequence[Entry]) -> None:
    """Append to the log with one INSERT, and announce the objects when the transaction commits."""
    usable = [entry for entry in entries if _is_loggable(entry)]
    if not usable:
        return
    types = ContentType.objects.db_manager(using)
    now = timezone.now()
    changes = [
        ChangeRow(types.get_for_model(entry.model).pk, entry.object_id, int(entry.action), now, entry.natural_key)
        for entry in usable
    ]
    ChangeLog.objects.using(using).append(changes)
    announce(((model_label(entry.model), entry.object_id) for entry in usable), using=using)


def _is_loggable(entry: Entry) -> bool:
    if len(entry.object_id) <= MAX_LENGTH:
        return True
    logger.error("not logged, primary key too long model=%s most=%s", model_label(entry.model), MAX_LENGTH)
    return False


# Announcing


class _Announcement:
    """The objects logged in one transaction. Whichever of its hooks runs first sends them all.

    Every entry registers a hook, because only Django knows which savepoints survive; so objects of a rolled back
    savepoint may be announced too, but none is forgotten.
    """

    def __init__(self, using: str) -> None:
        self.using = using
        self.objects: dict[tuple[str, str], None] = {}
        self.sent = False

    def send(self) -> None:
        if self.sent:
            return
        self.sent = True
        answers = changes_logged.send_robust(sender=ChangeLog, using=self.using, objects=list(self.objects))
        for receiver, answer in answers:
            if isinstance(answer, Exception):
                # Django has logged where it failed.
                logger.error("receiver of changes_logged failed receiver=%r error=%s", receiver, type(answer).__name__)


def announce(objects: Iterable[tuple[str, str]], *, using: str) -> None:
    """Send ``changes_logged`` for objects, by label and id, when the transaction commits."""
    if not changes_logged.has_listeners():
        return
    connection: Any = connections[using]
    announcement = getattr(connection, "_synchro_announcement", None)
    # Without hooks an announcement that was not sent belongs to a transaction that was rolled back.
    if announcement is None or announcement.sent or not connection.run_on_commit:
        announcement = connection._synchro_announcement = _Announcement(using)
    announcement.objects.update(dict.fromkeys(objects))
    transaction.on_commit(announcement.send, using=using, robust=True)
