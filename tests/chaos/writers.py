"""Concurrent writers: random operations on LOCAL, each in a transaction, decided by a seed."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from random import Random
from threading import Event, Thread
from typing import Any

from django.conf import settings
from django.db import Error as AnyDatabaseError
from django.db import IntegrityError, connections, transaction
from django.db.models import Model

from tests.chaos.world import World
from tests.shop.models import Article, City, Country, Employee, Locker, Playlist, Product, Slot, Song

#: The models and the field that identifies their objects to a person on either side.
KEYS: dict[type[Model], str] = {
    Article: "title",
    Product: "sku",
    Country: "code",
    City: "name",
    Employee: "name",
    Song: "title",
    Playlist: "name",
    Locker: "number",
    Slot: "label",
}
#: Values that belong to one object only, and that objects swap.
UNIQUE: list[tuple[type[Model], tuple[str, ...]]] = [
    *((Slot, ("label",)), (Slot, ("position",)), (Slot, ("reserve",)), (Slot, ("row", "column"))),
    (Product, ("sku",)),
]
_BULK = 60


class _Undo(Exception):
    """Rolls a transaction or a savepoint back."""


class Writer(Thread):
    """Does one random operation after the other until it is told to stop."""

    def __init__(self, world: World, seed: int, number: int, stop: Event) -> None:
        super().__init__(daemon=True, name=f"writer-{number}")
        self.world = world
        self.random = Random(f"{seed}-{number}")
        self.number = number
        self.stop = stop
        self.numbers = itertools.count(1)
        self.done: Counter[str] = Counter()
        #: Pauses between two operations, in seconds at most.
        self.pause = 0.02
        #: The second half of what takes two transactions.
        self._rest: Callable[[], None] | None = None
        self._operations: list[tuple[int, Callable[[], None]]] = [
            (30, self.create),
            (30, self.change),
            (10, self.delete),
            (6, self.move),
            (8, self.link),
            (4, self.unlink),
            (3, self.reuse_key),
            (8, self.rotate),
            (4, self.undo_part),
            (2, self.undo_all),
            (4, self.change_slowly),
            (1, self.bulk),
        ]

    def run(self) -> None:
        """Operate until the end. A database that is away, or another writer in the way, only ends an operation."""
        weights = [weight for weight, _ in self._operations]
        operations = [operation for _, operation in self._operations]
        while not self.stop.is_set():
            operation, self._rest = self._rest or self.random.choices(operations, weights)[0], None
            name = getattr(operation, "func", operation).__name__
            try:
                with transaction.atomic(using=settings.SYNCHRO_LOCAL):
                    operation()
                self.done[name] += 1
            except (_Undo, IntegrityError):
                self.done["rolled back"] += 1
            except AnyDatabaseError as error:
                self.world.note(f"{self.name} {name}: {type(error).__name__}")
                self.done["LOCAL away"] += 1
                connections[settings.SYNCHRO_LOCAL].close()
                self.stop.wait(0.1)
            self.stop.wait(self.random.uniform(0, self.pause))
        connections.close_all()

    # Operations

    def create(self) -> None:
        """Add an object of any model."""
        self._create(self.random.choice(list(KEYS)))

    def change(self) -> None:
        """Save an object with other values."""
        if (found := self._any()) is not None:
            self._change(found)

    def delete(self) -> None:
        """Delete an object, and with it what points to it."""
        if (found := self._any()) is not None:
            self._note("delete", found)
            found.delete()

    def move(self) -> None:
        """Let an object point to another one."""
        city, country = self._any(City), self._any(Country)
        if city is not None and country is not None and self.random.random() < 0.5:
            city.country = country
            self._save("move", city)
        employee, manager = self._any(Employee), self._any(Employee)
        if employee is not None:
            employee.manager = manager
            self._save("move", employee)

    def link(self) -> None:
        """Add members to a relation, from either side."""
        playlist, song = self._any(Playlist), self._any(Song)
        if playlist is None or song is None:
            return
        self._note(f"link {song}", playlist)
        if self.random.random() < 0.5:
            playlist.songs.add(song)
        else:
            song.playlists.add(playlist)

    def unlink(self) -> None:
        """Take members out of a relation, one or all."""
        playlist = self._any(Playlist)
        if playlist is None:
            return
        self._note("unlink", playlist)
        song = playlist.songs.first()
        if song is None or self.random.random() < 0.3:
            playlist.songs.clear()
        elif self.random.random() < 0.5:
            playlist.songs.remove(song)
        else:
            playlist.songs.set([song])

    def reuse_key(self) -> None:
        """Delete an object and add another one with its primary key."""
        locker = self._any(Locker)
        if locker is None:
            return
        number = locker.number
        self._note("reuse", locker)
        locker.delete()
        Locker.objects.create(number=number, note=self._text())

    def rotate(self) -> None:
        """Let two or three objects take each other's unique values, in one transaction or in two."""
        model, names = self.random.choice(UNIQUE)
        chosen = [self._any(model) for _ in range(self.random.choice([2, 3]))]
        objects = list({each.pk: each for each in chosen if each is not None}.values())
        if len(objects) < 2:
            return
        values = [tuple(getattr(each, name) for name in names) for each in objects]
        self._take(objects[0], names, self._nobody_s(names))
        for each, value in zip(objects[1:], values, strict=False):
            self._take(each, names, value)
        if self.random.random() < 0.5:
            self._take(objects[0], names, values[-1])
        else:
            self._rest = partial(self.finish_rotation, objects[0], names, values[-1])

    def finish_rotation(self, instance: Any, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        """Give the first object of a rotation its new values, unless it is gone by now."""
        if (found := type(instance)._default_manager.filter(pk=instance.pk).first()) is not None:
            self._take(found, names, values)

    def undo_part(self) -> None:
        """Roll a savepoint back, and change one of its objects again."""
        kept, undone = self._any(), self._any()
        if kept is None or undone is None:
            return
        self._change(kept)
        try:
            with transaction.atomic(using=settings.SYNCHRO_LOCAL):
                self._change(undone)
                self.create()
                raise _Undo
        except _Undo:
            pass
        if self.random.random() < 0.5:
            self.change()

    def undo_all(self) -> None:
        """Roll a transaction back."""
        self.change()
        self.create()
        self.delete()
        raise _Undo

    def change_slowly(self) -> None:
        """Commit long after the change was logged."""
        self.change()
        self.create()
        time.sleep(self.random.uniform(0, 0.8))

    def bulk(self) -> None:
        """Change many objects in one transaction."""
        for _ in range(_BULK):
            self.random.choice([self.create, self.change])()

    # Objects

    def _take(self, instance: Any, names: tuple[str, ...], values: tuple[Any, ...]) -> None:
        for name, value in zip(names, values, strict=True):
            setattr(instance, name, value)
        self._save(f"take {names} {values}", instance)

    def _nobody_s(self, names: tuple[str, ...]) -> tuple[Any, ...]:
        number = self._number()
        return tuple(f"aside {number}" if name in ("label", "sku") else -number for name in names)

    def _number(self) -> int:
        """Return a number that no writer returned before."""
        return self.number * 1_000_000 + next(self.numbers)

    def _create(self, model: type[Model]) -> None:
        key = f"{self.number}-{next(self.numbers)}"
        values: dict[str, Any] = {KEYS[model]: key}
        if model is Country:
            values = {"code": "".join(self.random.choices("ABCDEFGHIJKLMNOPQRSTUVWXYZ", k=2))}
        elif model is Locker:
            values = {"number": self.random.randrange(1_000_000)}
        elif model is City:
            country = self._any(Country)
            if country is None:
                return
            values["country"] = country
        elif model is Employee:
            values["manager"] = self._any(Employee)
        elif model is Slot:
            number = self._number()
            values |= {
                "position": number,
                "reserve": self.random.choice([number, None]),
                "row": number,
                "column": self.number,
            }
        self._save("create", model(**values))

    def _change(self, instance: Any) -> None:
        number = self.random.randrange(1_000_000)
        match instance:
            case Article():
                instance.text, instance.words = self._text(), number
            case Product():
                instance.name, instance.stock = self._text(), number
            case City():
                instance.population = number
            case Country():
                instance.name = self._text()
            case Locker():
                instance.note = self._text()
            case Slot():
                instance.reserve = self.random.choice([self._number(), None])
        self._save("change", instance)

    def _save(self, what: str, instance: Any) -> None:
        instance.save()
        self._note(what, instance)
        label, key = type(instance)._meta.label, str(getattr(instance, KEYS[type(instance)]))
        self.world.pks[label, key] = str(instance.pk)

    def _any(self, model: type[Model] | None = None) -> Any:
        """Return an object, if the one that comes to mind is still there."""
        model = model or self.random.choice(list(KEYS))
        label = model._meta.label
        known = [pk for (each, _), pk in self.world.pks.copy().items() if each == label][-200:]
        return model._default_manager.filter(pk=self.random.choice(known)).first() if known else None

    def _text(self) -> str:
        return f"{self.name} {self.random.randrange(1_000_000)}"

    def _note(self, what: str, instance: Any) -> None:
        key = getattr(instance, KEYS[type(instance)])
        self.world.note(f"{self.name} {what} {type(instance).__name__} {key} pk={instance.pk}")
