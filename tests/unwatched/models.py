"""Models that nobody watches: they come to REMOTE only because watched objects point to them."""

from __future__ import annotations

from django.db import models
from django.db.models import F

from synchro import NaturalKeyModel


class Continent(models.Model):
    """The end of a chain of three unwatched models."""

    name = models.CharField(max_length=50)


class Region(NaturalKeyModel):
    _natural_key = ("code",)

    code = models.CharField(max_length=10, unique=True)
    continent = models.ForeignKey(Continent, on_delete=models.CASCADE)


class Supplier(models.Model):
    name = models.CharField(max_length=50)
    region = models.ForeignKey(Region, null=True, on_delete=models.CASCADE)


class Genre(NaturalKeyModel):
    """Target of a many-to-many relation of a watched model."""

    _natural_key = ("name",)

    name = models.CharField(max_length=50, unique=True)


class Computed(models.Model):
    """A column that is computed when it is read, which PostgreSQL does not have. Tests that use it watch it."""

    side = models.IntegerField()
    area = models.GeneratedField(expression=F("side") * F("side"), output_field=models.IntegerField(), db_persist=False)

    class Meta:
        required_db_features = ["supports_virtual_generated_columns"]
