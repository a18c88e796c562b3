"""Every kind of primary key."""

from __future__ import annotations

import uuid

from django.db import models


class Locker(models.Model):
    """An integer that the project chooses."""

    number = models.IntegerField(primary_key=True)
    note = models.CharField(max_length=50, default="")


class Tag(models.Model):
    """Text, with any character."""

    slug = models.CharField(max_length=100, primary_key=True)
    title = models.CharField(max_length=50, default="")


class Parcel(models.Model):
    """A UUID."""

    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    weight = models.IntegerField(default=0)


class Seat(models.Model):
    """Two columns."""

    pk = models.CompositePrimaryKey("row", "number")
    row = models.CharField(max_length=5)
    number = models.IntegerField()
    guest = models.CharField(max_length=50, default="")


class Booking(models.Model):
    """Foreign keys to models whose pk is not an automatic number."""

    locker = models.ForeignKey(Locker, null=True, on_delete=models.CASCADE)
    tag = models.ForeignKey(Tag, null=True, on_delete=models.CASCADE)
    parcel = models.ForeignKey(Parcel, null=True, on_delete=models.CASCADE)
    tags = models.ManyToManyField(Tag, related_name="bookings")
