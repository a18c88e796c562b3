"""System checks: what is wrong with the settings, the models or REMOTE, and what to type."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import Any

from django.conf import settings
from django.core import checks
from django.core.checks import CheckMessage, Error, Tags, Warning
from django.core.exceptions import ImproperlyConfigured
from django.db import Error as AnyDatabaseError
from django.db import connections
from django.db.models import CharField, CompositePrimaryKey, TextField

from synchro.conf import conf
from synchro.engine.errors import describe
from synchro.exceptions import SettingError
from synchro.keys import MAX_LENGTH
from synchro.models import ChangeLog
from synchro.natural_keys import has_natural_key
from synchro.registry import ModelClass, has_auto_pk, model_label, watched_models

TAG = "synchro"


def register() -> None:
    """Register the checks: those of the settings always, those that ask REMOTE where a command names its alias."""
    for check in _ALWAYS:
        checks.register(check, TAG)
    for check in _WITH_DATABASES:
        checks.register(check, Tags.database)


# Settings


def remote_is_an_alias(**kwargs: Any) -> list[CheckMessage]:
    """E001: SYNCHRO_REMOTE is no alias in DATABASES."""
    if _remote_is_missing() or _remote_is_local():
        return []
    return _setting("E001", lambda: conf.remote, hint="SYNCHRO_REMOTE = 'remote', or None to only log changes.")


def models_exist(**kwargs: Any) -> list[CheckMessage]:
    """E002: SYNCHRO_MODELS is malformed, or names an app or a model that does not exist."""
    return _setting("E002", watched_models, hint="SYNCHRO_MODELS = ['shop', ('blog', 'post', 'comment')]")


def remote_is_not_local(**kwargs: Any) -> list[CheckMessage]:
    """E003: SYNCHRO_REMOTE names LOCAL."""
    if _remote_is_missing() or not _remote_is_local():
        return []
    return _setting("E003", lambda: conf.remote, hint="SYNCHRO_REMOTE = 'remote', or None to only log changes.")


def skipped_fields_exist(**kwargs: Any) -> list[CheckMessage]:
    """E004: SYNCHRO_SKIP of a watched model names something that is no field of it."""
    return [
        Error(
            f"SYNCHRO_SKIP of {model_label(model)} {complaint}.",
            hint=f"SYNCHRO_SKIP = ('field', ...) with fields out of: {', '.join(_field_names(model))}.",
            obj=model,
            id="synchro.E004",
        )
        for model in _watched()
        for complaint in _complaints_about_skip(model)
    ]


def local_is_an_alias(**kwargs: Any) -> list[CheckMessage]:
    """E005: SYNCHRO_LOCAL is no alias in DATABASES."""
    return _setting("E005", lambda: conf.local, hint="SYNCHRO_LOCAL = 'default'")


def allow_reset_is_a_boolean(**kwargs: Any) -> list[CheckMessage]:
    """E006: SYNCHRO_ALLOW_RESET is neither True nor False."""
    return _setting("E006", lambda: conf.allow_reset, hint="SYNCHRO_ALLOW_RESET = True")


def debug_is_a_boolean(**kwargs: Any) -> list[CheckMessage]:
    """E007: SYNCHRO_DEBUG is neither True nor False."""
    return _setting("E007", lambda: conf.debug, hint="SYNCHRO_DEBUG = False")


def batch_size_is_a_number(**kwargs: Any) -> list[CheckMessage]:
    """E008: SYNCHRO_BATCH_SIZE is no whole number of at least 1."""
    return _setting("E008", lambda: conf.batch_size, hint="SYNCHRO_BATCH_SIZE = 1000")


def max_attempts_is_a_number(**kwargs: Any) -> list[CheckMessage]:
    """E009: SYNCHRO_MAX_ATTEMPTS is no whole number of at least 1."""
    return _setting("E009", lambda: conf.max_attempts, hint="SYNCHRO_MAX_ATTEMPTS = 10")


def log_retention_is_a_number(**kwargs: Any) -> list[CheckMessage]:
    """E010: SYNCHRO_LOG_RETENTION is no number of days."""
    return _setting("E010", lambda: conf.log_retention, hint="SYNCHRO_LOG_RETENTION = 30  # days")


def remote_cascade_is_a_boolean(**kwargs: Any) -> list[CheckMessage]:
    """E011: SYNCHRO_REMOTE_CASCADE is neither True nor False."""
    return _setting("E011", lambda: conf.remote_cascade, hint="SYNCHRO_REMOTE_CASCADE = False")


def log_values_is_a_boolean(**kwargs: Any) -> list[CheckMessage]:
    """E012: SYNCHRO_LOG_VALUES is neither True nor False."""
    return _setting("E012", lambda: conf.log_values, hint="SYNCHRO_LOG_VALUES = False")


def task_queue_is_a_name(**kwargs: Any) -> list[CheckMessage]:
    """E013: SYNCHRO_TASK_QUEUE is no name of a queue."""
    return _setting("E013", lambda: conf.task_queue, hint='SYNCHRO_TASK_QUEUE = "synchro"')


def task_expires_is_a_number(**kwargs: Any) -> list[CheckMessage]:
    """E014: SYNCHRO_TASK_EXPIRES is no number of seconds."""
    return _setting("E014", lambda: conf.task_expires, hint="SYNCHRO_TASK_EXPIRES = 3600  # seconds")


def remote_is_set(**kwargs: Any) -> list[CheckMessage]:
    """W001: SYNCHRO_REMOTE is missing, which means None; say so."""
    if not _remote_is_missing():
        return []
    return [
        Warning(
            "SYNCHRO_REMOTE is not set, so changes are only logged.",
            hint="SYNCHRO_REMOTE = 'remote', or SYNCHRO_REMOTE = None if this is what you want.",
            id="synchro.W001",
        )
    ]


# Models


def primary_keys_fit_the_log(**kwargs: Any) -> list[CheckMessage]:
    """W004: a watched model has a primary key of text that may be longer than the log can hold."""
    return [
        Warning(
            f"The primary key of {model_label(model)} may have more than {MAX_LENGTH} characters. "
            "Changes of objects with such a key are not logged.",
            hint=f"Limit it with max_length={MAX_LENGTH} or less.",
            obj=model,
            id="synchro.W004",
        )
        for model in _watched()
        if _longest(model._meta.pk) > MAX_LENGTH
    ]


# Databases, as far as the settings tell


def sqlite_takes_turns(**kwargs: Any) -> list[CheckMessage]:
    """W005: a transaction on SQLite that reads before it writes fails as soon as another process writes."""
    return [
        Warning(
            f"The SQLite database {alias!r} begins its transactions without a lock: one that reads before it writes "
            "fails with 'database is locked' while another process writes, whatever its timeout.",
            hint=f"DATABASES[{alias!r}]['OPTIONS'] = {{'transaction_mode': 'IMMEDIATE', 'timeout': 20}}",
            id="synchro.W005",
        )
        for alias in (_usable(lambda: conf.local), _remote())
        if alias is not None and _defers_locks(alias)
    ]


# Databases, by asking


def objects_are_recognized(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W002: nothing tells after a crash whether an object has arrived: no table, no natural key, no key of its own."""
    remote = _remote()
    if remote is None or remote not in (databases or ()) or _has_synchro(remote) is not False:
        return []
    return [
        Warning(
            f"{model_label(model)} has an automatic primary key and no natural key, and REMOTE ({remote!r}) has no "
            "tables of synchro. A process that is killed at the wrong moment can add an object there twice.",
            hint=f"Run 'manage.py migrate --database {remote}', or give the model a natural key (NaturalKeyModel).",
            obj=model,
            id="synchro.W002",
        )
        for model in _watched()
        if has_auto_pk(model) and not has_natural_key(model)
    ]


def remote_has_synchro(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W003: REMOTE has no tables of synchro. W006: nobody knows, because it does not answer."""
    remote = _remote()
    if remote is None or remote not in (databases or ()):
        return []
    try:
        tables = _tables(remote)
    except _UNREACHABLE as error:
        return [
            Warning(
                f"REMOTE ({remote!r}) could not be asked for its tables: {describe(error)}",
                hint="Changes are logged meanwhile, and synchronized when it answers.",
                id="synchro.W006",
            )
        ]
    if not tables or ChangeLog._meta.db_table in tables:
        return []
    return [
        Warning(
            f"REMOTE ({remote!r}) has no tables of synchro: LOCAL always wins, and only one process applies changes "
            "at a time.",
            hint=f"Run 'manage.py migrate --database {remote}'.",
            id="synchro.W003",
        )
    ]


_ALWAYS = (
    remote_is_an_alias,
    models_exist,
    remote_is_not_local,
    skipped_fields_exist,
    local_is_an_alias,
    allow_reset_is_a_boolean,
    debug_is_a_boolean,
    batch_size_is_a_number,
    max_attempts_is_a_number,
    log_retention_is_a_number,
    remote_cascade_is_a_boolean,
    log_values_is_a_boolean,
    task_queue_is_a_name,
    task_expires_is_a_number,
    remote_is_set,
    primary_keys_fit_the_log,
    sqlite_takes_turns,
)
_WITH_DATABASES = (objects_are_recognized, remote_has_synchro)
#: What a database raises that is down, or whose driver is not installed.
_UNREACHABLE = (AnyDatabaseError, OSError, ImproperlyConfigured)


def _setting(number: str, read: Callable[[], Any], *, hint: str) -> list[CheckMessage]:
    """Read a setting, and return as an error what conf has to say about its value."""
    try:
        read()
    except SettingError as error:
        return [Error(str(error), hint=hint, id=f"synchro.{number}")]
    return []


def _usable(read: Callable[[], Any]) -> Any:
    """Return a setting, or None where it is wrong, which is another check's message."""
    try:
        return read()
    except SettingError:
        return None


def _remote() -> str | None:
    return None if _remote_is_missing() else _usable(lambda: conf.remote)


def _remote_is_missing() -> bool:
    return not hasattr(settings, "SYNCHRO_REMOTE")


def _remote_is_local() -> bool:
    local = _usable(lambda: conf.local)
    return local is not None and local == settings.SYNCHRO_REMOTE


def _watched() -> list[ModelClass]:
    return _usable(watched_models) or []


def _field_names(model: ModelClass) -> list[str]:
    return [field.name for field in (*model._meta.fields, *model._meta.many_to_many)]


def _complaints_about_skip(model: ModelClass) -> list[str]:
    skip = getattr(model, "SYNCHRO_SKIP", ())
    if not isinstance(skip, list | tuple | set | frozenset):
        return [f"is {skip!r}, which is no tuple of field names"]
    return [f"names {name!r}, which is no field of the model" for name in skip if name not in _field_names(model)]


def _longest(pk: Any) -> float:
    """Return how many characters the text of a primary key may have; keys that are no text are short."""
    if isinstance(pk, CompositePrimaryKey):
        return sum(map(_longest, pk.fields))
    if pk.remote_field is not None:
        return _longest(pk.target_field)
    if isinstance(pk, TextField | CharField):
        return pk.max_length or math.inf
    return 0


def _defers_locks(alias: str) -> bool:
    connection = connections[alias]
    mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or ""
    return connection.vendor == "sqlite" and mode.upper() not in ("IMMEDIATE", "EXCLUSIVE")


def _has_synchro(alias: str) -> bool | None:
    """Tell whether a database has synchro's tables; None where it cannot tell."""
    try:
        tables = _tables(alias)
    except _UNREACHABLE:
        return None
    return ChangeLog._meta.db_table in tables if tables else None


def _tables(alias: str) -> list[str]:
    return connections[alias].introspection.table_names()
