"""Abstract bases, multi-table inheritance, proxies."""

from __future__ import annotations

from django.db import models

from tests.shop.models.many_to_many import Song
from tests.shop.models.plain import Product


class Named(models.Model):
    name = models.CharField(max_length=50)

    class Meta:
        abstract = True


class Place(Named):
    """The first of three levels."""

    address = models.CharField(max_length=100, default="")


class Restaurant(Place):
    stars = models.IntegerField(default=0)


class Pizzeria(Restaurant):
    """The third level, with relations of its own."""

    oven = models.CharField(max_length=20, default="wood")
    partner = models.ForeignKey(Place, null=True, on_delete=models.SET_NULL, related_name="+")
    music = models.ManyToManyField(Song)


class Cafe(Place):
    """A sibling whose link to the parent has a name of its own."""

    where = models.OneToOneField(Place, parent_link=True, primary_key=True, on_delete=models.CASCADE)
    cups = models.IntegerField(default=0)


class Review(models.Model):
    """Points to the middle of the inheritance chain."""

    restaurant = models.ForeignKey(Restaurant, on_delete=models.CASCADE)
    points = models.IntegerField(default=0)


class Venue(models.Model):
    venue_id = models.AutoField(primary_key=True)
    hall = models.CharField(max_length=30, default="")


class Event(models.Model):
    event_id = models.AutoField(primary_key=True)
    topic = models.CharField(max_length=30, default="")


class Fair(Venue, Event):
    """A child of two parents."""

    visitors = models.IntegerField(default=0)


class CheapProduct(Product):
    """A proxy: its saves are sent with the proxy as sender."""

    class Meta:
        proxy = True
