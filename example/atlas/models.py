"""Continents, countries, languages, currencies and cities.

Everything with an ISO code is found by it on REMOTE, whatever its primary key is there. Cities have no natural key.
"""

from django.db import models

from synchro import NaturalKeyModel


class Continent(NaturalKeyModel):
    code = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=50)

    _natural_key = ("code",)

    def __str__(self) -> str:
        return self.name


class Currency(NaturalKeyModel):
    code = models.CharField(max_length=3, unique=True)
    name = models.CharField(max_length=50)

    _natural_key = ("code",)

    class Meta:
        verbose_name_plural = "currencies"

    def __str__(self) -> str:
        return f"{self.name} ({self.code})"


class Language(NaturalKeyModel):
    code = models.CharField(max_length=16, unique=True)

    _natural_key = ("code",)

    def __str__(self) -> str:
        return self.code


class Country(NaturalKeyModel):
    iso = models.CharField(max_length=2, unique=True)
    name = models.CharField(max_length=100)
    capital = models.CharField(max_length=100, blank=True)
    area_km2 = models.PositiveIntegerField()
    population = models.PositiveIntegerField()
    continent = models.ForeignKey(Continent, on_delete=models.PROTECT)
    currency = models.ForeignKey(Currency, on_delete=models.SET_NULL, null=True, blank=True)
    languages = models.ManyToManyField(Language, blank=True)
    neighbours = models.ManyToManyField("self", blank=True)

    _natural_key = ("iso",)

    class Meta:
        verbose_name_plural = "countries"

    def __str__(self) -> str:
        return self.name


class City(models.Model):
    # Not unique on purpose: a city that arrived twice should be seen by compare_atlas, not be refused by the database.
    geonameid = models.PositiveIntegerField(db_index=True)
    name = models.CharField(max_length=200)
    country = models.ForeignKey(Country, on_delete=models.CASCADE)
    latitude = models.DecimalField(max_digits=8, decimal_places=5)
    longitude = models.DecimalField(max_digits=8, decimal_places=5)
    population = models.PositiveIntegerField()
    timezone = models.CharField(max_length=50)
    alternate_names = models.JSONField(default=list, blank=True)
    updated = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name_plural = "cities"

    def __str__(self) -> str:
        return self.name
