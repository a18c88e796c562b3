"""Are both databases equal? Asked in plain SQL, by business key, without anything of synchro or of Django."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.world import World

#: A query for each model: the business key first, then everything that counts, with the keys of what it points to.
QUERIES = {
    "shop.Article": "SELECT title, text, words FROM shop_article",
    "shop.Product": "SELECT sku, name, price, stock FROM shop_product",
    "shop.Country": "SELECT code, name FROM shop_country",
    "shop.City": """
        SELECT city.name, code, population FROM shop_city city LEFT JOIN shop_country country ON country.id = country_id
    """,
    "shop.Employee": """
        SELECT own.name, manager.name FROM shop_employee own LEFT JOIN shop_employee manager
        ON manager.id = own.manager_id
    """,
    "shop.Song": "SELECT title FROM shop_song",
    "shop.Playlist": """
        SELECT name, (
            SELECT string_agg(title, ',' ORDER BY title) FROM shop_playlist_songs link
            JOIN shop_song song ON song.id = song_id WHERE link.playlist_id = playlist.id
        ) FROM shop_playlist playlist
    """,
    "shop.Locker": "SELECT number, note FROM shop_locker",
    "shop.Slot": 'SELECT label, position, reserve, "row", "column" FROM shop_slot',
}
_ENTRIES = """
    SELECT log.id, action, date, state, attempts, synced_at, reason FROM synchro_changelog log
    JOIN django_content_type type ON type.id = content_type_id
    WHERE app_label || '.' || model = %s AND object_id = %s ORDER BY log.id
"""
_REFERENCES = """
    SELECT local_object_id, remote_object_id FROM synchro_reference
    JOIN django_content_type type ON type.id = content_type_id
    WHERE app_label || '.' || model = %s AND {own} = %s
"""


@dataclass(frozen=True)
class Difference:
    """A row that one side has and the other lacks, or has more often."""

    label: str
    side: str
    row: tuple[Any, ...]

    def __str__(self) -> str:
        return f"only on {self.side}: {self.label} {self.row}"


def differences(world: World) -> list[Difference]:
    """Return every row that is not on both sides."""
    found = []
    for label, sql in QUERIES.items():
        here, there = (Counter(world.query(alias, sql)) for alias in (world.site.pair.local, world.site.pair.remote))
        found += [Difference(label, "LOCAL", row) for row in (here - there).elements()]
        found += [Difference(label, "REMOTE", row) for row in (there - here).elements()]
    return found


def unsettled(world: World) -> list[tuple[Any, ...]]:
    """Return the entries that have not arrived, with their objects."""
    sql = """
        SELECT app_label || '.' || model, object_id, action, state, attempts, next_attempt_at, reason
        FROM synchro_changelog log JOIN django_content_type type ON type.id = content_type_id
        WHERE state IN (1, 3) ORDER BY log.id
    """
    return world.query(world.site.pair.local, sql)


def evidence(world: World, label: str, key: str) -> Iterator[str]:
    """Yield what LOCAL's log and both sides' references say of an object."""
    pk = world.pks.get((label, key))
    if pk is None:
        return
    yield f"{label} {key} is LOCAL's {pk}:"
    for entry in world.query(world.site.pair.local, _ENTRIES, label.lower(), pk):
        yield f"    entry {' '.join(map(str, entry))}"
    for alias, own in ((world.site.pair.local, "local_object_id"), (world.site.pair.remote, "remote_object_id")):
        for reference in world.query(alias, _REFERENCES.format(own=own), label.lower(), pk):
            yield f"    reference on {alias}: {reference}"
