"""The page that shows how far the synchronization is, with the buttons to synchronize and to reset."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.contrib import admin, messages
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.generic import TemplateView

from synchro import audit, compare
from synchro.conf import conf
from synchro.core import call_synchronize, database_errors_explained, reset_synchro
from synchro.engine.errors import describe, frames
from synchro.exceptions import ObjectsFailed, ResetNotAllowed, SynchroError
from synchro.inspection import COUNTED, Status
from synchro.models import Comparison

logger = logging.getLogger(__name__)

VIEW = "synchro.view_changelog"
SYNCHRONIZE = "synchro.synchronize"
RESET = "synchro.reset"

#: How many objects that failed the page names; the list of attempts has them all.
_NAMED_FAILURES = 10
#: How many comparisons the page shows.
_SHOWN_COMPARISONS = 5


def _last_comparisons() -> list[Comparison]:
    return list(Comparison.objects.using(conf.local).order_by("-pk")[:_SHOWN_COMPARISONS])


@method_decorator([never_cache, csrf_protect, staff_member_required], name="dispatch")
class SynchroView(TemplateView):
    """For members of the staff who may view the log, synchronize, or reset: each button asks for its own permission.

    Errors become messages without values of rows or addresses of databases; with SYNCHRO_DEBUG they are raised.
    """

    template_name = "synchro/synchro.html"

    @classmethod
    def as_view(cls, **initkwargs: Any) -> Callable[..., HttpResponse]:
        """Return the view, which ATOMIC_REQUESTS leaves alone: LOCAL must not wait in a transaction for REMOTE."""
        view: Any = super().as_view(**initkwargs)
        for alias in connections:
            view = transaction.non_atomic_requests(alias)(view)
        return view

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        """Let in whoever may do at least one of the things on the page."""
        if not any(request.user.has_perm(permission) for permission in (VIEW, SYNCHRONIZE, RESET)):
            raise PermissionDenied
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Do what the button says, and show the page again."""
        if "synchro" in request.POST:
            self._perform(self._synchronize, SYNCHRONIZE)
        elif "compare" in request.POST:
            self._compare(compare.Request(dry_run=True))
        elif "repair" in request.POST:
            self._compare(compare.Request())
        elif "reset" in request.POST:
            self._perform(self._reset, RESET)
        else:
            return HttpResponseBadRequest()
        return HttpResponseRedirect(request.get_full_path())

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add what the admin's base template needs, the status, and which buttons to show."""
        status = self._guarded(Status.read)
        comparisons = _last_comparisons() if status is not None else []
        may = self.request.user.has_perm
        return super().get_context_data(
            **admin.site.each_context(self.request),
            title=_("Synchronization"),
            status=status,
            counted=COUNTED,
            comparisons=comparisons,
            is_comparing=any(each.is_at_work for each in comparisons),
            may_view_log=may(VIEW),
            may_synchronize=may(SYNCHRONIZE) and status is not None and status.remote is not None,
            may_compare=compare.can_queue(),
            may_reset=may(RESET) and self._guarded(lambda: conf.allow_reset),
            **kwargs,
        )

    def _compare(self, request: compare.Request) -> None:
        restart = "restart" in self.request.POST
        self._perform(lambda: compare.queue(request, restart=restart), SYNCHRONIZE)

    def _perform(self, action: Callable[[], str], permission: str) -> None:
        if not self.request.user.has_perm(permission):
            raise PermissionDenied
        sentence = self._guarded(action)
        if sentence is not None:
            messages.success(self.request, sentence)
        # What failed in the end may have done something, too.
        audit.record(self.request.user, f"{permission}: {sentence or _('failed')}")

    def _guarded(self, action: Callable[[], Any]) -> Any:
        """Return the action's result, or None after an error, which is shown as a message."""
        try:
            with database_errors_explained():
                return action()
        except Exception as error:
            if conf.debug:
                raise
            self._show(error)
            return None

    def _show(self, error: Exception) -> None:
        if isinstance(error, ObjectsFailed):
            self._show_failures(error)
            return
        sentence = describe(error)
        if isinstance(error, SynchroError):
            logger.error("page failed error=%s", sentence)
        else:  # the message of an unforeseen error may quote anything
            logger.error("page failed error=%s\n%s", sentence, frames(error))
        messages.error(self.request, sentence)

    def _show_failures(self, error: ObjectsFailed) -> None:
        messages.error(self.request, error.summary)
        for failure in error.failures[:_NAMED_FAILURES]:
            messages.warning(self.request, f"• {failure}")  # the admin capitalizes the first character
        if more := len(error.failures[_NAMED_FAILURES:]):
            sentence = ngettext(
                "%(count)d more is in the list of attempts.", "%(count)d more are in the list of attempts.", more
            )
            messages.warning(self.request, sentence % {"count": more})

    @staticmethod
    def _synchronize() -> str:
        return call_synchronize()

    @staticmethod
    def _reset() -> str:
        if not conf.allow_reset:
            raise ResetNotAllowed
        reset_synchro()
        return _("Synchronization has been reset.")
