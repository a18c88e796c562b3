from __future__ import annotations

from typing import Any

from django.conf import settings
from django.db.models import Model


class LocalRouter:
    """Sends what names no database to LOCAL, and keeps synchro's tables out of the bare databases."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return self._local(**hints)

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return self._local(**hints)

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        return None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        if db.endswith("_bare") and app_label in {"synchro", "synchro_tasks"}:
            return False
        if app_label == "arrays" and not db.startswith("postgres"):
            return False
        return None

    def _local(self, instance: Model | None = None, **hints: Any) -> str:
        if instance is not None and instance._state.db is not None:
            return instance._state.db
        return str(settings.SYNCHRO_LOCAL)
