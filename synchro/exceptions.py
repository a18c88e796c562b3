"""The error tree. A class's docstring is its default message: it says what happened and what to do.

Errors that concern one object are either *transient* (the same try may succeed later without anybody's help) or
*permanent* (somebody has to change something: the object, REMOTE's rows, a schema, a setting).
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence

from django.core.exceptions import ImproperlyConfigured


class SynchroError(Exception):
    """django-synchro could not do what it was asked to do."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message if message is not None else inspect.cleandoc(type(self).__doc__ or ""))


class SettingError(SynchroError, ImproperlyConfigured):
    """A SYNCHRO_* setting has a value that cannot be used."""


class NoRemote(SettingError):
    """SYNCHRO_REMOTE is not set, so changes are only logged. Set it to the alias of the database to synchronize to."""


class SameIdentity(SynchroError):
    """LOCAL and REMOTE have the same identity: one was restored from the other, or both aliases are one database.

    Nothing was written. If they are two databases, give the copy an identity of its own once with
    synchro.core.renew_identity().
    """


class ResetNotAllowed(SynchroError):
    """Resetting is switched off here. Set SYNCHRO_ALLOW_RESET = True to allow it."""


class ObjectsFailed(SynchroError):
    """Some objects could not be synchronized; all others were. The attempts in the admin tell why."""

    def __init__(self, message: str | None = None, *, failures: Sequence[str] = ()) -> None:
        super().__init__("\n  ".join([message, *failures]) if message is not None else None)
        self.summary = message if message is not None else str(self)
        #: A line for each object: what it is, and why it failed.
        self.failures = tuple(failures)


class TransientError(SynchroError):
    """REMOTE or LOCAL could not be used for a moment. The change stays pending and is tried again."""


class Held(TransientError):
    """Workers leave a model, or REMOTE as a whole, alone for now. Somebody tries now and then whether that is over."""

    def __init__(self, message: str | None = None, *, label: str = "", reason: str = "") -> None:
        super().__init__(message)
        #: 'app.ModelName', or '' for REMOTE as a whole.
        self.label = label
        self.reason = reason


class WorkerLost(TransientError):
    """A worker was lost while it copied the object: it ran out of memory, say, or somebody killed it."""


class PermanentError(SynchroError):
    """An object cannot be copied as it is. Correct it, or REMOTE, and retry it."""


class BadObjectId(PermanentError):
    """The logged object id is no primary key of its model. Discard the log entry."""


class NotWatched(PermanentError):
    """The model is not watched. Add it to SYNCHRO_MODELS to synchronize it."""


class ValueDoesNotCross(PermanentError):
    """REMOTE cannot keep a value of the object as it is. Change the value, or REMOTE's column."""


class WaitsForOther(PermanentError):
    """The object depends on another object that could not be copied. Correct that one first."""


class PointToEachOther(PermanentError):
    """The object and others point to each other, and none of the foreign keys may be NULL for a moment.

    Make one of them nullable, or copy the objects by hand.
    """


class HeldByRemoteRows(PermanentError):
    """Rows that exist only on REMOTE point to the object, so it is not deleted there. Move or delete those rows."""


class DanglingRelation(PermanentError):
    """The object points to a row that does not exist on LOCAL. Correct the relation."""


class AmbiguousNaturalKey(PermanentError):
    """More than one REMOTE row has the natural key of the object. Make it unique there, or use allow_many=True."""


class CounterpartTaken(PermanentError):
    """The REMOTE row with the natural key or primary key of this object already belongs to another LOCAL object."""


class KeyOfAnother(PermanentError):
    """REMOTE has the copy of another object that had this object's primary key and that LOCAL has lost.

    LOCAL was probably restored from an older backup and hands out the same keys again. Nothing was written: neither is
    the lost object's row overwritten, nor is this object added twice. Give LOCAL a new identity once with
    synchro.core.renew_identity(), restart the workers, and retry; what LOCAL has lost stays as REMOTE's own.
    """


class UniqueValueTaken(PermanentError):
    """A REMOTE row has a value that must be unique and that the object needs, and does not give it up."""

    def __init__(self, message: str | None = None, *, values: str = "") -> None:
        super().__init__(message)
        #: The fields and their values, for those who want to see them.
        self.values = values
