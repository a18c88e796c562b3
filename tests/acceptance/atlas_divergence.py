"""Steps of the acceptance test over the cities of the example, run with the example's own settings.

Each step prints what the test has to know as JSON.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from contextlib import ExitStack
from typing import Any
from unittest import mock

import django

LOCAL, REMOTE = "default", "remote"


def load() -> None:
    """Fill LOCAL with the world, unlogged."""
    from atlas.models import City
    from atlas.source import import_world

    from synchro import DisableSynchroLog

    cities: list[Any] = []
    with DisableSynchroLog(), ExitStack() as stack:
        stack.enter_context(mock.patch.object(City, "save", lambda city: cities.append(city)))
        for _ in import_world():
            pass
    City.objects.bulk_create(cities, batch_size=1000)
    say(len(cities))


def diverge() -> None:
    """Let the two sides differ in every way that nobody logs; print the keys by kind."""
    from atlas.models import City
    from django.db import connection

    pks = list(City.objects.order_by("pk").values_list("pk", flat=True))
    updated, raw, gone, edited = pks[:500], pks[1000:1100], pks[2000:2050], pks[3000:3030]
    City.objects.filter(pk__in=updated).update(population=7)
    with connection.cursor() as cursor:
        cursor.execute("UPDATE atlas_city SET name = name || '!' WHERE id = ANY(%s)", [raw])
    City.objects.filter(pk__in=gone)._raw_delete(LOCAL)
    new = City.objects.bulk_create([_city(2_000_000_000 + number) for number in range(200)])
    ids = dict(City.objects.filter(pk__in=edited).values_list("geonameid", "pk"))
    City.objects.using(REMOTE).filter(geonameid__in=ids).update(timezone="Nowhere")
    country = City.objects.using(REMOTE).order_by("pk").values_list("country_id", flat=True)[0]
    extra = City.objects.using(REMOTE).bulk_create(
        [_city(2_100_000_000 + number, country_id=country) for number in range(20)]
    )
    found = {
        "different": [*updated, *raw, *edited],
        "deleted": gone,
        "missing": [each.pk for each in new],
        "extra": [each.pk for each in extra],
    }
    say({kind: sorted(map(str, keys)) for kind, keys in found.items()})


def live() -> None:
    """Compare and repair while somebody writes and workers copy; print the comparison's report."""
    from atlas.models import City
    from django.core.management import call_command
    from django.db import connections

    from synchro import engine

    stop = threading.Event()
    others = list(City.objects.order_by("-pk").filter(geonameid__lt=1_000_000_000).values_list("pk", flat=True)[:300])

    def write() -> None:
        for number, pk in enumerate(others * 1000):
            if stop.is_set():
                break
            city = City.objects.get(pk=pk)
            city.population = number
            city.save()
            time.sleep(0.005)
        connections.close_all()

    def work() -> None:
        while not stop.is_set():
            engine.sync_due()
            time.sleep(0.01)
        connections.close_all()

    threads = [threading.Thread(target=each) for each in (write, work, work)]
    for each in threads:
        each.start()
    try:
        call_command("synchronize", full=True, json=True, show=2000, batch_size=200)
    finally:
        stop.set()
        for each in threads:
            each.join()
    engine.sync_pending()


def same() -> None:
    """Print how many rows of each table only one side has, by an independent comparison."""
    from atlas.comparison import contents

    ours, theirs = contents(LOCAL), contents(REMOTE)
    differing = [name for name in ours if ours[name] != theirs[name]]
    say({name: [(ours[name] - theirs[name]).total(), (theirs[name] - ours[name]).total()] for name in differing})


def say(value: Any) -> None:
    """Write the value for the test."""
    sys.stdout.write(json.dumps(value))


def _city(geonameid: int, **values: Any) -> Any:
    from atlas.models import City, Country

    if "country_id" not in values:
        values["country"] = Country.objects.order_by("pk")[0]
    return City(geonameid=geonameid, name="New", latitude=1, longitude=2, population=3, timezone="UTC", **values)


if __name__ == "__main__":
    django.setup()
    globals()[sys.argv[1]]()
