"""Which models are watched, which of their fields are copied, and in which order."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.apps import AppConfig, apps
from django.db.models import Field, Model

from synchro.conf import conf
from synchro.exceptions import NotWatched, SettingError

ModelClass = type[Model]
#: One item of SYNCHRO_MODELS in one form: (app,) for all models of the app, (app, model, ...) for some.
Spec = tuple[str, ...]


def watched_models() -> list[ModelClass]:
    """Return the watched concrete models, what they point to first.

    Beside the models that SYNCHRO_MODELS names these are their multi-table parents and the explicit through models of
    their many-to-many fields: without them a copy would not be whole.
    """
    return list(_watched(_normalize(conf.models)))


def is_watched(model: ModelClass) -> bool:
    """Tell whether changes of the model, or of the model that it is a proxy for, are logged."""
    return model._meta.concrete_model in _watched(_normalize(conf.models))


def watched_model(label: str) -> ModelClass:
    """Return the watched concrete model with this label.

    Raises:
        NotWatched: there is no such model, or it is not watched.
    """
    try:
        model = apps.get_model(label)
    except (LookupError, ValueError):
        raise NotWatched(f"{label[:100]!r} is no installed model, so nothing was copied.") from None
    if not is_watched(model):
        raise NotWatched(f"{label} is not watched, so nothing was copied. Add it to SYNCHRO_MODELS to synchronize it.")
    return model._meta.concrete_model


def proxies_of(model: ModelClass) -> list[ModelClass]:
    """Return the proxy models of a concrete model: Django sends their saves with the proxy as sender."""
    return [each for each in apps.get_models() if each._meta.proxy and each._meta.concrete_model is model]


def model_label(model: ModelClass) -> str:
    """Return 'app_label.ModelName', the form in which models are named in tasks, logs and messages."""
    return model._meta.label


def skipped_fields(model: ModelClass) -> frozenset[str]:
    """Return the names of the fields, also many-to-many ones, that REMOTE keeps for itself (SYNCHRO_SKIP)."""
    return frozenset(getattr(model, "SYNCHRO_SKIP", ()))


def own_fields(model: ModelClass) -> list[Field[Any, Any]]:
    """Return the fields with a column in the model's own table that a copy writes; generated ones write themselves."""
    return [field for field in model._meta.local_concrete_fields if not field.generated]


def keeps_pk(model: ModelClass) -> bool:
    """Tell whether a LOCAL object and its copy share a primary key: neither an automatic one nor a foreign key."""
    pk: Any = model._meta.pk
    return all(part.remote_field is None for part in getattr(pk, "fields", [pk])) and not has_auto_pk(model)


def keys_to(model: ModelClass) -> Iterator[Any]:
    """Yield the foreign keys of any model that point to the model's own table."""
    for relation in model._meta.get_fields(include_parents=False, include_hidden=True):
        if relation.auto_created and not relation.concrete and (relation.one_to_one or relation.one_to_many):
            yield relation.field  # type: ignore[union-attr]


def has_auto_pk(model: ModelClass) -> bool:
    """Tell whether the database hands out the primary key, so that one value may mean another object on each side."""
    return model._meta.auto_field is not None and model._meta.auto_field in model._meta.local_concrete_fields


@dataclass(frozen=True)
class ManyToMany:
    """A many-to-many relation with an automatic through table, seen from the side that its entries are logged for."""

    through: ModelClass
    #: Foreign key of the through table to the side that owns the entries.
    source: Field[Any, Any]
    #: Foreign key of the through table to the other side.
    target: Field[Any, Any]
    symmetrical: bool
    #: Whether the owner is the model that declares the field.
    owner_declares: bool

    @property
    def name(self) -> str:
        """The name of the field."""
        return self.through.__name__.partition("_")[2]

    @property
    def owner(self) -> ModelClass:
        """The model whose entries stand for the relation."""
        return self.source.related_model._meta.concrete_model  # type: ignore[union-attr,return-value]

    @property
    def member(self) -> ModelClass:
        """The model on the other side."""
        return self.target.related_model._meta.concrete_model  # type: ignore[union-attr,return-value]


def many_to_many_of(model: ModelClass) -> list[ManyToMany]:
    """Return the automatic many-to-many relations whose entries are logged for this model."""
    return [relation for relation in all_many_to_many() if relation.owner is model]


def all_many_to_many() -> list[ManyToMany]:
    """Return the automatic many-to-many relations of all watched models, each once."""
    return list(_automatic_relations(_normalize(conf.models)))


def explicit_many_to_many() -> list[Any]:
    """Return the many-to-many fields whose through model the project wrote itself and that is watched."""
    return [
        field
        for model in apps.get_models()
        for field in model._meta.local_many_to_many
        if not field.remote_field.through._meta.auto_created and is_watched(field.remote_field.through)  # type: ignore[union-attr,arg-type]
    ]


def _normalize(models: Iterable[Any]) -> tuple[Spec, ...]:
    return tuple(_normalize_item(item) for item in models)


def _normalize_item(item: Any) -> Spec:
    if isinstance(item, str):
        return (item,)
    if isinstance(item, list | tuple) and item and all(isinstance(part, str) for part in item):
        return tuple(item)
    raise SettingError(
        f"SYNCHRO_MODELS contains {item!r}; "
        "each item is an app such as 'shop' or a tuple such as ('shop', 'order', 'customer')."
    )


@functools.cache
def _watched(specs: tuple[Spec, ...]) -> tuple[ModelClass, ...]:
    chosen: dict[ModelClass, None] = {}
    for spec in specs:
        for model in _models_of(spec):
            chosen[model] = None
    for model in list(chosen):
        chosen.update(dict.fromkeys(_belongings(model)))
    return tuple(_in_dependency_order(chosen))


@functools.cache
def _automatic_relations(specs: tuple[Spec, ...]) -> tuple[ManyToMany, ...]:
    watched = _watched(specs)
    relations = []
    for model in apps.get_models():
        for field in model._meta.local_many_to_many:
            through: Any = field.remote_field.through
            if not through._meta.auto_created or field.name in skipped_fields(model):
                continue
            source = through._meta.get_field(field.m2m_field_name())
            target = through._meta.get_field(field.m2m_reverse_field_name())
            symmetrical = bool(field.remote_field.symmetrical)
            if model._meta.concrete_model in watched:
                relations.append(ManyToMany(through, source, target, symmetrical, True))
            elif target.related_model._meta.concrete_model in watched:
                relations.append(ManyToMany(through, target, source, symmetrical, False))
    return tuple(relations)


def _models_of(spec: Spec) -> Iterator[ModelClass]:
    app = _app(spec[0])
    if len(spec) == 1:
        for model in app.get_models():
            yield model._meta.concrete_model  # type: ignore[misc]
        return
    for name in spec[1:]:
        try:
            yield app.get_model(name)._meta.concrete_model  # type: ignore[misc]
        except LookupError:
            known = ", ".join(sorted(model.__name__ for model in app.get_models()))
            raise SettingError(
                f"SYNCHRO_MODELS names the model {name!r}, which the app {app.label!r} does not have. "
                f"It has: {known or 'none'}."
            ) from None


def _app(name: str) -> AppConfig:
    for app in apps.get_app_configs():
        if name in (app.label, app.name):
            return app
    known = ", ".join(sorted(app.label for app in apps.get_app_configs()))
    raise SettingError(f"SYNCHRO_MODELS names the app {name!r}, which is not installed. Installed are: {known}.")


def _belongings(model: ModelClass) -> Iterator[ModelClass]:
    yield from model._meta.get_parent_list()
    for each in (model, *model._meta.get_parent_list()):
        for field in each._meta.local_many_to_many:
            through: Any = field.remote_field.through
            if not through._meta.auto_created and field.name not in skipped_fields(each):
                yield through


def _in_dependency_order(models: Iterable[ModelClass]) -> list[ModelClass]:
    remaining = dict.fromkeys(sorted(models, key=model_label))
    ordered: list[ModelClass] = []

    def visit(model: ModelClass) -> None:
        if model not in remaining:
            return
        del remaining[model]
        for field in model._meta.concrete_fields:
            target: Any = field.related_model
            if target is not None:
                visit(target._meta.concrete_model)
        ordered.append(model)

    while remaining:
        visit(next(iter(remaining)))
    return ordered
