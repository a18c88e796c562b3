"""The page that shows how far the synchronization is, with the buttons to synchronize and to reset."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Self

from django.contrib import admin, messages
from django.contrib.admin.views.decorators import staff_member_required
from django.core.exceptions import PermissionDenied
from django.db import connections, transaction
from django.db.models import Min
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_protect
from django.views.generic import TemplateView

from synchro.conf import conf
from synchro.core import call_synchronize, database_errors_explained, reset_synchro
from synchro.engine.errors import describe
from synchro.exceptions import ObjectsFailed, ResetNotAllowed, SynchroError
from synchro.models import ChangeLog, options

logger = logging.getLogger(__name__)

VIEW = "synchro.view_changelog"
SYNCHRONIZE = "synchro.synchronize"
RESET = "synchro.reset"

#: How many objects that failed the page names; the list of attempts has them all.
_NAMED_FAILURES = 10


@dataclass(frozen=True, slots=True)
class Status:
    """What the page shows of LOCAL's log."""

    remote: str | None
    last_check: datetime | None
    oldest_pending: datetime | None
    #: Number of entries in each state that a few are in. Counting the synced ones would read the whole log.
    counts: dict[ChangeLog.State, int]

    @classmethod
    def read(cls) -> Self:
        """Read it from LOCAL; REMOTE is not asked."""
        log = ChangeLog.objects.using(conf.local)
        shown = [state for state in ChangeLog.State if state != ChangeLog.State.SYNCED]
        return cls(
            counts={state: log.filter(state=state).count() for state in shown},
            oldest_pending=log.pending().aggregate(oldest=Min("date"))["oldest"],
            remote=conf.remote,
            last_check=options.last_check,
        )

    @property
    def pending(self) -> int:
        """The number of changes that have not arrived on REMOTE."""
        return self.counts[ChangeLog.State.PENDING]

    @property
    def failed(self) -> int:
        """The number of changes that were given up."""
        return self.counts[ChangeLog.State.FAILED]


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
        elif "reset" in request.POST:
            self._perform(self._reset, RESET)
        else:
            return HttpResponseBadRequest()
        return HttpResponseRedirect(request.get_full_path())

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        """Add what the admin's base template needs, the status, and which buttons to show."""
        status = self._guarded(Status.read)
        may = self.request.user.has_perm
        return super().get_context_data(
            **admin.site.each_context(self.request),
            title=_("Synchronization"),
            status=status,
            may_view_log=may(VIEW),
            may_synchronize=may(SYNCHRONIZE) and status is not None and status.remote is not None,
            may_reset=may(RESET) and self._guarded(lambda: conf.allow_reset),
            **kwargs,
        )

    def _perform(self, action: Callable[[], str], permission: str) -> None:
        if not self.request.user.has_perm(permission):
            raise PermissionDenied
        message = self._guarded(action)
        if message is not None:
            messages.success(self.request, message)

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
        logger.error("page failed error=%s", sentence, exc_info=not isinstance(error, SynchroError))
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
