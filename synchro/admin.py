"""Lists of the log, the failed attempts and the references on LOCAL, and what happened to each object.

Nobody changes a row by hand: there are actions, each with its own permission and each written to Django's admin log.
Objects are named by model and primary key. Their own ``__str__`` is never called: it may cost a query for each row, or
raise, and the object may be gone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlencode

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.utils import quote, unquote
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.core.paginator import Paginator
from django.db import connections, transaction
from django.db.models import Model, Q, QuerySet
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.template.loader import render_to_string
from django.template.response import TemplateResponse
from django.urls import NoReverseMatch, URLPattern, path, reverse
from django.utils.functional import cached_property
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from synchro import audit, inspection
from synchro.conf import conf
from synchro.exceptions import SettingError, SynchroError
from synchro.lookups import distinct_values
from synchro.models import Attempt, ChangeLog, ChangeLogQuerySet, Comparison, Reference
from synchro.registry import model_label, watched_model, watched_models

_EMPTY = "-"
_SHORT = 80
#: Lists end after so many rows: counting and paging through millions would read them all.
_LISTED = 10_000


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


class StateFilter(admin.SimpleListFilter):
    """Choose the entries of a state; pending ones also by what they wait for."""

    title = _("state")
    parameter_name = "is"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        """Return the names of the selections of the log."""
        return [
            ("pending", _("pending")),
            ("retrying", _("pending: being retried")),
            ("waiting", _("pending: waiting")),
            ("failed", _("failed")),
            ("skipped", _("skipped")),
            ("discarded", _("discarded")),
            ("synced", _("synced")),
        ]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Keep the entries of the selection."""
        name = self.value()
        return getattr(queryset, name)() if name in dict(self.lookup_choices) else queryset


class BoundedPaginator(Paginator):
    """Counts no further than the list goes."""

    @cached_property
    def count(self) -> int:
        """The number of rows, at most _LISTED."""
        rows: Any = self.object_list
        return rows.order_by()[:_LISTED].count()

    @property
    def is_capped(self) -> bool:
        """Whether there may be more rows than the list shows."""
        return self.count >= _LISTED


class ReadOnlyAdmin(admin.ModelAdmin):
    """Nobody changes a row."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Rows are written by synchro only."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows are written by synchro only."""
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Model | None = None) -> bool:
        """Rows are deleted by synchro only."""
        return False


class ObjectRowAdmin(ReadOnlyAdmin):
    """What the lists have in common: read only, on LOCAL, newest first, and nothing that grows with the table."""

    change_list_template = "synchro/list.html"
    paginator = BoundedPaginator
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
        return self.indexed(queryset).filter(Q(*alternatives, _connector=Q.OR)), False

    def indexed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Name every model, without which no index helps to find an object id."""
        types = ContentType.objects.using(queryset.db).values_list("pk", flat=True)
        return queryset.filter(content_type_id__in=list(types))

    @admin.display(description=_("date"))
    def moment(self, row: Any) -> str:
        """Return the date to the second."""
        return format_html('<span class="nowrap">{}</span>', inspection.moment_text(row.date))

    @admin.display(description=_("model"))
    def model_label(self, row: Any) -> str:
        """Return the label of the row's model, also of one that is no longer installed."""
        return inspection.label_of(row.content_type)

    @admin.display(description=_("history"))
    def history_link(self, row: Any) -> str:
        """Return a link to what happened to the object."""
        object_id = row.local_object_id if isinstance(row, Reference) else row.object_id
        url = self.history_url(row.content_type, object_id)
        return format_html('<a href="{}">{}</a>', url, _("Show")) if url else _EMPTY

    def history_url(self, content_type: ContentType, object_id: str | None) -> str | None:
        """Return the address of an object's history; None of a model that is no longer installed."""
        model = content_type.model_class()
        if model is None or object_id is None:
            return None
        page = reverse(f"{self.admin_site.name}:synchro_changelog_object")
        return f"{page}?{urlencode({'model': model_label(model), 'pk': object_id})}"

    def object_link(self, row: Any, object_id: str | None) -> str:
        """Return the object's primary key, with a link to the object's own page in this admin if it has one."""
        if object_id is None:
            return _EMPTY
        short = Truncator(object_id).chars(_SHORT)
        url = self.object_url(row.content_type.model_class(), object_id)
        return format_html('<a href="{}">{}</a>', url, short) if url else short

    def object_url(self, model: type[Model] | None, object_id: str) -> str | None:
        """Return the address of the object's own page in this admin, if it has one."""
        if model is None or not self.admin_site.is_registered(model):
            return None
        name = f"{self.admin_site.name}:{model._meta.app_label}_{model._meta.model_name}_change"
        try:
            return reverse(name, args=[quote(object_id)])
        except NoReverseMatch:
            return None


@admin.register(ChangeLog)
class ChangeLogAdmin(ObjectRowAdmin):
    """The log of changes, what happened to each object, and what operators may do about it."""

    change_form_template = "synchro/changelog_form.html"
    actions = ("retry", "retry_kinds", "discard")
    list_display = (
        "moment",
        "model_label",
        "linked_object",
        "history_link",
        "action",
        "progress",
        "short_reason",
    )
    list_filter = (StateFilter, WatchedModelFilter)
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

    def get_fields(self, request: HttpRequest, obj: Model | None = None) -> Any:
        """Leave the natural keys of deleted objects out: they are made of values, such as an e-mail address."""
        return [name for name in self.fields if name != "natural_key" or conf.log_values]

    @admin.display(description=_("object id"))
    def linked_object(self, row: ChangeLog) -> str:
        """Return the changed object."""
        deleted = row.action == ChangeLog.Action.DELETE
        return Truncator(row.object_id).chars(_SHORT) if deleted else self.object_link(row, row.object_id)

    @admin.display(description=_("state"))
    def progress(self, row: ChangeLog) -> str:
        """Return the state, how often it was tried, and when it is tried next."""
        state = row.get_state_display()
        if row.attempts:
            state = f"{state} ({row.attempts})"
        if row.next_attempt_at is None:
            return state
        moment = format_html('<span class="nowrap">{}</span>', inspection.moment_text(row.next_attempt_at))
        sentence = gettext("%(state)s until %(moment)s") % {"state": "{state}", "moment": "{moment}"}
        return format_html(sentence, state=state, moment=moment)

    @admin.display(description=_("reason"))
    def short_reason(self, row: ChangeLog) -> str:
        """Return the beginning of the reason."""
        return Truncator(row.reason).chars(_SHORT)

    # Pages

    def get_urls(self) -> list[URLPattern]:
        """Add the page about an object. ATOMIC_REQUESTS leaves it alone: LOCAL must not wait there for REMOTE."""
        view: Any = self.admin_site.admin_view(self.object_view)
        for alias in connections:
            view = transaction.non_atomic_requests(alias)(view)
        return [path("object/", view, name="synchro_changelog_object"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Add the attempts at the object, and the way to its history."""
        entry = self.get_object(request, unquote(object_id))
        context: dict[str, Any] = {}
        if entry is not None:
            context["history_url"] = self.history_url(entry.content_type, entry.object_id)
            context["attempts"] = inspection.attempts_at(entry)
        return super().change_view(request, object_id, form_url, {**context, **(extra_context or {})})

    def object_view(self, request: HttpRequest) -> HttpResponse:
        """Show what happened to an object, or do something about its changes that have not arrived."""
        if not self.has_view_permission(request):
            raise PermissionDenied
        try:
            model = inspection.find_model(request.GET.get("model", ""))
        except SynchroError as error:
            raise Http404(str(error)) from None
        object_id = request.GET.get("pk", "")
        if request.method == "POST":
            return self._act_on_object(request, inspection.choose(objects=[(model, object_id)]))
        history = inspection.explain(model, object_id)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": f"{history.label} {Truncator(history.object_id).chars(_SHORT)}",
            "history": history,
            "object_url": self.object_url(model, history.object_id),
            "values_are_hidden": not conf.log_values,
            "may_retry": self.has_retry_permission(request),
            "may_discard": self.has_discard_permission(request),
        }
        return TemplateResponse(request, "synchro/object.html", context)

    def _act_on_object(self, request: HttpRequest, entries: ChangeLogQuerySet) -> HttpResponse:
        if "retry" in request.POST and self.has_retry_permission(request):
            self._retry(request, entries)
        elif "discard" in request.POST and self.has_discard_permission(request):
            self._discard(request, entries)
        elif "retry" in request.POST or "discard" in request.POST:
            raise PermissionDenied
        else:
            return HttpResponseBadRequest()
        return HttpResponseRedirect(request.get_full_path())

    # Actions

    def has_retry_permission(self, request: HttpRequest) -> bool:
        """Whether the user may have changes tried again."""
        return request.user.has_perm("synchro.retry")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        """Whether the user may give up changes."""
        return request.user.has_perm("synchro.discard")

    @admin.action(permissions=["retry"], description=_("Retry the selected changes now"))
    def retry(self, request: HttpRequest, queryset: ChangeLogQuerySet) -> None:
        """Have the selected entries tried again."""
        self._retry(request, queryset)

    @admin.action(permissions=["retry"], description=_("Retry all changes of this kind: same model, same reason"))
    def retry_kinds(self, request: HttpRequest, queryset: ChangeLogQuerySet) -> None:
        """Have the selected entries tried again, and all others that did not arrive for the same reasons."""
        self._perform(request, queryset.stuck(), inspection.retry_kinds, inspection.retried)

    @admin.action(permissions=["discard"], description=_("Discard the selected changes"))
    def discard(self, request: HttpRequest, queryset: ChangeLogQuerySet) -> HttpResponse | None:
        """Ask, and give up the selected entries."""
        if "sure" in request.POST:
            self._discard(request, queryset)
            return None
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": gettext("Discard changes"),
            "count": queryset.unsettled().count(),
            "selected": request.POST.getlist(ACTION_CHECKBOX_NAME),
            "select_across": request.POST.get("select_across", "0"),
            "action_checkbox_name": ACTION_CHECKBOX_NAME,
        }
        return TemplateResponse(request, "synchro/discard.html", context)

    def _retry(self, request: HttpRequest, entries: ChangeLogQuerySet) -> None:
        self._perform(request, entries.unsettled(), inspection.retry, inspection.retried)

    def _discard(self, request: HttpRequest, entries: ChangeLogQuerySet) -> None:
        self._perform(request, entries.unsettled(), inspection.discard, inspection.discarded)

    def _perform(
        self,
        request: HttpRequest,
        entries: ChangeLogQuerySet,
        action: Callable[[ChangeLogQuerySet], int],
        describe: Callable[[int], str],
    ) -> None:
        """Do something with entries, tell how many they were, and write it to the admin log."""
        some = list(entries.select_related("content_type")[: audit.MOST + 1])
        if not (count := action(entries)):
            self.message_user(request, gettext("None of these changes is pending or failed."), messages.WARNING)
            return
        sentence = describe(count)
        audit.record(request.user, sentence, some)
        self.message_user(request, sentence, messages.SUCCESS)


@admin.register(Attempt)
class AttemptAdmin(ObjectRowAdmin):
    """The failed attempts."""

    list_display = ("moment", "model_label", "linked_object", "history_link", "error", "short_message", "task_id")
    list_filter = (WatchedModelFilter,)
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

    list_display = ("model_label", "linked_object", "history_link", "remote_object_id", "peer")
    list_filter = (WatchedModelFilter,)
    search_fields = ["local_object_id", "remote_object_id"]
    fields = ("model_label", "linked_object", "remote_object_id", "peer")
    readonly_fields = ("model_label", "linked_object")

    @admin.display(description=_("local object id"))
    def linked_object(self, row: Reference) -> str:
        """Return the object on LOCAL."""
        return self.object_link(row, row.local_object_id)

    def indexed(self, queryset: QuerySet[Any]) -> QuerySet[Any]:
        """Name every model and every peer."""
        peers = distinct_values(Reference.objects.using(queryset.db).all(), "peer")
        return super().indexed(queryset).filter(peer__in=list(peers))


@admin.register(Comparison)
class ComparisonAdmin(ReadOnlyAdmin):
    """The last comparisons: what was asked, how far they are, and what they found."""

    ordering = ("-id",)
    sortable_by = ()
    show_full_result_count = False
    list_display = ("started_at", "kind", "state", "compared", "differences", "repaired", "error")
    fields = ("started_at", "updated_at", "kind", "request", "state", "report", "error")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Read LOCAL, whatever the routers say."""
        return super().get_queryset(request).using(conf.local).defer("scan")

    @admin.display(description=_("kind"))
    def kind(self, row: Comparison) -> str:
        """Return whether differences were repaired."""
        return gettext("Compared") if row.is_dry_run else gettext("Compared and repaired")

    @admin.display(description=_("compared"))
    def compared(self, row: Comparison) -> int:
        """Return how many objects have been compared."""
        return row.compared

    @admin.display(description=_("different"))
    def differences(self, row: Comparison) -> int:
        """Return how many objects differ."""
        return row.differences

    @admin.display(description=_("repaired"))
    def repaired(self, row: Comparison) -> int:
        """Return how many objects have been repaired."""
        return row.repaired

    @admin.display(description=_("numbers"))
    def report(self, row: Comparison) -> str:
        """Return the numbers of all models."""
        return format_html(
            "<table>{}</table>", render_to_string("synchro/includes/numbers.html", {"rows": row.tallies})
        )
