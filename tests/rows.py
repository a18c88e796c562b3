"""Rows of synchro's own tables, without changes and attempts that they tell of."""

from __future__ import annotations

import uuid
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db.models import Model

from synchro.models import Attempt, ChangeLog, Reference
from tests import factories
from tests.shop.models import Article


def entry(model: type[Model] = Article, object_id: str = "1", **values: Any) -> ChangeLog:
    content_type = ContentType.objects.get_for_model(model)
    return factories.make(ChangeLog, **{"content_type": content_type, "object_id": object_id, "action": 1, **values})


def attempt(model: type[Model] = Article, object_id: str = "1", **values: Any) -> Attempt:
    content_type = ContentType.objects.get_for_model(model)
    defaults = {"error": "IntegrityError", "message": "It is taken.", "traceback": "File engine.py, line 1"}
    return factories.make(Attempt, **{"content_type": content_type, "object_id": object_id, **defaults, **values})


def reference(model: type[Model] = Article, **values: Any) -> Reference:
    content_type = ContentType.objects.get_for_model(model)
    defaults = {"peer": uuid.uuid4(), "local_object_id": "1", "remote_object_id": "1001"}
    return factories.make(Reference, **{"content_type": content_type, **defaults, **values})
