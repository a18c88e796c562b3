"""Having somebody else do the comparison."""

from __future__ import annotations

from dataclasses import asdict

from django.utils.translation import gettext as _

from synchro.compare.request import Pace, Request, chosen_models
from synchro.conf import conf
from synchro.exceptions import SynchroError, TransientError
from synchro.models import Comparison
from synchro.signals import comparison_requested


def is_possible() -> bool:
    """Tell whether anybody takes comparisons: the app synchro_tasks does."""
    return comparison_requested.has_listeners(Comparison)


def queue(request: Request, *, batch_size: int | None = None, sleep: float = 0.0, restart: bool = False) -> str:
    """Hand a comparison over to the workers and return the message for the user.

    Args:
        restart: begin anew. What is unfinished is abandoned here, once: a broker may deliver the task of a long
            comparison again, which must go on.

    Raises:
        SynchroError: nobody takes it, or a setting or the request is wrong. A TransientError if the broker is away.
    """
    conf.require_remote()
    pace = Pace(batch_size, sleep)
    chosen_models(request.models)
    if not is_possible():
        raise SynchroError(_("Comparing in the background needs the app synchro_tasks and a Celery worker."))
    if restart:
        Comparison.objects.using(conf.local).abandon(request.as_plain())
    answers = comparison_requested.send(Comparison, request=request.as_plain(), pace=asdict(pace))
    if not any(queued for _receiver, queued in answers):
        raise TransientError(_("The broker does not take tasks now, so nothing was queued. Try again."))
    return _("The comparison was queued. Its progress is shown on the page of synchro in the admin.")
