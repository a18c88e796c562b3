"""Every kind of natural key."""

from __future__ import annotations

import uuid
from typing import Any

from django.db import models

from synchro import NaturalKeyModel
from tests.shop.models.plain import Country


class Holiday(NaturalKeyModel):
    """A foreign key and a date."""

    _natural_key = ("country", "day")

    country = models.ForeignKey(Country, on_delete=models.CASCADE)
    day = models.DateField()
    name = models.CharField(max_length=50, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["country", "day"], name="shop_holiday_unique")]


class Currency(models.Model):
    """Found by a manager of the project's own, and its key is the pk."""

    class Manager(models.Manager["Currency"]):
        def get_by_natural_key(self, code: str) -> Currency:
            return self.get(code=code)

    code = models.CharField(max_length=3, primary_key=True)
    name = models.CharField(max_length=50, default="")

    objects = Manager()

    def natural_key(self) -> tuple[str]:
        return (self.code,)


class Rate(NaturalKeyModel):
    """A key that reaches through a foreign key."""

    _natural_key = ("currency__code", "day")

    currency = models.ForeignKey(Currency, on_delete=models.CASCADE)
    day = models.DateField()
    value = models.DecimalField(max_digits=12, decimal_places=6, default=0)


class Town(NaturalKeyModel):
    _natural_key = ("name",)

    name = models.CharField(max_length=50, unique=True)


class Street(models.Model):
    """A key in the way of Django's documentation: its own values and then those of its target's key."""

    class Manager(models.Manager["Street"]):
        def get_by_natural_key(self, name: str, town: str) -> Street:
            return self.get(name=name, town__name=town)

    name = models.CharField(max_length=50)
    town = models.ForeignKey(Town, on_delete=models.CASCADE)
    length = models.IntegerField(default=0)

    objects = Manager()

    def natural_key(self) -> tuple[Any, ...]:
        return (self.name, *self.town.natural_key())

    natural_key.dependencies = ["shop.town"]  # type: ignore[attr-defined]


class Reading(NaturalKeyModel):
    """A decimal, a UUID and a moment."""

    _natural_key = ("depth", "sensor", "taken")

    depth = models.DecimalField(max_digits=8, decimal_places=3)
    sensor = models.UUIDField(default=uuid.uuid4)
    taken = models.DateTimeField()
    result = models.FloatField(default=0)


class Namesake(NaturalKeyModel):
    """A key that is not unique, and says so."""

    _natural_key = ("name",)
    _natural_manager_kwargs = {"allow_many": True}

    name = models.CharField(max_length=50)
    age = models.IntegerField(default=0)


class Twin(NaturalKeyModel):
    """A key that may match more than one row, and does not say so."""

    _natural_key = ("name",)

    name = models.CharField(max_length=50)
    age = models.IntegerField(default=0)


class Badge(NaturalKeyModel):
    """A key that an object need not have."""

    _natural_key = ("code",)

    code = models.CharField(max_length=10, unique=True, null=True)
    colour = models.CharField(max_length=20, default="")


class Landmark(NaturalKeyModel):
    """Its child has the same key, and its column in the parent's table."""

    _natural_key = ("name",)

    name = models.CharField(max_length=50, unique=True)


class Tower(Landmark):
    height = models.IntegerField(default=0)


class Desk(NaturalKeyModel):
    """A key of which an object need not have all parts."""

    _natural_key = ("room", "number")

    room = models.CharField(max_length=10)
    number = models.IntegerField(null=True)
    owner = models.CharField(max_length=20, default="")

    class Meta:
        constraints = [models.UniqueConstraint(fields=["room", "number"], name="shop_desk_unique")]


class Coupon(models.Model):
    """Found by a manager of the project's own, which hides what is used up; its code may be used again."""

    class Manager(models.Manager["Coupon"]):
        def get_queryset(self) -> models.QuerySet[Coupon]:
            return super().get_queryset().filter(used_up=False)

        def get_by_natural_key(self, code: str) -> Coupon:
            return self.get(code=code)

    code = models.CharField(max_length=10)
    used_up = models.BooleanField(default=False)
    value = models.IntegerField(default=0)

    objects = Manager()

    def natural_key(self) -> tuple[str]:
        return (self.code,)
