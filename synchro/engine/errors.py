"""What an exception means for an object, and how it is told without showing data."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DatabaseError, IntegrityError, InterfaceError, OperationalError
from django.db import Error as AnyDatabaseError

from synchro.conf import conf
from synchro.exceptions import SynchroError, TransientError, UniqueValueTaken, WaitsForOther

#: PostgreSQL's SQLSTATE classes and codes that pass: connection, resources, operator intervention, deadlock,
#: serialization, lock.
_TRANSIENT_SQLSTATES = ("08", "53", "57", "40001", "40P01", "55P03", "25006", "58")
#: MySQL and MariaDB: connection refused, lost or shut down, access denied, too many connections, lock wait, deadlock,
#: statement time, read only.
_TRANSIENT_ERRNOS = frozenset({
    1040, 1042, 1043, 1044, 1045, 1047, 1049, 1053, 1077, 1079, 1080, 1129, 1130, 1158, 1159, 1160, 1161, 1205, 1213,
    1290, 1317, 1698, 1792, 1836, 1927, 1969, 2002, 2003, 2006, 2013, 2014, 2055, 3024, 4031,
})  # fmt: skip
_TRANSIENT_SQLITE = ("locked", "busy", "unable to open", "disk i/o", "readonly", "is full")
#: Those among them that other transactions cause, or a statement that takes too long: locks, deadlocks, timeouts.
#: SQLite has one lock for the whole database.
_OBSTRUCTED_SQLSTATES = ("40001", "40P01", "55P03", "57014")
_OBSTRUCTED_ERRNOS = frozenset({1205, 1213, 1969, 3024})
#: Those among them that a server tells which answers but cannot be used: disk or memory full, read only.
_REFUSING_SQLSTATES = ("53", "58", "25006")
_REFUSING_ERRNOS = frozenset({1290, 1792, 1836})
_REFUSING_SQLITE = ("disk i/o", "readonly", "is full")
#: A table or a column that is not there.
_SCHEMA_SQLSTATES = ("42P01", "42703")
_SCHEMA_ERRNOS = frozenset({1054, 1146})
_SCHEMA_SQLITE = ("no such table", "no such column", "has no column named")
#: A row that breaks a rule about itself: NOT NULL and check constraints.
_ROW_SQLSTATES = ("23502", "23514")
_ROW_ERRNOS = frozenset({1048, 1364, 3819, 4025})
_ROW_SQLITE = ("not null constraint", "check constraint")
#: Those that tell about a connection: their text names hosts and users.
_CONNECTION_ERRNOS = frozenset({1040, 1042, 1043, 1044, 1045, 1049, 1129, 1130, 1698, *range(2000, 3000)})
#: Those that say which permission somebody lacks, for which table or column.
_PERMISSION_ERRNOS = frozenset({1142, 1143})
#: Those that quote nothing but names of tables and columns.
_NAMING_ERRNOS = frozenset({1048, 1054, 1146, 1153, 1264, 1265, 1364, 1406, 1451, 1452, 3819, 4025})

#: Errors whose details are the values of one key and nothing else: unique, foreign key and exclusion constraints.
_KEY_SQLSTATES = frozenset({"23505", "23503", "23P01"})
_DUPLICATE_ERRNO = 1062

_REFUSED = "A trigger or a function of the database refused it."

_FIRST_PAUSE = 10
_LONGEST_PAUSE = 3600


class Kind(Enum):
    """What an error means for the object, and so what happens next."""

    #: The same try may succeed later without anybody's help.
    TRANSIENT = "transient"
    #: Somebody has to correct the object, or REMOTE's rows.
    PERMANENT = "permanent"
    #: Another object has to arrive first.
    WAITING = "waiting"
    #: A table or a column is missing: no object of the model can arrive before somebody has made it.
    SCHEMA = "schema"


@dataclass(frozen=True, slots=True)
class Account:
    """What is kept of an error: its class, a sentence, and where it happened; neither values nor addresses."""

    error: str
    message: str
    traceback: str
    #: The values that a constraint did not take; only where SYNCHRO_LOG_VALUES is set.
    values: str = ""


def account(error: BaseException) -> Account:
    """Return what is to be kept of an error. The frames themselves, and with them whole batches, are let go."""
    values = refused_values(error) if conf.log_values else ""
    return Account(type(error).__name__, describe(error), sys.intern(frames(error)), values)


def kind(error: BaseException) -> Kind:
    """Tell what an error means."""
    if isinstance(error, WaitsForOther):
        return Kind.WAITING
    if is_transient(error):
        return Kind.TRANSIENT
    return Kind.SCHEMA if _is_schema(error) else Kind.PERMANENT


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
    # The numbers say more than the SQLSTATE that comes with them: too large a packet counts as a lost connection.
    if isinstance(number := (error.args or [None])[0], int):
        return number in _TRANSIENT_ERRNOS
    if sqlstate := getattr(cause, "sqlstate", None):
        return str(sqlstate).startswith(_TRANSIENT_SQLSTATES)
    if not isinstance(error, OperationalError):
        return False
    if cause is not None and type(cause).__module__.startswith("sqlite3"):
        return any(word in str(error).lower() for word in _TRANSIENT_SQLITE)
    return True


def is_refusal(error: BaseException) -> bool:
    """Tell whether a database answers, but takes nothing from anybody: its disk is full, or it is read only."""
    return _is_among(error, _REFUSING_SQLSTATES, _REFUSING_ERRNOS, _REFUSING_SQLITE)


def is_obstructed(error: BaseException) -> bool:
    """Tell whether something else held what a statement needed, for too long: others may well go through."""
    return _is_among(error, _OBSTRUCTED_SQLSTATES, _OBSTRUCTED_ERRNOS, ())


def is_of_one_row(error: BaseException) -> bool:
    """Tell whether a row breaks a rule that no other row has to do with."""
    return _is_among(error, _ROW_SQLSTATES, _ROW_ERRNOS, _ROW_SQLITE)


def _is_schema(error: BaseException) -> bool:
    return _is_among(error, _SCHEMA_SQLSTATES, _SCHEMA_ERRNOS, _SCHEMA_SQLITE)


def _is_among(
    error: BaseException, sqlstates: tuple[str, ...], numbers: Collection[int], sqlite: Collection[str]
) -> bool:
    if not isinstance(error, DatabaseError):
        return False
    cause = error.__cause__
    if isinstance(number := (error.args or [None])[0], int):
        return number in numbers
    if sqlstate := getattr(cause, "sqlstate", None):
        return str(sqlstate).startswith(sqlstates)
    return type(cause).__module__.startswith("sqlite3") and any(word in str(error).lower() for word in sqlite)


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


def refused_values(error: BaseException) -> str:
    """Return the values that a unique or foreign key did not take, mostly in the server's words; '' where it has none.

    Of other constraints PostgreSQL quotes the whole row, with every secret in it: these stay untold.
    """
    if isinstance(error, UniqueValueTaken):
        return error.values
    diagnostics = getattr(error.__cause__, "diag", None)
    if getattr(error.__cause__, "sqlstate", None) in _KEY_SQLSTATES:
        return str(getattr(diagnostics, "message_detail", None) or "")
    if isinstance(error, IntegrityError) and error.args[:1] == (_DUPLICATE_ERRNO,):
        return str(error.args[1])
    return ""


def frames(error: BaseException) -> str:
    """Return where the error happened: its frames, without the messages and values of a full traceback."""
    return "".join(traceback.format_tb(error.__traceback__))


def _describe_database_error(error: BaseException) -> str:
    cause = error.__cause__
    if getattr(getattr(cause, "diag", None), "message_primary", None):
        return _describe_postgresql(cause)
    if error.args and isinstance(error.args[0], int):
        return _describe_mysql(error.args[0], str(error.args[1]) if len(error.args) > 1 else "")
    if type(cause).__module__.startswith("sqlite3"):
        return _describe_sqlite(cause)
    if isinstance(error, OperationalError | InterfaceError):
        # Connection failures of a driver, whose text names hosts and users.
        return f"{type(error).__name__}: the database could not be used."
    return f"{type(error).__name__}: the database does not take a value."


def _describe_postgresql(cause: Any) -> str:
    """Tell the first line of the server's message: values are in the others, with exceptions."""
    diagnostics, sqlstate = cause.diag, str(cause.sqlstate)
    sentence = diagnostics.message_primary
    if sqlstate.startswith("P0"):
        sentence = _REFUSED
    elif sqlstate.startswith("22") or sqlstate == "42601":
        # Wrong values, and statements that cannot be read, are quoted: from the first quote to the last one.
        sentence = re.sub(r':?\s*".*"', "", sentence, flags=re.DOTALL)
    names = [
        f"{label} {name}"
        for label in ("table", "column", "constraint")
        if (name := getattr(diagnostics, f"{label}_name"))
    ]
    return f"{sentence} ({', '.join(names)})" if names else sentence


def _describe_mysql(number: int, text: str) -> str:
    """Tell what the server says, without values and the database's name. It quotes both alike, and does not escape."""
    if number in _CONNECTION_ERRNOS:
        text = "the database could not be used."
    elif number == 1644:
        text = _REFUSED
    elif number in _NAMING_ERRNOS:
        text = _without_database(text)
    elif number in _PERMISSION_ERRNOS:
        text = _without_database(re.sub(r" to user .*? (?=for (?:table|column) ['`])", " ", text))
    else:
        # Duplicate entry 'value' for key 'name', Incorrect date value: 'value' for column `database`.`table`.`name`
        name = re.search(r"'[^']*( for (?:key|column) )(?:\S+\.)?('[^']+'|`[^`]+`)(?: at row \d+)?$", text)
        text = re.split(r":?\s*['`]", text, maxsplit=1)[0] + ("".join(name.groups()) if name else "")
    return f"({number}) {text}"


def _without_database(text: str) -> str:
    return re.sub(r"`[^`]+`\.(?=`)", "", re.sub(r"'[^'.]+\.([^'.]+)'", r"'\1'", text))


def _describe_sqlite(cause: Any) -> str:
    if getattr(cause, "sqlite_errorname", "") == "SQLITE_CONSTRAINT_TRIGGER":
        return _REFUSED
    return re.sub(r'".*"', "...", str(cause), flags=re.DOTALL)
