"""Leaving REMOTE, or one model, alone while it cannot be used.

What is held is a row on LOCAL that all workers share. A process looks for such rows before its first task. If there is
none it asks nobody any more: it learns by its own first failure, and from then on looks before it tries, until it finds
that the hold is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

from django.contrib.contenttypes.fields import GenericForeignKey
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils.translation import gettext as _

from synchro.conf import conf
from synchro.engine import errors, timeouts
from synchro.engine.timeouts import bounded
from synchro.exceptions import Held
from synchro.models import ChangeLog, Hold, Option, Reference
from synchro.registry import ModelClass, keys_to, many_to_many_of, model_label, watched_models
from synchro.signals import synchro_alarm

logger = logging.getLogger(__name__)

#: The label of REMOTE as a whole.
REMOTE = ""
#: Those of synchro's tables that are used on REMOTE, where it has them.
_ON_REMOTE = (Option, Reference, ChangeLog)

#: What this process knows to be held, and whether it has asked for it once.
_met: set[str] = set()
_has_looked = False


def check(label: str) -> bool:
    """Return whether it is the caller's turn to see if something that is held back works again; False if nothing is.

    Who finds that there is nothing to try with passes the turn on.

    Raises:
        Held: REMOTE, or the model, is left alone.
    """
    _look_once()
    concerned = _met & {REMOTE, label}
    if not concerned:
        return False
    holds = list(Hold.objects.using(conf.local).over(label))
    _met.difference_update(concerned.difference(hold.label for hold in holds))
    claimed: list[str] = []
    for hold in holds:
        if not _claim(hold):
            pass_on(*claimed)
            raise left_alone(hold.label, hold.reason)
        claimed.append(hold.label)
    return bool(claimed)


def pass_on(*labels: str) -> None:
    """Let whoever comes next try what it was the caller's turn to try."""
    if labels:
        Hold.objects.using(conf.local).pass_on(labels)


def labels() -> set[str]:
    """Return what is held back now, and leave it to others to try."""
    return set(Hold.objects.using(conf.local).values_list("label", flat=True))


def look() -> tuple[dict[str, str], set[str]]:
    """Return what is left alone now, with the reasons, and what is held but for the caller to try."""
    ours: set[str] = set()
    others: dict[str, str] = {}
    for hold in Hold.objects.using(conf.local).held():
        if _claim(hold):
            ours.add(hold.label)
        else:
            others[hold.label] = hold.reason
    return others, ours


def hold_remote(error: BaseException) -> Held | None:
    """Hold REMOTE back if the error says that it cannot be used; return what to raise instead, None if it can."""
    if isinstance(error, Held):
        return None
    try:
        reason = _remote_s_fault(error)
        return None if reason is None else _hold(REMOTE, reason)
    except AnyDatabaseError:
        return None  # LOCAL cannot be used


def _remote_s_fault(error: BaseException) -> str | None:
    """Return why REMOTE cannot be used at all, if the error is due to that.

    A connection that broke says little: the other one, LOCAL's, may have broken, or REMOTE is back already.
    """
    if errors.kind(error) is errors.Kind.SCHEMA:
        return _own_gap()
    if not errors.is_outage(error):
        return None
    if REMOTE not in _met and not errors.is_refusal(error) and answers(conf.require_remote()):
        return None
    return errors.describe(error)


def hold_model(model: ModelClass) -> Held | None:
    """Hold a model back if tables or columns that it needs are missing; return what to raise then."""
    gap = missing(model)
    return None if gap is None else _hold(model_label(model), gap)


def release(*labels: str) -> bool:
    """Let go of what works again; return whether any of it was held back until now."""
    _met.difference_update(labels)
    released = [label for label in labels if Hold.objects.using(conf.local).release(label)]
    for label in released:
        logger.info("works again model=%s", label or "REMOTE")
    return bool(released)


def recovered(label: str) -> bool:
    """Let go of REMOTE and of a model, of which something has just arrived; ask nobody where nothing was held."""
    concerned = _met & {REMOTE, label}
    return bool(concerned) and release(*concerned)


def answers(using: str) -> bool:
    """Tell whether a database takes a new connection and answers."""
    connection = bounded(connections[using].copy())
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except AnyDatabaseError:
        return False
    finally:
        with suppress(AnyDatabaseError):
            connection.close()
    return True


def remote_works() -> bool:
    """Tell whether REMOTE answers and, if it has tables of synchro, has them all."""
    return answers(conf.require_remote()) and _own_gap() is None


def missing(model: ModelClass) -> str | None:
    """Return what the server says that the tables which copying a model needs lack on LOCAL or on REMOTE."""
    for using in (conf.local, conf.require_remote()):
        for each in _neighbours(model):
            if gap := _gap(each, using):
                return gap
        tables = set(connections[using].introspection.table_names())
        for key in keys_to(model):
            # A table that is not there has no rows that point to the model's.
            if key.model._meta.db_table in tables and (gap := _gap(key.model, using, [key])):
                return gap
    return None


def _neighbours(model: ModelClass) -> list[ModelClass]:
    own = [model, *model._meta.get_parent_list()]
    pointed_to = [field.related_model for field in model._meta.concrete_fields if field.remote_field]
    related = [each for relation in many_to_many_of(model) for each in (relation.through, relation.member)]
    is_generic = any(isinstance(each, GenericForeignKey) for each in model._meta.private_fields)
    found = dict.fromkeys([*own, *pointed_to, *related, *(watched_models() if is_generic else ())])
    return [each._meta.concrete_model for each in found if each is not None]


def _own_gap() -> str | None:
    """Return what REMOTE lacks of synchro's tables if it has any of them; a REMOTE without them can be used, too."""
    remote = conf.require_remote()
    tables = set(connections[remote].introspection.table_names())
    if all(model._meta.db_table not in tables for model in _ON_REMOTE):
        return None
    return next((gap for model in _ON_REMOTE if (gap := _gap(model, remote))), None)


def _gap(model: ModelClass, using: str, fields: Iterable[Any] | None = None) -> str | None:
    connection = connections[using]
    quote = connection.ops.quote_name
    table = quote(model._meta.db_table)
    # SQLite takes the quoted name of a missing column for a text, unless the table is named with it.
    needed = model._meta.local_concrete_fields if fields is None else fields
    columns = [f"{table}.{quote(field.column)}" for field in needed if field.column]
    try:
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {', '.join(columns) or 1} FROM {table} WHERE 1 = 0")
    except AnyDatabaseError as error:
        if errors.kind(error) is not errors.Kind.SCHEMA:
            raise
        return errors.describe(error)
    return None


def _look_once() -> None:
    global _has_looked
    if not _has_looked:
        _met.update(labels())
        _has_looked = True


def _claim(hold: Hold) -> bool:
    _met.add(hold.label)
    # A try takes no longer than a silent REMOTE is waited for, and begins with a new connection.
    longest = timedelta(seconds=timeouts.CONNECT + 1)
    if not hold.is_due or not Hold.objects.using(conf.local).claim_probe(hold.label, longest=longest):
        return False
    if hold.label == REMOTE:
        _close_kept(connections[conf.require_remote()])
    return True


def _close_kept(connection: BaseDatabaseWrapper) -> None:
    """Close a connection that may be silent for much longer than a new one takes to fail."""
    if not connection.in_atomic_block:
        with suppress(AnyDatabaseError):
            connection.close()


def _hold(label: str, reason: str) -> Held:
    is_new = Hold.objects.using(conf.local).hold(label, reason)
    _met.add(label)
    if is_new:
        logger.error("held back model=%s reason=%s", label or "REMOTE", reason)
        synchro_alarm.send_robust(sender=Hold, using=conf.local, label=label, reason=reason)
    return left_alone(label, reason)


def left_alone(label: str, reason: str) -> Held:
    """Return what to raise where REMOTE or a model is not tried."""
    message = _("%(what)s cannot be used for now: %(reason)s Everything that has not arrived stays pending.") % {
        "what": label or "REMOTE",
        "reason": reason if reason.endswith((".", "!", "?")) else f"{reason}.",
    }
    return Held(message, label=label, reason=reason)
