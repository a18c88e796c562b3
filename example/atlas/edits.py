"""Random edits on LOCAL. Each returns what it did, and a question to REMOTE: can it be seen there?"""

import random
from collections.abc import Callable
from typing import Any

from django.db.models import Max

from atlas.models import City, Country, Language
from atlas.progress import REMOTE

INVENTED = 1_000_000_000  # ids of cities that we found; real ones are smaller

Edit = tuple[str, Callable[[], bool]]


def edit() -> Edit:
    """Make one random edit."""
    return random.choice([resettle, resettle, resettle, found, abandon, learn])()


def resettle() -> Edit:
    """Change the population of a city."""
    city = pick(City)
    city.population = random.randrange(1_000, 10_000_000)
    city.save()
    seen = City.objects.using(REMOTE).filter(geonameid=city.geonameid, population=city.population)
    return f"{city} has {city.population:,} people now", seen.exists


def found() -> Edit:
    """Add a city beside another one."""
    city = pick(City)
    highest = City.objects.aggregate(value=Max("geonameid"))["value"]
    city.pk, city.geonameid, city.name = None, max(highest, INVENTED) + 1, f"New {city.name}"[:200]
    city.save(force_insert=True)
    return f"{city} was founded", City.objects.using(REMOTE).filter(geonameid=city.geonameid).exists


def abandon() -> Edit:
    """Delete a city that we founded, or found one."""
    city = City.objects.filter(geonameid__gt=INVENTED).order_by("geonameid").first()
    if city is None:
        return found()
    city.delete()
    remaining = City.objects.using(REMOTE).filter(geonameid=city.geonameid)
    return f"{city} was abandoned", lambda: not remaining.exists()


def learn() -> Edit:
    """Let a country speak one more language."""
    country, language = pick(Country), pick(Language)
    country.languages.add(language)
    speakers = Country.objects.using(REMOTE).filter(iso=country.iso, languages__code=language.code)
    return f"{country} speaks {language} now", speakers.exists


def pick(model: Any) -> Any:
    """Return a random object."""
    highest = model.objects.aggregate(value=Max("pk"))["value"]
    return model.objects.filter(pk__gte=random.randint(1, highest)).order_by("pk").first()
