"""REMOTE rows by natural key: for a whole batch at once where the manager names the fields, else one by one.

Keys are compared in Python after the fetch: a collation may take 'qa' for 'QA', and that is another object's key.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, reduce
from operator import or_
from typing import Any

from django.core.exceptions import FieldError, MultipleObjectsReturned, ObjectDoesNotExist
from django.db import connections
from django.db.models import Model, Q
from django.db.models.constants import LOOKUP_SEP
from django.db.models.manager import BaseManager

from synchro.engine.link import Link
from synchro.exceptions import AmbiguousNaturalKey, PermanentError
from synchro.keys import natural_key_to_json, pk_to_text
from synchro.lookups import pk_among
from synchro.natural_keys import has_natural_key, natural_fields, natural_value
from synchro.registry import ModelClass, keeps_pk, model_label

#: Alternatives in one WHERE on SQLite, which parses an expression at most 1,000 levels deep.
_MAX_ALTERNATIVES = 500

Values = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Match:
    """An object's natural key, and REMOTE's primary keys of the rows that have it, in their order."""

    key: Hashable
    pks: Sequence[Any]
    #: Rows with the key may be other objects': NULL in it keeps them apart, or the project's manager hides them.
    may_repeat: bool = False


@dataclass(frozen=True, slots=True)
class _Part:
    """One field of a natural key, and for a foreign key the parts of its target's key."""

    path: str
    field: Any
    parts: tuple[_Part, ...] = ()

    @property
    def paths(self) -> list[str]:
        """The lookups that lead to its values."""
        if not self.parts:
            return [self.path]
        return [f"{self.path}{LOOKUP_SEP}{path}" for part in self.parts for path in part.paths]

    def values(self, logged: Any) -> Iterator[Any]:
        """Yield the values that the log kept of this part."""
        if not self.parts:
            yield None if logged is None else self.field.to_python(logged)
            return
        for part, value in zip(self.parts, logged or [None] * len(self.parts), strict=True):
            yield from part.values(value)


def match(
    link: Link, model: ModelClass, instances: Mapping[str, Model], problems: dict[str, PermanentError]
) -> dict[str, Match]:
    """Find the rows that have the natural keys of LOCAL objects; objects without a value in it have none."""
    parts = _parts(model)
    if parts:
        return _rows_with(link, model, parts, _values(link, model, parts, instances))
    if not _is_portable(model):
        return {}
    keys = {each: instance.natural_key() for each, instance in instances.items()}  # type: ignore[attr-defined]
    found = _ask_for_each(link, model, keys, problems)
    return found | _with_hidden(link, model, instances, keys, found) if _hides(model) else found


def match_logged(
    link: Link, model: ModelClass, keys: Mapping[str, list[Any]], problems: dict[str, PermanentError]
) -> dict[str, Match]:
    """Find the rows that have the natural keys which the log kept of deleted objects."""
    parts = _parts(model)
    if not parts:
        return _ask_for_each(link, model, keys, problems) if _is_portable(model) else {}
    whole = _Part("", None, parts)
    return _rows_with(link, model, parts, {each: tuple(whole.values(key)) for each, key in keys.items()})


def allows_many(model: ModelClass) -> bool:
    """Tell whether several rows may have one natural key, of which any will do."""
    return getattr(model._default_manager, "allow_many", False)


def ambiguous(model: ModelClass) -> AmbiguousNaturalKey:
    """Return the error that more than one row has a natural key."""
    return AmbiguousNaturalKey(
        f"More than one {model_label(model)} on REMOTE has the natural key of this object. "
        "Make it unique there, or use allow_many=True."
    )


@cache
def _parts(model: ModelClass, seen: tuple[ModelClass, ...] = ()) -> tuple[_Part, ...]:
    """Return the parts of the model's natural key; none where only code can tell."""
    parts = []
    for name in natural_fields(model):
        field = _field(model, name)
        target = field.related_model if field.is_relation else None
        if target is None or (keeps_pk(target) and field.target_field.primary_key and not has_natural_key(target)):
            parts.append(_Part(name, field.target_field if target else field))
            continue
        inner = _parts(target, (*seen, model)) if target not in (*seen, model) and has_natural_key(target) else ()
        if not inner:
            return ()
        parts.append(_Part(name, field, inner))
    return tuple(parts)


def _is_portable(model: ModelClass) -> bool:
    """Tell whether a natural key means the same on both sides: not where it contains an automatic primary key."""
    targets = [field.related_model for name in natural_fields(model) if (field := _field(model, name)).is_relation]
    return all(has_natural_key(target) or keeps_pk(target) for target in targets)


def _field(model: ModelClass, path: str) -> Any:
    field: Any = None
    for name in path.split(LOOKUP_SEP):
        field = model._meta.get_field(name)
        model = field.related_model or model
    return field


def _values(
    link: Link, model: ModelClass, parts: tuple[_Part, ...], instances: Mapping[str, Model]
) -> dict[str, Values]:
    """Return the values of the natural keys of LOCAL objects."""
    paths = [path for part in parts for path in part.paths]
    if not any(LOOKUP_SEP in path or model._meta.get_field(path).is_relation for path in paths):
        return {each: tuple(natural_value(instance, path) for path in paths) for each, instance in instances.items()}
    pks = [instance.pk for instance in instances.values()]
    rows = model._base_manager.using(link.local).filter(pk_among(model, pks)).values_list("pk", *paths)
    return {pk_to_text(model, pk): tuple(values) for pk, *values in rows}


def _rows_with(link: Link, model: ModelClass, parts: tuple[_Part, ...], keys: Mapping[str, Values]) -> dict[str, Match]:
    paths = [path for part in parts for path in part.paths]
    usable = {each: key for each, key in keys.items() if any(value is not None for value in key)}
    found: dict[Values, list[Any]] = {}
    for condition in _conditions(link, paths, list(dict.fromkeys(usable.values()))):
        rows = model._base_manager.using(link.remote).filter(condition).order_by("pk")
        for pk, *values in rows.values_list("pk", *paths):
            found.setdefault(tuple(values), []).append(pk)
    return {each: Match(key, found.get(key, ()), may_repeat=None in key) for each, key in usable.items()}


def _conditions(link: Link, paths: list[str], keys: list[Values]) -> Iterator[Q]:
    if len(paths) == 1 and keys:
        yield Q(**{f"{paths[0]}__in": [key[0] for key in keys]})
        return
    size = _MAX_ALTERNATIVES if connections[link.remote].vendor == "sqlite" else max(len(keys), 1)
    for start in range(0, len(keys), size):
        yield reduce(or_, (Q(**dict(zip(paths, key, strict=True))) for key in keys[start : start + size]))


# Managers of the project's own


def _ask_for_each(
    link: Link, model: ModelClass, keys: Mapping[str, Any], problems: dict[str, PermanentError]
) -> dict[str, Match]:
    found = {}
    for each, key in keys.items():
        try:
            pks = _ask(link, model, model._default_manager.db_manager(link.remote), key)
            found[each] = Match(repr(natural_key_to_json(key)), pks)
        except AmbiguousNaturalKey as problem:
            problems[each] = problem
    return found


def _hides(model: ModelClass) -> bool:
    """Tell whether the manager may leave rows out."""
    return type(model._default_manager).get_queryset is not BaseManager.get_queryset


def _with_hidden(
    link: Link,
    model: ModelClass,
    instances: Mapping[str, Model],
    keys: Mapping[str, Any],
    found: Mapping[str, Match],
) -> dict[str, Match]:
    """Find the rows of objects that the manager hides, and hidden rows of others. Who is hidden leaves its key free."""
    pks = [instance.pk for instance in instances.values()]
    shown = model._default_manager.using(link.local).filter(pk_among(model, pks)).values_list("pk", flat=True)
    visible = {pk_to_text(model, pk) for pk in shown}
    asked = {each: match for each, match in found.items() if each not in visible or not match.pks}
    matches = {each: Match(one.key, _ask_for_all(link, model, keys[each]), True) for each, one in asked.items()}
    return {each: match for each, match in matches.items() if each not in visible or match.pks}


def _ask_for_all(link: Link, model: ModelClass, key: Sequence[Any]) -> list[Any]:
    """Ask the manager as if it left no rows out, as far as it can do without what else it may add to them."""
    manager: Any = model._default_manager.db_manager(link.remote)
    kind: Any = type(manager)
    manager.__class__ = _showing_all(kind)
    try:
        return _ask(link, model, manager, key)
    except (AmbiguousNaturalKey, FieldError, AttributeError):
        return []


@cache
def _showing_all(manager: Any) -> Any:
    return type(manager.__name__, (manager,), {"get_queryset": BaseManager.get_queryset})


def _ask(link: Link, model: ModelClass, manager: Any, key: Sequence[Any]) -> list[Any]:
    try:
        row = manager.get_by_natural_key(*key)
    except ObjectDoesNotExist:  # also of a target that the manager looked for
        return []
    except MultipleObjectsReturned:
        raise ambiguous(model) from None
    return [row.pk] if _is_exact(link, row.natural_key(), key) else []


def _is_exact(link: Link, found: Sequence[Any], wanted: Sequence[Any]) -> bool:
    """Tell whether the text in two natural keys is the same where the vendor's collation takes similar text for it.

    On the other vendors a project's manager means what it finds. The log keeps other values than text in another form.
    """
    if connections[link.remote].vendor != "mysql":
        return True
    pairs = list(zip(found, wanted, strict=False))
    nested = [(ours, theirs) for ours, theirs in pairs if isinstance(ours, list | tuple)]
    texts = [(ours, theirs) for ours, theirs in pairs if isinstance(ours, str)]
    return all(ours == theirs for ours, theirs in texts) and all(_is_exact(link, *pair) for pair in nested)
