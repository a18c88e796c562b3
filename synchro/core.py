"""The public functions of django-synchro 0.x, under the names that they had there."""

from __future__ import annotations

from uuid import UUID

from django.core.management import call_command
from django.db import transaction
from django.utils import timezone

from synchro.conf import conf
from synchro.engine import renew_identity as _renew_identity
from synchro.models import ChangeLog, Reference, options
from synchro.natural_keys import NaturalKeyModel, NaturalManager, natural_manager
from synchro.pausing import DisableSynchroLog, disable_synchro_log

__all__ = [
    "DisableSynchroLog",
    "NaturalKeyModel",
    "NaturalManager",
    "call_synchronize",
    "disable_synchro_log",
    "natural_manager",
    "renew_identity",
    "reset_synchro",
]


def call_synchronize() -> str:
    """Synchronize everything that is pending and return the message for the user.

    Raises:
        SynchroError: there is no REMOTE, or objects failed.
    """
    message: str = call_command("synchronize", verbosity=0)
    return message


def reset_synchro() -> None:
    """Forget LOCAL's log and references, as if everything had just been synchronized.

    The mirrors of the references on REMOTE stay, so that nothing is doubled afterwards.
    """
    local = conf.local
    with transaction.atomic(using=local):
        ChangeLog.objects.using(local).all().delete()
        Reference.objects.using(local).all().delete()
        options.checked(timezone.now())


def renew_identity(*, using: str | None = None) -> UUID:
    """Give a database that was restored from a copy of another one an identity of its own.

    Args:
        using: alias of the copy (default: LOCAL).
    """
    return _renew_identity(using or conf.local)
