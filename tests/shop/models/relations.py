"""Every kind of foreign key."""

from __future__ import annotations

from django.conf import settings
from django.contrib.auth.models import Permission
from django.contrib.contenttypes.fields import GenericForeignKey, GenericRelation
from django.contrib.contenttypes.models import ContentType
from django.db import models

from tests.shop.models.plain import Country
from tests.unwatched.models import Supplier


class Employee(models.Model):
    """Points to itself, or to a colleague."""

    name = models.CharField(max_length=50)
    manager = models.ForeignKey("self", null=True, blank=True, on_delete=models.SET_NULL, related_name="reports")


class Folder(models.Model):
    """A tree in which every folder but the root must have a parent; the root is its own."""

    name = models.CharField(max_length=50)
    parent = models.ForeignKey("self", on_delete=models.CASCADE, related_name="children")
    country = models.ForeignKey(Country, null=True, on_delete=models.SET_NULL)


class Author(models.Model):
    """One half of a cycle through a nullable foreign key."""

    name = models.CharField(max_length=50)
    best_book = models.ForeignKey("shop.Book", null=True, blank=True, on_delete=models.SET_NULL, related_name="+")


class Book(models.Model):
    title = models.CharField(max_length=50)
    author = models.ForeignKey(Author, on_delete=models.CASCADE, related_name="books")


class Page(models.Model):
    """Its pk has a foreign key in it."""

    pk = models.CompositePrimaryKey("book", "number")
    book = models.ForeignKey(Book, on_delete=models.CASCADE, related_name="pages")
    number = models.IntegerField()
    text = models.CharField(max_length=50, default="")


class Hen(models.Model):
    """One half of a cycle in which neither foreign key may be null."""

    egg = models.ForeignKey("shop.Egg", on_delete=models.CASCADE, related_name="+")


class Egg(models.Model):
    hen = models.ForeignKey(Hen, on_delete=models.CASCADE, related_name="+")


class Airport(models.Model):
    code = models.CharField(max_length=4, unique=True)
    name = models.CharField(max_length=50, default="")


class Flight(models.Model):
    """Points to a unique column that is not the pk."""

    number = models.CharField(max_length=10)
    origin = models.ForeignKey(Airport, to_field="code", on_delete=models.CASCADE, related_name="departures")
    stopover = models.ForeignKey(Airport, to_field="code", null=True, on_delete=models.CASCADE, related_name="stops")


class Delivery(models.Model):
    """Points into an app that is not watched."""

    supplier = models.ForeignKey(Supplier, on_delete=models.CASCADE)
    number = models.IntegerField(default=0)


class Claim(models.Model):
    """Points into another app that is watched."""

    shipment = models.ForeignKey("handlers.Shipment", on_delete=models.CASCADE)
    reason = models.CharField(max_length=50, default="")


class Profile(models.Model):
    """One to one with the project's user model."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, on_delete=models.CASCADE)
    motto = models.CharField(max_length=100, default="")


class Passport(models.Model):
    """Its pk is the pk of the employee."""

    employee = models.OneToOneField(Employee, primary_key=True, on_delete=models.CASCADE)
    number = models.CharField(max_length=20)


class Comment(models.Model):
    """Points to any object of any model."""

    content_type = models.ForeignKey(ContentType, on_delete=models.CASCADE)
    object_id = models.CharField(max_length=255)
    target = GenericForeignKey()
    text = models.CharField(max_length=100, default="")
    replies = GenericRelation("self")


class Grant(models.Model):
    """Points to rows that migrations make on both sides, with different pks."""

    permission = models.ForeignKey(Permission, on_delete=models.CASCADE)
    content_type = models.ForeignKey(ContentType, null=True, on_delete=models.CASCADE)


class Lease(models.Model):
    """A foreign key and a many-to-many relation that each side keeps for itself."""

    SYNCHRO_SKIP = ("landlord", "tenants")

    name = models.CharField(max_length=50)
    landlord = models.ForeignKey(Country, null=True, on_delete=models.SET_NULL)
    tenants = models.ManyToManyField("shop.Person")
