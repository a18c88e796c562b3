"""Natural keys: how objects are recognized that have different primary keys on LOCAL and REMOTE."""

from __future__ import annotations

import warnings
from typing import Any, Self

from django.core.exceptions import FieldDoesNotExist
from django.db.models import Manager, Model
from django.db.models.base import ModelBase
from django.db.models.constants import LOOKUP_SEP

from synchro.exceptions import SynchroError


class NaturalManager(Manager[Any]):
    """A manager with ``get_by_natural_key`` over the given fields.

    ``NaturalManager('code', 'day')`` extends Django's manager; ``manager=`` names another Manager class to extend. A
    foreign key among the fields is given as the natural key of its target; ``'country__code'`` reaches through one.
    With ``allow_many=True`` the first of several objects with one key is taken.
    """

    natural_fields: tuple[str, ...] = ()
    allow_many: bool = False

    def __new__(cls, *fields: str, manager: type[Manager[Any]] = Manager, allow_many: bool = False) -> Self:
        if cls is not NaturalManager:
            return super().__new__(cls)
        if not fields:
            raise SynchroError("NaturalManager needs the names of the fields that make the natural key.")
        if not (isinstance(manager, type) and issubclass(manager, Manager)):
            raise SynchroError(
                f"NaturalManager got manager={manager!r}; it must be a subclass of django.db.models.Manager."
            )
        bases = (NaturalManager,) if issubclass(NaturalManager, manager) else (NaturalManager, manager)
        attributes = {"natural_fields": fields, "allow_many": allow_many, "use_in_migrations": False}
        return super().__new__(type(manager.__name__, bases, attributes))

    def __init__(self, *fields: str, manager: type[Manager[Any]] = Manager, allow_many: bool = False) -> None:
        super().__init__()

    def get_by_natural_key(self, *values: Any) -> Any:
        """Return the object with this natural key in the manager's database.

        Raises:
            Model.DoesNotExist: there is none.
            Model.MultipleObjectsReturned: there are several, and the manager was not made with ``allow_many=True``.
        """
        if len(values) != len(self.natural_fields):
            raise TypeError(
                f"The natural key of {self.model.__name__} has {len(self.natural_fields)} values "
                f"({', '.join(self.natural_fields)}); {len(values)} were given."
            )
        pairs = zip(self.natural_fields, values, strict=True)
        found = self.filter(**{name: self._target(name, value) for name, value in pairs})
        if not self.allow_many:
            return found.get()
        first = found.order_by("pk").first()
        if first is None:
            raise self.model.DoesNotExist(f"{self.model.__name__} matching query does not exist.")
        return first

    def _target(self, name: str, value: Any) -> Any:
        """Turn the natural key of a foreign key's target into the target itself."""
        if not isinstance(value, list | tuple):
            return value
        target = self.model._meta.get_field(name).related_model
        return target._default_manager.db_manager(self.db).get_by_natural_key(*value)


class _NaturalKeyModelBase(ModelBase):
    """Puts a NaturalManager over ``_natural_key`` in the place of ``objects``, extending the manager that was there."""

    def __new__(cls, name: str, bases: tuple[type, ...], attrs: dict[str, Any], **kwargs: Any) -> Any:
        if "_natural_key" in attrs:
            options = dict(attrs.pop("_natural_manager_kwargs", {}))
            if "objects" in attrs:
                options.setdefault("manager", type(attrs["objects"]))
            attrs["objects"] = NaturalManager(*attrs["_natural_key"], **options)
        return super().__new__(cls, name, bases, attrs, **kwargs)


class NaturalKeyModel(Model, metaclass=_NaturalKeyModelBase):
    """A base model with ``natural_key()`` and a NaturalManager, both made from ``_natural_key = ('field', ...)``."""

    class Meta:
        abstract = True

    def natural_key(self) -> tuple[Any, ...]:
        """Return the values of the fields in ``_natural_key``."""
        return tuple(natural_value(self, name) for name in self._natural_key)  # type: ignore[attr-defined]


def natural_value(instance: Model, name: str) -> Any:
    """Return one value of a natural key: a field's value, for a foreign key the natural key of its target.

    ``'country__code'`` reaches through a foreign key.
    """
    value: Any = instance
    for part in name.split(LOOKUP_SEP):
        value = None if value is None else getattr(value, part)
    if isinstance(value, Model):
        return value.natural_key() if hasattr(value, "natural_key") else value.pk
    return value


def has_natural_key(model: type[Model]) -> bool:
    """Tell whether objects of the model can be found by natural key."""
    return hasattr(model, "natural_key") and hasattr(model._default_manager, "get_by_natural_key")


def natural_fields(model: type[Model]) -> tuple[str, ...]:
    """Return the fields of the model's natural key where its manager names them; an empty tuple if only code knows."""
    manager = model._default_manager
    if (
        not isinstance(manager, NaturalManager)
        or type(manager).get_by_natural_key is not NaturalManager.get_by_natural_key
    ):
        return ()
    try:
        for name in manager.natural_fields:
            model._meta.get_field(name.split(LOOKUP_SEP)[0])
    except FieldDoesNotExist:
        return ()
    return manager.natural_fields


def natural_manager(*fields: str, **kwargs: Any) -> Any:
    """Return ``NaturalManager(*fields, **kwargs)``. Deprecated since 0.4: call NaturalManager."""
    warnings.warn("natural_manager is deprecated; use NaturalManager.", DeprecationWarning, stacklevel=2)
    return NaturalManager(*fields, **kwargs)
