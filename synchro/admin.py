"""Read-only lists of the log, the failed attempts and the references on LOCAL.

Objects are named by model and primary key. Their own ``__str__`` is never called: it may cost a query for each row, or
raise, and the object may be gone.
"""

from __future__ import annotations

from typing import Any

from django.contrib import admin
from django.contrib.admin.utils import quote
from django.contrib.contenttypes.models import ContentType
from django.db.models import Model, Q, QuerySet
from django.http import HttpRequest
from django.urls import NoReverseMatch, reverse
from django.utils import timezone
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from synchro.conf import conf
from synchro.exceptions import SettingError
from synchro.models import Attempt, ChangeLog, Reference
from synchro.registry import model_label, watched_model, watched_models

_EMPTY = "-"
_SHORT = 80


class WatchedModelFilter(admin.SimpleListFilter):
    """Choose one of the watched models. The choices come from the settings and cost no query."""

    title = _("model")
    parameter_name = "model"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        """Return the labels of the watched models."""
        try:
            labels = sorted(map(model_label, watched_models()))
        except SettingError:
            return []  # the system check tells what is wrong; the list itself still works
        return [(label, label) for label in labels]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the rows of the chosen model."""
        label = self.value()
        if label not in dict(self.lookup_choices):
            return queryset
        types = ContentType.objects.db_manager(queryset.db)
        return queryset.filter(content_type=types.get_for_model(watched_model(label)))


class ObjectRowAdmin(admin.ModelAdmin):
    """What the lists have in common: read only, on LOCAL, newest first, and nothing that grows with the table."""

    ordering = ("-id",)
    sortable_by = ()
    list_select_related = ("content_type",)
    show_full_result_count = False
    show_facets = admin.ShowFacets.NEVER
    #: The fields with object ids, in which the search looks for exactly what was typed.
    search_fields = ["object_id"]
    search_help_text = _("Exact object id")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read LOCAL, whatever the routers say."""
        return super().get_queryset(request).using(conf.local).select_related("content_type")

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Find an object id as a whole: it may contain spaces and quotes."""
        if not search_term:
            return queryset, False
        alternatives = [Q(**{name: search_term}) for name in self.search_fields]
        return queryset.filter(Q(*alternatives, _connector=Q.OR)), False

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows are written by synchro only."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows are written by synchro only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows are deleted by synchro only."""
        return False

    @admin.display(description=_("date"))
    def moment(self, row: Any) -> str:
        """Return the date to the second; many changes happen in a minute."""
        here = timezone.localtime(row.date) if timezone.is_aware(row.date) else row.date
        return format_html('<span class="nowrap">{}</span>', date_format(here, "Y-m-d H:i:s"))

    @admin.display(description=_("model"))
    def model_label(self, row: Any) -> str:
        """Return the label of the row's model, also of one that is no longer installed."""
        model = row.content_type.model_class()
        return model_label(model) if model else f"{row.content_type.app_label}.{row.content_type.model}"

    def object_link(self, row: Any, object_id: str | None) -> str:
        """Return the object's primary key, with a link to the object's own page in this admin if it has one."""
        if object_id is None:
            return _EMPTY
        short = Truncator(object_id).chars(_SHORT)
        url = self._object_url(row.content_type.model_class(), object_id)
        return format_html('<a href="{}">{}</a>', url, short) if url else short

    def _object_url(self, model: type[Model] | None, object_id: str) -> str | None:
        if model is None or not self.admin_site.is_registered(model):
            return None
        name = f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
        try:
            return reverse(name, args=[quote(object_id)])
        except NoReverseMatch:
            return None


@admin.register(ChangeLog)
class ChangeLogAdmin(ObjectRowAdmin):
    """The log of changes."""

    change_list_template = "synchro/changelog_list.html"
    list_display = (
        "moment",
        "model_label",
        "linked_object",
        "action",
        "state",
        "attempts",
        "next_attempt_at",
        "short_reason",
    )
    list_filter = ("state", "action", WatchedModelFilter, "date")
    fields = (
        "date",
        "model_label",
        "linked_object",
        "action",
        "natural_key",
        "state",
        "synced_at",
        "attempts",
        "next_attempt_at",
        "reason",
    )
    readonly_fields = ("model_label", "linked_object")

    @admin.display(description=_("object id"))
    def linked_object(self, row: ChangeLog) -> str:
        """Return the changed object."""
        deleted = row.action == ChangeLog.Action.DELETE
        return Truncator(row.object_id).chars(_SHORT) if deleted else self.object_link(row, row.object_id)

    @admin.display(description=_("reason"))
    def short_reason(self, row: ChangeLog) -> str:
        """Return the beginning of the reason."""
        return Truncator(row.reason).chars(_SHORT)


@admin.register(Attempt)
class AttemptAdmin(ObjectRowAdmin):
    """The failed attempts."""

    list_display = ("moment", "model_label", "linked_object", "error", "short_message", "task_id")
    list_filter = (WatchedModelFilter, "date")
    fields = ("date", "model_label", "linked_object", "error", "message", "folded_traceback", "task_id")
    readonly_fields = ("model_label", "linked_object", "folded_traceback")

    @admin.display(description=_("object id"))
    def linked_object(self, row: Attempt) -> str:
        """Return the object that was tried."""
        return self.object_link(row, row.object_id)

    @admin.display(description=_("message"))
    def short_message(self, row: Attempt) -> str:
        """Return the beginning of the message."""
        return Truncator(row.message).chars(_SHORT)

    @admin.display(description=_("traceback"))
    def folded_traceback(self, row: Attempt) -> str:
        """Return the traceback behind a word to click on."""
        if not row.traceback:
            return _EMPTY
        return format_html("<details><summary>{}</summary><pre>{}</pre></details>", _("Show"), row.traceback)


@admin.register(Reference)
class ReferenceAdmin(ObjectRowAdmin):
    """Which object of LOCAL is which at a peer."""

    list_display = ("model_label", "linked_object", "remote_object_id", "peer")
    list_filter = (WatchedModelFilter,)
    search_fields = ["local_object_id", "remote_object_id"]
    fields = ("model_label", "linked_object", "remote_object_id", "peer")
    readonly_fields = ("model_label", "linked_object")

    @admin.display(description=_("local object id"))
    def linked_object(self, row: Reference) -> str:
        """Return the object on LOCAL."""
        return self.object_link(row, row.local_object_id)
