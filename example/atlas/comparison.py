"""What a database holds, told without primary keys. Knows nothing of synchro: it is there to check it."""

from collections import Counter
from typing import Any

from django.apps import apps
from django.db import models

IDENTITY = {"city": "geonameid", "country": "iso"}  # the others are known by their code


def contents(using: str) -> dict[str, Counter[str]]:
    """Return the rows of each model and each many-to-many relation, and how often each row occurs."""
    found = {}
    for model in apps.get_app_config("atlas").get_models():
        fields = [field for field in model._meta.concrete_fields if not field.primary_key]
        found[model.__name__] = rows(model, [column(field) for field in fields], using)
        for relation in model._meta.many_to_many:
            through: Any = relation.remote_field.through
            names = (relation.m2m_field_name(), relation.m2m_reverse_field_name())
            columns = [column(through._meta.get_field(name)) for name in names]
            found[f"{model.__name__}.{relation.name}"] = rows(through, columns, using)
    return found


def rows(model: type[models.Model], columns: list[str], using: str) -> Counter[str]:
    """Return the values of every row as text."""
    return Counter(map(repr, model._base_manager.using(using).values_list(*columns).iterator()))


def column(field: Any) -> str:
    """Name the column that tells a value; of a foreign key, the identity of its target."""
    if not field.is_relation:
        return str(field.name)
    return f"{field.name}__{IDENTITY.get(field.related_model._meta.model_name, 'code')}"
