"""The rows that synchro keeps: the log of changes, failed attempts, references between the two databases, and options.

State changes are methods on QuerySets here; nobody else writes a state.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import F, Q
from django.db.models.lookups import In
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from synchro import rows
from synchro.conf import conf
from synchro.lookups import among
from synchro.registry import ModelClass


class ObjectIdField(models.CharField):
    """Text of a primary key. Compared exactly also where the vendor's default collation takes 'qa' for 'QA'."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("max_length", 255)
        super().__init__(*args, **kwargs)

    def db_parameters(self, connection: BaseDatabaseWrapper) -> dict[str, Any]:
        """Add the vendor's exact collation."""
        parameters: dict[str, Any] = super().db_parameters(connection)
        if connection.vendor == "mysql":
            exact = "utf8mb4_nopad_bin" if connection.mysql_is_mariadb else "utf8mb4_0900_bin"  # type: ignore[attr-defined]
            parameters["collation"] = exact
        return parameters


class ObjectRow(models.Model):
    """A row that speaks of one object of any model."""

    content_type = models.ForeignKey(
        ContentType,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        # Appending must not look into another table: deleting a content type by Django deletes its rows here anyway.
        db_constraint=False,
        verbose_name=_("model"),
    )

    class Meta:
        abstract = True


class ChangeRow(NamedTuple):
    """The values of a new ChangeLog entry, without the cost of a model instance."""

    content_type_id: int
    object_id: str
    action: int
    date: Any
    natural_key: Any = None
    state: int = 1  # ChangeLog.State.PENDING
    attempts: int = 0
    next_attempt_at: None = None
    synced_at: None = None
    reason: str = ""


_APPEND = f"""
    INSERT INTO synchro_changelog ({", ".join(ChangeRow._fields)}) VALUES ({", ".join(["%s"] * len(ChangeRow._fields))})
"""
_ONWARDS = """
    SELECT object_id FROM synchro_changelog WHERE state = %s AND content_type_id = %s AND id >= (
        SELECT MIN(id) FROM synchro_changelog WHERE content_type_id = %s AND object_id = %s AND state = %s
    ) AND (object_id = %s OR next_attempt_at IS NULL OR next_attempt_at <= %s) ORDER BY id LIMIT %s
"""


class ChangeLogQuerySet(models.QuerySet["ChangeLog"]):
    """Selections and state changes of log entries."""

    def pending(self) -> ChangeLogQuerySet:
        """Select entries whose change has not arrived on REMOTE."""
        return self.filter(state=ChangeLog.State.PENDING)

    def onwards(self, model: ModelClass, object_id: str, *, now: datetime, limit: int) -> list[str]:
        """Return the object and, in order, the objects of its model with due entries that were appended later.

        Where the object has no pending entry, the list is empty. Every task begins with this question, and most tasks
        of a burst end with it: composing it anew each time would cost several times as much as asking it.
        """
        connection = connections[self.db]
        state = int(ChangeLog.State.PENDING)
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        moment = connection.ops.adapt_datetimefield_value(now)
        with connection.cursor() as cursor:
            cursor.execute(_ONWARDS, [state, type_id, type_id, object_id, state, object_id, moment, limit])
            return list(dict.fromkeys(row[0] for row in cursor.fetchall()))

    def unsettled(self) -> ChangeLogQuerySet:
        """Select entries whose change is still owed to REMOTE: pending ones and those that were given up."""
        return self.filter(state__in=[ChangeLog.State.PENDING, ChangeLog.State.FAILED])

    def synced(self) -> ChangeLogQuerySet:
        """Select entries whose change has arrived on REMOTE."""
        return self.filter(state=ChangeLog.State.SYNCED)

    def failed(self) -> ChangeLogQuerySet:
        """Select entries that were given up and wait for an operator or a new change."""
        return self.filter(state=ChangeLog.State.FAILED)

    def skipped(self) -> ChangeLogQuerySet:
        """Select entries that lost against a newer change on REMOTE."""
        return self.filter(state=ChangeLog.State.SKIPPED)

    def due(self, now: datetime) -> ChangeLogQuerySet:
        """Select pending entries that were never tried or whose pause is over."""
        return self.pending().filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))

    def of(self, model: ModelClass) -> ChangeLogQuerySet:
        """Select entries of one model."""
        return self.filter(content_type_id=ContentType.objects.db_manager(self.db).get_for_model(model).pk)

    def of_objects(self, model: ModelClass, object_ids: Collection[str]) -> ChangeLogQuerySet:
        """Select entries of some objects of one model."""
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        return self.filter(among("object_id", object_ids), content_type_id=type_id)

    def append(self, entries: Sequence[ChangeRow]) -> None:
        """Append entries with one INSERT; for a single one, which a request waits for, its text is ready."""
        if len(entries) != 1:
            rows.insert(ChangeLog, entries, using=self.db)
            return
        connection: Any = connections[self.db]
        entry = entries[0]
        date = connection.ops.adapt_datetimefield_value(entry.date)
        natural_key = entry.natural_key
        if natural_key is not None:
            field: Any = ChangeLog._meta.get_field("natural_key")
            natural_key = field.get_db_prep_save(natural_key, connection)
        with connection.cursor() as cursor:
            cursor.execute(_APPEND, entry._replace(date=date, natural_key=natural_key))

    def append_changes(self, model: ModelClass, object_ids: Sequence[str]) -> None:
        """Append an entry for each object, as if it had been saved now."""
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        now = timezone.now()
        self.append([ChangeRow(type_id, each, int(ChangeLog.Action.CHANGE), now) for each in object_ids])

    def models_with_pending(self) -> set[ModelClass]:
        """Return the models that have pending entries, with one index lookup for each of them."""
        found: set[ModelClass] = set()
        types = self.pending().order_by("content_type_id").values_list("content_type_id", flat=True)
        type_id = types.first()
        while type_id is not None:
            model = ContentType.objects.db_manager(self.db).get_for_id(type_id).model_class()
            if model is not None:
                found.add(model)
            type_id = types.filter(content_type_id__gt=type_id).first()
        return found

    def mark_synced(self, ids: Collection[int]) -> int:
        """Mark entries, as far as they are not settled yet, as arrived on REMOTE."""
        return self._settle(ids, ChangeLog.State.SYNCED, "")

    def mark_skipped(self, ids: Collection[int], reason: str) -> int:
        """Mark entries, as far as they are not settled yet, as deliberately not copied."""
        return self._settle(ids, ChangeLog.State.SKIPPED, reason)

    def record_failure(self, *, max_attempts: int, next_attempt_at: datetime, reason: str) -> None:
        """Count a failed attempt: pending entries wait until next_attempt_at or, after max_attempts, are given up."""
        pending = self.pending()
        pending.filter(attempts__gte=max_attempts - 1).update(
            state=ChangeLog.State.FAILED, attempts=F("attempts") + 1, next_attempt_at=None, reason=reason
        )
        pending.update(attempts=F("attempts") + 1, next_attempt_at=next_attempt_at, reason=reason)

    def postpone(self, *, next_attempt_at: datetime, reason: str) -> None:
        """Let the pending entries wait until next_attempt_at without counting an attempt."""
        self.pending().update(next_attempt_at=next_attempt_at, reason=reason)

    def retry(self) -> int:
        """Make failed and waiting entries pending from now on, with a fresh count of attempts."""
        return self.unsettled().update(state=ChangeLog.State.PENDING, attempts=0, next_attempt_at=None, reason="")

    def rewind(self, moment: datetime) -> None:
        """Count entries dated up to the moment as done and entries dated after it as pending again."""
        self.filter(date__lte=moment).exclude(state=ChangeLog.State.SYNCED).update(
            state=ChangeLog.State.SYNCED, synced_at=timezone.now(), next_attempt_at=None, reason=""
        )
        self.filter(date__gt=moment).exclude(state=ChangeLog.State.PENDING).update(
            state=ChangeLog.State.PENDING, synced_at=None, attempts=0, next_attempt_at=None, reason=""
        )

    def prune(self, before: datetime, *, limit: int) -> int:
        """Delete settled entries dated before the moment, up to ``limit`` of each model and state; return how many.

        Only the oldest entries of each model are looked at, by the index: nothing to delete costs nothing.
        """
        deleted = 0
        for state in (ChangeLog.State.SYNCED, ChangeLog.State.SKIPPED):
            settled = self.filter(state=state)
            for content_type_id in settled._content_type_ids():
                oldest = settled.filter(content_type_id=content_type_id).order_by("id").values_list("id", "date")
                if any(date < before for _, date in oldest[:1]):
                    old = [pk for pk, date in oldest[:limit] if date < before]
                    deleted += self.filter(pk__in=old).delete()[0]
        return deleted

    def _content_type_ids(self) -> Iterator[int]:
        """Yield the content types of the entries: one lookup in the index for each, however many entries it has."""
        ids = self.order_by("content_type_id").values_list("content_type_id", flat=True)
        found = ids.first()
        while found is not None:
            yield found
            found = ids.filter(content_type_id__gt=found).first()

    def _settle(self, ids: Collection[int], state: ChangeLog.State, reason: str) -> int:
        # As a sum the state cannot lead the planner, who never knows how many entries are pending, away from the ids.
        unsettled = In(F("state") + 0, [ChangeLog.State.PENDING, ChangeLog.State.FAILED])
        return self.filter(among("pk", ids), unsettled).update(
            state=state, synced_at=timezone.now(), next_attempt_at=None, reason=reason
        )


class ChangeLog(ObjectRow):
    """One change of one object on this database, appended in the transaction that made the change."""

    class Action(models.IntegerChoices):
        """What happened to the object. The numbers are those of 0.x."""

        ADD = 1, _("added")
        CHANGE = 2, _("changed")
        DELETE = 3, _("deleted")
        M2M = 4, _("relations changed")

    class State(models.IntegerChoices):
        """Where the change is on its way to REMOTE."""

        PENDING = 1, _("pending")
        SYNCED = 2, _("synced")
        FAILED = 3, _("failed")
        SKIPPED = 4, _("skipped")

    object_id = ObjectIdField(_("object id"))
    action = models.PositiveSmallIntegerField(_("action"), choices=Action.choices)
    date = models.DateTimeField(_("date"), default=timezone.now)
    natural_key = models.JSONField(_("natural key"), null=True, blank=True)
    state = models.PositiveSmallIntegerField(_("state"), choices=State.choices, default=State.PENDING)
    attempts = models.PositiveIntegerField(_("attempts"), default=0)
    next_attempt_at = models.DateTimeField(_("next attempt"), null=True, blank=True)
    synced_at = models.DateTimeField(_("synced at"), null=True, blank=True)
    reason = models.TextField(_("reason"), blank=True, default="")

    objects = ChangeLogQuerySet.as_manager()

    class Meta:
        verbose_name = _("change")
        verbose_name_plural = _("change log")
        permissions = [("synchronize", "Can synchronize"), ("reset", "Can reset the synchronization")]
        indexes = [
            # Pending entries of a model in order; whether their pause is over is read from the index, too.
            models.Index(fields=["state", "content_type", "id", "next_attempt_at"], name="synchro_log_pending"),
            # Pending entries of an object, its history, and its newest change.
            models.Index(fields=["content_type", "object_id", "state", "date"], name="synchro_log_object"),
        ]

    def __str__(self) -> str:
        return f"{self.content_type.app_label}.{self.content_type.model} {self.object_id}: {self.get_action_display()}"


class AttemptQuerySet(models.QuerySet["Attempt"]):
    """Selections of failed attempts."""

    def of_object(self, model: ModelClass, object_id: str) -> AttemptQuerySet:
        """Select the attempts at one object, newest first."""
        content_type = ContentType.objects.db_manager(self.db).get_for_model(model)
        return self.filter(content_type=content_type, object_id=object_id).order_by("-date")

    def prune(self, before: datetime, *, limit: int) -> int:
        """Delete up to ``limit`` attempts from before the moment, the oldest first, and return how many."""
        oldest = self.order_by("id").values_list("id", "date")[:limit]
        return self.filter(pk__in=[pk for pk, date in oldest if date < before]).delete()[0]


class Attempt(ObjectRow):
    """One failed attempt to copy an object to REMOTE."""

    object_id = ObjectIdField(_("object id"))
    date = models.DateTimeField(_("date"), default=timezone.now)
    error = models.CharField(_("error"), max_length=255)
    message = models.TextField(_("message"))
    traceback = models.TextField(_("traceback"), blank=True)
    task_id = models.CharField(_("task id"), max_length=255, blank=True)

    objects = AttemptQuerySet.as_manager()

    class Meta:
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        indexes = [models.Index(fields=["content_type", "object_id", "date"], name="synchro_attempt_object")]

    def __str__(self) -> str:
        return f"{self.content_type.app_label}.{self.content_type.model} {self.object_id}: {self.error}"


class Reference(ObjectRow):
    """This database's primary key of an object and the key of its counterpart at a peer.

    A mirror, written by the peer, whose own key is not known yet has no local_object_id: it is the peer's lock on an
    object that it is about to add.
    """

    #: The peer of references to a REMOTE that has no tables of synchro and therefore no identity.
    ANONYMOUS = uuid.UUID(int=0)

    peer = models.UUIDField(_("peer"))
    local_object_id = ObjectIdField(_("local object id"), null=True)
    remote_object_id = ObjectIdField(_("remote object id"))

    class Meta:
        verbose_name = _("reference")
        verbose_name_plural = _("references")
        constraints = [
            models.UniqueConstraint(
                fields=["peer", "content_type", "local_object_id"], name="synchro_reference_unique_local"
            ),
            models.UniqueConstraint(
                fields=["peer", "content_type", "remote_object_id"], name="synchro_reference_unique_remote"
            ),
        ]

    def __str__(self) -> str:
        return (
            f"{self.content_type.app_label}.{self.content_type.model}: {self.local_object_id} - {self.remote_object_id}"
        )


class ReferenceRow(NamedTuple):
    """The values of a Reference, for writing many of them without making model instances."""

    content_type_id: int
    peer: uuid.UUID
    local_object_id: str | None
    remote_object_id: str
    id: int | None = None


class Option(models.Model):
    """A value that synchro keeps about this database: its identity, the last check."""

    IDENTITY = "identity"
    RENEWED = "identity_renewed"
    LAST_CHECK = "last_check"

    key = models.CharField(_("key"), max_length=50, primary_key=True)
    value = models.CharField(_("value"), max_length=255)

    class Meta:
        verbose_name = _("option")
        verbose_name_plural = _("options")

    def __str__(self) -> str:
        return f"{self.key} = {self.value}"


class Options:
    """What 0.x kept with django-dbsettings: ``options.last_check``."""

    @property
    def last_check(self) -> datetime | None:
        """When LOCAL was last synchronized; None before the first time.

        Setting it to a moment means: entries dated up to it count as done, entries dated after it are pending again.
        """
        row = Option.objects.using(conf.local).filter(key=Option.LAST_CHECK).first()
        return parse_datetime(row.value) if row else None

    @last_check.setter
    def last_check(self, moment: datetime) -> None:
        ChangeLog.objects.using(conf.local).rewind(moment)
        self.checked(moment)

    def checked(self, moment: datetime) -> None:
        """Remember when LOCAL was last synchronized and leave the log as it is."""
        Option.objects.using(conf.local).update_or_create(
            key=Option.LAST_CHECK, defaults={"value": moment.isoformat(timespec="microseconds")}
        )


options = Options()
