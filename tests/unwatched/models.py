"""Models that nobody watches: they come to REMOTE only because watched objects point to them."""

from __future__ import annotations

from django.db import models

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
