"""Ordinary models: the first that a test should reach for."""

from __future__ import annotations

from typing import Any

from django.db import models

from synchro import NaturalKeyModel, NaturalManager


class Article(models.Model):
    """Automatic pk, no natural key, no relations: only references tell which REMOTE row is its copy."""

    title = models.CharField(max_length=100)
    text = models.TextField(blank=True, default="")
    words = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.title


class Product(NaturalKeyModel):
    """Automatic pk and a natural key made by NaturalKeyModel."""

    _natural_key = ("sku",)

    sku = models.CharField(max_length=30, unique=True)
    name = models.CharField(max_length=100, default="")
    price = models.DecimalField(max_digits=10, decimal_places=2, default=0)
    stock = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.sku


class Country(models.Model):
    """A natural key written by hand, as the README of 0.x shows it."""

    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=100, default="")

    objects = NaturalManager("code")

    def __str__(self) -> str:
        return self.code

    def natural_key(self) -> tuple[Any, ...]:
        return (self.code,)


class City(models.Model):
    """Automatic pk, no natural key, a foreign key."""

    name = models.CharField(max_length=100)
    country = models.ForeignKey(Country, on_delete=models.CASCADE, related_name="cities")
    population = models.IntegerField(default=0)

    def __str__(self) -> str:
        return self.name
