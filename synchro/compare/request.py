"""What somebody asks of a comparison, and what the words mean."""

from __future__ import annotations

import ast
from dataclasses import asdict, dataclass
from datetime import datetime, time
from typing import Any, Self

from django.apps import apps
from django.core.exceptions import FieldError, ValidationError
from django.db.models import DateField, DateTimeField, Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_date, parse_datetime
from django.utils.translation import gettext as _

from synchro.exceptions import SynchroError
from synchro.registry import ModelClass, model_label, watched_models


@dataclass(frozen=True, slots=True)
class Request:
    """Which objects to compare, and what to do about differences. All of it is plain text and numbers."""

    #: Labels of models or apps; all watched models without any.
    models: tuple[str, ...] = ()
    dry_run: bool = False
    since: str = ""
    #: 'lookup=value' conditions of LOCAL's objects.
    where: tuple[str, ...] = ()
    delete_extra: bool = False
    #: A number of rows or a percentage of REMOTE's rows of a model.
    max_delete: str = "10%"
    adopt_pks: bool = False

    def __post_init__(self) -> None:
        self.most_deletions(0)
        _moment(self.since)
        for condition in self.where:
            _lookup(condition)

    @classmethod
    def from_plain(cls, values: dict[str, Any]) -> Self:
        """Make a request of what as_plain() returned, maybe by way of JSON."""
        fields: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in values.items()
        }
        return cls(**fields)

    def as_plain(self) -> dict[str, Any]:
        """Return the fields as JSON knows them."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @property
    def is_narrow(self) -> bool:
        """Whether only a part of each model's objects is compared, so that nothing can be said about the rest."""
        return bool(self.since or self.where)

    def most_deletions(self, rows: int) -> int:
        """Return how many of so many rows of REMOTE may be deleted."""
        number, percent, rest = self.max_delete.partition("%")
        if not number.isdecimal() or rest or (percent and int(number) > 100):
            raise SynchroError(f"--max-delete is {self.max_delete!r}; it must be a number such as 50, or 10%.")
        return rows * int(number) // 100 if percent else int(number)

    def objects(self, model: ModelClass, using: str) -> QuerySet[Any]:
        """Return the LOCAL objects to compare.

        Raises:
            SynchroError: the model has no such field, or the value does not fit.
        """
        found = model._base_manager.using(using).order_by()
        if moment := _moment(self.since):
            found = found.filter(_changed_since(model, moment))
        try:
            for lookup, value in map(_lookup, self.where):
                found = found.filter(**{lookup: value})
        except (FieldError, ValidationError, ValueError, TypeError):
            raise SynchroError(
                f"{model_label(model)} cannot be narrowed by {' and '.join(self.where)}: "
                "there is no such field or lookup, or the value is not one of it."
            ) from None
        return found


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast to go."""

    #: How many objects to compare at once; as many as are copied at once without it.
    batch_size: int | None = None
    #: Seconds to rest after each batch.
    sleep: float = 0.0

    def __post_init__(self) -> None:
        if self.batch_size is not None and self.batch_size < 1:
            raise SynchroError(_("--batch-size must be at least 1."))
        if self.sleep < 0:
            raise SynchroError(_("--sleep must not be negative."))


def chosen_models(labels: tuple[str, ...]) -> list[ModelClass]:
    """Return the watched models that the labels name, and the parents of those, in dependency order.

    Raises:
        SynchroError: a label names no watched model and no app with watched models.
    """
    watched = watched_models()
    if not labels:
        return watched
    chosen: set[Any] = set()
    for label in labels:
        chosen.update(_named(label, watched))
    chosen |= {parent for model in chosen for parent in model._meta.get_parent_list()}
    return [model for model in watched if model in chosen]


def _named(label: str, watched: list[ModelClass]) -> list[ModelClass]:
    if "." in label:
        try:
            wanted: Any = apps.get_model(label)._meta.concrete_model
        except (LookupError, ValueError):
            wanted = None
        found = [model for model in watched if model is wanted]
    else:
        found = [model for model in watched if model._meta.app_label == label]
    if not found:
        raise SynchroError(f"{label!r} is no watched model and no app with watched models. Write it like 'shop.Order'.")
    return found


def _changed_since(model: ModelClass, moment: datetime) -> Q:
    """Return the condition that the object was saved since the moment; of a model that does not know, all objects."""
    for field in model._meta.local_concrete_fields:
        if isinstance(field, DateTimeField) and field.auto_now:
            return Q(**{f"{field.name}__gte": moment})
        if isinstance(field, DateField) and field.auto_now:
            return Q(**{f"{field.name}__gte": timezone.localtime(moment).date()})
    return Q()


def _moment(text: str) -> datetime | None:
    if not text:
        return None
    try:
        day = parse_date(text)
        moment = datetime.combine(day, time.min) if day else parse_datetime(text)
    except ValueError:
        moment = None
    if moment is None:
        raise SynchroError(f"--since is {text!r}; it must be a date such as 2026-01-31, or a date with a time.")
    return timezone.make_aware(moment) if timezone.is_naive(moment) else moment


def _lookup(condition: str) -> tuple[str, Any]:
    name, sign, value = condition.partition("=")
    if not (name and sign):
        raise SynchroError(f"--where is {condition!r}; it must be like 'field=value' or 'field__lookup=value'.")
    if name.endswith(("__in", "__range")):
        return name, [_value(part) for part in value.split(",")]
    return name, _value(value)


def _value(text: str) -> Any:
    return ast.literal_eval(text) if text in ("True", "False", "None") else text
