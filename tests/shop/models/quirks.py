"""Models that do something unexpected."""

from __future__ import annotations

from typing import Any, NoReturn

from django.db import models
from django.db.models import F
from django.db.models.functions import Now


class Hidden(models.Model):
    """Its default manager hides most rows."""

    class VisibleManager(models.Manager["Hidden"]):
        def get_queryset(self) -> models.QuerySet[Hidden]:
            return super().get_queryset().filter(visible=True)

    name = models.CharField(max_length=50)
    visible = models.BooleanField(default=True)

    objects = VisibleManager()
    everything = models.Manager()


class Loud(models.Model):
    """Its own save() changes what is saved: a copy must not pass through it again."""

    text = models.CharField(max_length=100)

    def save(self, *args: Any, **kwargs: Any) -> None:
        self.text += "!"
        super().save(*args, **kwargs)


class Stubborn(models.Model):
    """Its own delete() refuses: a copy must not pass through it."""

    name = models.CharField(max_length=50)

    def delete(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise RuntimeError("Not with me.")


class Stamped(models.Model):
    """Moments that Django sets at each save."""

    name = models.CharField(max_length=50)
    made = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)
    made_on = models.DateField(auto_now_add=True)
    changed_at = models.TimeField(auto_now=True)


class Square(models.Model):
    """A column that the database computes, and others whose default the database knows."""

    side = models.IntegerField()
    area = models.GeneratedField(expression=F("side") * F("side"), output_field=models.IntegerField(), db_persist=True)
    colour = models.CharField(max_length=20, db_default="grey")
    drawn = models.DateTimeField(db_default=Now())


class Invoice(models.Model):
    """Columns that each side keeps for itself."""

    SYNCHRO_SKIP = ("balance", "note")

    number = models.CharField(max_length=20)
    balance = models.IntegerField(default=7)
    note = models.CharField(max_length=50, default="new")


class Haunted(models.Model):
    """Nobody can print it."""

    name = models.CharField(max_length=50, unique=True)

    def __str__(self) -> str:
        raise RuntimeError("Boo!")


class Vague(models.Model):
    """Printing it costs a query."""

    name = models.CharField(max_length=50)

    def __str__(self) -> str:
        return f"{self.name}, one of {Vague.objects.count()}"


class Slot(models.Model):
    """Unique values of every kind, to swap and to rotate."""

    label = models.CharField(max_length=30, unique=True)
    position = models.IntegerField(unique=True)
    reserve = models.IntegerField(unique=True, null=True)
    row = models.IntegerField(default=0)
    column = models.IntegerField(default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["row", "column"], name="shop_slot_place_unique")]


class Shirt(models.Model):
    """A unique value of which there are few."""

    number = models.SmallIntegerField(unique=True)


class Gauge(models.Model):
    """A unique value of each kind that every vendor has an index for."""

    decimal = models.DecimalField(max_digits=8, decimal_places=2, unique=True)
    number = models.FloatField(unique=True)
    token = models.UUIDField(unique=True)
    day = models.DateField(unique=True)
    moment = models.DateTimeField(unique=True)
    hour = models.TimeField(unique=True)
    length = models.DurationField(unique=True)
    address = models.GenericIPAddressField(unique=True)
    big = models.BigIntegerField(unique=True)
    path = models.FileField(upload_to="gauges", unique=True, null=True)


class Pigeonhole(models.Model):
    """A unique value of which there are even fewer."""

    letter = models.CharField(max_length=1, unique=True)


class Legacy(models.Model):
    """A table and columns whose names are not Django's."""

    code = models.AutoField(primary_key=True, db_column="LEGACY-ID")
    name = models.CharField(max_length=50, db_column="The Name")

    class Meta:
        db_table = "Old Table"


class Worded(models.Model):
    """Columns named like words of SQL."""

    select = models.CharField(max_length=50, default="")
    order = models.IntegerField(default=0)
    group = models.CharField(max_length=50, db_column="from", default="")

    class Meta:
        db_table = "user"


class Unmanaged(models.Model):
    """A table that migrations leave alone."""

    name = models.CharField(max_length=50)

    class Meta:
        managed = False
        db_table = "not_managed"


class Captain(models.Model):
    """Only one of a crew is captain, which MariaDB does not watch over."""

    crew = models.CharField(max_length=10)
    name = models.CharField(max_length=10)
    is_captain = models.BooleanField(default=False)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["crew"], condition=models.Q(is_captain=True), name="shop_captain_of_crew")
        ]
