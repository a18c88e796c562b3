"""What an exception means for an object, and how it is told without showing data."""

from __future__ import annotations

import re
import sys
import traceback
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, InterfaceError, OperationalError
from django.db import Error as AnyDatabaseError

from synchro.exceptions import SynchroError, TransientError

#: PostgreSQL's SQLSTATE classes and codes that pass: connection, resources, operator intervention, deadlock,
#: serialization, lock.
_TRANSIENT_SQLSTATES = ("08", "53", "57", "40001", "40P01", "55P03", "25006", "58")
#: MySQL and MariaDB: connection refused, lost or shut down, too many connections, lock wait, deadlock, statement time,
#: read only.
_TRANSIENT_ERRNOS = frozenset({
    1040, 1042, 1043, 1047, 1053, 1077, 1079, 1080, 1129, 1158, 1159, 1160, 1161, 1205, 1213, 1290, 1317, 1836, 1927,
    1969, 2002, 2003, 2006, 2013, 2014, 2055, 3024, 4031,
})  # fmt: skip
_TRANSIENT_SQLITE = ("locked", "busy", "unable to open", "disk i/o")
#: MySQL quotes values and names alike: Duplicate entry 'a@b.c' for key 'email'.
#: The last quoted word of these is a name.
_QUOTED = re.compile(r"'(?:[^'\\]|\\.|'')*'")

_FIRST_PAUSE = 10
_LONGEST_PAUSE = 3600


@dataclass(frozen=True, slots=True)
class Account:
    """What is kept of an error: its class, a sentence, and where it happened; neither values nor addresses."""

    error: str
    message: str
    traceback: str


def account(error: BaseException) -> Account:
    """Return what is to be kept of an error. The frames themselves, and with them whole batches, are let go."""
    return Account(type(error).__name__, describe(error), sys.intern(frames(error)))


def is_outage(error: BaseException) -> bool:
    """Tell whether a database cannot be used for now, so that nothing else would arrive either.

    A ConnectionError that comes from elsewhere, such as a handler's mail server, concerns only the object.
    """
    return isinstance(error, TransientError | AnyDatabaseError) and is_transient(error)


def is_transient(error: BaseException) -> bool:
    """Tell whether the same try may succeed later without anybody's help."""
    if isinstance(error, TransientError):
        return True
    if isinstance(error, InterfaceError):
        return True
    if not isinstance(error, DatabaseError):
        return isinstance(error, ConnectionError | TimeoutError)
    cause = error.__cause__
    sqlstate = getattr(cause, "sqlstate", None)
    if sqlstate:
        return str(sqlstate).startswith(_TRANSIENT_SQLSTATES)
    if not isinstance(error, OperationalError):
        return False
    if isinstance(number := (error.args or [None])[0], int):
        return number in _TRANSIENT_ERRNOS
    if cause is not None and type(cause).__module__.startswith("sqlite3"):
        return any(word in str(error).lower() for word in _TRANSIENT_SQLITE)
    return True


def is_contention(error: BaseException) -> bool:
    """Tell whether other transactions were in the way, so that trying again at once makes sense."""
    cause = error.__cause__
    if getattr(cause, "sqlstate", None) in ("40001", "40P01"):
        return True
    return isinstance(error, OperationalError) and (error.args or [None])[0] == 1213


def pause(attempts: int) -> timedelta:
    """Return how long an entry waits in the database after this many failed attempts: doubling, at most an hour."""
    return timedelta(seconds=min(_FIRST_PAUSE * 2 ** min(max(attempts - 1, 0), 20), _LONGEST_PAUSE))


def describe(error: BaseException) -> str:
    """Return one sentence about an error that shows no row values and no connection data."""
    if isinstance(error, SynchroError):
        return str(error)
    if isinstance(error, DatabaseError | InterfaceError):
        return _describe_database_error(error)
    if isinstance(error, ValidationError):
        return "The value of a field is not valid for REMOTE."
    return f"{type(error).__name__} was raised."


def frames(error: BaseException) -> str:
    """Return where the error happened: its frames, without the messages and values of a full traceback."""
    return "".join(traceback.format_tb(error.__traceback__))


def _describe_database_error(error: BaseException) -> str:
    diagnostics: Any = getattr(error.__cause__, "diag", None)
    if diagnostics is not None and diagnostics.message_primary:
        names = [
            f"{label} {value}"
            for label, value in (
                ("table", diagnostics.table_name),
                ("column", diagnostics.column_name),
                ("constraint", diagnostics.constraint_name),
            )
            if value
        ]
        sentence = re.sub(r': ".*"$', "", diagnostics.message_primary, flags=re.DOTALL)
        return f"{sentence} ({', '.join(names)})" if names else sentence
    if error.args and isinstance(error.args[0], int):
        return _describe_mysql(error)
    text = str(error)
    if error.__cause__ is not None and type(error.__cause__).__module__.startswith("sqlite3"):
        return text
    # What is left are connection failures of a driver, whose text names hosts and users.
    return f"{type(error).__name__}: the database could not be used."


def _describe_mysql(error: BaseException) -> str:
    number, text = error.args[0], str(error.args[1]) if len(error.args) > 1 else ""
    if number >= 2000 and number < 3000 or number in (1044, 1045, 1130):
        return f"({number}) the database could not be used."
    quoted = _QUOTED.findall(text)
    for value in quoted[:-1] if number == 1062 else quoted if number in (1366, 1292, 1411) else ():
        text = text.replace(value, "'...'", 1)
    return f"({number}) {text}"
