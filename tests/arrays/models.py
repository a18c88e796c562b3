"""What only PostgreSQL knows. Tests that use it watch this app."""

from __future__ import annotations

from django.contrib.postgres.fields import (
    ArrayField,
    DateTimeRangeField,
    DecimalRangeField,
    HStoreField,
    IntegerRangeField,
)
from django.db import models


class PostgresOnly(models.Model):
    """Fields of django.contrib.postgres; only PostgreSQL gets this table from the test project."""

    numbers = ArrayField(models.IntegerField(), null=True)
    words = ArrayField(ArrayField(models.CharField(max_length=20)), null=True)
    span = IntegerRangeField(null=True)
    times = DateTimeRangeField(null=True)
    prices = DecimalRangeField(null=True)


class Spanned(models.Model):
    """A range without an array beside it."""

    span = IntegerRangeField(null=True)


class Mapped(models.Model):
    """Needs the extension hstore, which not every installation of PostgreSQL has."""

    pairs = HStoreField(null=True)
