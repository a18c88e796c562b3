"""What is copied: 12 columns and about 350 bytes a row."""

from __future__ import annotations

from typing import Any

from django.db import models


class Columns(models.Model):
    """A plain row, as shops and blogs have them; PostgreSQL numbers the primary key."""

    code = models.CharField(max_length=40)
    name = models.CharField(max_length=100)
    email = models.EmailField()
    description = models.TextField()
    quantity = models.IntegerField()
    price = models.DecimalField(max_digits=10, decimal_places=2)
    weight = models.FloatField()
    active = models.BooleanField()
    day = models.DateField()
    created = models.DateTimeField(auto_now_add=True)
    changed = models.DateTimeField(auto_now=True)

    objects: models.Manager[Any] = models.Manager()

    class Meta:
        abstract = True


class Row(Columns):
    """A row that synchro watches."""


class Numbered(Columns):
    """A watched row whose primary key the project chooses, so that both sides have the same one."""

    id = models.IntegerField(primary_key=True)


class Shuffled(Columns):
    """A watched row like the first one, of which REMOTE got its rows in quite another order."""


class Unwatched(Columns):
    """The same row outside of synchro's sight: what Django alone needs for it."""
