"""The rows that synchro keeps: the log of changes, failed attempts, references between the two databases, and options.

State changes are methods on QuerySets here; nobody else writes a state.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from django.contrib.contenttypes.models import ContentType
from django.db import connections, models
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import ExpressionWrapper, F, Q
from django.db.models.functions import Now
from django.db.models.lookups import In
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext_lazy as _

from synchro import rows
from synchro.conf import conf
from synchro.exceptions import WorkerLost
from synchro.lookups import among, distinct_values
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


#: Reasons in one statement: the server looks for each entry's among all of them.
_REASONS_AT_ONCE = 500


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


class Onwards(NamedTuple):
    """What a task begins with: its object and those that were changed later, if its object has something pending."""

    object_ids: list[str]
    #: Whether any object waits for another one to arrive.
    anybody_waits: bool


_APPEND = f"""
    INSERT INTO synchro_changelog ({", ".join(ChangeRow._fields)}) VALUES ({", ".join(["%s"] * len(ChangeRow._fields))})
"""
_ONWARDS = """
    SELECT object_id, EXISTS (SELECT 1 FROM synchro_wait) FROM synchro_changelog
    WHERE state = %s AND content_type_id = %s AND id >= (
        SELECT MIN(id) FROM synchro_changelog WHERE content_type_id = %s AND object_id = %s AND state = %s
    ) AND (next_attempt_at IS NULL OR (next_attempt_at <= %s AND reason <> %s))
    ORDER BY id LIMIT %s
"""


class ChangeLogQuerySet(models.QuerySet["ChangeLog"]):
    """Selections and state changes of log entries."""

    def pending(self) -> ChangeLogQuerySet:
        """Select entries whose change has not arrived on REMOTE."""
        return self.filter(state=ChangeLog.State.PENDING)

    def onwards(self, model: ModelClass, object_id: str, *, now: datetime, limit: int) -> Onwards:
        """Return the object, if it is due, and, in order, the due objects of its model that were changed later.

        Where the object has no pending entry, there is none. Messages may be many for an object that fails: its pauses
        are kept all the same. Every task begins with this question, and most tasks of a
        burst end with it: composing it anew each time would cost several times as much as asking it. Objects that are
        suspected to have killed a worker are left to the checkpoint.
        """
        connection = connections[self.db]
        state = int(ChangeLog.State.PENDING)
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        moment = connection.ops.adapt_datetimefield_value(now)
        with connection.cursor() as cursor:
            lost = ChangeLog.WORKER_LOST
            cursor.execute(_ONWARDS, [state, type_id, type_id, object_id, state, moment, lost, limit])
            found = cursor.fetchall()
        return Onwards(list(dict.fromkeys(row[0] for row in found)), any(row[1] for row in found[:1]))

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

    def discarded(self) -> ChangeLogQuerySet:
        """Select entries that an operator has given up."""
        return self.filter(state=ChangeLog.State.DISCARDED)

    def retrying(self) -> ChangeLogQuerySet:
        """Select pending entries that have failed and are tried again."""
        return self.pending().filter(next_attempt_at__isnull=False, attempts__gt=0)

    def waiting(self) -> ChangeLogQuerySet:
        """Select pending entries that were put off for something that is not their fault."""
        return self.pending().filter(next_attempt_at__isnull=False, attempts=0)

    def stuck(self) -> ChangeLogQuerySet:
        """Select entries that were tried and have not arrived: retrying, waiting and failed ones."""
        paused = Q(state=ChangeLog.State.PENDING, next_attempt_at__isnull=False)
        return self.filter(paused | Q(state=ChangeLog.State.FAILED))

    def due(self, now: datetime) -> ChangeLogQuerySet:
        """Select pending entries that were never tried or whose pause is over."""
        return self.pending().filter(Q(next_attempt_at=None) | Q(next_attempt_at__lte=now))

    def of(self, model: ModelClass) -> ChangeLogQuerySet:
        """Select entries of one model."""
        return self.filter(content_type_id=ContentType.objects.db_manager(self.db).get_for_model(model).pk)

    def oldest_first(self, model: ModelClass) -> ChangeLogQuerySet:
        """Select entries of one model in the order of the index of states.

        Told by equality, the model would be no part of the order, and PostgreSQL would walk along the primary keys
        instead, past everything that is of other models or settled, in the hope to meet some soon.
        """
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        return self._oldest_first(type_id)

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

    def append_again(self, model: ModelClass, object_ids: Collection[str]) -> list[str]:
        """Append an entry for each object that has any of its row, as old as the newest, and return these objects.

        So a newer change on REMOTE wins against it, too.
        """
        log = self.of_objects(model, object_ids).exclude(action=ChangeLog.Action.M2M).order_by()
        newest = dict(log.values_list("object_id").annotate(models.Max("date")))
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        action = int(ChangeLog.Action.CHANGE)
        again = [ChangeRow(type_id, each, action, date, reason=ChangeLog.HANDLED) for each, date in newest.items()]
        self.append(again)
        return list(newest)

    def models_with_pending(self) -> set[ModelClass]:
        """Return the models that have pending entries, with one index lookup for each of them."""
        types = ContentType.objects.db_manager(self.db)
        models = (types.get_for_id(type_id).model_class() for type_id in self.pending().content_type_ids())
        return {model for model in models if model is not None}

    def mark_synced(self, ids: Collection[int]) -> int:
        """Mark entries, as far as they are not settled yet, as arrived on REMOTE."""
        return self._settle(ids, ChangeLog.State.SYNCED, "")

    def mark_skipped(self, reasons: Mapping[int, str]) -> int:
        """Mark entries, as far as they are not settled yet, as deliberately not copied, each with its own reason."""
        return sum(self._skip(dict(chunk)) for chunk in rows.batched(reasons.items(), _REASONS_AT_ONCE))

    def _skip(self, reasons: Mapping[int, str]) -> int:
        by_reason: dict[str, list[int]] = {}
        for pk, reason in reasons.items():
            by_reason.setdefault(reason, []).append(pk)
        cases = [models.When(pk__in=ids, then=models.Value(reason)) for reason, ids in by_reason.items()]
        return self._settle(reasons, ChangeLog.State.SKIPPED, models.Case(*cases, output_field=models.TextField()))

    def record_failure(self, *, attempts: int, next_attempt_at: datetime | None, reason: str) -> None:
        """Count a failed attempt: pending entries wait until next_attempt_at or, without it, are given up."""
        state = ChangeLog.State.FAILED if next_attempt_at is None else ChangeLog.State.PENDING
        self.pending().update(state=state, attempts=attempts, next_attempt_at=next_attempt_at, reason=reason)

    def begin_attempt(self, *, max_attempts: int, next_attempt_at: datetime) -> bool:
        """Count an attempt before it is made, as if it had killed its worker; False where it must not be made.

        Pending entries that have had all their attempts are given up.
        """
        lost = {"reason": ChangeLog.WORKER_LOST}
        pending = self.pending()
        pending.filter(attempts__gte=max_attempts).update(state=ChangeLog.State.FAILED, next_attempt_at=None, **lost)
        return pending.update(attempts=F("attempts") + 1, next_attempt_at=next_attempt_at, **lost) > 0

    def end_attempt(self) -> None:
        """Take an attempt back that was counted before it was made: its worker lives."""
        self.exclude(state=ChangeLog.State.FAILED).filter(attempts__gt=0).update(attempts=F("attempts") - 1)
        self.pending().filter(reason=ChangeLog.WORKER_LOST).update(next_attempt_at=None, reason="")

    def postpone(self, *, next_attempt_at: datetime, reason: str) -> None:
        """Let the pending entries wait until next_attempt_at without counting an attempt."""
        self.pending().update(next_attempt_at=next_attempt_at, reason=reason)

    def wake(self) -> int:
        """Let pending entries that wait be due now."""
        return self.pending().exclude(next_attempt_at=None).update(next_attempt_at=None, reason="")

    def retry(self) -> int:
        """Make failed and waiting entries pending from now on, with a fresh count of attempts."""
        return self.unsettled().update(state=ChangeLog.State.PENDING, attempts=0, next_attempt_at=None, reason="")

    def discard(self) -> int:
        """Settle failed and pending entries without copying anything. They keep the reason for which they failed."""
        return self.unsettled().update(state=ChangeLog.State.DISCARDED, synced_at=timezone.now(), next_attempt_at=None)

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
        for state in (ChangeLog.State.SYNCED, ChangeLog.State.SKIPPED, ChangeLog.State.DISCARDED):
            settled = self.filter(state=state)
            for content_type_id in settled.content_type_ids():
                oldest = settled._oldest_first(content_type_id).values_list("id", "date")
                if any(date < before for _, date in oldest[:1]):
                    old = [pk for pk, date in oldest[:limit] if date < before]
                    deleted += self.filter(pk__in=old).delete()[0]
        return deleted

    def content_type_ids(self) -> Iterator[int]:
        """Yield the content types of entries in one state: one lookup in the index for each, however many they are."""
        return distinct_values(self, "content_type_id")

    def _oldest_first(self, content_type_id: int) -> ChangeLogQuerySet:
        of_type = self.filter(content_type_id__gte=content_type_id, content_type_id__lte=content_type_id)
        return of_type.order_by("content_type_id", "id")

    def _settle(self, ids: Collection[int], state: ChangeLog.State, reason: str | models.Case) -> int:
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
        DISCARDED = 5, _("discarded")

    #: The reason of entries whose attempt has begun where workers were lost, and has not ended.
    WORKER_LOST = str(WorkerLost())
    #: The reason of entries that bring LOCAL's state once more, because a handler saved the copy on REMOTE.
    HANDLED = "A signal handler has changed the copy."

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
        default_permissions = ("view",)
        permissions = [
            ("synchronize", "Can synchronize"),
            ("reset", "Can reset the synchronization"),
            ("retry", "Can retry changes"),
            ("discard", "Can discard changes"),
        ]
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
        oldest = self.order_by("id").values_list("id", "date")
        if not any(date < before for _, date in oldest[:1]):
            return 0
        return self.filter(pk__in=[pk for pk, date in oldest[:limit] if date < before]).delete()[0]


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
        default_permissions = ("view",)
        verbose_name = _("attempt")
        verbose_name_plural = _("attempts")
        indexes = [models.Index(fields=["content_type", "object_id", "date"], name="synchro_attempt_object")]

    def __str__(self) -> str:
        return f"{self.content_type.app_label}.{self.content_type.model} {self.object_id}: {self.error}"


class ServerNow(Now):
    """The moment on the clock of the database server, in UTC: one clock for all workers, however wrong theirs are."""

    def as_mysql(self, compiler: Any, connection: BaseDatabaseWrapper, **extra_context: Any) -> Any:
        """Return MySQL's UTC, where Django asks for the time of the session's zone."""
        return self.as_sql(compiler, connection, template="UTC_TIMESTAMP(6)", **extra_context)


class HoldQuerySet(models.QuerySet["Hold"]):
    """What is held back, and whose turn it is to see whether it still has to be."""

    #: The next probe begins so long after the last one has failed.
    _PAUSE = timedelta(seconds=1)
    #: A turn further in the future than this was set before somebody put the server's clock back.
    _CLOCK_WAS_PUT_BACK = timedelta(minutes=1)

    def held(self) -> HoldQuerySet:
        """Select what is held back now, REMOTE as a whole first, with ``is_due``: whether it is time for a probe."""
        return self.annotate(is_due=ExpressionWrapper(self._is_due(), models.BooleanField())).order_by("label")

    def over(self, label: str) -> HoldQuerySet:
        """Select what holds back a model: REMOTE as a whole, or the model itself."""
        return self.held().filter(label__in=["", label])

    def hold(self, label: str, reason: str) -> bool:
        """Hold back a model, or REMOTE as a whole, which has just failed; return whether this is new."""
        failed = {"reason": reason, "next_try_at": ServerNow() + self._PAUSE}
        _, is_new = self.get_or_create(label=label, defaults=failed)
        if not is_new:
            self.filter(label=label).update(**failed)
        return is_new

    def claim_probe(self, label: str, *, longest: timedelta) -> bool:
        """Tell whether the caller is the one who tries now. Of all workers one is, until it has failed.

        Args:
            longest: how long one that dies keeps the others from trying.
        """
        return self.filter(self._is_due(), label=label).update(next_try_at=ServerNow() + longest) > 0

    def pass_on(self, labels: Collection[str]) -> None:
        """Give turns that were claimed to whoever comes next: the caller has nothing to try with."""
        self.filter(label__in=labels).update(next_try_at=ServerNow())

    def release(self, label: str) -> bool:
        """Let everything go on and return whether it was held back until now: of many callers one is told so."""
        return self.filter(label=label).delete()[0] > 0

    def _is_due(self) -> Q:
        return Q(next_try_at__lte=ServerNow()) | Q(next_try_at__gt=ServerNow() + self._CLOCK_WAS_PUT_BACK)


class Hold(models.Model):
    """What workers leave alone for now, although there is something to do: REMOTE as a whole, or one model.

    Entries are not touched by a hold. Somebody tries now and then, and lets go of what works again.
    """

    label = models.CharField(_("model"), max_length=255, primary_key=True, blank=True)
    reason = models.TextField(_("reason"))
    since = models.DateTimeField(_("since"), default=timezone.now)
    next_try_at = models.DateTimeField(_("next try"))

    #: Whether it is time for a probe, where the row was selected by ``held()``.
    is_due: bool

    objects = HoldQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        verbose_name = _("hold")
        verbose_name_plural = _("holds")

    def __str__(self) -> str:
        return f"{self.label or 'REMOTE'}: {self.reason}"


class WaitRow(NamedTuple):
    """The values of a Wait."""

    content_type_id: int
    object_id: str
    for_content_type_id: int
    for_object_id: str


class WaitQuerySet(models.QuerySet["Wait"]):
    """Who waits for whom."""

    def note(self, waits: Sequence[WaitRow]) -> None:
        """Note what objects wait for, instead of what was noted before."""
        names = ("content_type", "object_id", "for_content_type", "for_object_id")
        fields: list[Any] = [Wait._meta.get_field(name) for name in names]
        rows.upsert(Wait, waits, using=self.db, fields=fields, unique=fields[:2], update=fields[2:])

    def settle(self, model: ModelClass, object_ids: Collection[str]) -> list[tuple[ModelClass, str]]:
        """Let objects that have arrived wait no more, and those be due that wait for them; return the latter."""
        type_id = ContentType.objects.db_manager(self.db).get_for_model(model).pk
        self.filter(among("object_id", object_ids), content_type_id=type_id).delete()
        return self.wake(model, object_ids)

    def wake(self, model: ModelClass, object_ids: Collection[str]) -> list[tuple[ModelClass, str]]:
        """Let those be due that wait for any of these objects, and return the first of them."""
        types = ContentType.objects.db_manager(self.db)
        waits = self.filter(among("for_object_id", object_ids), for_content_type_id=types.get_for_model(model).pk)
        woken: list[tuple[ModelClass, str]] = []
        while some := list(waits.values_list("content_type_id", "object_id")[: Wait.AT_ONCE]):
            by_type: dict[int, list[str]] = {}
            for type_id, object_id in some:
                by_type.setdefault(type_id, []).append(object_id)
            for type_id, ids in by_type.items():
                waiting = types.get_for_id(type_id).model_class()
                if waiting is not None:
                    ChangeLog.objects.using(self.db).of_objects(waiting, ids).wake()
                    woken += [(waiting, each) for each in ids[: Wait.NAMED - len(woken)]]
                self.filter(among("object_id", ids), content_type_id=type_id).delete()
        return woken

    def wake_forgotten(self, *, limit: int) -> None:
        """Wake those that wait for objects with nothing more to be done: who settled these did not know of them."""
        types = ContentType.objects.db_manager(self.db)
        by_type: dict[int, set[str]] = {}
        awaited = self.values_list("for_content_type_id", "for_object_id").distinct().order_by()
        for type_id, object_id in awaited[:limit]:
            by_type.setdefault(type_id, set()).add(object_id)
        for type_id, ids in by_type.items():
            model = types.get_for_id(type_id).model_class()
            if model is not None:
                log = ChangeLog.objects.using(self.db).unsettled().of_objects(model, ids)
                self.wake(model, ids.difference(log.values_list("object_id", flat=True)))


class Wait(ObjectRow):
    """An object with pending entries that cannot go before another one has: its parent, or the row in its way."""

    #: So many are woken with one statement, and so many of them are named: of a million one need not tell each.
    AT_ONCE = 1000
    NAMED = 10_000

    object_id = ObjectIdField(_("object id"))
    for_content_type = models.ForeignKey(
        ContentType,
        on_delete=models.CASCADE,
        related_name="+",
        db_index=False,
        db_constraint=False,
        verbose_name=_("model it waits for"),
    )
    for_object_id = ObjectIdField(_("object it waits for"))

    objects = WaitQuerySet.as_manager()

    class Meta:
        default_permissions = ()
        verbose_name = _("waiting object")
        verbose_name_plural = _("waiting objects")
        constraints = [models.UniqueConstraint(fields=["content_type", "object_id"], name="synchro_wait_unique")]
        indexes = [models.Index(fields=["for_content_type", "for_object_id"], name="synchro_wait_for")]

    def __str__(self) -> str:
        return f"{self.content_type.app_label}.{self.content_type.model} {self.object_id}"


class Reference(ObjectRow):
    """This database's primary key of an object and the key of its counterpart at a peer.

    A mirror, written by the peer, whose own key is not known yet has no local_object_id: it is the peer's lock on an
    object that it is about to add. Where two sites synchronize to each other, a row is the reference of one and the
    mirror of the other.
    """

    #: The peer of references to a REMOTE that has no tables of synchro and therefore no identity.
    ANONYMOUS = uuid.UUID(int=0)

    peer = models.UUIDField(_("peer"))
    local_object_id = ObjectIdField(_("local object id"), null=True)
    remote_object_id = ObjectIdField(_("remote object id"))
    #: When the peer's log says that the peer's object was added; NULL where it did not say so.
    added_at = models.DateTimeField(_("added at"), null=True)
    #: The identity under which this database knows that the peer has the mirror. NULL where it does not know that: the
    #: peer wrote the row, or a key told.
    mirrored_as = models.UUIDField(_("mirrored as"), null=True)

    class Meta:
        default_permissions = ("view",)
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
    added_at: datetime | None = None
    mirrored_as: uuid.UUID | None = None


class Option(models.Model):
    """A value that synchro keeps about this database: its identity, whom it synchronizes to, the last check."""

    IDENTITY = "identity"
    RENEWED = "identity_renewed"
    #: When the references of this database were last forgotten, and with them what a peer had mirrored here.
    RESET = "reset"
    #: Identity of the database that this one synchronizes to.
    PEER = "peer"
    LAST_CHECK = "last_check"
    LAST_CHECKPOINT = "last_checkpoint"
    #: The model whose turn was the last one in a run that ended early.
    LAST_MODEL = "last_model"

    key = models.CharField(_("key"), max_length=50, primary_key=True)
    value = models.CharField(_("value"), max_length=255)

    class Meta:
        default_permissions = ()
        verbose_name = _("option")
        verbose_name_plural = _("options")

    def __str__(self) -> str:
        return f"{self.key} = {self.value}"


#: So many comparisons are kept with their numbers.
KEPT_COMPARISONS = 20


class ComparisonQuerySet(models.QuerySet["Comparison"]):
    """Selections of comparisons."""

    #: What was compared longer ago says nothing about today, and least of all after a night.
    _FRESH = timedelta(hours=12)

    def take_over(self, request: dict[str, Any]) -> Comparison | None:
        """Return the newest unfinished comparison with this request, for the caller to go on with, if it is fresh."""
        found = self.filter(pk__in=self._unfinished(request)).order_by("-pk").first()
        if found is None or found.updated_at < timezone.now() - self._FRESH:
            return None
        found.start()
        return found

    def abandon(self, request: dict[str, Any]) -> None:
        """Let nobody go on with unfinished comparisons whose request says this; who is at work on one ends."""
        self.filter(pk__in=self._unfinished(request)).update(state=Comparison.State.ABANDONED, holder="")

    def _unfinished(self, request: dict[str, Any]) -> list[int]:
        states = [Comparison.State.RUNNING, Comparison.State.INTERRUPTED]
        found = self.filter(state__in=states).values_list("pk", "request")
        return [pk for pk, asked in found if {**asked, **request} == asked]

    def prune(self) -> None:
        """Keep the last comparisons."""
        kept = list(self.order_by("-pk").values_list("pk", flat=True)[:KEPT_COMPARISONS])
        self.exclude(pk__in=kept).delete()


class Comparison(models.Model):
    """One comparison of everything on both sides: what was asked, how far it is, and what it found."""

    class State(models.IntegerChoices):
        """Whether it is still at work."""

        RUNNING = 1, _("running")
        INTERRUPTED = 2, _("interrupted")
        FINISHED = 3, _("finished")
        ABANDONED = 4, _("abandoned")

    request = models.JSONField(_("request"), default=dict)
    state = models.PositiveSmallIntegerField(_("state"), choices=State.choices, default=State.RUNNING)
    started_at = models.DateTimeField(_("started at"), default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), default=timezone.now)
    #: The numbers of each model that was begun; the last one may not be complete.
    tallies = models.JSONField(_("numbers"), default=list)
    #: Up to which primary key the last model has been compared.
    position = models.TextField(_("position"), blank=True, default="")
    #: How far the checksums of the last model are, and what they have found so far.
    scan = models.JSONField(_("checksums"), null=True, default=None)
    #: Who is at work: whoever takes a comparison over writes a new name here, and the one before ends.
    holder = models.CharField(_("holder"), max_length=32, blank=True, default="")
    error = models.TextField(_("error"), blank=True, default="")

    objects = ComparisonQuerySet.as_manager()

    class Meta:
        default_permissions = ("view",)
        verbose_name = _("comparison")
        verbose_name_plural = _("comparisons")

    def __str__(self) -> str:
        return f"{self.started_at:%Y-%m-%d %H:%M}: {self.get_state_display()}"

    @property
    def is_dry_run(self) -> bool:
        """Whether nothing is repaired."""
        return bool(self.request.get("dry_run"))

    @property
    def is_at_work(self) -> bool:
        """Whether a process works on it now: one that was killed leaves it running."""
        return self.state == Comparison.State.RUNNING and timezone.now() - self.updated_at < timedelta(minutes=1)

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The numbers of the models about which there is anything to say, and of the one at work."""
        names = ("missing", "different", "deleted", "extra", "failed", "skipped", "error")
        return [each for each in self.tallies if not each["is_finished"] or any(each[name] for name in names)]

    @property
    def compared(self) -> int:
        """How many objects have been compared."""
        return sum(each["compared"] for each in self.tallies)

    @property
    def differences(self) -> int:
        """How many objects differ, whether they were repaired or not."""
        return sum(each[name] for each in self.tallies for name in ("missing", "different", "deleted", "extra"))

    @property
    def repaired(self) -> int:
        """How many objects have been repaired."""
        return sum(each["repaired"] for each in self.tallies)

    def start(self) -> None:
        """Become the one that works on it."""
        self.holder = uuid.uuid4().hex
        self.state = Comparison.State.RUNNING
        self.updated_at = timezone.now()
        self.error = ""
        self.save(using=self._state.db)

    def keep(
        self,
        tallies: list[dict[str, Any]],
        position: str,
        scan: dict[str, Any] | None,
        *,
        state: int = State.RUNNING,
        error: str = "",
    ) -> bool:
        """Keep how far it is; False where somebody else has taken it over."""
        own = Comparison.objects.using(self._state.db).filter(pk=self.pk, holder=self.holder)
        changed = {"tallies": tallies, "position": position, "state": state, "error": error}
        if scan != self.scan:  # it may be large
            changed["scan"] = self.scan = scan
        return own.update(updated_at=timezone.now(), **changed) == 1


class Options:
    """What 0.x kept with django-dbsettings: ``options.last_check``."""

    @property
    def last_check(self) -> datetime | None:
        """When LOCAL was last synchronized; None before the first time.

        Setting it to a moment means: entries dated up to it count as done, entries dated after it are pending again.
        """
        return self._moment(Option.LAST_CHECK)

    @last_check.setter
    def last_check(self, moment: datetime) -> None:
        ChangeLog.objects.using(conf.local).rewind(moment)
        self.checked(moment)

    def checked(self, moment: datetime) -> None:
        """Remember when LOCAL was last synchronized and leave the log as it is."""
        self._keep(Option.LAST_CHECK, moment)

    @property
    def last_checkpoint(self) -> datetime | None:
        """When a worker has last come to the end of a checkpoint; None before the first time."""
        return self._moment(Option.LAST_CHECKPOINT)

    def checkpoint_ended(self, moment: datetime) -> None:
        """Remember when a checkpoint has ended, whatever it could do."""
        self._keep(Option.LAST_CHECKPOINT, moment)

    def _moment(self, key: str) -> datetime | None:
        row = Option.objects.using(conf.local).filter(key=key).first()
        return parse_datetime(row.value) if row else None

    def _keep(self, key: str, moment: datetime) -> None:
        text = moment.isoformat(timespec="microseconds")
        Option.objects.using(conf.local).update_or_create(key=key, defaults={"value": text})


options = Options()
