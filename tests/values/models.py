"""Every built-in field that all three vendors know, nullable and with a default where it has one."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any, NamedTuple

from django.core.serializers.json import DjangoJSONEncoder
from django.db import models
from django.db.models import signals


class Everything(models.Model):
    """One column of each kind, each nullable, so that a test fills only those it is about."""

    big_integer = models.BigIntegerField(null=True)
    binary = models.BinaryField(null=True)
    boolean = models.BooleanField(null=True)
    char = models.CharField(max_length=200, null=True)
    date = models.DateField(null=True)
    datetime = models.DateTimeField(null=True)
    decimal = models.DecimalField(max_digits=20, decimal_places=6, null=True)
    duration = models.DurationField(null=True)
    email = models.EmailField(null=True)
    file = models.FileField(upload_to="files", null=True)
    file_path = models.FilePathField(path=".", null=True)
    float = models.FloatField(null=True)
    generic_ip = models.GenericIPAddressField(null=True)
    ipv4 = models.GenericIPAddressField(protocol="IPv4", null=True)
    ipv4_unpacked = models.GenericIPAddressField(unpack_ipv4=True, null=True)
    ipv6 = models.GenericIPAddressField(protocol="IPv6", null=True)
    long_file = models.FileField(upload_to="files", max_length=255, null=True)
    integer = models.IntegerField(null=True)
    json = models.JSONField(null=True)
    json_encoded = models.JSONField(null=True, encoder=DjangoJSONEncoder)
    positive_big_integer = models.PositiveBigIntegerField(null=True)
    positive_integer = models.PositiveIntegerField(null=True)
    positive_small_integer = models.PositiveSmallIntegerField(null=True)
    slug = models.SlugField(null=True)
    small_integer = models.SmallIntegerField(null=True)
    text = models.TextField(null=True)
    time = models.TimeField(null=True)
    url = models.URLField(null=True)
    uuid = models.UUIDField(null=True)


class Filled(models.Model):
    """The same kinds where null is not allowed: defaults and empty values."""

    binary = models.BinaryField(default=b"")
    boolean = models.BooleanField(default=False)
    char = models.CharField(max_length=200, default="")
    duration = models.DurationField(default=timedelta)
    file = models.FileField(upload_to="files", default="")
    json = models.JSONField(default=dict)
    text = models.TextField(default="")
    uuid = models.UUIDField(default=uuid.uuid4)


class SmallAuto(models.Model):
    id = models.SmallAutoField(primary_key=True)
    name = models.CharField(max_length=50)


class BigAuto(models.Model):
    id = models.BigAutoField(primary_key=True)
    name = models.CharField(max_length=50)


class Colour(NamedTuple):
    """What a ColourField holds."""

    red: int
    green: int
    blue: int


class ColourField(models.Field):
    """A third-party field that keeps to Django's API: an object in Python, a number in the database."""

    def get_internal_type(self) -> str:
        return "IntegerField"

    def from_db_value(self, value: int | None, *args: Any) -> Colour | None:
        return None if value is None else Colour(*value.to_bytes(3))

    def to_python(self, value: Any) -> Colour | None:
        return value

    def get_prep_value(self, value: Any) -> int | None:
        return None if value is None else int.from_bytes(bytes(value))


class ReversedField(models.CharField):
    """A subclass of one of Django's fields that keeps something else in its column."""

    def from_db_value(self, value: str | None, *args: Any) -> str | None:
        return None if value is None else value[::-1]

    def get_prep_value(self, value: Any) -> str | None:
        prepared: str | None = super().get_prep_value(value)
        return None if prepared is None else prepared[::-1]


class PictureField(models.FileField):
    """A field for files as ImageField is one, which would need Pillow: it looks at each object that is made."""

    def contribute_to_class(self, cls: type[models.Model], name: str, **kwargs: Any) -> None:  # type: ignore[override]
        super().contribute_to_class(cls, name, **kwargs)
        signals.post_init.connect(self.measure, sender=cls)

    def measure(self, instance: Any, **kwargs: Any) -> None:
        """Give an object that has none the size of its picture, as ImageField does for width and height."""
        if getattr(instance, self.attname) and instance.size is None:
            instance.size = getattr(instance, self.attname).size


class Custom(models.Model):
    """Fields that are not Django's own."""

    colour = ColourField(null=True)
    word = ReversedField(max_length=20, null=True)
    picture = PictureField(upload_to="pictures", null=True)
    size = models.IntegerField(null=True)
