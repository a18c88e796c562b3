"""Every SYNCHRO_* setting: its name, its default, and what a value must be.

Read on access, so that override_settings works.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db import connections
from django.db.utils import DEFAULT_DB_ALIAS

from synchro.exceptions import NoRemote, SettingError

_MISSING = object()


class Conf:
    """The settings of synchro as typed properties. A value that cannot be used raises SettingError when it is read."""

    @property
    def local(self) -> str:
        """Alias of LOCAL, the database whose changes are logged."""
        return self._alias("SYNCHRO_LOCAL", getattr(settings, "SYNCHRO_LOCAL", DEFAULT_DB_ALIAS))

    @property
    def remote(self) -> str | None:
        """Alias of REMOTE; None when changes are only logged."""
        value = getattr(settings, "SYNCHRO_REMOTE", _MISSING)
        if value is _MISSING:
            warnings.warn(
                "SYNCHRO_REMOTE is not set: changes are only logged. Set it to the alias of the REMOTE database, "
                "or to None if this is what you want.",
                RuntimeWarning,
                stacklevel=2,
            )
            return None
        if value is None:
            return None
        alias = self._alias("SYNCHRO_REMOTE", value)
        if alias == getattr(settings, "SYNCHRO_LOCAL", DEFAULT_DB_ALIAS):
            raise SettingError(
                f"SYNCHRO_REMOTE is {alias!r}, which is LOCAL itself. "
                "Set it to the alias of the other database, or to None."
            )
        return alias

    def require_remote(self) -> str:
        """Alias of REMOTE; raise NoRemote where there is none."""
        remote = self.remote
        if remote is None:
            raise NoRemote
        return remote

    @property
    def models(self) -> Sequence[Any]:
        """What to watch: 'app' for a whole app, ('app', 'model1', 'Model2') for some models of it."""
        value = getattr(settings, "SYNCHRO_MODELS", ())
        if not isinstance(value, list | tuple):
            raise SettingError(
                f"SYNCHRO_MODELS is {value!r}; "
                "it must be a list or tuple such as ['shop', ('blog', 'post', 'comment')]."
            )
        return value

    @property
    def allow_reset(self) -> bool:
        """Whether the admin view offers to reset."""
        return self._boolean("SYNCHRO_ALLOW_RESET", True)

    @property
    def debug(self) -> bool:
        """Whether the admin view raises errors instead of showing them as messages."""
        return self._boolean("SYNCHRO_DEBUG", False)

    @property
    def remote_cascade(self) -> bool:
        """Whether deleting an object on REMOTE does to the rows that exist only there what Django's delete does."""
        return self._boolean("SYNCHRO_REMOTE_CASCADE", False)

    @property
    def batch_size(self) -> int:
        """How many objects are copied in one transaction on REMOTE."""
        return self._positive("SYNCHRO_BATCH_SIZE", 1000)

    @property
    def max_attempts(self) -> int:
        """After how many failed attempts an entry is marked as failed and waits for an operator or a new change."""
        return self._positive("SYNCHRO_MAX_ATTEMPTS", 10)

    @property
    def log_retention(self) -> timedelta:
        """How long synced entries and their attempts are kept (the setting is in days)."""
        return timedelta(days=self._positive("SYNCHRO_LOG_RETENTION", 30, most=36_500))

    @property
    def log_values(self) -> bool:
        """Whether values of rows may be kept with failed attempts and shown to whoever may view the log."""
        return self._boolean("SYNCHRO_LOG_VALUES", False)

    @property
    def task_queue(self) -> str | None:
        """Queue of the tasks; None where Celery's own settings decide."""
        value = getattr(settings, "SYNCHRO_TASK_QUEUE", None)
        if value is not None and not (isinstance(value, str) and value):
            raise SettingError(f"SYNCHRO_TASK_QUEUE is {value!r}; it must be the name of a queue, or None.")
        return value

    @property
    def task_expires(self) -> int | None:
        """After how many seconds a task that no worker has taken is dropped; None if never."""
        if getattr(settings, "SYNCHRO_TASK_EXPIRES", None) is None:
            return None
        return self._positive("SYNCHRO_TASK_EXPIRES", 3600, most=31_536_000)

    @staticmethod
    def _alias(name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in connections.settings:
            known = ", ".join(repr(alias) for alias in sorted(connections.settings))
            raise SettingError(f"{name} is {value!r}, which is no alias in DATABASES. Use one of: {known}.")
        return value

    @staticmethod
    def _boolean(name: str, default: bool) -> bool:
        value = getattr(settings, name, default)
        if not isinstance(value, bool):
            raise SettingError(f"{name} is {value!r}; it must be True or False.")
        return value

    @staticmethod
    def _positive(name: str, default: int, *, most: int = 1_000_000) -> int:
        value = getattr(settings, name, default)
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            raise SettingError(f"{name} is {value!r}; it must be a whole number from 1 to {most}, such as {default}.")
        return value


conf = Conf()
