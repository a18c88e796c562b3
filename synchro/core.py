"""The public functions of django-synchro 0.x, under the names that they had there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import UUID

from django.db import Error as AnyDatabaseError
from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from synchro import engine
from synchro.conf import conf
from synchro.engine.errors import describe, is_transient
from synchro.exceptions import ObjectsFailed, SynchroError, TransientError
from synchro.models import ChangeLog, Comparison, Option, Reference, options
from synchro.natural_keys import NaturalKeyModel, NaturalManager, natural_manager
from synchro.pausing import DisableSynchroLog, disable_synchro_log

__all__ = [
    "DisableSynchroLog",
    "NaturalKeyModel",
    "NaturalManager",
    "call_synchronize",
    "conclude",
    "database_errors_explained",
    "disable_synchro_log",
    "natural_manager",
    "renew_identity",
    "reset_synchro",
    "synchronize",
]


def call_synchronize() -> str:
    """Bring everything that is pending to REMOTE and return the message for the user.

    Raises:
        NoRemote, SettingError: there is no REMOTE, or a setting is wrong.
        SynchroError: a database cannot be used; what has not arrived stays pending. A TransientError if that may pass.
        ObjectsFailed: some objects could not be copied; all others were.
    """
    return conclude(synchronize())


def synchronize(*, on_progress: Callable[[int], None] | None = None) -> engine.Report:
    """Bring everything that is pending to REMOTE and return what was done.

    Args:
        on_progress: called after each batch with the number of log entries that it settled.

    Raises:
        SynchroError: nothing more could be done; objects that failed are in the report instead.
    """
    with database_errors_explained():
        return engine.sync_pending(on_progress=on_progress)


@contextmanager
def database_errors_explained() -> Iterator[None]:
    """Turn errors of either database into a SynchroError with a sentence that shows neither values nor addresses."""
    try:
        yield
    except (AnyDatabaseError, OSError) as error:
        kind = TransientError if is_transient(error) else SynchroError
        raise kind(
            _("A database could not be used: %(reason)s Everything that has not arrived stays pending.")
            % {"reason": _sentence(describe(error))}
        ) from error


def conclude(report: engine.Report) -> str:
    """Return the message for the user.

    Raises:
        ObjectsFailed: the report has failures, or models that are held.
    """
    lines = [f"{label}: {reason}" for label, reason in sorted(report.held.items())]
    if count := len(report.failures):
        summary = ngettext(
            "%(count)d object could not be synchronized (everything else was):",
            "%(count)d objects could not be synchronized (everything else was):",
            count,
        )
        lines += [f"{each.model} {each.object_id}: {each.error}" for each in report.failures]
        raise ObjectsFailed(summary % {"count": count}, failures=lines)
    if lines:
        summary = _("Models with a missing table or column could not be synchronized (everything else was):")
        raise ObjectsFailed(summary, failures=lines)
    if report.is_empty:
        return _("No changes since last synchronization.")
    return _("Synchronization performed successfully.")


def reset_synchro() -> None:
    """Forget LOCAL's log and references, as if everything had just been synchronized.

    The mirrors of the references on REMOTE stay, so that nothing is doubled afterwards.
    """
    local = conf.local
    with transaction.atomic(using=local):
        ChangeLog.objects.using(local).all().delete()
        Reference.objects.using(local).all().delete()
        Comparison.objects.using(local).abandon({})
        now = timezone.now()
        Option.objects.using(local).update_or_create(key=Option.RESET, defaults={"value": now.isoformat()})
        options.checked(now)


def renew_identity(*, using: str | None = None) -> UUID:
    """Give a database that was restored from a copy of another one, or from an older backup, another identity.

    What it has in common with the other side stays known as the same objects. If it is a copy of the other side, its
    log keeps what was changed on the copy. If it is an older copy of itself, what it has lost stays on the other side
    as that side's own, and what is added from now on is something else, whatever its primary keys.

    Args:
        using: alias of the copy (default: LOCAL).

    Raises:
        SynchroError: the other side does not answer, so that nobody can tell.
    """
    with database_errors_explained():
        return engine.renew_identity(using or conf.local)


def _sentence(text: str) -> str:
    return text if text.endswith((".", "!", "?")) else f"{text}."
